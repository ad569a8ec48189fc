"""Train one trial: a run in MLflow, a job beside it, and the run closed by what really happened.

Every stage can be repeated: a run is created with all its tags in one call, a job is started at most once
under the run's id, and collecting a job's results twice gives the same run. The outcome tag comes last, so
a run that lacks it is picked up where it was left.
"""

from __future__ import annotations

import random
from typing import Final

from mlops.applying.collect import Collected, collect
from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.applying.tasks import Task, read_task, write_task
from mlops.applying.world import World
from mlops.errors import MlopsError, Stalled, Transient
from mlops.execution.environment import job_environment
from mlops.execution.jobs import Executor, JobSpec, JobStatus
from mlops.execution.virtualenv import Environment, own_environment, prepare
from mlops.observation.revision import environment_files, environment_spec, normal
from mlops.planning.context import DIRTY_TAG, RESOURCE_TAG, REVISION_TAG
from mlops.planning.experiments import experiment_tags
from mlops.planning.plan import Block, Step
from mlops.planning.reasons import code_digest
from mlops.planning.runs import (
    ATTEMPT,
    CODE,
    DATASET_DIGEST,
    DECLARATION,
    ENVIRONMENT,
    FINGERPRINT,
    MESSAGE,
    OUTCOME,
    STALLED,
    RunIndex,
    TrialState,
)
from mlops.planning.trials import fill, text_of
from mlops.planning.work import TrainTrial, Trial
from mlops.resources import Experiment, Key, environment_name
from mlops.source.export import export
from mlops.tracking import DatasetInput

ORIGIN: Final = "mlops.origin"
POLL: Final = 0.5  # seconds between looks at the clock and the stop flag while a job runs
FIRST_DELAY: Final = 10.0  # seconds before a transient failure is tried again; doubles
LONGEST_DELAY: Final = 600.0
CANCEL_PATIENCE: Final = 30.0  # seconds until a cancelled job must have ended
GIVEN_UP: Final = 3600.0  # seconds beyond an experiment's timeout after which a stranger's run is lost


def train(world: World, step: Step, work: TrainTrial) -> Outcome:
    """Bring the trial to a finished run, with as many attempts as the experiment allows."""
    if (shared := world.finished(work.trial.fingerprint)) is not None:
        return Done(f"run {shared.run_id[:8]} has this fingerprint")
    experiment = world.desired.resources[Key("Experiment", work.trial.experiment)]
    assert isinstance(experiment, Experiment)
    task = Task.of(experiment, work.trial, normal(experiment.spec.source.path))
    run_id, attempt = work.open_run, work.first_attempt
    if run_id is None:
        now = _state_now(world, experiment, work.trial)
        if now.state == "finished" and now.run is not None:
            world.runs[now.run.run_id] = now.run
            return Done(f"run {now.run.run_id[:8]} has this fingerprint")
        run_id, attempt = now.run.run_id if now.run else None, max(attempt, now.next_attempt)
    for tried in range(work.attempts):
        executor = _executor(world, experiment, run_id)
        if run_id is not None:
            elsewhere = _elsewhere(world, experiment, executor, run_id)
            if elsewhere is not None:
                return elsewhere
        else:
            run_id = _create(world, experiment, work.trial, attempt)
        ended = _attempt(world, step, experiment, task, executor, run_id, attempt, tried)
        if not isinstance(ended, Collected):
            return ended
        if ended.outcome == "succeeded":
            return Done(ended.message)
        if ended.outcome == "cancelled":
            return Failed(Stalled(ended.message, where=str(experiment.key)))
        if tried + 1 == work.attempts:
            return Failed(_failure(experiment, ended))
        world.progress.says(step, f"attempt {attempt} failed: {ended.message}")
        run_id, attempt = None, attempt + 1
        if world.stop.is_set() or (ended.transient and not _pause(world, tried)):
            return Left("stopped between two attempts")
    raise AssertionError("a step that trains has at least one attempt")


def _state_now(world: World, experiment: Experiment, trial: Trial) -> TrialState:
    """Where the trial stands by now: since it was planned, maybe hours ago, another machine may have trained it."""
    world.check_lease()
    name = world.desired.ledger_name(experiment.metadata.name)
    runs = world.tracker.runs_tagged(experiment_id(world, experiment), name, FINGERPRINT, trial.fingerprint)
    return RunIndex.of(runs).state(trial, hold=False)


def _executor(world: World, experiment: Experiment, run_id: str | None) -> Executor:
    """The one that has the run's job already, whatever the experiment says by now; else the one it names."""
    task = read_task(world.home / "work" / run_id) if run_id is not None else None
    if task is not None and run_id is not None and task.executor != experiment.spec.executor:
        before = world.executor(task.executor)
        if before.poll(run_id).state != "unknown":
            return before
    return world.executor(experiment.spec.executor)


def _attempt(
    world: World,
    step: Step,
    experiment: Experiment,
    task: Task,
    executor: Executor,
    run_id: str,
    attempt: int,
    tried: int,
) -> Collected | Outcome:
    """One attempt to its end, begun or taken up: what it came to, or why it has not come to its end."""
    if executor.poll(run_id).state == "unknown":
        run = world.tracker.run(run_id)
        if run is not None and OUTCOME in run.tags:  # closed since the plan was made
            return Left(f"run {run_id} has ended; the next pass sees it")
        try:
            environment = environment_of(world, experiment, step)
        except Stalled as error:
            return _never_began(world, experiment, task.trial, run_id, attempt, error)
        if world.stop.is_set():
            return Left("stopped before it was begun")
        begin(world, experiment, task, executor, run_id, environment)
    status = wait(world, step, executor, run_id, tried + 1)
    if status is None:
        return Left(f"run {run_id} goes on; the next apply takes it up")
    return collect(world, task, executor, run_id, status)


def _failure(experiment: Experiment, collected: Collected) -> MlopsError:
    fix = f"See `mlops logs {experiment.key}`. Mend it and commit, or run `mlops apply --retry-stalled`"
    return Stalled(collected.message, where=str(experiment.key), fix=fix)


def _never_began(
    world: World, experiment: Experiment, trial: Trial, run_id: str, attempt: int, error: Stalled
) -> Outcome:
    """Close the run of a job that cannot be started before somebody acts; it is not attempted again."""
    tags = {MESSAGE: world.redactor.redact(str(error)), STALLED: "true"}
    world.check_lease()
    world.tracker.terminate(run_id, "FAILED", name=trial.run_name(attempt), tags=tags)
    world.check_lease()
    world.tracker.tag_run(run_id, {OUTCOME: "failed"})
    fix = f"{error.fix or ''} Then commit, or run `mlops apply --retry-stalled`".strip()
    return Failed(Stalled(error.what, where=str(experiment.key), fix=fix))


def _create(world: World, experiment: Experiment, trial: Trial, attempt: int) -> str:
    world.check_lease()
    place = experiment_id(world, experiment)
    snapshot = world.snapshot_of(experiment.key)
    tags = {
        RESOURCE_TAG: str(experiment.key),
        FINGERPRINT: trial.fingerprint,
        DECLARATION: trial.declaration,
        ATTEMPT: str(attempt),
        REVISION_TAG: snapshot.revision,
        DIRTY_TAG: str(snapshot.dirty).lower(),
        ENVIRONMENT: world.desired.code[trial.experiment].environment,
        CODE: code_digest(world.desired.code[trial.experiment]),
        ORIGIN: world.origin,
        "mlflow.source.git.commit": snapshot.revision,
        "mlflow.source.name": experiment.spec.source.path,
        "mlflow.source.type": "PROJECT",
        "mlflow.user": world.user,
        **{DATASET_DIGEST + item.role: item.digest for item in trial.data},
    }
    world.check_lease()
    return world.tracker.create_run(place, name=trial.run_name(attempt), tags=tags, parameters={}, inputs=())


def begin(
    world: World,
    experiment: Experiment,
    task: Task,
    executor: Executor,
    run_id: str,
    environment: Environment,
) -> None:
    """Log the run's inputs and start its job; both do nothing the second time."""
    trial = task.trial
    seen = world.observed.seen(kept=experiment.key in world.desired.kept)
    world.check_lease()
    world.tracker.log_inputs(
        run_id,
        [DatasetInput(item.dataset, item.digest, seen[item.dataset].uri, item.role) for item in trial.data],
    )
    job = _job(world, experiment, trial, run_id, environment)
    write_task(world.home / "work" / run_id, task)
    world.check_lease()
    executor.start(job)


def experiment_id(world: World, experiment: Experiment) -> str:
    """The id of an experiment in MLflow, made where it is not there yet."""
    name = world.desired.ledger_name(experiment.metadata.name)
    known = world.observed.ledger.experiments.get(name)
    if known is not None:
        return known.experiment_id
    tags = experiment_tags(world.desired.project, experiment)
    return world.tracker.ensure_experiment(name, description="", tags=tags)


def _elsewhere(world: World, experiment: Experiment, executor: Executor, run_id: str) -> Outcome | None:
    """Leave alone a run that another reconciler works on, unless it has been silent far too long."""
    run = world.run(run_id)
    origin = run.tags.get(ORIGIN, world.origin) if run is not None else world.origin
    if run is None or origin == world.origin or executor.poll(run_id).state != "unknown":
        return None
    patience = (experiment.spec.timeout or 86400.0) + GIVEN_UP
    if world.now() - run.started_ms / 1000 < patience:
        what = f"run {run_id} is being trained by {origin}; it is waited for until its timeout has passed"
        return Blocked(Block(str(experiment.key), "Trained", "RunElsewhere", what))
    world.check_lease()
    world.tracker.terminate(run_id, "KILLED", name=run.name, tags={MESSAGE: f"lost with {origin}"})
    world.check_lease()
    world.tracker.tag_run(run_id, {OUTCOME: "failed"})
    return Failed(Transient(f"run {run_id} was lost with {origin}", fix="Apply again to train it here"))


def environment_of(world: World, experiment: Experiment, step: Step) -> Environment:
    """The environment that an experiment's code runs in, made where it is not there yet."""
    files = world.snapshot_of(experiment.key).read(environment_files(experiment))
    declared = environment_spec(experiment, files)
    if declared is None:
        return own_environment()
    world.progress.says(step, "preparing its environment")
    return prepare(
        declared,
        world.home / "environments",
        lambda line: world.progress.says(step, line),
        environ=world.environ,
    )


def _job(
    world: World, experiment: Experiment, trial: Trial, run_id: str, environment: Environment
) -> JobSpec:
    code = world.home / "work" / run_id / "code"
    output = world.home / "work" / run_id / "output"
    files = world.desired.code[trial.experiment].files
    folder = normal(experiment.spec.source.path)
    prefix = f"{folder}/" if folder else ""
    export(world.snapshot_of(experiment.key), [prefix + path for path in files], code)
    cwd = code / folder
    cwd.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    given = {
        f"MLOPS_PARAM_{environment_name(name)}": text_of(value) for name, value in trial.parameters.items()
    }
    for item in trial.data:
        data = world.data(trial.experiment, item.dataset, item.digest)
        given[f"MLOPS_DATASET_{environment_name(item.role)}"] = data.path_or_uri
        for name, value in data.variables.items():
            given[f"MLOPS_DATASET_{environment_name(item.role)}_{name}"] = value
    if trial.seed is not None:
        given |= {"MLOPS_SEED": str(trial.seed), "PYTHONHASHSEED": str(trial.seed % 2**32)}
    given["MLOPS_OUTPUT"] = str(output)
    given["PATH"] = f"{environment.bin}:{world.environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    run = world.run(run_id)
    given |= world.tracker.child_environment(
        run_id,
        experiment_id(world, experiment),
        world.desired.ledger_name(experiment.metadata.name),
        requirements=environment.lock.splitlines(),
        run_tags=run.tags if run is not None else {},
    )
    return JobSpec(
        id=run_id,
        argv=fill(trial.command, trial.parameters),
        cwd=cwd,
        env=job_environment(world.environ, experiment.spec.variables, given),
        timeout=experiment.spec.timeout,
        memory=experiment.spec.resources.memory if experiment.spec.resources else None,
        output=output,
    )


def wait(world: World, step: Step, executor: Executor, run_id: str, attempt: int) -> JobStatus | None:
    """The job's end, or None when it is not to be waited for."""
    began = world.monotonic()
    while True:
        ended = executor.wait((run_id,), POLL if world.waits.wait else 0.0)
        if ended:
            return ended[run_id]
        if world.stop.is_set() and world.cancel_jobs:
            world.check_lease()
            executor.cancel(run_id)
            return executor.wait((run_id,), CANCEL_PATIENCE).get(run_id)
        late = world.waits.until is not None and world.monotonic() >= world.waits.until
        if world.stop.is_set() or late or not world.waits.wait:
            return None
        note = f"attempt {attempt}, " if attempt > 1 else ""
        world.progress.says(step, f"{note}{world.monotonic() - began:.0f} s")


def _pause(world: World, tried: int) -> bool:
    """Wait before the next attempt; False when told to stop meanwhile."""
    delay = min(LONGEST_DELAY, FIRST_DELAY * 2**tried) * random.uniform(0.8, 1.2)
    return not world.pause(world.stop, delay) and world.waits.wait
