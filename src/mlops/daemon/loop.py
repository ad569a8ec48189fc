"""The loop: wait for a reason, make a pass, and again, for months.

One thread makes the passes. Slow steps run beside it (`mlops.applying.beside`), a fetch has a thread of its own,
and whoever wants a pass wakes the loop up; a burst of reasons is one pass. Nothing in here has to survive: every
pass starts from what is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mlops.daemon import wakeups
from mlops.daemon.following import Following, Head
from mlops.daemon.journal import Journal
from mlops.daemon.retries import backoff
from mlops.daemon.term import Term
from mlops.daemon.wakeups import Wakeups
from mlops.errors import Defect, MlopsError, as_mlops_error
from mlops.state import Holder, LeaseHeld, LeaseLost, acquire
from mlops.state.lease import described
from mlops.workspace import OtherStores

if TYPE_CHECKING:
    from mlops.controller import Controller
    from mlops.daemon.metrics import Result
    from mlops.state import Lease

COMMAND: Final = "mlops daemon"  # what others read as the holder of the lease
PATIENCE: Final = 3.0  # seconds for steps beside the loop to let go when the daemon stops


@dataclass(frozen=True, slots=True)
class Pace:
    """How the loop spends its time, in seconds.

    Attributes:
        glance: between two looks at what cannot wake the loop: the store's change counter, requests.
        rest: after a pass, times what it took, before a mere change in MLflow, or a step that is due again, leads
            to the next one: neither training that logs all the time nor many failures keep the loop busy.
        least: the shortest such rest.
    """

    glance: float = 0.25
    rest: float = 4.0
    least: float = 0.05


@dataclass(slots=True)
class Daemon:
    """Keeps MLflow as git says, until it is told to stop.

    Args:
        controller: the engine, over the project that is kept.
        following: where revisions come from.
        stop_jobs: whether stopping ends the jobs that run, instead of leaving them to be adopted.
    """

    controller: Controller
    following: Following
    journal: Journal
    wakeups: Wakeups = field(default_factory=Wakeups)
    pace: Pace = field(default_factory=Pace)
    working_tree: bool = False
    stop_jobs: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)
    term: Term | None = None  # while this process leads
    stands_by: bool = False  # while another process leads
    came_round: float | None = None  # when the loop was last seen to go on, on the monotonic clock
    _next_pass: float = 0.0  # when the interval asks for one, on the monotonic clock
    _rested: float = 0.0  # until when a change in MLflow alone is no reason
    _took: float = 0.0  # seconds of the last pass
    _failures: int = 0  # passes in a row that could not even look
    _not_before: float = 0.0

    def run(self) -> None:
        """Lead, or stand by to lead, until `stop`."""
        self.journal.alive = self._come_round
        self.following.start(self._moved)
        try:
            while not self.stopping.is_set():
                try:
                    self._open()
                    self._stand_for_lead()
                except LeaseHeld:  # stopped while standing by
                    return
                except LeaseLost as error:
                    self.journal.say("LeaseLost", str(error), warning=True)
                except OtherStores as error:
                    self.journal.say(
                        "StoresMoved",
                        f"{error.what}: these are opened, and their lease is taken",
                        warning=True,
                    )
                    self.controller.close()
                except Exception as error:  # whatever it is, it is tried again: nobody else would
                    self.stands_by = False
                    self._put_off(error)
                    self._wait_for_news()
        finally:
            self.following.close()
            self.controller.close()

    def stop(self) -> None:
        """Ask the loop to end; from any thread, and from a signal handler."""
        self.stopping.set()
        if (term := self.term) is not None:
            term.interrupt()
        self.wakeups.wake(wakeups.REQUEST)

    def _come_round(self) -> None:
        self.came_round = self.controller.monotonic()

    def _moved(self, reason: str) -> None:
        """The branch or the files may have moved: a pass over an older revision gives way at once."""
        self.wakeups.wake(reason)
        term, head = self.term, self._head()
        if term is not None and head is not None and term.outdated(head.sha):
            term.interrupt()

    def _head(self) -> Head | None:
        """Where the branch stands; None where that cannot be read, of which the next pass tells."""
        try:
            return self.following.head()
        except (MlopsError, OSError):
            return None

    def _wait_for_news(self) -> None:
        """Sleep until it is time to try again, or there is news; nobody tells of a branch not followed yet."""
        before = self._head()
        while not self.stopping.is_set() and (left := self._not_before - self.controller.monotonic()) > 0:
            self.wakeups.wait(min(left, self.pace.glance))
            if self.wakeups.take() & wakeups.NEWS or self._head() != before:
                return

    def _open(self) -> None:
        """Open the stores that the followed revision names; they stay open until another one names others."""
        head = self.following.head()
        if head.sha is None:
            raise MlopsError(head.problem or "there is nothing to follow", fix="It is looked for again.")
        snapshot = self.controller.snapshot(head.sha, working_tree=self.working_tree)
        source = self.controller.open(snapshot).spec.source
        self.following.follow(source.branch, source.interval)

    def _stand_for_lead(self) -> None:
        controller = self.controller
        holder = Holder.current(COMMAND, now=controller.now())
        with acquire(
            controller.state,
            controller.project_name,
            holder,
            wait=None,
            stop=self.stopping,
            on_wait=self._stand_by,
        ) as lease:
            self.stands_by = False
            self.journal.leads(True)
            try:
                self._lead(lease)
            finally:
                self.journal.leads(False)

    def _stand_by(self, other: Holder) -> None:
        self.stands_by = True
        self.journal.say("StandingBy", f"{described(other)} leads")

    def _lead(self, lease: Lease) -> None:
        term = self.term = Term(
            self.controller, self.following, self.journal, lease, self.wakeups.wake, self.working_tree
        )
        self.wakeups.wake(wakeups.START)
        try:
            while not self.stopping.is_set():
                self._come_round()
                lease.check()
                self._glance(term)
                if reasons := self._reasons():
                    self._pass(term, reasons)
                else:
                    self.wakeups.wait(max(0.0, min(self.pace.glance, self._until_due())))
        finally:
            self.term = None
            term.close(cancel=self.stop_jobs and self.stopping.is_set(), patience=PATIENCE)

    def _glance(self, term: Term) -> None:
        try:
            term.glance()
        except LeaseLost:
            raise
        except Exception as error:  # a disk that is full, a database that is locked: it goes by
            if self.controller.monotonic() >= self._not_before:
                self._put_off(error)

    def _reasons(self) -> frozenset[str]:
        """Why there should be a pass now; where all of them can be put off, they are kept for later."""
        now, term = self.controller.monotonic(), self.term
        assert term is not None
        reasons = self.wakeups.take()
        if now >= self._next_pass:
            reasons |= {wakeups.INTERVAL}
        if (due := term.due()) is not None and now >= due:
            reasons |= {wakeups.RETRY}
        later: frozenset[str] = frozenset()
        if now < self._not_before:  # the stores were out of reach a moment ago: only news is a reason
            later = reasons - wakeups.NEWS
        elif now < self._rested:
            later = reasons & {wakeups.LEDGER, wakeups.RETRY}
            if term.crowded:  # each end would bring a pass, and the next end comes at once
                later |= reasons & {wakeups.ENDED}
        if reasons - later:
            return reasons
        self.wakeups.kept |= later - {wakeups.INTERVAL, wakeups.RETRY}  # these come by themselves
        return frozenset()

    def _until_due(self) -> float:
        """Seconds until something is due that nobody wakes the loop for."""
        now, term = self.controller.monotonic(), self.term
        due = [self._next_pass]
        if term is not None and (retry := term.due()) is not None:
            due.append(max(retry, self._rested))
        if self.wakeups.kept:
            due.append(max(self._rested, self._not_before))
        return max(min(due), self._not_before) - now

    def _pass(self, term: Term, reasons: frozenset[str]) -> None:
        began = self.controller.monotonic()
        result: Result = "failed"
        try:
            result = term.make_pass()
            self._failures, self._not_before = 0, 0.0
            self.journal.well()
        except (LeaseLost, OtherStores):
            raise
        except Exception as error:  # also a defect: the loop goes on, and says where it was
            self._put_off(error)
        finally:
            ended = self.controller.monotonic()
            # What could not be looked at is looked at again soon, however long the interval is.
            self._next_pass = self._not_before if self._failures else ended + term.interval
            # The first pass imports MLflow, which says nothing about the next one.
            self._rested = ended + max(self.pace.least, self.pace.rest * min(self._took, ended - began))
            self._took = ended - began
            self.journal.passed(reasons, ended - began, result)

    def _put_off(self, error: Exception) -> None:
        self._failures += 1
        pause = backoff(self._failures)
        self._not_before = self.controller.monotonic() + pause
        told = as_mlops_error(error)
        self.journal.outage(told, pause, error if isinstance(told, Defect) else None)
