"""One writer a project: a lease with a fencing token.

The holder raises a counter in the database every few seconds. A challenger never compares its clock with
anybody's: it takes over when it has itself seen the counter stand still for the whole `ttl` on its own
monotonic clock, or at once when the holder is a process of this boot that no longer exists. The holder,
for its part, stops believing in itself a little before `ttl` has passed since it *began* its last renewal.
Neither side reads the wall clock, so that no jump of it matters.

The method is that of Kubernetes' client-go `leaderelection` (observed time, not recorded time) with the
fencing token of M. Kleppmann, "How to do distributed locking" (2016).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mlops.errors import MlopsError, Transient, Waiting
from mlops.state.database import Database, Session
from mlops.state.holder import Holder
from mlops.state.store import State

_POLL: Final = 0.5  # seconds between two looks of a challenger
_MARGIN: Final = 0.1  # of the ttl: how much earlier the holder gives up than a challenger may take over
_LARGEST_TOKEN: Final = 2**53 - 1  # exact in JSON everywhere


class LeaseHeld(Waiting):
    """Another process may write to the project; `holder` says which."""

    def __init__(self, what: str, *, where: str, fix: str, holder: Holder | None) -> None:
        super().__init__(what, where=where, fix=fix)
        self.holder = holder


class LeaseLost(Transient):
    """This process may no longer write: stop, and begin again with a new lease."""


def elapsed() -> float:
    """Seconds on a clock that never jumps and, unlike `time.monotonic` on Linux, counts the host's sleep."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.clock_gettime(time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The lease's row; an `owner` is one acquisition, not one process, and empty when there is none."""

    token: int
    owner: str
    counter: int
    ttl: float
    holder: Holder | None


class Lease:
    """The right to write to a project, kept by a thread until it is released or lost; a context manager.

    `token` grows with every acquisition, also over releases. Once lost it stays lost, so that a process that
    was paused for longer than the ttl finds out on its first `check`, whether or not anybody took over.
    """

    def __init__(
        self,
        database: Database,
        project: str,
        holder: Holder,
        *,
        owner: str,
        token: int,
        ttl: float,
        renew_every: float,
        began: float,
        clock: Callable[[], float],
    ) -> None:
        self.project = project
        self.holder = holder
        self.token = token
        self._database = database
        self._owner = owner
        self._ttl = ttl
        self._renew_every = renew_every
        self._clock = clock
        self._valid_until = began + ttl * (1 - _MARGIN)
        self._process = os.getpid()
        self._why_lost: str | None = None
        self._released = threading.Event()
        self._renewer = threading.Thread(target=self._renew_until_released, name="mlops-lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Raise LeaseLost unless this process may write now. Microseconds: call it before every write."""
        if self._why_lost is None:
            if self._clock() >= self._valid_until:
                self._why_lost = (
                    "this process was paused, or could not reach the state database, for too long"
                )
            elif self._released.is_set():
                self._why_lost = "it was released"
            elif os.getpid() != self._process:
                self._why_lost = "it belongs to the parent process"
            elif not self._database.unmoved():
                self._why_lost = "the state database was deleted or replaced"
            else:
                return
        raise self._lost()

    def confirm(self) -> None:
        """As `check`, and ask the database: for the few writes that cannot be repaired.

        Raises: LeaseLost, also when the database cannot answer.
        """
        self.check()
        try:
            seen = self._database.read(lambda session: _seen(session, self.project))
        except MlopsError as error:
            raise LeaseLost(
                f"the lease on {self.project} cannot be confirmed: {error.what}",
                where=str(error.where),
                fix=_AGAIN,
            ) from error
        if seen is None or (seen.owner, seen.token) != (self._owner, self.token):
            self._why_lost = _taken_by(seen)
        self.check()

    @property
    def held(self) -> bool:
        """Whether `check` would pass."""
        try:
            self.check()
        except LeaseLost:
            return False
        return True

    def release(self) -> None:
        """Let others in at once. May be called twice, also after the lease was lost."""
        if self._released.is_set():
            return
        self._released.set()
        if os.getpid() != self._process:
            return
        self._renewer.join()
        sql = "UPDATE mlops_lease SET owner = '' WHERE project = ? AND owner = ? AND token = ?"
        try:
            self._database.write(lambda session: session.run(sql, self.project, self._owner, self.token))
        except MlopsError as error:
            # Not fatal: others see this process end, or the ttl pass.
            self._why_lost = f"the release was not recorded: {error.what}"
            _LET_GO.add(self._owner)
        finally:
            self._database.close()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def _renew_until_released(self) -> None:
        pause = self._renew_every
        while not self._released.wait(pause):
            began = self._clock()
            if self._why_lost is not None or began >= self._valid_until:
                self._why_lost = self._why_lost or "this process was paused for too long"
                return
            try:
                renewed = self._renew()
            except MlopsError:
                pause = (
                    self._renew_every / 6
                )  # soon again; `check` fails by itself when it goes on for too long
                continue
            if not renewed:
                self._why_lost = "another process took it, or the state database was deleted"
                return
            self._valid_until = began + self._ttl * (1 - _MARGIN)
            pause = self._renew_every

    def _renew(self) -> bool:
        sql = "UPDATE mlops_lease SET counter = counter + 1 WHERE project = ? AND owner = ? AND token = ?"
        return (
            self._database.write(lambda session: session.run(sql, self.project, self._owner, self.token)) == 1
        )

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"the lease on {self.project} was lost: {self._why_lost}", where=self._database.place, fix=_AGAIN
        )


_LET_GO: Final[set[str]] = set()  # acquisitions of this process that ended, which the database does not know
_AGAIN: Final = "Nothing more was written. Run it again: it goes on from what is"


def acquire(
    state: State,
    project: str,
    holder: Holder,
    *,
    ttl: float = 10.0,
    renew_every: float = 3.0,
    wait: float | None = 0.0,
    stop: threading.Event | None = None,
    on_wait: Callable[[Holder], None] = lambda holder: None,
    clock: Callable[[], float] = elapsed,
    monotonic: Callable[[], float] = time.monotonic,
) -> Lease:
    """Become the project's one writer.

    `wait` is how many seconds to wait for another holder: None for ever, 0 not at all. `stop` ends the
    waiting early. `on_wait` is called once for every holder that is waited for. `ttl` and `renew_every` are
    in seconds; `clock` and `monotonic` too, and tests drive them.

    Raises: LeaseHeld, naming the holder, when the waiting ends; Transient where the state cannot be shared
    with other processes, is locked or cannot be reached.
    """
    if not state.database.durable:
        raise Transient(
            "there is nowhere to record who writes to the project: the state cannot be written",
            where=state.database.place,
            fix="Make the state's folder writable, or set Project.spec.state.uri",
        )
    database = state.database.another()
    try:
        waiting = _Waiting(database, project, monotonic)
        waited_since = monotonic()
        stop = stop or threading.Event()
        told: str | None = None
        while True:
            began = clock()
            owner = os.urandom(16).hex()
            seen = waiting.look()
            if waiting.may_take(seen):
                token = _take(database, project, seen, owner, holder, ttl, state.now())
                if token is not None:
                    return Lease(
                        database,
                        project,
                        holder,
                        owner=owner,
                        token=token,
                        ttl=ttl,
                        renew_every=renew_every,
                        began=began,
                        clock=clock,
                    )
                seen = waiting.look()  # somebody was faster
            left = float("inf") if wait is None else wait - (monotonic() - waited_since)
            if left <= 0 or stop.is_set():
                raise _held(project, seen)
            if seen and seen.holder and seen.owner and seen.owner != told:
                told = seen.owner
                on_wait(seen.holder)
            stop.wait(min(_POLL, ttl / 4, left))
    except BaseException:
        database.close()
        raise


class _Waiting:
    """What a challenger has seen of the holder, and since when."""

    def __init__(self, database: Database, project: str, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._project = project
        self._monotonic = monotonic
        self._last: tuple[int, str, int] | None = None
        self._since = 0.0

    def look(self) -> _Seen | None:
        """Read the row, and note when it last changed."""
        seen = self._database.read(lambda session: _seen(session, self._project))
        mark = (seen.token, seen.owner, seen.counter) if seen else None
        if mark != self._last:
            self._last, self._since = mark, self._monotonic()
        return seen

    def may_take(self, seen: _Seen | None) -> bool:
        if seen is None or not seen.owner or seen.owner in _LET_GO:
            return True
        if seen.holder is not None and seen.holder.provably_dead():
            return True
        return self._monotonic() - self._since >= seen.ttl


def _seen(session: Session, project: str) -> _Seen | None:
    rows = session.rows(
        "SELECT token, owner, counter, ttl, holder FROM mlops_lease WHERE project = ?", project
    )
    if not rows:
        return None
    token, owner, counter, ttl, holder = rows[0]
    return _Seen(token, owner, counter, ttl, Holder.from_json(json.loads(holder)))


def _take(
    database: Database, project: str, seen: _Seen | None, owner: str, holder: Holder, ttl: float, now: float
) -> int | None:
    """Compare and swap; the new token, or None where the row is no longer as it was seen."""
    # The clock only helps the token to grow over the loss of the whole database; it may stand anywhere.
    token = min(max((seen.token if seen else 0) + 1, int(now * 1000)), _LARGEST_TOKEN)
    described = json.dumps(holder.to_json())

    def work(session: Session) -> int:
        if seen is None:
            return session.run(
                "INSERT INTO mlops_lease (project, token, owner, counter, ttl, holder)"
                " VALUES (?, ?, ?, 0, ?, ?) ON CONFLICT (project) DO NOTHING",
                *(project, token, owner, ttl, described),
            )
        return session.run(
            "UPDATE mlops_lease SET token = ?, owner = ?, counter = 0, ttl = ?, holder = ?"
            " WHERE project = ? AND token = ? AND owner = ? AND counter = ?",
            *(token, owner, ttl, described, project, seen.token, seen.owner, seen.counter),
        )

    return token if database.write(work) == 1 else None


def _taken_by(seen: _Seen | None) -> str:
    if seen is None or not seen.owner or seen.holder is None:
        return "the state database was deleted, or another process had it meanwhile"
    return f"{described(seen.holder)} took it"


def described(holder: Holder) -> str:
    """A holder in words: command, host, pid and since when."""
    try:
        since = datetime.fromtimestamp(holder.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        since = "an unknown time"
    return f"`{holder.command}` on {holder.host} (pid {holder.pid}, since {since})"


def _held(project: str, seen: _Seen | None) -> LeaseHeld:
    holder = seen.holder if seen and seen.owner else None
    who = described(holder) if holder else "another process"
    return LeaseHeld(
        f"{who} is writing to the project {project}",
        where=f"Project/{project}",
        fix="Wait for it to finish (--timeout sets for how long), or stop that process",
        holder=holder,
    )
