"""A project with a job of ten minutes, which the tests let end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

from git_project import GitProject, experiment
from running import Daemon, declared, until

LONG = """\
import json, os, pathlib, time
place = pathlib.Path(os.environ["MLOPS_PARAM_PLACE"])
with (place / "ran").open("a") as ran:
    ran.write(f"{os.getpid()}\\n")
print("the long job has begun", flush=True)
for _ in range(6000):
    time.sleep(0.1)
    if (place / "speak").exists():
        (place / "speak").unlink()
        print("it was spoken to", flush=True)
    if (place / "released").exists():
        break
json.dump({"rmse": 1.0}, (pathlib.Path(os.environ["MLOPS_OUTPUT"]) / "metrics.json").open("w"))
"""


class Long:
    """A project with a job of ten minutes beside its quick one."""

    def __init__(self, project: GitProject, place: Path) -> None:
        self.project, self.place = project, place
        project.write("long/long.py", LONG)
        self.commit()

    def commit(
        self,
        *,
        wanted: bool = True,
        parameters: dict[str, Any] | None = None,
        spec: dict[str, Any] | None = None,
        **asked: Any,
    ) -> str:
        """Commit what is asked for, with the long job and more of its spec, or without it."""
        long = experiment(
            "long",
            source={"path": "long", "include": ["**/*.py"]},
            command=["python", "long.py"],
            parameters={"place": str(self.place), **(parameters or {})},
            **(spec or {}),
        )
        self.project.declare([*declared(**asked), *([long] if wanted else [])])
        return self.project.commit()

    @property
    def pids(self) -> list[int]:
        """The process of each job that was ever begun."""
        with suppress(FileNotFoundError):
            return [int(line) for line in (self.place / "ran").read_text().splitlines()]
        return []

    def begins(self, daemon: Daemon, number: int = 1) -> int:
        """Wait for the job of this number; gives its process."""
        until(lambda: len(self.pids) == number, lambda: f"the job does not begin\n{daemon}")
        return self.pids[-1]

    def close(self) -> None:
        """End what is left of its jobs."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)

    @property
    def runs(self) -> list[str]:
        """The status of each of its runs in MLflow, oldest first."""
        client = self.project.client
        found = client.get_experiment_by_name("p/long")
        order = ["attributes.start_time ASC"]
        return [run.info.status for run in client.search_runs([found.experiment_id], order_by=order)]


def lives(pid: int) -> bool:
    """Whether this process runs."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"
