"""A daemon in this process whose time is driven: where it would sleep, time passes at once.

`DrivenTime` is the clock, `DrivenWakeups` the place where the loop waits, `Life` what others do meanwhile, each
at its moment. Jobs are real processes: while one runs that is to be waited for, time stands still.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlops.controller import Controller
from mlops.daemon.following import LocalBranch
from mlops.daemon.journal import Journal
from mlops.daemon.loop import Daemon, Pace
from mlops.daemon.metrics import Metrics, Result
from mlops.daemon.wakeups import Wakeups
from mlops.state import Event

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
LONGEST_JOB: Final = 60.0  # real seconds that a job may take before the test is given up
MOST_AT_ONCE: Final = 100  # passes at one moment of driven time: more is a loop that spins


class DrivenTime:
    """Seconds that pass when somebody waits for them; from any thread."""

    def __init__(self, epoch: float | None = None) -> None:
        self._elapsed = 0.0
        self._epoch = time.time() if epoch is None else epoch
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Seconds since the beginning; no jump is seen here."""
        return self._elapsed

    def now(self) -> float:
        """Seconds since 1970, as the wall clock says."""
        return self._epoch + self._elapsed

    def set_wall_clock(self, by: float) -> None:
        """The wall clock is set, forward or back, by so many seconds."""
        self._epoch += by

    def pass_by(self, seconds: float) -> None:
        with self._lock:
            self._elapsed += max(0.0, seconds)

    def pass_until(self, moment: float) -> None:
        with self._lock:
            self._elapsed = max(self._elapsed, moment)

    def pause(self, stop: threading.Event, seconds: float) -> bool:
        """In place of `threading.Event.wait`."""
        if not stop.is_set():
            self.pass_by(seconds)
        return stop.is_set()


@dataclass
class Life:
    """What others do while the daemon waits: each thing once the clock has come to its moment."""

    time: DrivenTime
    _plans: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)

    def at(self, moment: float, do: Callable[[], object]) -> None:
        """Do something at a moment of the monotonic clock."""
        heapq.heappush(self._plans, (moment, next(self._numbers), do))

    def every(self, seconds: float, do: Callable[[], object], *, first: float, last: float) -> None:
        """Do something again and again, `last` being the first moment at which it is not done."""

        def again() -> None:
            do()
            if (moment := self.time.monotonic() + seconds) < last:
                self.at(moment, again)

        self.at(first, again)

    def go_on(self, until: float) -> bool:
        """Let time pass, no further than what comes next; true if something was done."""
        if not self._plans or self._plans[0][0] > until:
            self.time.pass_until(until)
            return False
        moment, _, do = heapq.heappop(self._plans)
        self.time.pass_until(moment)
        do()
        return True


@dataclass(slots=True)
class DrivenWakeups(Wakeups):
    """Where the loop waits, and nothing is waited for but jobs."""

    life: Life = field(kw_only=True)
    holds: Callable[[], bool] = field(kw_only=True)  # whether time stands still, for a job that runs

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + LONGEST_JOB
        while self.holds() and not self._reasons:
            Wakeups.wait(self, 0.2)
            assert time.monotonic() < deadline, "a job does not come to its end"
        if not self._reasons:
            self.life.go_on(self.life.time.monotonic() + max(seconds, 0.001))


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass: when it ended, why it was made, what it came to."""

    at: float
    reasons: frozenset[str]
    result: Result


class Told(Journal):
    """A journal that can be asked; of passes and events the newest are kept, and how many there were of each kind."""

    def __init__(self, time: DrivenTime, keep: int = 1000) -> None:
        super().__init__(Metrics())
        self._time = time
        self.passes: deque[Pass] = deque(maxlen=keep)
        self.events: deque[Event] = deque(maxlen=keep)
        self.results: Counter[Result] = Counter()
        self.reasons: Counter[str] = Counter()  # of events
        self.outages: deque[tuple[float, float, str]] = deque(maxlen=keep)  # when, the pause, why
        self._moment, self._at_once = -1.0, 0

    def event(self, event: Event) -> None:
        super().event(event)
        self.events.append(event)
        self.reasons[event.reason] += 1

    def outage(self, error: Any, pause: float, defect: Exception | None) -> None:
        super().outage(error, pause, defect)
        self.outages.append((self._time.monotonic(), pause, str(error)))

    def passed(self, reasons: Collection[str], seconds: float, result: Result) -> None:
        super().passed(reasons, seconds, result)
        now = self._time.monotonic()
        self.passes.append(Pass(now, frozenset(reasons), result))
        self.results[result] += 1
        self._at_once = self._at_once + 1 if now == self._moment else 0
        self._moment = now
        assert self._at_once < MOST_AT_ONCE, f"the loop spins because of {sorted(reasons)}: {result}"


class DrivenDaemon:
    """The daemon of a local project, and the time that it lives in.

    Args:
        root: the project's folder.
        glance: driven seconds between two looks at what cannot wake the loop.
        engine: makes the controller, which tests make slower or break.
        epoch: what the wall clock says at the beginning; the machine's own time unless it is given.
    """

    def __init__(
        self,
        root: Path,
        *,
        pace: Pace | None = None,
        engine: type[Controller] = Controller,
        epoch: float | None = None,
    ) -> None:
        self.time = DrivenTime(epoch)
        self.life = Life(self.time)
        self.told = Told(self.time)
        self.patient: Callable[[str], bool] = lambda step: True  # whether time stands still for a job's step
        self.controller = engine(
            root, now=self.time.now, monotonic=self.time.monotonic, pause=self.time.pause
        )
        self.wakeups = DrivenWakeups(life=self.life, holds=self._holds)
        self.daemon = Daemon(
            self.controller,
            LocalBranch(self.controller.repository, root),
            self.told,
            wakeups=self.wakeups,
            pace=pace or Pace(),
        )

    def run(self, seconds: float) -> None:
        """Live for so many driven seconds from now on, and stop. Once: a daemon that was stopped is a new one."""
        self.life.at(self.time.monotonic() + seconds, self.daemon.stop)
        self.daemon.run()

    def _holds(self) -> bool:
        term = self.daemon.term
        taken = term.beside.taken() if term is not None else {}
        return any(runs and self.patient(step) for step, runs in taken.items())
