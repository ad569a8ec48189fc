"""MLflow's objects in dictionaries, under the real steps of `apply`: thousands of applies in a few seconds.

Only training is replaced: a trial's metrics follow from its fingerprint, and some trials fail, log NaN or
log nothing. `tests/lifecycle` holds the same properties against real stores.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from revisions import PROJECT, Case

import mlops.applying.apply as engine
from mlops.applying.outcomes import Done, Failed, Outcome
from mlops.applying.world import World
from mlops.approvals import People, decide
from mlops.errors import Stalled
from mlops.observation.observed import (
    Ledger,
    Observed,
    ObservedExperiment,
    ObservedModel,
    ObservedRun,
    ObservedVersion,
)
from mlops.planning.context import RESOURCE_TAG, VERSION_TAG, Options
from mlops.planning.experiments import experiment_tags
from mlops.planning.plan import Step
from mlops.planning.planner import Planned, make_plan
from mlops.planning.runs import ATTEMPT, DATASET_DIGEST, DECLARATION, FINGERPRINT, OUTCOME
from mlops.planning.work import TrainTrial
from mlops.resources import Experiment, Key


@dataclass
class Memory:
    """A store whose objects are the values that planning observes."""

    experiments: dict[str, ObservedExperiment] = field(default_factory=dict)
    runs: dict[str, ObservedRun] = field(default_factory=dict)
    models: dict[str, ObservedModel] = field(default_factory=dict)
    versions: dict[tuple[str, int], ObservedVersion] = field(default_factory=dict)
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    clock: float = 1_700_000_000.0
    lock: Any = field(default_factory=threading.RLock)

    def now(self) -> float:
        with self.lock:
            self.clock += 1
            return self.clock

    def ledger(self) -> Ledger:
        return Ledger(dict(self.experiments), dict(self.runs), dict(self.models), dict(self.versions))

    def plan(self, case: Case, **options: Any) -> Planned:
        return make_plan(case.desired, Observed(self.ledger(), case.datasets), Options(**options))

    def apply(self, case: Case) -> engine.Applied:
        """What `mlops apply` does with this revision, and the revision written down as the one in force."""
        planned = self.plan(case)
        world = World(
            desired=case.desired,
            observed=Observed(self.ledger(), case.datasets),
            planned=planned,
            snapshot_of=lambda key: SimpleNamespace(root=""),  # type: ignore[arg-type, return-value]
            tracker=self,  # type: ignore[arg-type]
            executor=None,  # type: ignore[arg-type]
            home=None,  # type: ignore[arg-type]
            origin="here",
            user="ann",
            redactor=None,  # type: ignore[arg-type]
            progress=SimpleNamespace(started=_quiet, says=_quiet, ended=_quiet),
            environ={},
            look=lambda experiment, names: {},
            data=None,  # type: ignore[arg-type]
            rows=None,  # type: ignore[arg-type]
            fresh=lambda name: None,
            state=None,  # type: ignore[arg-type]
            loaded=None,  # type: ignore[arg-type]
            texts=None,  # type: ignore[arg-type]
            repository=None,  # type: ignore[arg-type]
            folder="",
            desk=None,  # type: ignore[arg-type]
            planned_at=None,  # type: ignore[arg-type]
            decision=lambda asked: decide(asked, People(), (), ()),
            check_lease=lambda: None,
            now=self.now,
            monotonic=self.now,
        )
        with self._training():
            applied = engine.apply(world, planned.plan)
        engine.record_revision(world)
        for step, outcome in applied.having(Failed):
            if step.action != "train":
                assert isinstance(outcome, Failed)
                raise outcome.error
        return applied

    def _training(self) -> Any:
        import pytest

        patch = pytest.MonkeyPatch()
        patch.setattr(engine, "train", self.train)
        return _undo(patch)

    def train(self, world: World, step: Step, work: TrainTrial) -> Outcome:
        trial = work.trial
        experiment = world.desired.resources[Key("Experiment", trial.experiment)]
        assert isinstance(experiment, Experiment)
        name = f"{PROJECT}/{trial.experiment}"
        if name not in self.experiments:
            self.ensure_experiment(name, description="", tags=experiment_tags(PROJECT, experiment))
        fate, value = int(trial.fingerprint[0], 16), int(trial.fingerprint[1:3], 16) / 4
        for attempt in range(work.attempts):
            at = int(self.now() * 1000)
            tags = {
                RESOURCE_TAG: step.resource,
                FINGERPRINT: trial.fingerprint,
                DECLARATION: trial.declaration,
                ATTEMPT: str(work.first_attempt + attempt),
                OUTCOME: "failed" if fate == 0 else "succeeded",
                **{DATASET_DIGEST + item.role: item.digest for item in trial.data},
            }
            metrics = {1: {"rmse": float("nan")}, 2: {}}.get(fate, {"rmse": value})
            run = ObservedRun(
                f"{len(self.runs):032x}",
                name,
                trial.name,
                "FAILED" if fate == 0 else "FINISHED",
                at,
                at + 1,
                tags,
                {},
                metrics,
            )
            self.runs[run.run_id] = world.runs[run.run_id] = run
            if fate:
                return Done()
        return Failed(Stalled("it fails"))

    def run(self, run_id: str) -> ObservedRun | None:
        return self.runs.get(run_id)

    def ensure_experiment(self, name: str, *, description: str, tags: Mapping[str, str]) -> str:
        with self.lock:
            self.experiments.setdefault(
                name, ObservedExperiment(name, str(len(self.experiments)), dict(tags))
            )
        return self.experiments[name].experiment_id

    def update_experiment(self, experiment_id: str, *, tags: Mapping[str, str | None]) -> None:
        [one] = [e for e in self.experiments.values() if e.experiment_id == experiment_id]
        self.experiments[one.name] = replace(one, tags=_tagged(one.tags, tags))

    def ensure_model(self, name: str, *, description: str, tags: Mapping[str, str]) -> None:
        self.models.setdefault(name, ObservedModel(name, description, dict(tags), {}))

    def update_model(self, name: str, *, description: str | None, tags: Mapping[str, str | None]) -> None:
        one = self.models[name]
        described = one.description if description is None else description
        self.models[name] = replace(one, description=described, tags=_tagged(one.tags, tags))

    def create_version(
        self, model: str, *, source_uri: str, run_id: str, tags: Mapping[str, str], description: str
    ) -> int:
        with self.lock:
            for version in self.versions_of(model):
                if all(version.tags.get(tag) == tags[tag] for tag in (RESOURCE_TAG, VERSION_TAG)):
                    return version.number
            number = max((v.number for v in self.versions_of(model)), default=0) + 1
            made = ObservedVersion(model, number, run_id, source_uri, description, dict(tags))
            self.versions[model, number] = made
        return number

    def link_versions(self, made: Iterable[tuple[str, str, int]]) -> None:
        for _, model, number in made:
            assert (model, number) in self.versions

    def versions_of(self, model: str) -> list[ObservedVersion]:
        return [v for v in self.versions.values() if v.model == model]

    def version(self, model: str, number: int) -> ObservedVersion | None:
        return self.versions.get((model, number))

    def tag_version(
        self, model: str, number: int, tags: Mapping[str, str | None], *, description: str | None = None
    ) -> None:
        with self.lock:
            one = self.versions[model, number]
            described = one.description if description is None else description
            self.versions[model, number] = replace(one, description=described, tags=_tagged(one.tags, tags))

    def move_alias(
        self, model: str, alias: str, number: int, *, tags: Mapping[int, Mapping[str, str | None]]
    ) -> None:
        with self.lock:
            assert (model, number) in self.versions
            for tagged, wanted in tags.items():
                version = self.versions[model, tagged]
                self.versions[model, tagged] = replace(version, tags=_tagged(version.tags, wanted))
            one = self.models[model]
            self.models[model] = replace(one, aliases={**one.aliases, alias: number})

    def aliases(self, model: str) -> Mapping[str, int]:
        return self.models[model].aliases

    def delete_alias(self, model: str, alias: str) -> None:
        with self.lock:
            one = self.models[model]
            self.models[model] = replace(one, aliases={a: n for a, n in one.aliases.items() if a != alias})

    def delete_version(self, model: str, number: int) -> None:
        with self.lock:
            del self.versions[model, number]
            one = self.models[model]
            self.models[model] = replace(one, aliases={a: n for a, n in one.aliases.items() if n != number})

    def artifact(self, run_id: str, name: str) -> Any:
        return SimpleNamespace(uri=f"runs:/{run_id}/{name}", digest=f"sha256:{run_id}")

    def write_artifact(self, run_id: str, path: str, content: bytes) -> None:
        self.files[run_id, path] = content

    def read_artifact(self, run_id: str, path: str) -> bytes | None:
        return self.files.get((run_id, path))


class _undo:
    def __init__(self, patch: Any) -> None:
        self.patch = patch

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc_info: object) -> None:
        self.patch.undo()


def _tagged(tags: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**tags, **changes}.items() if value is not None}


def _quiet(*arguments: object) -> None:
    return None
