"""A daemon as it runs: started as people start it, and looked at from outside."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from harness import MLOPS, Sample, environment

LONGEST = 1800.0  # seconds to wait for anything
LOOK_EVERY = 0.002


@dataclass(frozen=True, slots=True)
class Used:
    """What a process has used so far: wall-clock, CPU seconds, and its resident bytes now."""

    at: float
    cpu: float
    resident: int


class DaemonProcess:
    """One `mlops daemon` on the project in `folder`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self._log = log
        with log.open("wb") as told:
            self._child = subprocess.Popen(
                [MLOPS, "--debug", "daemon"],
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
            )
        self._process = psutil.Process(self._child.pid)

    def used(self) -> Used:
        times = self._process.cpu_times()
        resident: int = self._process.memory_info().rss
        return Used(time.perf_counter(), times.user + times.system, resident)

    def passes(self, since: int = 0) -> list[dict[str, Any]]:
        """The log's lines about passes, from a place in the log on."""
        with self._log.open("rb") as log:
            log.seek(since)
            rows = [json.loads(line) for line in log.read().splitlines() if line.startswith(b"{")]
        return [row for row in rows if row["event"] == "Pass"]

    def written(self) -> int:
        """The place in the log where the next line will stand."""
        return self._log.stat().st_size

    def timed(self, act: Callable[[], object], seen: Callable[[], bool]) -> Sample:
        """From the end of `act` until `seen`: seconds, the daemon's CPU, its memory then."""
        act()
        before = self.used()
        while not seen():
            self._alive(before.at)
            time.sleep(LOOK_EVERY)
        seconds = time.perf_counter() - before.at
        after = self.used()
        return Sample(seconds, after.cpu - before.cpu, after.resident)

    def rests(self, passes: int = 1) -> None:
        """Wait for so many passes in a row that changed nothing."""
        since, began = self.written(), time.perf_counter()
        while True:
            made = self.passes(since)
            if len(made) >= passes and all(row["result"] == "unchanged" for row in made[-passes:]):
                return
            self._alive(began)
            time.sleep(0.1)

    def imported(self) -> None:
        """Wait for the end of what it does once, when there is time after its start: MLflow is imported then."""
        before = self.used()
        time.sleep(3)
        while (after := self.used()).cpu - before.cpu > 0.1:
            self._alive(before.at)
            before = after
            time.sleep(3)

    def settles(self) -> None:
        """Wait until a change in MLflow is looked at at once again: after a pass the loop rests in proportion."""
        time.sleep(0.5 + 5 * float(self.passes()[-1]["seconds"]))

    def stop(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        self._child.wait()

    def _alive(self, since: float) -> None:
        if self._child.poll() is not None or time.perf_counter() - since > LONGEST:
            tail = self._log.read_text(errors="replace")[-3000:]
            raise SystemExit(f"the daemon in {self.folder} ended or hangs:\n{tail}")


@contextmanager
def running(folder: Path) -> Iterator[DaemonProcess]:
    """A daemon that is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as logs:
        daemon = DaemonProcess(folder, Path(logs) / "log")
        try:
            yield daemon
        finally:
            daemon.stop()


class Ledger:
    """Looks into MLflow's SQLite database, and changes it as a hand would: without MLflow."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".mlops/mlflow.db"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"

    def in_force(self) -> str | None:
        """The revision in force."""
        return self._one("SELECT value FROM experiment_tags WHERE key = 'mlops.applied.revision'")

    def promoted(self, model: str) -> str | None:
        """The declared version in dev."""
        sql = (
            "SELECT value FROM registered_model_aliases JOIN model_version_tags USING (name, version)"
            " WHERE name = ? AND alias = 'dev' AND key = 'mlops.version'"
        )
        return self._one(sql, model)

    def aliases(self) -> int:
        """How many models have a version in dev."""
        return int(self._one("SELECT CAST(count(*) AS TEXT) FROM registered_model_aliases") or 0)

    def write(self, sql: str, *parameters: object) -> None:
        with closing(sqlite3.connect(self.path, timeout=60)) as database, database:
            database.execute(sql, parameters)

    def _one(self, sql: str, *parameters: object) -> str | None:
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=60)) as database:
            row = database.execute(sql, parameters).fetchone()
        return None if row is None else str(row[0])
