"""Before the steps: close runs of jobs that ended while nobody looked and that no step takes up.

A run is open until its outcome is written. One whose trial is still wanted is taken up by its `train` step;
the others, also those of an experiment that was suspended meanwhile, would stay RUNNING in MLflow for ever. A job
that still runs is left alone, unless it is known that nobody wants it.
"""

from __future__ import annotations

import shutil

from mlops.applying.collect import collect
from mlops.applying.tasks import read_task
from mlops.applying.train import ORIGIN
from mlops.applying.world import World
from mlops.errors import MlopsError
from mlops.observation.observed import ObservedRun
from mlops.planning.runs import FINGERPRINT, MESSAGE, OUTCOME, REPRODUCES, is_open
from mlops.planning.work import EvaluateModel, TrainTrial
from mlops.state import LeaseLost


def sweep(world: World) -> tuple[str, ...]:
    """Close what was left behind by this home, and forget jobs whose runs are closed.

    One that cannot be closed stops nothing else: it is told, and tried again by the next pass.
    """
    runs = world.observed.ledger.runs
    troubles: list[str] = []
    steps = world.planned.plan.steps
    awaited = {step.work.open_run for step in steps if isinstance(step.work, TrainTrial)}
    evaluated = {step.work.run_id for step in steps if isinstance(step.work, EvaluateModel)}
    for run in runs.values():
        copied = run.tags.get(REPRODUCES)
        wanted_as = run.tags.get(FINGERPRINT) or copied
        ours = wanted_as is not None and run.tags.get(ORIGIN) == world.origin
        waited_for = run.run_id in awaited or copied in evaluated or wanted_as in world.busy
        if ours and is_open(run) and not (waited_for or (copied is not None and None in evaluated)):
            try:
                _close(world, run)
            except LeaseLost:
                raise
            except (MlopsError, OSError) as error:
                what = f"run {run.run_id}, which nobody waits for any more, cannot be closed"
                troubles.append(f"{what}: {error}")
    for job in sorted({*world.executor("local").jobs(), *_worked(world)}):
        if job in runs and OUTCOME in runs[job].tags:
            _forget(world, job)
    return tuple(troubles)


def _worked(world: World) -> list[str]:
    """The runs that have a folder for their work; its job may be forgotten already."""
    try:
        return [folder.name for folder in (world.home / "work").iterdir()]
    except FileNotFoundError:
        return []


def _close(world: World, run: ObservedRun) -> None:
    fresh = world.tracker.run(run.run_id)
    if fresh is None or not is_open(fresh):  # a step beside the loop has closed it since it was observed
        return
    work = world.home / "work" / run.run_id
    task = read_task(work)
    executor = world.executor(task.executor if task is not None else "local")
    status = executor.poll(run.run_id)
    if not status.ended and status.state != "unknown" and world.unwanted(run):
        world.check_lease()
        executor.cancel(run.run_id)  # its run is closed by the pass after its end
    if task is not None and status.ended:
        collect(world, task, executor, run.run_id, status)
    elif status.ended or status.state == "unknown":
        why = "before it was started" if status.state == "unknown" else "and what it was for is lost"
        world.check_lease()
        message = {MESSAGE: f"nobody waited for it any more {why}"}
        world.tracker.terminate(run.run_id, "KILLED", name=run.name, tags=message)
        world.check_lease()
        world.tracker.tag_run(run.run_id, {OUTCOME: "cancelled"})
        shutil.rmtree(work, ignore_errors=True)


def _forget(world: World, run_id: str) -> None:
    """Remove what a job left on this machine; a job that cannot be forgotten yet is left for the next pass."""
    try:
        world.executor("local").forget(run_id)
    except MlopsError:
        return
    shutil.rmtree(world.home / "work" / run_id, ignore_errors=True)
