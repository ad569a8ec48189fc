"""What is to be done, as values with ids: doing one of them twice is impossible for who looks at the id.

An id is a hash of the policy, the check and the first window of the firing, with what tells several actions of one
firing apart (its type; the transition of an alert; the experiment of a retraining). It does not depend on when, where,
how often or in which order evaluations came.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, assert_never

from mlops.errors import Stalled
from mlops.monitoring.deciding.settings import Severity

Window = float | int  # the start of a window: seconds since 1970 UTC, or a row number
Turn = Literal["fired", "worse", "cleared"]
Standing = Literal["due", "blocked", "dropped"]
Reason = Literal[
    "late",  # late data fired it: it waits until what is decided already lies behind
    "loop",  # the version that a retraining proposed fired at once
    "upstream",  # an upstream change: the new model would learn the fault
    "quiet",  # the newest window of its check does not violate
    "warmup",
    "cooldown",
    "budget",
    "time",  # row windows without event time, and a limit that needs it
    "covered",  # another retraining answers for it
    "cleared",  # the check cleared before it was done
]


@dataclass(frozen=True, slots=True)
class Happened:
    """A check fired, got worse or cleared in the window that starts at `at`; `window` is the first of its firing."""

    id: str
    check: str
    version: str
    window: Window
    turn: Turn
    at: Window
    severity: Severity
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """One message about one transition; `at` is the window that made it, `window` the first of the firing."""

    id: str
    check: str
    version: str
    window: Window
    turn: Turn
    at: Window
    severity: Severity
    notify: tuple[str, ...]
    time: float | None  # event time of `at`
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Retrain:
    """One training of an experiment, and its proposal, as the policy's action at index `rule` says.

    `blocked`: not now, for `reason` (`until` that event time, where it is known). `dropped`: never, for `reason`
    (`by` the id of the one that covers it). `due`: decided at event time `time`.
    """

    id: str
    check: str
    version: str
    window: Window
    experiment: str
    rule: int
    state: Standing
    time: float | None
    reason: Reason | None = None
    until: float | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """One proposal to go back to the version before."""

    id: str
    check: str
    version: str
    window: Window
    time: float | None


Action = Alert | Retrain | Rollback
Decided = Action | Happened


def action_id(policy: str, check: str, window: Window, *detail: str | int) -> str:
    """The id of an action of the firing that began in `window` (its start)."""
    plain = int(window) if float(window).is_integer() else float(window)
    text = json.dumps([policy, check, plain, *detail], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def outstanding(decided: Iterable[Action], done: Iterable[Decided]) -> tuple[Action, ...]:
    """Those of `decided` that are due and whose ids are not among `done`, in their order."""
    known = {one.id for one in done}
    return tuple(
        action
        for action in decided
        if action.id not in known and not (isinstance(action, Retrain) and action.state != "due")
    )


def document_of(one: Decided) -> dict[str, Any]:
    """An action or a transition as JSON holds it, with its `type`."""
    match one:
        case Happened():
            return {"type": "transition", **asdict(one)}
        case Alert():
            return {"type": "alert", **asdict(one), "notify": list(one.notify)}
        case Retrain():
            return {"type": "retrain", **asdict(one)}
        case Rollback():
            return {"type": "rollback", **asdict(one)}
        case _:
            assert_never(one)


def from_document(document: Mapping[str, Any]) -> Decided:
    """The inverse of `document_of`. Raises `Stalled` when it is no such document."""
    types: dict[str, type[Alert] | type[Retrain] | type[Rollback] | type[Happened]]
    types = {"alert": Alert, "retrain": Retrain, "rollback": Rollback, "transition": Happened}
    try:
        fields = {name: value for name, value in document.items() if name != "type"}
        if "notify" in fields:
            fields["notify"] = tuple(fields["notify"])
        return types[document["type"]](**fields)
    except (KeyError, TypeError) as error:
        what = f"A stored decision cannot be read ({type(error).__name__})"
        raise Stalled(what, fix="Delete the state; it is built again from MLflow and the data") from None
