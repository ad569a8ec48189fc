"""When a step that did not come about is tried again: typed failures, each with its own patience.

*Transient*: after 10 s, doubling to 10 min, with jitter. *Waiting* (a condition stands in the way that may go by
itself): the same. *Stalled*: a human must act, so not before the step itself or the revision in force changes.
What is put right again and again rests the same, so that two who disagree do not keep each other busy.
Time is the loop's monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, assert_never

from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.errors import Stalled, Transient
from mlops.planning.canonical import sha256_of
from mlops.planning.plan import Plan, Step
from mlops.state.lease import LeaseLost

FIRST: Final = 10.0  # seconds
LONGEST: Final = 600.0
OFTEN: Final = 30  # times that the same is put right at once; by then something undoes it each time
WINDOW: Final = 600.0  # seconds in which these times are counted


@dataclass(frozen=True, slots=True)
class Rest:
    """Why a step is not tried now; `until` is on the monotonic clock, None for until something changes."""

    signature: str
    outcome: Outcome
    failures: int
    until: float | None


def backoff(failures: int, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after so many failures in a row (at least one)."""
    return float(min(LONGEST, FIRST * 2 ** min(failures - 1, 16)) * jitter(0.8, 1.2))


@dataclass(slots=True)
class Retries:
    """What the loop remembers of failures; losing it costs one more attempt of each."""

    rests: dict[str, Rest] = field(default_factory=dict)  # by step id
    _healed: dict[str, tuple[float, ...]] = field(default_factory=dict)  # by signature, when it was put right

    def note(self, step: Step, revision: str, outcome: Outcome, now: float) -> None:
        """Remember how `step` of the plan of `revision` ended."""
        match outcome:
            case Done() | Left():
                self.rests.pop(step.id, None)
                if step.action == "heal" and isinstance(outcome, Done):
                    self._put_right(_signature(step, revision), now)
            case Failed(error=LeaseLost()):
                pass  # whoever holds the lease next begins again
            case Failed(error=Stalled()):
                self.rests[step.id] = Rest(_signature(step, revision), outcome, 1, None)
            case Failed() | Blocked():
                before = self.rests.get(step.id)
                failures = before.failures + 1 if before is not None else 1
                until = now + backoff(failures)
                self.rests[step.id] = Rest(_signature(step, revision), outcome, failures, until)
            case _:
                assert_never(outcome)

    def resting(self, plan: Plan, now: float, *others: Plan) -> Mapping[str, Rest]:
        """The steps of these plans that are not to be tried now; forgets those that none of them holds."""
        planned: dict[str, list[tuple[Step, str]]] = {}
        for one in (plan, *others):
            for step in one.steps:
                planned.setdefault(step.id, []).append((step, one.revision))
        self.rests = {name: rest for name, rest in self.rests.items() if name in planned}
        for step in plan.steps:
            if step.action == "heal" and step.id not in self.rests:
                self._let_be(step, _signature(step, plan.revision))
        return {
            name: rest
            for name, rest in self.rests.items()
            if (rest.until is None or now < rest.until)
            and any(rest.signature == _signature(*one) for one in planned[name])
        }

    def due(self, tried: float = float("-inf")) -> float | None:
        """When the next one may be tried, on the monotonic clock; what was due at `tried` has had its turn."""
        untils = (rest.until for rest in self.rests.values())
        return min((until for until in untils if until is not None and until > tried), default=None)

    def clear(self) -> None:
        """Try everything again: somebody asked for it."""
        self.rests.clear()
        self._healed.clear()

    def _put_right(self, signature: str, now: float) -> None:
        self._healed = {one: times for one, times in self._healed.items() if now - times[-1] < WINDOW}
        recent = (at for at in self._healed.get(signature, ()) if now - at < WINDOW)
        self._healed[signature] = (*recent, now)

    def _let_be(self, step: Step, signature: str) -> None:
        """Have a step rest that was done too often of late."""
        times = self._healed.get(signature, ())
        if len(times) < OFTEN:
            return
        what = f"it was put right {len(times)} times within minutes: something else changes it back"
        error = Transient(what, where=step.resource, fix="See what else writes to MLflow")
        too_often = len(times) - OFTEN + 1
        self.rests[step.id] = Rest(signature, Failed(error), too_often, times[-1] + backoff(too_often))


def _signature(step: Step, revision: str) -> str:
    return sha256_of([step.to_json(), revision])
