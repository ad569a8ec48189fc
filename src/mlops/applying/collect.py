"""Close a run by what its job really did: log, outputs, parameters, name, status, and last the outcome.

Training code may have set a status, a name or nothing at all; the exit code decides (a script that exits
non-zero without a `with` block leaves its run FINISHED, a killed one RUNNING for ever).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mlops.applying.tasks import Task
from mlops.applying.world import World
from mlops.execution.diagnosis import diagnose
from mlops.execution.jobs import Executor, JobStatus
from mlops.planning.runs import MESSAGE, OUTCOME, attempt_of
from mlops.planning.trials import mlflow_text
from mlops.planning.work import Trial
from mlops.tracking import takes_metric

LOG_ARTIFACT: Final = "mlops/log.txt"
TAIL: Final = 64 * 1024  # bytes of the log that the diagnosis reads
MESSAGE_LIMIT: Final = 2000  # characters of a message kept as a run tag
METRICS_LIMIT: Final = 16 * 2**20  # bytes of metrics.json


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of one attempt; `transient` says that another try may well succeed."""

    outcome: Literal["succeeded", "failed", "cancelled"]
    message: str
    transient: bool = False


def collect(world: World, task: Task, executor: Executor, run_id: str, status: JobStatus) -> Collected:
    """Write everything the job left behind to its run, set the run's end, and forget the job."""
    trial = task.trial
    tail = world.redactor.redact(_tail(executor, run_id))
    work = world.home / "work" / run_id
    problem = _log_output(world, run_id, work / "output", status) if status.succeeded else None
    moved = _moved(world, trial) if status.succeeded else None
    _log_text(world, executor, run_id, work)
    world.check_lease()
    children = world.tracker.link_children(run_id)
    collected = _judge(world, task, run_id, status, tail, problem, moved, children)
    _log_parameters(world, run_id, trial)
    run = world.tracker.run(run_id)
    attempt = attempt_of(run) if run is not None else 1
    world.check_lease()
    world.tracker.terminate(
        run_id,
        {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}[collected.outcome],
        name=trial.run_name(attempt),
        tags={MESSAGE: world.redactor.redact(collected.message)[:MESSAGE_LIMIT]},
    )
    world.check_lease()
    world.tracker.tag_run(run_id, {OUTCOME: collected.outcome})
    if (fresh := world.tracker.run(run_id)) is not None:
        world.runs[run_id] = fresh
    executor.forget(run_id)
    shutil.rmtree(work, ignore_errors=True)
    return collected


def _judge(
    world: World,
    task: Task,
    run_id: str,
    status: JobStatus,
    tail: str,
    problem: str | None,
    moved: str | None,
    children: tuple[str, ...],
) -> Collected:
    if status.cause == "cancelled":
        return Collected("cancelled", "cancelled before it had finished")
    if not status.succeeded:
        transient = status.state == "lost" or status.signal is not None or status.cause == "memory"
        code = world.home / "work" / run_id / "code" / task.folder
        why = diagnose(status, tail, timeout=task.timeout, memory=task.memory, source=code)
        return Collected("failed", why, transient)
    if problem is not None:
        return Collected("failed", problem)
    if moved is not None:
        return Collected("failed", moved, transient=True)
    run = world.tracker.run(run_id)
    notes = []
    if run is not None and not run.metrics:
        notes.append(
            "the script logged no metric; log one with mlflow.log_metric(…) or write $MLOPS_OUTPUT/metrics.json"
        )
    elif run is not None and task.objective is not None:
        value = run.metrics.get(task.objective)
        if value is None:
            notes.append(f"it logged no {task.objective}")
        else:
            lost = "" if math.isfinite(value) else ", so it is never the best run"
            notes.append(f"{task.objective} = {value:.6g}{lost}")
    if children:
        notes.append(
            f"the script opened {len(children)} more run{'s' if len(children) > 1 else ''}, linked under this "
            "one; what they logged does not count for it. Call mlflow.start_run once"
        )
    return Collected("succeeded", "; ".join(notes))


def _tail(executor: Executor, run_id: str) -> str:
    path = executor.log_path(run_id)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return ""
    return executor.log(run_id, max(0, size - TAIL), TAIL).decode("utf-8", "replace")


def _log_text(world: World, executor: Executor, run_id: str, work: Path) -> None:
    """The job's log as an artifact, without secrets."""
    source = executor.log_path(run_id)
    if not source.exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    clean = work / Path(LOG_ARTIFACT).name
    with source.open("rb") as raw, clean.open("wb") as out:
        for chunk in world.redactor.redact_bytes(iter(lambda: raw.read(1 << 20), b"")):
            out.write(chunk)
    world.check_lease()
    world.tracker.log_artifact(run_id, clean, str(Path(LOG_ARTIFACT).parent))


def _log_output(world: World, run_id: str, output: Path, status: JobStatus) -> str | None:
    """Log metrics.json and every other file of MLOPS_OUTPUT; gives what is wrong with them, if anything."""
    if not output.is_dir():
        return None
    for path in sorted(output.iterdir()):
        if (unfit := _unfit(path)) is not None:
            return f"$MLOPS_OUTPUT/{unfit.relative_to(output)} is no plain file; write the file itself there"
        if path.name == "metrics.json":
            metrics = read_metrics(path)
            if isinstance(metrics, str):
                return metrics
            world.check_lease()
            world.tracker.log_metrics(run_id, metrics, at=status.ended_at)
        else:
            world.check_lease()
            world.tracker.log_artifact(run_id, path, None)
    return None


def _unfit(path: Path) -> Path | None:
    """What at or below `path` is neither file nor folder: a link leads elsewhere, a pipe never ends."""
    below = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    return next((p for p in (path, *below) if p.is_symlink() or not (p.is_file() or p.is_dir())), None)


def read_metrics(path: Path) -> Mapping[str, float] | str:
    """The metrics that a script wrote, or what is wrong with them: nothing in the file stops the run's end."""
    where = "$MLOPS_OUTPUT/metrics.json"
    try:
        if path.stat().st_size > METRICS_LIMIT:
            return f"{where} is larger than {METRICS_LIMIT // 2**20} MiB"
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        return f"{where} cannot be read as JSON ({type(error).__name__})"
    if not isinstance(found, dict):
        return f"{where} must be one object of metric names and numbers"
    metrics = {}
    for name, value in found.items():
        if not takes_metric(name):
            return f"{where}: MLflow takes no metric of the name {name[:100]!r}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{where}: {name!r} is not a number"
        try:
            metrics[name] = float(value)
        except OverflowError:
            return f"{where}: {name!r} is larger than any floating-point number"
    return metrics


def _log_parameters(world: World, run_id: str, trial: Trial) -> None:
    """Parameters the script did not log itself; those it did log stay as it wrote them."""
    run = world.tracker.run(run_id)
    logged = run.parameters if run is not None else {}
    missing = {name: mlflow_text(value) for name, value in trial.parameters.items() if name not in logged}
    if missing:
        world.check_lease()
        world.tracker.log_parameters(run_id, missing)


def _moved(world: World, trial: Trial) -> str | None:
    """Whether unpinned data changed under the job, so that nobody knows what it was trained on."""
    outside = {item.dataset: item.digest for item in trial.data if item.outside}
    if not outside:
        return None
    for name, seen in world.look(trial.experiment, outside).items():
        if seen.digest != outside[name]:
            return (
                f"Dataset/{name} changed while the job was reading it, so what it was trained on is not known. "
                "Pin it with `digest` or `version`, or write new data to new files"
            )
    return None
