"""The files in a job's folder, as a reconciler reads them: the lock, the start, the end."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.execution import processes
from mlops.execution.jobs import JobStatus
from mlops.execution.supervision import ERRORS, EXIT, LOCK, STARTED

_LOST = "its supervisor ended before it (killed, or the machine restarted)"
_REMNANTS = 2.0  # seconds for which what a dead supervisor left is killed again and again


@dataclass(frozen=True, slots=True)
class Started:
    """The supervisor's word that the command was let go; processes are (pid, start in clock ticks)."""

    supervisor: tuple[int, int]
    child: tuple[int, int]
    boot: str
    token: str
    at: float | None  # seconds since the epoch


def exists(path: Path) -> bool:
    """Whether there is such a file; unlike `Path.exists` a permission that is missing is not hidden."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def read_exit(folder: Path) -> JobStatus | None:
    """How the job ended, or None while that is not on record."""
    try:
        record: dict[str, Any] = json.loads((folder / EXIT).read_bytes())
        return JobStatus(
            record["state"],
            record.get("exit_code"),
            record.get("signal"),
            record.get("cause"),
            record.get("started_at"),
            record.get("ended_at"),
            record.get("message"),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # it is written atomically: a broken disk, or a hand
        return JobStatus("lost", message="its exit record is unreadable")


def read_started(folder: Path) -> Started | None:
    """Who runs the job, or None while it is not let go."""
    try:
        text = (folder / STARTED).read_text()
    except FileNotFoundError:
        return None
    fields = dict(line.partition(" ")[::2] for line in text.splitlines())
    try:
        return Started(
            _process(fields["supervisor"]),
            _process(fields["child"]),
            fields["boot"],
            fields["token"],
            float(fields["at"]),
        )
    except (KeyError, ValueError):  # cut short by a power failure: it was started, and nobody lives
        return Started((0, 0), (0, 0), "", "", None)


def try_lock(handle: int, kind: int) -> bool:
    """Take a lock of this kind (`fcntl.LOCK_SH` or `LOCK_EX`) now or not at all."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_held(folder: Path) -> bool | None:
    """Whether somebody holds the job's lock; None when there is no such job."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if not try_lock(handle, fcntl.LOCK_SH):
            return True
        fcntl.flock(handle, fcntl.LOCK_UN)
        return False
    finally:
        os.close(handle)


def last_error(folder: Path) -> str | None:
    """The last line that a supervisor wrote before it failed."""
    try:
        lines = (folder / ERRORS).read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return None
    return lines[-1][:200] if lines else None


def bury(folder: Path, started: Started) -> JobStatus:
    """End what a dead supervisor left of its job, and write the loss down for all later looks."""
    said = last_error(folder)
    message = f"{_LOST}: {said}" if said else _LOST
    try:
        handle = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return JobStatus("unknown")  # forgotten meanwhile
    try:
        if not try_lock(handle, fcntl.LOCK_EX):
            return JobStatus("lost", started_at=started.at, message=message)  # somebody else is at it
        ended = read_exit(folder)
        if ended is not None:
            return ended
        if started.boot and started.boot == processes.boot_id():
            _end_remnants(started)
        now = time.time()
        record = {"state": "lost", "started_at": started.at, "ended_at": now, "message": message}
        temporary = folder / f".lost-{os.getpid()}"
        with temporary.open("w") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / EXIT)
        return JobStatus("lost", started_at=started.at, ended_at=now, message=message)
    finally:
        os.close(handle)


def _end_remnants(started: Started) -> None:
    deadline = time.monotonic() + _REMNANTS
    while time.monotonic() < deadline:
        left = processes.remnants(started.child[0], started.supervisor[0], started.token)
        if not left:
            return
        for pid, ticks in left:
            processes.send(pid, ticks, signal.SIGKILL)
        time.sleep(0.005)


def _process(text: str) -> tuple[int, int]:
    pid, ticks = text.split()
    return int(pid), int(ticks)
