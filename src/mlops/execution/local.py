"""Jobs on this machine, each under a supervisor that outlives the reconciler (see `supervision`)."""

from __future__ import annotations

import fcntl
import marshal
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlops.errors import MlopsError, Stalled, Transient
from mlops.execution import processes, records, supervisor
from mlops.execution.jobs import LOG_CHUNK, JobSpec, JobStatus, check_id
from mlops.execution.supervision import CANCEL, ERRORS, EXIT, LOCK, LOG, STARTED

if TYPE_CHECKING:
    from mlops.execution.launch import Order

_CONTENDED = 1.0  # seconds for which a start waits for another one that holds the lock
_RETRY = 0.002  # seconds between two tries for the lock
_LOOK = 5.0  # seconds after which `wait` looks again although nobody woke it up
_BLIND = 0.01  # seconds between two looks of `wait` at a job that cannot wake it up


class LocalExecutor:
    """Runs jobs as process groups of this machine; each has a folder `home/<id>`.

    Any number of executors, in any number of processes, may share a home. `grace` is the time in seconds
    between SIGTERM and SIGKILL. A log keeps about `log_limit` bytes: the output's beginning, and its last
    `log_tail` bytes.
    """

    def __init__(
        self, home: Path, *, grace: float = 5.0, log_limit: int = 32 * 2**20, log_tail: int = 2**20
    ) -> None:
        self.home = home.absolute()
        self._grace = grace
        self._log_limit = log_limit
        self._log_tail = log_tail

    def start(self, spec: JobSpec) -> None:
        """Start the job once; returns when it is on record, so that `poll` knows it from then on.

        Does nothing when a job of this id was ever started here. Raises Transient when the machine cannot
        start it now, Stalled when no machine can.
        """
        _check(spec)
        folder = self._folder(spec.id)
        try:
            with self._claim(folder) as lock:
                if lock is not None and not _was_started(folder):
                    spec.output.mkdir(parents=True, exist_ok=True)
                    self._supervise(folder, lock, spec)
        except OSError as error:
            raise Transient(
                f"the job could not be started: {error.strerror}",
                where=f"job {spec.id}",
                fix="See to space and permissions on the machine; it is tried again.",
            ) from error

    def poll(self, id: str) -> JobStatus:
        """How the job stands now: two small reads and a look at a lock.

        When its supervisor was killed, what is left of the job is ended first and the loss written down.
        """
        folder = self._folder(id)
        ended = records.read_exit(folder)
        if ended is not None:
            return ended
        held = records.lock_held(folder)
        if held is None:
            return JobStatus("unknown")
        ended = records.read_exit(folder)  # it may have ended between the two looks
        if ended is not None:
            return ended
        started = records.read_started(folder)
        if held:
            return JobStatus("starting") if started is None else JobStatus("running", started_at=started.at)
        return JobStatus("unknown") if started is None else records.bury(folder, started)

    def wait(self, ids: Iterable[str], timeout: float | None = None) -> dict[str, JobStatus]:
        """Block until one of the jobs is neither starting nor running; returns all that are so by then.

        An empty result means that `timeout` (seconds) has passed or that `ids` was empty. The kernel wakes it
        up at the end of a supervisor; nothing is polled meanwhile where the system has pidfds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        wanted = tuple(ids)
        while wanted:
            statuses = {id: self.poll(id) for id in wanted}
            settled = {id: s for id, s in statuses.items() if s.state not in ("starting", "running")}
            left = None if deadline is None else deadline - time.monotonic()
            if settled or (left is not None and left <= 0):
                return settled
            self._sleep_until_one_ends(wanted, left)
        return {}

    def cancel(self, id: str) -> None:
        """Ask the job to end: SIGTERM to all of it, SIGKILL after the grace; returns at once.

        The wish is on disk before the supervisor is woken up, so it survives the death of the caller. Does
        nothing for a job that is not running.
        """
        folder = self._folder(id)
        if self.poll(id).state in ("starting", "running"):
            (folder / CANCEL).touch()
            started = records.read_started(folder)
            if started is not None:
                processes.send(*started.supervisor, signal.SIGTERM)

    def log(self, id: str, offset: int = 0, limit: int = LOG_CHUNK) -> bytes:
        """At most `limit` bytes of the command's output from byte `offset`; empty when there are none."""
        try:
            with self.log_path(id).open("rb") as log:
                log.seek(offset)
                return log.read(limit)
        except FileNotFoundError:
            return b""

    def log_path(self, id: str) -> Path:
        """The file that holds stdout and stderr, which may not exist yet."""
        return self._folder(id) / LOG

    def jobs(self) -> tuple[str, ...]:
        """Ids of all jobs that are not forgotten, sorted."""
        try:
            return tuple(sorted(entry.name for entry in self.home.iterdir() if entry.name[0] != "."))
        except FileNotFoundError:
            return ()

    def forget(self, id: str) -> None:
        """Remove the job's folder, not its output; unknown ids are ignored. MlopsError while it runs."""
        folder = self._folder(id)
        if self.poll(id).state in ("starting", "running"):
            raise MlopsError(
                "the job still runs", where=f"job {id}", fix="Cancel it and wait for its end first."
            )
        grave = self.home / f".forgotten-{id}-{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            folder.rename(grave)  # one step: a half removed folder must not look like a job
        for left in self.home.glob(".forgotten-*"):
            shutil.rmtree(left, ignore_errors=True)  # also those whose removal was cut off

    def _folder(self, id: str) -> Path:
        return self.home / check_id(id)

    @contextmanager
    def _claim(self, folder: Path) -> Iterator[int | None]:
        """The job's lock, or None when somebody else starts it or has started it.

        Closing the descriptor frees the lock only if no supervisor inherited it.
        """
        deadline = time.monotonic() + _CONTENDED
        while True:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                handle = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            except FileNotFoundError:  # forgotten between the two lines
                continue
            if records.try_lock(handle, fcntl.LOCK_EX) and _same_file(handle, folder / LOCK):
                break
            os.close(handle)
            # `poll` holds a shared lock for a moment: a held lock alone does not say that somebody starts it.
            if _was_started(folder) or time.monotonic() > deadline:
                yield None
                return
            time.sleep(_RETRY)
        try:
            yield handle
        finally:
            os.close(handle)

    def _supervise(self, folder: Path, lock: int, spec: JobSpec) -> None:
        """Start the supervisor and wait until it has let the command go; it goes on by itself."""
        order: Order = {
            "argv": list(spec.argv),
            "cwd": str(spec.cwd.absolute()),
            "env": {**spec.env, "MLOPS_OUTPUT": str(spec.output.absolute())},
            "timeout": spec.timeout,
            "memory": spec.memory,
            "token": secrets.token_hex(16),
            "grace": self._grace,
            "log_limit": self._log_limit,
            "log_tail": self._log_tail,
        }
        # The interpreter itself may need a library path; the command's variables never touch the disk.
        own = {
            name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ
        }
        with (folder / ERRORS).open("wb") as errors:
            process = subprocess.run(
                [sys.executable, "-I", "-S", supervisor.__file__, str(folder), str(lock)],
                input=marshal.dumps(cast(dict[str, object], order)),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                env=own,
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
            )
        if process.returncode != 0 and not _was_started(folder):
            raise Transient(
                f"the job could not be started: {records.last_error(folder) or 'its supervisor ended'}",
                where=f"job {spec.id}",
                fix="It is tried again; supervisor.err in the job's folder may say more.",
            )

    def _sleep_until_one_ends(self, ids: Iterable[str], timeout: float | None) -> None:
        """Sleep until a supervisor ends or the timeout; briefly where the system cannot tell."""
        poller = select.poll()
        handles = []
        longest = _LOOK
        try:
            for id in ids:
                started = records.read_started(self._folder(id))
                handle = _pidfd(started.supervisor[0]) if started else None
                if handle is not None:
                    handles.append(handle)
                    poller.register(handle, select.POLLIN)
                if handle is None or not started or not processes.alive(*started.supervisor):
                    longest = _BLIND
            poller.poll(1000 * (longest if timeout is None else min(timeout, longest)))
        finally:
            for handle in handles:
                os.close(handle)


def _check(spec: JobSpec) -> None:
    """Refuse what no system can execute."""
    texts = [*spec.argv, *spec.env, *spec.env.values()]
    if not spec.argv or not spec.argv[0]:
        raise Stalled("the command is empty", where=f"job {spec.id}", fix="Give it at least a program.")
    if any("\0" in text for text in texts) or any("=" in name or not name for name in spec.env):
        raise Stalled(
            "an argument or a variable holds a character that no process can be given",
            where=f"job {spec.id}",
            fix="Remove NUL characters, and '=' from names of variables.",
        )


def _was_started(folder: Path) -> bool:
    return records.exists(folder / STARTED) or records.exists(folder / EXIT)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):  # it has just ended, or this system has no pidfds
        return None
