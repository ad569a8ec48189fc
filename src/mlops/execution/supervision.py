"""The supervisor of one job: a small process that outlives the reconciler and loses nothing of the job.

It runs in its own session, holds the job's lock (a file lock inherited from `LocalExecutor.start`) for as
long as it lives, starts the command, drains its output, keeps its limits, ends everything that the command
leaves behind and writes `exit.json`. The kernel frees the lock however the supervisor ends, so it never lies:

    lock held                    starting, or running once `started` exists
    free, `exit.json`            ended, and this is how
    free, `started` only         the supervisor itself was killed: lost
    free, neither                nothing ever ran: it may be started (again)

`started` is written before the command is let go: the child waits for a byte and ends without it, so nothing
runs that is not on record. Standard library only, and imports are counted in milliseconds.
"""

from __future__ import annotations

import marshal
import os
import select
import sys
import time

from mlops.execution import processes
from mlops.execution.joblog import CappedLog
from mlops.execution.launch import become, why_not_executed

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from mlops.execution.launch import Order

STARTED, EXIT, CANCEL, LOG, LOCK, ERRORS = "started", "exit.json", "cancel", "log", "lock", "supervisor.err"

_RESERVE = 4096  # bytes set aside for the exit record, so that a full disk cannot lose it
_MEMORY_TICK = 0.1  # seconds between two looks at the memory of the tree
_CANCEL_TICK = 1.0  # seconds between two looks for a cancellation whose wake-up signal was lost
_KILL_TICK = 0.05  # seconds between two rounds of SIGKILL
_GIVE_UP = 10.0  # seconds of SIGKILL after which a process counts as one that cannot be ended
_PIPE = 1024 * 1024  # bytes between the command and its log: a burst of output does not wait for us
_F_SETPIPE_SZ = 1031


def main(folder: str, lock: int) -> NoReturn:
    """Supervise the job of this folder; the process that `start` waits for ends once the job is on record."""
    os.set_inheritable(lock, False)
    with open(0, "rb") as orders:
        order: Order = marshal.load(orders)  # raises if the reconciler died half-way: nothing has happened
    os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)  # the lowest free one: standard input again
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os._exit(0 if os.read(ready, 1) else 1)
    os.close(ready)
    os.setsid()
    try:
        Supervisor(folder, order, tell).run()
    except OSError as error:  # no space, or the folder is gone: the lock and `started` tell what it means
        sys.stderr.write(f"{error.strerror}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


class Supervisor:
    """One command, from its start to the end of the last process that descends from it."""

    def __init__(self, folder: str, order: Order, tell: int) -> None:
        self.folder, self.order, self._tell = folder, order, tell
        self.child = 0
        self.status: int | None = None  # wait status of the first child
        self.cause: str | None = None
        self.stopped = False  # SIGTERM without a cancellation: the machine goes down
        self.notes: list[str] = []
        self.started_at = time.time()
        self._kill_at: float | None = None  # monotonic seconds; set once the job has to end
        self._give_up_at = float("inf")
        self._alone = False  # no process of the job is left
        self._terminated = False

    def run(self) -> None:
        """Start the command and return when all is over and on record."""
        self._reserve = os.open(self._path(".exit"), os.O_CREAT | os.O_RDWR, 0o600)
        os.pwrite(self._reserve, b" " * _RESERVE, 0)
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND
        log = os.open(self._path(LOG), flags, 0o600)
        self.log = CappedLog(log, self.order["log_limit"], self.order["log_tail"])
        self._listen()
        self.reaps = processes.become_subreaper()
        failure = self._launch()
        if failure is None:
            self._watch()
            self._drain()
        self._record(failure)

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _listen(self) -> None:
        """Turn SIGTERM and the end of children into readable bytes."""
        import signal

        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._told_to_stop)
        for ignored in (signal.SIGHUP, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)

    def _told_to_stop(self, *_: object) -> None:
        self._terminated = True

    # -- starting

    def _launch(self) -> str | None:
        """Start the command; None, or why it could not be executed."""
        self.output, output = os.pipe()
        _widen(output)
        go, let_go = os.pipe()
        failed, fail = os.pipe()
        supervisor = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            become(self.order, supervisor, output, go, fail, (let_go, failed))
        for handle in (output, go, fail):
            os.close(handle)
        _accepted(os.setpgid, self.child, self.child)  # as the child does: whoever comes first
        self.started_at = time.time()
        self._write_started()
        _accepted(os.write, self._tell, b"1")  # whoever waited for it may be gone: the job goes on
        os.close(self._tell)
        if self._cancelled():
            self.cause = "cancelled"  # never let go: the child ends without executing anything
        else:
            os.write(let_go, b"1")
        os.close(let_go)
        report = b""
        while part := os.read(failed, 4096):  # closed by a successful exec
            report += part
        os.close(failed)
        return why_not_executed(report.decode(), self.order) if report else None

    def _write_started(self) -> None:
        me = os.getpid()
        record = (
            f"supervisor {me} {processes.start_ticks(me) or 0}\n"
            f"child {self.child} {processes.start_ticks(self.child) or 0}\n"
            f"boot {processes.boot_id()}\ntoken {self.order['token']}\nat {self.started_at}\n"
        )
        handle = os.open(self._path(".started"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.write(handle, record.encode())
        os.fsync(handle)
        os.close(handle)
        self._publish(".started", STARTED)

    def _publish(self, temporary: str, name: str) -> None:
        """Give a finished file its name, durably."""
        os.rename(self._path(temporary), self._path(name))  # noqa: PTH104 - no pathlib here
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    # -- watching

    def _watch(self) -> None:
        """Drain the output and keep the limits until no process of the job is left."""
        timeout, memory = self.order["timeout"], self.order["memory"]
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        if memory is not None and processes.start_ticks(os.getpid()) is None:
            memory = None
            self.notes.append("its memory limit could not be kept on this system")
        os.set_blocking(self.output, False)
        poller = select.poll()
        poller.register(self.output, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        cancel_look, memory_look = 0.0, 0.0 if memory is not None else float("inf")
        while True:
            self._reap()
            now = time.monotonic()
            if self._alone or now >= self._give_up_at:
                break
            if self._kill_at is None:
                if self.status is not None:
                    self._end_leftovers(now)
                elif now >= deadline:
                    self.cause = "timeout"
                    self._terminate(now)
                elif self._terminated or now >= cancel_look:
                    cancel_look = now + _CANCEL_TICK
                    self._obey(now)
                if memory is not None and now >= memory_look:
                    memory_look = now + _MEMORY_TICK
                    self._check_memory(memory, now)
            elif now >= self._kill_at:
                self._give_up_at = min(self._give_up_at, now + _GIVE_UP)
                self._kill_at = now + _KILL_TICK
                self._signal_all(9)
            if self._kill_at is None:
                sleep = min(deadline - now, memory_look - now, cancel_look - now)
            else:
                sleep = min(self._kill_at - now, _CANCEL_TICK if self.reaps else _KILL_TICK)
            for handle, event in poller.poll(max(0.0, sleep) * 1000 + 1):
                if handle == self._wake:
                    os.read(handle, 512)
                elif not self._read() or not event & select.POLLIN:
                    poller.unregister(handle)
        if not self._alone:
            self.notes.append("a process of it could not be ended")

    def _read(self) -> bool:
        """Take what the pipe holds now; False at its end."""
        try:
            data = os.read(self.output, _PIPE)
        except BlockingIOError:
            return True
        self.log.write(data)
        return bool(data)

    def _drain(self) -> None:
        """Take what is left in the pipe after everybody who wrote to it has ended."""
        while True:
            try:
                data = os.read(self.output, _PIPE)
            except BlockingIOError:  # somebody who could not be ended still holds it
                return
            if not data:
                return
            self.log.write(data)

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.child:
                    self.status = status
        except ChildProcessError:  # with a subreaper this means that nothing of the job is left
            self._alone = self.reaps or not _accepted(os.killpg, self.child, 0)

    # -- ending

    def _obey(self, now: float) -> None:
        if self._cancelled():
            self.cause = "cancelled"
        elif self._terminated:
            self.stopped = True
        else:
            return
        self._terminate(now)

    def _cancelled(self) -> bool:
        return os.path.lexists(self._path(CANCEL))

    def _check_memory(self, limit: int, now: float) -> None:
        me = os.getpid()
        used = processes.resident(me)
        if used > limit:
            used = processes.proportional(me) or used  # forked workers share pages
        if used > limit:
            self.cause = self.cause or "memory"
            self.notes.append(f"it held {_size(used)}, its limit is {_size(limit)}")
            self._kill_at = now  # at once: a polite signal would let it grow on

    def _end_leftovers(self, now: float) -> None:
        left = len(processes.descendants(os.getpid()))
        if left:
            noun = "process" if left == 1 else "processes"
            self.notes.append(f"{left} {noun} that it left behind ended with it")
        self._terminate(now)

    def _terminate(self, now: float) -> None:
        self._kill_at = now + self.order["grace"]
        self._signal_all(15)

    def _signal_all(self, number: int) -> None:
        """Signal the group, and by pid whoever left it: until we reap them no pid is used again."""
        _accepted(os.killpg, self.child, number)
        for pid in processes.descendants(os.getpid()) if self.reaps else ():
            if processes.group(pid) != self.child:
                _accepted(os.kill, pid, number)

    def _record(self, failure: str | None) -> None:
        """Write exit.json, atomically and into bytes set aside at the start."""
        import json

        self.log.close()
        if self.log.error:
            self.notes.append(f"its log is incomplete: {self.log.error}")
        if self.stopped:
            self.notes.append("its supervisor was told to stop (SIGTERM), as when the machine goes down")
        code = killed = None
        if self.status is not None and os.WIFSIGNALED(self.status):
            killed = os.WTERMSIG(self.status)
        elif self.status is not None and failure is None and not (self.cause and self._kill_at is None):
            code = os.waitstatus_to_exitcode(self.status)
        record: dict[str, Any] = {
            "state": "lost" if self.stopped else "exited",
            "exit_code": code,
            "signal": killed,
            "cause": "spawn" if failure else self.cause,
            "started_at": self.started_at,
            "ended_at": max(time.time(), self.started_at),
            "message": failure or "; ".join(self.notes) or None,
            "log_left_out": self.log.left_out,
        }
        os.pwrite(self._reserve, json.dumps(record).encode().ljust(_RESERVE), 0)
        os.fsync(self._reserve)
        self._publish(".exit", EXIT)


def _accepted(call: Any, *args: Any) -> bool:
    """Whether the system accepted a call about a process; it refuses when that has ended meanwhile."""
    try:
        call(*args)
    except OSError:
        return False
    return True


def _widen(pipe: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE)
    except OSError:
        return  # a smaller pipe is only slower


def _size(number: int) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
