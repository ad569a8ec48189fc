"""A child process that is trusted with nothing, asked and answering through two named pipes.

It runs as a job does: under a supervisor that keeps its limits and ends all of it. A message is its length in 8 bytes,
little-endian, and that many bytes.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlops.errors import MlopsError, Stalled, Transient
from mlops.execution.diagnosis import diagnose
from mlops.execution.environment import job_environment
from mlops.execution.jobs import JobSpec
from mlops.execution.local import LocalExecutor
from mlops.execution.plain_text import fit_to_show
from mlops.execution.records import try_lock

PATIENCE: Final = 10.0  # seconds until a child that was told to end must have ended

_JOB: Final = "child"
_GRACE: Final = 0.5  # seconds between SIGTERM and SIGKILL: nothing of a child is worth keeping
_TICK: Final = 0.1  # seconds between two looks at the stop flag
_LOG: Final = 2**20  # bytes of its output that are kept, to say why it failed
_TAIL: Final = 2**16


class PipedChild:
    """One child process and the two pipes to it; one thread at a time talks to it, and `end` has to be called.

    Args:
        argv: the program; the paths of two pipes are added, of which it opens the second to write and only then the
            first to read.
        where: what errors call it.
        home: a folder of this machine for what is needed meanwhile. What somebody who was killed left there is ended
            and removed.
        environ: variables, of which it sees what a job sees, and those of `given`.
        timeout: seconds in which it has to answer what it is given.
        memory: bytes that it and all its processes may hold; None: any.
        stop: once it is set, waiting for it ends.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        *,
        where: str,
        home: Path,
        environ: Mapping[str, str],
        given: Mapping[str, str],
        timeout: float,
        memory: int | None,
        stop: threading.Event,
    ) -> None:
        self.failed = "There is no process to ask"  # the beginning of what is told if it fails now
        self._where, self._environ = where, environ
        self._timeout, self._memory, self._stop = timeout, memory, stop
        self._deadline = time.monotonic() + timeout
        self._handles: list[int] = []
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        _bury(home)
        self._folder = self._claim(home)
        try:
            self._start(argv, given)
        except BaseException:
            self.end()
            raise

    def _claim(self, home: Path) -> Path:
        """A new folder with a lock that is held for as long as this process lives and uses it."""
        while True:
            folder = Path(tempfile.mkdtemp(prefix="child-", dir=home))
            handle = os.open(folder / "owner", os.O_CREAT | os.O_RDWR, 0o600)
            if try_lock(handle, fcntl.LOCK_EX):
                self._handles.append(handle)
                return folder
            os.close(handle)  # somebody took it for one without an owner, between two lines

    def _start(self, argv: tuple[str, ...], given: Mapping[str, str]) -> None:
        rows, answers, work = (self._folder / name for name in ("rows", "answers", "work"))
        os.mkfifo(rows, 0o600)
        os.mkfifo(answers, 0o600)
        work.mkdir()
        self._answers = os.open(answers, os.O_RDONLY | os.O_NONBLOCK)
        self._handles.append(self._answers)
        self._executor = LocalExecutor(self._folder / "jobs", grace=_GRACE, log_limit=_LOG, log_tail=_TAIL)
        self._executor.start(
            JobSpec(
                id=_JOB,
                argv=(*argv, str(rows), str(answers)),
                cwd=work,
                env=job_environment(self._environ, extra={**given, "TMPDIR": str(work)}),
                timeout=None,
                memory=self._memory,
                output=work,
            )
        )
        while True:
            try:
                self._rows = os.open(rows, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # nobody reads it yet
                self._look()
                if self._executor.poll(_JOB).ended:
                    raise self._failure() from None
                time.sleep(_TICK / 10)
        self._handles.append(self._rows)

    def give(self, data: Any) -> None:
        """Send a message; the time in which it has to be answered begins."""
        self._deadline = time.monotonic() + self._timeout
        for part in (len(data).to_bytes(8, "little"), data):
            left = memoryview(part)
            while left:
                self._ready(self._rows, select.POLLOUT)
                try:
                    left = left[os.write(self._rows, left) :]
                except BlockingIOError:  # not as much room as was said
                    continue
                except BrokenPipeError:
                    raise self._failure() from None

    def take(self, most: int) -> bytes:
        """The next message, which may be of `most` bytes."""
        size = int.from_bytes(self._read(8), "little")
        if size > most:
            raise self.astray()
        return self._read(size)

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._ready(self._answers, select.POLLIN)
            part = os.read(self._answers, min(size - len(data), 2**20))
            if not part:
                raise self._failure()
            data += part
        return bytes(data)

    def _ready(self, handle: int, event: int) -> None:
        """Wait until the pipe can be used, or has lost its other end."""
        poller = select.poll()
        poller.register(handle, event)
        self._look()  # also at who trickles
        while not poller.poll(_TICK * 1000):
            self._look()
            if self._executor.poll(_JOB).ended and not poller.poll(0):
                raise self._failure()

    def _look(self) -> None:
        """Raise what ends the waiting."""
        if self._stop.is_set():
            raise Transient(
                "Waiting for the answer of its process was stopped",
                where=self._where,
                fix="It is asked again when work goes on.",
            )
        if time.monotonic() > self._deadline:
            raise Stalled(
                f"{self.failed} within {self._timeout:g} s",
                where=self._where,
                fix="See whether it waits for something, such as a network that it does not reach.",
            )

    def _failure(self) -> MlopsError:
        """What became of a child that is silent now."""
        status = self._executor.wait([_JOB], PATIENCE).get(_JOB)
        if status is None:
            return self.astray()
        log = self._executor.log_path(_JOB)
        tail = self._executor.log(_JOB, max(0, log.stat().st_size - _TAIL)) if log.exists() else b""
        why = diagnose(status, fit_to_show(tail.decode(errors="replace"), self._environ), memory=self._memory)
        if status.succeeded:
            why = "its process ended before it answered"
        outside = status.state == "lost" or (status.signal is not None and status.cause is None)
        return (Transient if outside else Stalled)(
            f"{self.failed}: {why}",
            where=self._where,
            fix="Run the same by hand, in the environment that its training had.",
        )

    def astray(self) -> Stalled:
        """What is told of an answer that its program would not give."""
        return Stalled(
            "Its process answered something else than what it was asked for",
            where=self._where,
            fix="See what its code does with files that it did not open.",
        )

    def end(self) -> None:
        """End all of it and leave nothing behind; the second time there is nothing left to do."""
        handles, self._handles = self._handles, []
        if handles:
            _remove(self._folder)
        for handle in handles:
            os.close(handle)


def _bury(home: Path) -> None:
    """End and remove what those who were killed left in `home`."""
    for folder in home.glob("child-*"):
        try:
            handle = os.open(folder / "owner", os.O_RDWR)
        except OSError:  # it is only being made, or already gone
            continue
        try:
            if try_lock(handle, fcntl.LOCK_EX):
                _remove(folder)
        finally:
            os.close(handle)


def _remove(folder: Path) -> None:
    executor = LocalExecutor(folder / "jobs", grace=_GRACE)
    executor.cancel(_JOB)
    if executor.wait([_JOB], PATIENCE):  # else its folder stays, so that it is ended another time
        shutil.rmtree(folder, ignore_errors=True)
