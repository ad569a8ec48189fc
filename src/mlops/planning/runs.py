"""What MLflow's runs say of a trial: finished, open, or failed how often; and which is the best.

A run counts as finished only when its outcome tag says so. The tag is the last thing written, after the
log, the artifacts and the status: a half-logged run, or one that training code closed itself, has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from mlops.observation.observed import ObservedRun
from mlops.planning.work import Trial

FINGERPRINT: Final = "mlops.fingerprint"
DECLARATION: Final = "mlops.declaration"
ATTEMPT: Final = "mlops.attempt"
OUTCOME: Final = "mlops.outcome"  # succeeded | failed | cancelled
MESSAGE: Final = "mlops.message"
STALLED: Final = "mlops.stalled"  # on a failed run: another attempt fails as well until somebody acts
DATASET_DIGEST: Final = "mlops.digest."
ENVIRONMENT: Final = "mlops.environment"
CODE: Final = "mlops.code"
PURPOSE: Final = "mlops.purpose"  # of a run that is no trial
REPRODUCTION: Final = "reproduction"  # such a purpose: another run was trained again
REPRODUCES: Final = "mlops.reproduces"  # the id of that run


@dataclass(frozen=True, slots=True)
class TrialState:
    """Where a trial stands. `run` is the run that answers it, finished or open."""

    trial: Trial
    state: Literal["finished", "open", "absent"]
    run: ObservedRun | None
    failures: tuple[ObservedRun, ...]  # oldest first
    current: bool  # false when its unpinned outside data moved since it was trained

    @property
    def stalled(self) -> bool:
        """Whether its last attempt failed for a reason that another attempt would meet again."""
        return bool(self.failures) and self.failures[-1].tags.get(STALLED) == "true"

    @property
    def next_attempt(self) -> int:
        return max((attempt_of(run) for run in self.failures), default=0) + 1


@dataclass(frozen=True, slots=True)
class RunIndex:
    """The project's runs by fingerprint and by declaration, newest last."""

    by_fingerprint: Mapping[str, tuple[ObservedRun, ...]] = field(default_factory=dict)
    by_declaration: Mapping[str, tuple[ObservedRun, ...]] = field(default_factory=dict)
    by_experiment: Mapping[str, tuple[ObservedRun, ...]] = field(default_factory=dict)  # by its full name

    @classmethod
    def of(cls, runs: Iterable[ObservedRun]) -> RunIndex:
        fingerprints: dict[str, list[ObservedRun]] = {}
        declarations: dict[str, list[ObservedRun]] = {}
        experiments: dict[str, list[ObservedRun]] = {}
        for run in sorted(runs, key=lambda run: (run.started_ms, run.run_id)):
            if value := run.tags.get(FINGERPRINT):
                fingerprints.setdefault(value, []).append(run)
            if value := run.tags.get(DECLARATION):
                declarations.setdefault(value, []).append(run)
            experiments.setdefault(run.experiment, []).append(run)
        return cls(
            {key: tuple(runs) for key, runs in fingerprints.items()},
            {key: tuple(runs) for key, runs in declarations.items()},
            {key: tuple(runs) for key, runs in experiments.items()},
        )

    def state(self, trial: Trial, *, hold: bool) -> TrialState:
        """Where `trial` stands. With `hold`, a finished run of its declaration answers it too."""
        same = self.by_fingerprint.get(trial.fingerprint, ())
        failures = tuple(run for run in same if run.tags.get(OUTCOME) == "failed")
        for run in same:  # the oldest finished one: it may be bound already
            if is_finished(run):
                return TrialState(trial, "finished", run, failures, current=True)
        for run in same:
            if is_open(run):
                return TrialState(trial, "open", run, failures, current=True)
        if hold and not failures:
            for run in reversed(self.by_declaration.get(trial.declaration, ())):
                if is_finished(run):
                    return TrialState(trial, "finished", run, failures, current=False)
        return TrialState(trial, "absent", None, failures, current=True)


def attempt_of(run: ObservedRun) -> int:
    """Which attempt of its trial a run is; 1 where somebody wrote something else into the tag."""
    text = run.tags.get(ATTEMPT, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 1


def is_finished(run: ObservedRun) -> bool:
    """Whether a run is complete: trained, collected and closed by the controller."""
    return run.status == "FINISHED" and run.tags.get(OUTCOME) == "succeeded"


def is_open(run: ObservedRun) -> bool:
    """Whether a run of ours still has to be waited for, or collected."""
    return OUTCOME not in run.tags


def best(runs: Iterable[ObservedRun], metric: str, goal: str) -> ObservedRun | None:
    """The run with the best finite value of `metric`; of equal ones the oldest. None if no run has one."""
    sign = -1.0 if goal == "maximize" else 1.0
    scored = [
        (sign * run.metrics[metric], run.started_ms, run.run_id, run)
        for run in runs
        if metric in run.metrics and math.isfinite(run.metrics[metric])
    ]
    return min(scored, key=lambda row: row[:3])[3] if scored else None


def why_none_is_best(experiment: str, runs: Iterable[ObservedRun], metric: str) -> str:
    """Why no finished run of `experiment` (as `Experiment/name`) is the best by `metric`, and what to do."""
    logged = [run.metrics for run in runs]
    values = sorted({f"{metrics[metric]:g}" for metrics in logged if metric in metrics})
    if values:
        return (
            f"{experiment} logged {metric} = {' and '.join(values)}, which compares with nothing. Look for empty "
            f"or missing input, a division by zero, or training that diverged (`mlops logs {experiment}`)"
        )
    names = ", ".join(sorted({name for metrics in logged for name in metrics})[:8]) or "nothing"
    return (
        f"no run of {experiment} logged {metric} (logged: {names}). "
        f"Log it with mlflow.log_metric({metric!r}, …), or write it to $MLOPS_OUTPUT/metrics.json"
    )
