"""Slow steps beside the loop: training, and reading an artifact's bytes, on threads of their own.

A pass offers the slow steps that its plan holds. What runs already goes on, whatever revision started it; what
no plan asks for any more is cancelled; the rest begins as the claims allow. The next pass finds what came of
them in the ledger, so nothing of this is state: killed here, the next reconciler adopts the jobs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mlops.applying.outcomes import Failed, Outcome
from mlops.applying.walk import WORKERS, Claim, Claims
from mlops.applying.world import World
from mlops.errors import Transient, as_mlops_error
from mlops.planning.plan import Step
from mlops.planning.work import BindVersion, EvaluateModel, MonitorPolicy, ProposeChange, TrainTrial


def is_slow(step: Step) -> bool:
    """Whether a step may take longer than people wait for a heal: it runs a job, or reads bytes that may be many."""
    return isinstance(step.work, TrainTrial | BindVersion | EvaluateModel | MonitorPolicy | ProposeChange)


@dataclass(frozen=True, slots=True)
class Ended:
    """A step that ran beside the loop, at the revision whose plan asked for it; seconds it took."""

    step: Step
    revision: str
    outcome: Outcome
    seconds: float
    world: World | None  # that it ran in; None for one that could not begin
    wanted: bool  # false: cancelled, because a later revision does not ask for it


@dataclass(slots=True)
class _Running:
    step: Step
    world: World
    claims: Claims
    thread: threading.Thread | None = None
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Offer:
    """A slow step of the plan of a revision, with the claims that it makes and how to get the world it runs in."""

    step: Step
    claims: Claims
    world: Callable[[], World]
    revision: str


@dataclass(slots=True)
class Beside:
    """Runs offered steps, one resource's trials as their claims allow, each step once at a time.

    Args:
        execute: carries out one step; what it raises is a defect, and the step's outcome.
        began: told of a step when it begins, `ended` when one has: both from its thread.
    """

    execute: Callable[[World, Step], Outcome]
    began: Callable[[Step, World], None]
    ended: Callable[[], None]
    monotonic: Callable[[], float]
    _running: dict[str, _Running] = field(default_factory=dict)
    _waiting: dict[Claims, dict[str, Offer]] = field(default_factory=dict)  # by what they claim, in order
    _done: list[Ended] = field(default_factory=list)
    _ends: dict[str, int] = field(default_factory=dict)  # step id → the count of ends at its own
    _count: int = 0
    _closed: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def mark(self) -> int:
        """To be taken before looking: a step that ends after it may still stand in the plan that is made."""
        with self._lock:
            return self._count

    def offer(
        self,
        offers: Iterable[Offer],
        wanted: Callable[[Step, str], bool],
        mark: int,
        *,
        suspended: Callable[[Step], bool] = lambda step: False,
    ) -> tuple[Step, ...]:
        """Begin what is offered; gives the steps that are cancelled because nobody wants them any more.

        Args:
            wanted: whether a step that runs, of the plan of a revision, is still asked for.
            mark: taken before the look that the plan comes from.
            suspended: whether a step that runs is to be let go of: its job goes on, and no other attempt is begun.
        """
        with self._lock:
            cancelled = []
            for running in self._running.values():
                if running.wanted and not wanted(running.step, running.world.desired.revision):
                    running.wanted = False
                    running.world.cancel_jobs = True
                    running.world.stop.set()
                    cancelled.append(running.step)
                elif suspended(running.step):
                    running.world.stop.set()
            self._ends = {name: count for name, count in self._ends.items() if count > mark}
            self._waiting = {}
            for offer in offers:
                if offer.step.id not in self._running and offer.step.id not in self._ends:
                    self._waiting.setdefault(offer.claims, {})[offer.step.id] = offer
            self._fill()
            return tuple(cancelled)

    def taken(self) -> Mapping[str, bool]:
        """Ids of the steps that run (True) or wait for their turn (False)."""
        with self._lock:
            waiting = (name for alike in self._waiting.values() for name in alike)
            return dict.fromkeys(waiting, False) | dict.fromkeys(self._running, True)

    def steps(self) -> list[Step]:
        """The steps that run or wait for their turn."""
        with self._lock:
            waiting = (offer.step for alike in self._waiting.values() for offer in alike.values())
            return [*(running.step for running in self._running.values()), *waiting]

    def take_ended(self) -> list[Ended]:
        """What ended since the last call, oldest first."""
        with self._lock:
            done, self._done = self._done, []
            return done

    def close(self, *, cancel: bool, patience: float) -> None:
        """Let go of all steps, and with `cancel` end their jobs; waits `patience` seconds at most for the threads."""
        with self._lock:
            self._closed = True
            self._waiting = {}
            running = list(self._running.values())
            for one in running:
                one.world.cancel_jobs = cancel
                one.world.stop.set()
        until = self.monotonic() + patience
        for one in running:
            if one.thread is not None:
                one.thread.join(max(0.0, until - self.monotonic()))

    def _fill(self) -> None:
        """Begin what fits; an offer that does not lets smaller ones by, as the walk does."""
        taken: dict[str, float] = {}
        for running in self._running.values():
            for claim in running.claims:
                taken[claim.name] = taken.get(claim.name, 0.0) + claim.amount
        for wanted, alike in list(self._waiting.items()):
            while alike and all(_fits(claim, taken) for claim in wanted):
                if self._closed or len(self._running) >= WORKERS:
                    return
                if self._begin(alike.pop(next(iter(alike)))):
                    for claim in wanted:
                        taken[claim.name] = taken.get(claim.name, 0.0) + claim.amount
            if not alike:
                self._waiting.pop(wanted, None)

    def _begin(self, offer: Offer) -> bool:
        """Begin a step; False for one that cannot even be begun, and has ended by that."""
        step = offer.step
        try:
            running = _Running(step, offer.world(), offer.claims)
            # A daemon thread: a call to a store that hangs must not keep the process from ending.
            thread = threading.Thread(target=self._run, args=(running,), name=step.id, daemon=True)
            running.thread = thread
            try:
                thread.start()
            except RuntimeError as error:
                fix = "It is tried again; raise the limit on processes and threads, or train less at a time"
                raise Transient(
                    f"the machine gives it no thread: {error}", where=step.resource, fix=fix
                ) from error
        except Exception as error:
            outcome = Failed(as_mlops_error(error, where=step.resource))
            self._end(Ended(step, offer.revision, outcome, 0.0, None, wanted=True))
            self.ended()
            return False
        self._running[step.id] = running  # its thread finds it here: it needs the lock to end
        return True

    def _run(self, running: _Running) -> None:
        began = self.monotonic()
        try:
            self.began(running.step, running.world)
            outcome = self.execute(running.world, running.step)
        except Exception as error:  # a step must not seem to run for ever
            outcome = Failed(as_mlops_error(error, where=running.step.resource))
        with self._lock:
            del self._running[running.step.id]
            revision = running.world.desired.revision
            seconds = self.monotonic() - began
            self._end(Ended(running.step, revision, outcome, seconds, running.world, running.wanted))
            self._fill()
        self.ended()

    def _end(self, ended: Ended) -> None:
        self._count += 1
        self._ends[ended.step.id] = self._count
        self._done.append(ended)


def _fits(claim: Claim, taken: Mapping[str, float]) -> bool:
    return not taken.get(claim.name) or taken[claim.name] + claim.amount <= claim.capacity
