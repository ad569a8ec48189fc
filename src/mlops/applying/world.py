"""Everything that a step may touch, passed in: the ledger, executors, files, time, and what was learnt.

Steps share what they found out through `runs`, `versions` and `bound`. Each entry is written by one step and
read by those that need it, after it; other threads add entries meanwhile, so nothing iterates over the live dict.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from mlops.applying.outcomes import Outcome
from mlops.approvals import Asked, Decision
from mlops.data import Materialised
from mlops.errors import Stalled
from mlops.execution.jobs import Executor
from mlops.observation.observed import Observed, ObservedDataset, ObservedRun, ObservedVersion
from mlops.planning.desired import Desired
from mlops.planning.plan import Step
from mlops.planning.planner import Planned
from mlops.planning.runs import FINGERPRINT, is_finished
from mlops.redaction import Redactor
from mlops.resources import Dataset, Key, Loaded
from mlops.source.repository import Repository
from mlops.source.snapshot import Snapshot
from mlops.state import State
from mlops.tracking import Artifact, Tracker

if TYPE_CHECKING:
    from mlops.applying.writing_back import Desk
    from mlops.data.rows import RowFiles

NOW: Final = "now"  # in the place of a digest: what a Dataset holds now, whatever it is pinned to


class Progress(Protocol):
    """Where the walk tells what it does; the terminal draws it, the daemon logs it."""

    def started(self, step: Step) -> None: ...

    def says(self, step: Step, message: str) -> None: ...

    def ended(self, step: Step, outcome: Outcome, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Waits:
    """How long to wait for jobs: not at all, until a moment of the monotonic clock, or for ever."""

    wait: bool = True
    until: float | None = None  # by `World.monotonic`


@dataclass(slots=True)
class World:
    """The surroundings of one apply."""

    desired: Desired
    observed: Observed
    planned: Planned
    snapshot_of: Callable[[Key], Snapshot]  # the files that a resource stands among
    tracker: Tracker
    executor: Callable[[str], Executor]
    home: Path  # where jobs, environments and copies of data are
    origin: str  # "host:home", written on runs so that another reconciler leaves them alone
    user: str
    redactor: Redactor
    progress: Progress
    environ: Mapping[str, str]
    look: Callable[
        [str, Collection[str]], Mapping[str, ObservedDataset]
    ]  # observe an Experiment's datasets again
    data: Callable[
        [str, str, str], Materialised
    ]  # an Experiment, its Dataset, the digest → where a job finds it
    # a Dataset, as it is declared, or with a digest at a revision, or NOW → its declaration and its files
    rows: Callable[[str, str | None, str | None], tuple[Dataset, RowFiles]]
    fresh: Callable[[str], str | None]  # the digest that a Dataset has now, whatever it is pinned to
    state: State
    loaded: Callable[[], Loaded]  # what the revision declares, with places
    texts: Callable[[], Mapping[str, str]]  # of the files that it is declared in
    repository: Repository
    folder: str  # of the project in its repository
    desk: Callable[[], Desk]  # where proposals are written and shown
    decision: Callable[[Asked], Decision]  # who approved a promotion, looked at now
    planned_at: Callable[[str], Planned]  # what would be done if a commit came into force
    check_lease: Callable[[], None]
    now: Callable[[], float]
    monotonic: Callable[[], float]
    waits: Waits = field(default_factory=Waits)
    stop: threading.Event = field(default_factory=threading.Event)
    # seconds until the next attempt; true when stopped meanwhile
    pause: Callable[[threading.Event, float], bool] = threading.Event.wait
    cancel_jobs: bool = False
    patient: bool = (
        True  # false where a later pass tries again what a store puts off, and others wait for this one
    )
    busy: Collection[
        str
    ] = ()  # fingerprints that steps beside this walk train: nobody else closes their runs
    unwanted: Callable[[ObservedRun], bool] = lambda run: (
        False
    )  # whether to end a job that no trial waits for
    runs: dict[str, ObservedRun] = field(default_factory=dict)  # fresh ones, by run id
    versions: dict[str, dict[int, ObservedVersion]] = field(default_factory=dict)  # fresh ones, by model
    bound: dict[str, tuple[str, int]] = field(default_factory=dict)  # by ModelVersion name
    artifacts: dict[tuple[str, str], Artifact | None] = field(default_factory=dict)
    # the surroundings of one Experiment, by its name, as they are at another revision
    as_of: Callable[[str, str], World] = field(default=lambda revision, experiment: _nowhere(revision))

    def run(self, run_id: str) -> ObservedRun | None:
        """The run as this apply left it, as planning saw it, or as MLflow has it."""
        return self.runs.get(run_id) or self.observed.ledger.runs.get(run_id) or self.tracker.run(run_id)

    def runs_of(self, experiment: str) -> tuple[ObservedRun, ...]:
        """The finished runs of an experiment's trials, those of this apply among them."""
        found = (
            state.run if state.state == "finished" else self.finished(state.trial.fingerprint)
            for state in self.planned.trials.get(experiment, ())
        )
        return tuple(run for run in found if run is not None)

    def finished(self, fingerprint: str) -> ObservedRun | None:
        """The run that this apply finished for a fingerprint."""
        runs = list(self.runs.values())
        return next((r for r in runs if r.tags.get(FINGERPRINT) == fingerprint and is_finished(r)), None)

    def version(self, model_version: str) -> ObservedVersion | None:
        """The registered version that a ModelVersion is bound to, with its tags as this apply left them."""
        place = self.bound.get(model_version)
        if place is not None:
            model, number = place
            return self.versions[model][number]
        known = self.planned.bound.get(model_version)
        return self.versions.get(known.model, {}).get(known.number, known) if known is not None else None

    def versions_of(self, model: str) -> tuple[ObservedVersion, ...]:
        """All versions of a registered model, oldest first."""
        seen = {version.number: version for version in self.planned.versions_of(model)}
        seen |= dict(self.versions.get(model, {}))
        return tuple(seen[number] for number in sorted(seen))

    def remember(self, version: ObservedVersion) -> None:
        """Keep a version as it is after a write, for the steps that come after."""
        self.versions.setdefault(version.model, {})[version.number] = version

    def artifact(self, run_id: str, name: str) -> Artifact | None:
        """A finished run's artifact with its digest, computed once for all versions that come from it."""
        if (run_id, name) not in self.artifacts:
            self.artifacts[run_id, name] = self.tracker.artifact(run_id, name)
        return self.artifacts[run_id, name]


def _nowhere(revision: str) -> World:
    raise Stalled(f"revision {revision[:12]} cannot be read here", fix="Fetch it")
