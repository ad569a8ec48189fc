"""Before the steps: close runs of jobs that ended while nobody looked and that no trial waits for any more.

A run is open until its outcome is written. One whose trial is still wanted is taken up by its `train` step;
the others would stay RUNNING in MLflow for ever. A job that still runs is left alone.
"""

from __future__ import annotations

import shutil

from mlops.applying.collect import collect
from mlops.applying.tasks import read_task
from mlops.applying.train import ORIGIN
from mlops.applying.world import World
from mlops.errors import MlopsError
from mlops.execution.jobs import JobStatus
from mlops.planning.runs import FINGERPRINT, OUTCOME, is_open
from mlops.planning.work import TrainTrial


def sweep(world: World) -> None:
    """Close what was left behind by this home, and forget jobs whose runs are closed."""
    runs = world.observed.ledger.runs
    awaited = {
        step.work.open_run for step in world.planned.plan.steps if isinstance(step.work, TrainTrial)
    } | {state.run.run_id for states in world.planned.trials.values() for state in states if state.run}
    for run in runs.values():
        ours = FINGERPRINT in run.tags and run.tags.get(ORIGIN) == world.origin
        if ours and is_open(run) and run.run_id not in awaited:
            _close(world, run.run_id)
    for job in sorted({*world.executor("local").jobs(), *_worked(world)}):
        if job in runs and OUTCOME in runs[job].tags:
            _forget(world, job)


def _worked(world: World) -> list[str]:
    """The runs that have a folder for their work; its job may be forgotten already."""
    try:
        return [folder.name for folder in (world.home / "work").iterdir()]
    except FileNotFoundError:
        return []


def _close(world: World, run_id: str) -> None:
    work = world.home / "work" / run_id
    task = read_task(work)
    status = world.executor(task.executor).poll(run_id) if task is not None else JobStatus("unknown")
    if task is None or status.state == "unknown":  # never started
        world.check_lease()
        message = {"mlops.message": "nobody asked for it any more before it was started"}
        world.tracker.terminate(run_id, "KILLED", name=world.observed.ledger.runs[run_id].name, tags=message)
        world.tracker.tag_run(run_id, {OUTCOME: "cancelled"})
        shutil.rmtree(work, ignore_errors=True)
        return
    if status.ended:
        collect(world, task, world.executor(task.executor), run_id, status)


def _forget(world: World, run_id: str) -> None:
    """Remove what a job left on this machine; a job that cannot be forgotten yet is left for the next pass."""
    try:
        world.executor("local").forget(run_id)
    except MlopsError:
        return
    shutil.rmtree(world.home / "work" / run_id, ignore_errors=True)
