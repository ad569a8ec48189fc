"""What is: a frozen picture of MLflow and of the datasets, taken before planning.

Planning compares this picture with what git declares and never looks anywhere else. Every value is
plain data with a JSON form, so that a picture can be cached and compared.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mlops.notifying.rows import Standing
from mlops.observation.policies import ObservedPolicy

_SHORT: Final = 128  # characters of a text that others may well repeat


@dataclass(frozen=True, slots=True)
class ObservedExperiment:
    """An MLflow experiment; `name` is the full name, `<project>/<resource name>` or `<project>`."""

    name: str
    experiment_id: str
    tags: Mapping[str, str]  # includes mlflow.note.content, the description


@dataclass(frozen=True, slots=True)
class ObservedRun:
    """One MLflow run. `status` is MLflow's own: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED."""

    run_id: str
    experiment: str  # full name of its MLflow experiment
    name: str
    status: str
    started_ms: int
    ended_ms: int | None
    tags: Mapping[str, str]  # those that start with "mlops." and mlflow.parentRunId
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]  # latest value of each; NaN and infinities as they are


@dataclass(frozen=True, slots=True)
class ObservedVersion:
    """One version of a registered model."""

    model: str  # registered name
    number: int
    run_id: str | None
    source: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ObservedModel:
    """A registered model with its aliases (alias → version number)."""

    name: str
    description: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything of one project that MLflow holds."""

    experiments: Mapping[str, ObservedExperiment] = field(default_factory=dict)  # by full name
    runs: Mapping[str, ObservedRun] = field(default_factory=dict)  # by run id
    models: Mapping[str, ObservedModel] = field(default_factory=dict)  # by registered name
    versions: Mapping[tuple[str, int], ObservedVersion] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form, the inverse of `from_json`."""
        return {
            "experiments": [[e.name, e.experiment_id, dict(e.tags)] for e in self.experiments.values()],
            "runs": [
                [
                    *(r.run_id, r.experiment, r.name, r.status, r.started_ms, r.ended_ms),
                    *(dict(r.tags), dict(r.parameters), dict(r.metrics)),
                ]
                for r in self.runs.values()
            ],
            "models": [[m.name, m.description, dict(m.tags), dict(m.aliases)] for m in self.models.values()],
            "versions": [
                [v.model, v.number, v.run_id, v.source, v.description, dict(v.tags)]
                for v in self.versions.values()
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ledger:
        """Read what `to_json` wrote."""
        experiments = [ObservedExperiment(name, id_, shared(tags)) for name, id_, tags in data["experiments"]]
        runs = [
            replace(run, tags=shared(run.tags), parameters=shared(run.parameters))
            for run in (ObservedRun(*row) for row in data["runs"])
        ]
        models = [
            ObservedModel(name, description, shared(tags), aliases)
            for name, description, tags, aliases in data["models"]
        ]
        versions = [
            ObservedVersion(model, number, run_id, source, description, shared(tags))
            for model, number, run_id, source, description, tags in data["versions"]
        ]
        return cls(
            {e.name: e for e in experiments},
            {r.run_id: r for r in runs},
            {m.name: m for m in models},
            {(v.model, v.number): v for v in versions},
        )


def shared(texts: Mapping[str, str]) -> dict[str, str]:
    """The same texts, each in memory once: thousands of objects repeat the names and most values of their tags."""
    return {
        sys.intern(name): sys.intern(text) if isinstance(text, str) and len(text) <= _SHORT else text
        for name, text in texts.items()
    }


@dataclass(frozen=True, slots=True)
class ObservedDataset:
    """A dataset as it was found: its digest, or why it has none.

    `outside` tells that its bytes are not in the revision; `pinned`, that `digest` or `version` fixes them.
    `size` is in bytes; `rows` and `columns` (name → type) are None until somebody read the data.
    """

    name: str
    uri: str
    digest: str | None  # "sha256:…", or "delta:<table id>:<version>"
    outside: bool = False
    pinned: bool = False
    size: int | None = None
    rows: int | None = None
    columns: Mapping[str, str] | None = None
    reason: str | None = (
        None  # set when it cannot be used: NotFound, DigestMismatch, ExpectationFailed, Unreadable
    )
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """The whole picture that one plan is made from."""

    ledger: Ledger
    datasets: Mapping[str, ObservedDataset]  # by Dataset name
    kept_data: Mapping[str, ObservedDataset] = field(default_factory=dict)  # as kept experiments know them
    policies: Mapping[str, ObservedPolicy] = field(default_factory=dict)  # by MonitoringPolicy name
    notifiers: Mapping[str, Standing] = field(default_factory=dict)  # by Notifier name
    now: float = 0.0  # seconds since the epoch, by which gates that wait for time are judged

    def seen(self, *, kept: bool) -> Mapping[str, ObservedDataset]:
        """The datasets as an experiment sees them that is as the revision says, or kept as it was."""
        return {**self.datasets, **self.kept_data} if kept else self.datasets
