"""A turn of one process at a folder, and the end of a child that outlived the process whose turn it was.

The lock dies with its holder, but a child does not: so the holder notes it in the lock's file, and who comes
next ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlops.errors import MlopsError, Transient
from mlops.source.git import shown

_PAUSE = 0.05  # seconds between two attempts
_DYING = 100  # attempts to see that a killed process is gone; one that hangs in the kernel is not waited for


@dataclass(frozen=True, slots=True)
class Turn:
    """It is this process' turn."""

    descriptor: int

    def note(self, pid: int) -> None:
        """A child that leads its own process group now works there."""
        os.pwrite(self.descriptor, f"{pid} {_start_ticks(pid)}\n".encode(), 0)

    def clear(self) -> None:
        """No child does any more."""
        os.ftruncate(self.descriptor, 0)

    def end_survivor(self) -> None:
        """Ends the child that an earlier holder left behind, with its group; never another process."""
        pid, _, ticks = os.pread(self.descriptor, 64, 0).decode("ascii", "replace").strip().partition(" ")
        if pid.isdecimal() and int(pid) > 1 and ticks.isdecimal() and _start_ticks(int(pid)) == int(ticks):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid), signal.SIGKILL)
            for _ in range(_DYING):
                if _start_ticks(int(pid)) != int(ticks):
                    break
                time.sleep(_PAUSE)
        self.clear()


@contextlib.contextmanager
def alone(file: Path, *, patience: float, stop: threading.Event) -> Iterator[Turn]:
    """Waits for this process' turn, and holds it. Threads of one process exclude each other, too.

    Args:
        file: the lock's file; made if it is absent.
        patience: seconds to wait for whoever holds it.
        stop: ends the waiting.

    Raises:
        Transient: somebody else holds it for longer, or `stop` was set.
        MlopsError: the file cannot be made.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as problem:
        what = f"its lock cannot be made: {problem.strerror}"
        fix = "See that the folder may be written and its disk has room."
        raise MlopsError(what, where=shown(str(file)), fix=fix) from problem
    try:
        end = time.monotonic() + patience
        while not _locked(descriptor):
            if stop.wait(_PAUSE) or time.monotonic() > end:
                raise Transient("another process is writing to it", where=shown(str(file.with_suffix(""))))
        turn = Turn(descriptor)
        turn.end_survivor()
        yield turn
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it is dead or there is no /proc to say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
