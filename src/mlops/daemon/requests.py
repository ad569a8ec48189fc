"""What other processes ask of the daemon, through the state database: rows that it takes up and answers.

A request is a wish, not a write: its loss costs that somebody asks again. It is removed when it was answered, so
a daemon that is killed meanwhile finds it again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlops.applying.outcomes import Blocked, Done, Failed, Outcome
from mlops.planning.plan import Step
from mlops.state import State, StateReader

if TYPE_CHECKING:
    from mlops.view import View

ASKED: Final = "requests"
ANSWERED: Final = "answers"
KEPT: Final = 3600.0  # seconds for which an answer waits to be read


@dataclass(frozen=True, slots=True)
class Request:
    """One wish. `revision` is what an apply wants in force, or the head whose rewrite is accepted.

    `retry_stalled` asks for trials to be tried again whose attempts are used up.
    """

    id: str
    at: float
    by: str
    revision: str | None = None
    accept_rewrite: bool = False
    retry_stalled: bool = False
    report: bool = False  # whether the asker waits until the revision has come to rest
    until_rest: bool = True  # also until its training has ended
    train: tuple[str, ...] | None = None  # only the training of these experiments, of all if none is named
    refresh: tuple[str, ...] = ()  # those of them to train on outside data that moved


def ask(state: State, *, by: str, now: float, **wish: Any) -> Request:
    """Put a request where the daemon finds it."""
    request = Request(secrets.token_hex(8), now, by, **wish)
    state.put_many(ASKED, {request.id: json.dumps(asdict(request)).encode()})
    return request


def pending(state: StateReader) -> tuple[Request, ...]:
    """The requests that nobody answered yet, oldest first; what is no request is passed over."""
    found = []
    for raw in state.all(ASKED).values():
        try:
            row = json.loads(raw)
            train = row.pop("train", None)
            refresh = tuple(row.pop("refresh", ()))
            row["at"] = float(row["at"])
            found.append(Request(**row, train=None if train is None else tuple(train), refresh=refresh))
        except (
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
        ):  # of another release; see `refuse_unreadable`
            continue
    return tuple(sorted(found, key=lambda request: (request.at, request.id)))


def answer(state: State, request: Request, content: Mapping[str, Any], *, now: float) -> None:
    """Answer a request; the answer is there before the request is gone."""
    old = [
        key
        for key, raw in state.all(ANSWERED).items()
        if not (now - KEPT < float(json.loads(raw).get("at", 0.0)) <= now + KEPT)
    ]
    state.put_many(ANSWERED, {request.id: json.dumps({"at": now, **content}).encode()})
    state.delete_many(ANSWERED, old)
    state.delete_many(ASKED, [request.id])


def refuse_unreadable(state: State, *, now: float) -> None:
    """Answer what is no request of this release: nobody else ever will."""
    known = {request.id for request in pending(state)}
    for id in state.all(ASKED).keys() - known:
        problem = "the daemon does not understand the request: it is of another release"
        answer(state, Request(id, now, "another release"), {"problem": problem}, now=now)


def answer_to(state: StateReader, id: str) -> Mapping[str, Any] | None:
    """What the daemon answered, if it did."""
    raw = state.get(ANSWERED, id)
    found = json.loads(raw) if raw is not None else None
    return found if isinstance(found, dict) else None


def withdraw(state: State, id: str) -> None:
    """Take a request back, for instance because nobody waits for it any more."""
    state.delete_many(ASKED, [id])


@dataclass(slots=True)
class Tally:
    """What was done for the revision that is followed, for whoever asks how it went."""

    revision: str = ""
    done: int = 0
    undone: dict[str, Failed | Blocked] = field(default_factory=dict)  # by step id

    def add(self, step: Step, outcome: Outcome) -> None:
        """Count how a step ended; one that is done after it failed has not failed."""
        if isinstance(outcome, Failed | Blocked):
            self.undone[step.id] = outcome
        elif isinstance(outcome, Done):
            self.done += 1
            self.undone.pop(step.id, None)

    def report(self, view: View) -> dict[str, Any]:
        """The answer to an apply beside the daemon; what failed once and is not planned any more has gone by."""
        plan = view.planned.plan
        undone = [(step.id, self.undone[step.id]) for step in plan.steps if step.id in self.undone]
        blocks = [*plan.blocked, *(outcome.block for _, outcome in undone if isinstance(outcome, Blocked))]
        return {
            "revision": plan.revision,
            "inForce": plan.base,
            "refused": view.refused,
            "done": self.done,
            "failed": {name: str(outcome.error) for name, outcome in undone if isinstance(outcome, Failed)},
            "blocked": [[block.resource, block.reason, block.message] for block in blocks],
            "errors": [str(problem) for problem in view.loaded.problems],
            "left": len(plan.steps),
        }
