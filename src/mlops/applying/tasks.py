"""What a job was started for, kept beside it: enough to close its run when nobody asks for it any more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops.planning.work import Scalar, Trial, TrialData
from mlops.resources import Experiment

FILE: Final = "task.json"


@dataclass(frozen=True, slots=True)
class Task:
    """A trial with what the end of its job is judged by; times in seconds, memory in bytes."""

    trial: Trial
    executor: str
    objective: str | None
    timeout: float | None
    memory: int | None
    folder: str  # of the code, within the project

    @classmethod
    def of(cls, experiment: Experiment, trial: Trial, folder: str) -> Task:
        spec = experiment.spec
        return cls(
            trial,
            spec.executor,
            spec.objective.metric if spec.objective else None,
            spec.timeout,
            spec.resources.memory if spec.resources else None,
            folder,
        )


def write_task(work: Path, task: Task) -> None:
    """Keep a task in its job's folder; appears whole or not at all."""
    trial = task.trial
    row = {
        "experiment": trial.experiment,
        "parameters": dict(trial.parameters),
        "command": list(trial.command),
        "data": [[item.role, item.dataset, item.digest, item.outside] for item in trial.data],
        "fingerprint": trial.fingerprint,
        "declaration": trial.declaration,
        "seed": trial.seed,
        "executor": task.executor,
        "objective": task.objective,
        "timeout": task.timeout,
        "memory": task.memory,
        "folder": task.folder,
    }
    work.mkdir(parents=True, exist_ok=True)
    partial = work / f"{FILE}.partial"
    partial.write_text(json.dumps(row))
    partial.replace(work / FILE)


def read_task(work: Path) -> Task | None:
    """The task of a job's folder; None where there is none that can be read."""
    try:
        row = json.loads((work / FILE).read_text())
        parameters: dict[str, Scalar] = row["parameters"]
        trial = Trial(
            row["experiment"],
            parameters,
            tuple(row["command"]),
            tuple(TrialData(*item) for item in row["data"]),
            row["fingerprint"],
            row["declaration"],
            row["seed"],
        )
        return Task(trial, row["executor"], row["objective"], row["timeout"], row["memory"], row["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
