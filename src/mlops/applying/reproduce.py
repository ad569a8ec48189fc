"""Train a run again from what is recorded of it: its revision, its data by their digests, its environment.

The second run lies beside the first and says what it is for; it carries no fingerprint, so it is never a trial of the
experiment, nor bound. A killed reconciler leaves its job running, and the next one takes it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mlops.applying.collect import Collected, collect
from mlops.applying.outcomes import Left, Outcome
from mlops.applying.tasks import Task
from mlops.applying.train import CANCEL_PATIENCE, ORIGIN, begin, environment_of, experiment_id, wait
from mlops.applying.world import World
from mlops.errors import Stalled, Transient
from mlops.execution.jobs import Executor
from mlops.observation.observed import ObservedRun
from mlops.observation.revision import normal
from mlops.planning.context import DIRTY_TAG, RESOURCE_TAG, REVISION_TAG
from mlops.planning.gates import difference
from mlops.planning.plan import Step
from mlops.planning.runs import (
    DATASET_DIGEST,
    DECLARATION,
    ENVIRONMENT,
    MESSAGE,
    OUTCOME,
    PURPOSE,
    REPRODUCES,
    REPRODUCTION,
    is_open,
)
from mlops.planning.work import Trial
from mlops.resources import Experiment, Key

MOST_TEXT: Final = 4_000  # characters of metrics that are kept; of more, those that are furthest apart
_NUMBER: Final = 30  # characters of a number in JSON, with what stands around it
_SYSTEM: Final = "system/"  # what MLflow logs of the machine


@dataclass(frozen=True, slots=True)
class Reproduced:
    """The metrics of the second training; `failed` says why they show another model."""

    metrics: dict[str, float]
    failed: str | None = None


def reproduce(world: World, step: Step, run: ObservedRun, *, again: bool) -> Reproduced | Outcome:
    """Train `run` once more, or go on with what was begun of that.

    Args:
        again: whether to try once more although it failed before.
    Raises:
        Stalled: why what is recorded is not enough to train it again.
    """
    kind, _, name = run.tags.get(RESOURCE_TAG, "").partition("/")
    revision = run.tags.get(REVISION_TAG)
    if kind != "Experiment" or revision is None or DECLARATION not in run.tags:
        raise Stalled(
            "its run was not trained by this project, so what went into it is not recorded",
            fix="Declare the training as an Experiment.",
        )
    if run.tags.get(DIRTY_TAG) == "true":
        raise Stalled("it was trained from files that were not committed", fix="Commit them, and train.")
    there = world.as_of(revision, name)
    there.stop = world.stop
    experiment, trial = _recorded(there, name, run)
    executor = there.executor(experiment.spec.executor)
    copy = _begun(there, experiment, run, again=again)
    if copy is None or is_open(copy):
        collected = _train(world, there, step, experiment, trial, executor, run, copy)
        if not isinstance(collected, Collected):
            return collected
        if collected.outcome == "cancelled":
            return Left("cancelled before it had finished")
        copy = _begun(there, experiment, run, again=False)
    if copy is None:
        raise Transient("what was trained again is gone from MLflow", where=step.resource, fix="Try again.")
    return _compared(run, copy)


def _compared(run: ObservedRun, copy: ObservedRun) -> Reproduced:
    if copy.tags.get(OUTCOME) != "succeeded":
        what = f"training it again failed (run {copy.run_id}): {copy.tags.get(MESSAGE, '')}"
        raise Stalled(what, fix="See the log of that run.")
    wanted = {name: value for name, value in run.metrics.items() if not name.startswith(_SYSTEM)}
    missing = sorted(wanted.keys() - copy.metrics.keys())
    if missing:
        return Reproduced({}, f"trained again (run {copy.run_id}), it logged no {missing[0]}")
    apart = sorted(wanted, key=lambda name: (-difference(wanted[name], copy.metrics[name]), name))
    kept: list[str] = []
    size = 0
    for name in apart:
        size += len(name) + _NUMBER
        if kept and size > MOST_TEXT:
            break
        kept.append(name)
    return Reproduced({name: copy.metrics[name] for name in sorted(kept)})


def _recorded(there: World, name: str, run: ObservedRun) -> tuple[Experiment, Trial]:
    """The experiment as it was, and the trial with the data that the run was trained on."""
    experiment = there.desired.resources.get(Key("Experiment", name))
    states = there.planned.trials.get(name, ())
    trial = next((s.trial for s in states if s.trial.declaration == run.tags[DECLARATION]), None)
    if not isinstance(experiment, Experiment) or trial is None:
        what = f"revision {there.desired.revision[:12]} does not tell how it was trained: Experiment/{name}"
        raise Stalled(f"{what} has no such trial there", fix="Train a new version.")
    for item in trial.data:
        was, seen = run.tags.get(DATASET_DIGEST + item.role), there.observed.datasets.get(item.dataset)
        if seen is None or seen.digest != was:
            raise Stalled(
                f"Dataset/{item.dataset} is not what it was trained on any more",
                fix="Restore that content, or train a new version on the new data.",
            )
    if there.desired.code[name].environment != run.tags.get(ENVIRONMENT):
        raise Stalled("it was trained in an environment that is not declared", fix="Train a new version.")
    return experiment, trial


def _begun(there: World, experiment: Experiment, run: ObservedRun, *, again: bool) -> ObservedRun | None:
    """The newest run that was begun to reproduce `run`; with `again` none that failed."""
    there.check_lease()
    place = there.desired.ledger_name(experiment.metadata.name)
    runs = there.tracker.runs_tagged(experiment_id(there, experiment), place, REPRODUCES, run.run_id)
    found = [
        one for one in runs if one.tags.get(OUTCOME) not in ("cancelled", *(("failed",) if again else ()))
    ]
    return max(found, key=lambda one: (one.started_ms, one.run_id), default=None)


def _train(
    world: World,
    there: World,
    step: Step,
    experiment: Experiment,
    trial: Trial,
    executor: Executor,
    run: ObservedRun,
    copy: ObservedRun | None,
) -> Collected | Outcome:
    task = Task.of(experiment, trial, normal(experiment.spec.source.path))
    run_id = copy.run_id if copy is not None else _create(there, experiment, run)
    if executor.poll(run_id).state == "unknown":
        environment = environment_of(there, experiment, step)
        if world.stop.is_set():
            return Left("stopped before it was begun")
        begin(there, experiment, task, executor, run_id, environment)
    status = wait(there, step, executor, run_id, 1)
    if status is None and world.stop.is_set() and world.cancel_jobs:
        world.check_lease()
        executor.cancel(run_id)
        status = executor.wait((run_id,), CANCEL_PATIENCE).get(run_id)
    if status is None:
        return Left(f"run {run_id} goes on; the next pass takes it up")
    collected = collect(there, task, executor, run_id, status)
    there.check_lease()
    if collected.outcome == "failed" and collected.transient:
        there.tracker.tag_run(run_id, {OUTCOME: "cancelled"})  # it says nothing of the model: try another
        raise Transient(f"training again: {collected.message}", where=step.resource, fix="It is tried again.")
    ended = "FINISHED" if collected.outcome == "succeeded" else "FAILED"
    there.tracker.terminate(run_id, ended, name=_name(run), tags={})
    return collected


def _name(run: ObservedRun) -> str:
    return f"{run.name}-again"


def _create(there: World, experiment: Experiment, run: ObservedRun) -> str:
    kept = (REVISION_TAG, DIRTY_TAG, ENVIRONMENT)
    tags = {
        PURPOSE: REPRODUCTION,
        REPRODUCES: run.run_id,
        ORIGIN: there.origin,
        "mlflow.source.git.commit": run.tags[REVISION_TAG],
        "mlflow.source.name": experiment.spec.source.path,
        "mlflow.source.type": "PROJECT",
        "mlflow.user": there.user,
        **{tag: run.tags[tag] for tag in kept if tag in run.tags},
    }
    there.check_lease()
    place = experiment_id(there, experiment)
    return there.tracker.create_run(place, name=_name(run), tags=tags, parameters={}, inputs=())
