"""What was decided, and what was done about it by the time that the page is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, assert_never

from mlops.monitoring.deciding.actions import Alert, Decided, Happened, Retrain, Rollback, Window
from mlops.monitoring.deciding.fold import Decision
from mlops.monitoring.reporting.about import Unit
from mlops.monitoring.reporting.wording import REASONS, bound, moment, text

_DONE: Final = 200
_STATES: Final = {
    "pending": "on its way",
    "sent": "sent",
    "past": "not sent: it was over before the policy was first evaluated",
    "due": "not begun yet",
    "blocked": "held back",
    "dropped": "not done",
    "training": "being trained",
    "proposed": "proposed",
    "moot": "to be withdrawn",
    "merged": "merged",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class Executed:
    """What has become of a decision. None of it is trusted.

    Args:
        state: of the action, as `mlops monitor status` has it.
        message: why it is so, or the title of the proposal.
        branch, version: of its proposal; `run` the training's run in MLflow.
        url: of its pull request; only http and https become links.
    """

    state: str
    message: str = ""
    branch: str | None = None
    version: str | None = None
    run: str | None = None
    url: str | None = None

    @property
    def told(self) -> str:
        """In words, without the link."""
        words = [_STATES.get(self.state, self.state)]
        words += [f"version {self.version}"] if self.version else []
        words += [f"branch {self.branch}"] if self.branch else []
        words += [f"run {self.run}"] if self.run else []
        if self.message and self.state not in ("pending", "sent", "past"):
            words.append(self.message)
        return "; ".join(words)


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was decided, for people: when, what, how it was decided, and what became of it."""

    window: Window
    when: str
    what: str
    state: str
    id: str
    acted: bool = True  # more than a transition, and not given up
    done: Executed | None = None


def deeds_of(decision: Decision | None, unit: Unit, executed: Mapping[str, Executed]) -> list[Deed]:
    """Newest first."""
    if decision is None:
        return []
    decided: list[Decided] = [*decision.transitions, *decision.actions]
    deeds = [replace(_deed(one, unit), done=executed.get(one.id)) for one in decided]
    return sorted(deeds, key=lambda deed: (-deed.window, deed.id))[:_DONE]


def _deed(one: Decided, unit: Unit) -> Deed:
    check = f"“{text(one.check, 80)}”"
    match one:
        case Happened():
            first = f"; the firing began at {bound(one.window, unit)}" if one.turn != "fired" else ""
            said = one.turn if one.turn != "worse" else "got worse"
            note = f"; {one.note}" if one.note else ""
            return Deed(
                one.at,
                bound(one.at, unit),
                f"{check} {said}",
                f"{one.severity}{first}{note}",
                one.id,
                acted=False,
            )
        case Alert():
            names = ", ".join(text(name, 60) for name in one.notify)
            return Deed(one.at, bound(one.at, unit), f"alert: {check} {one.turn}", f"to {names}", one.id)
        case Retrain():
            at, when = _decided_at(one, unit)
            state = {"due": "decided", "blocked": "waits", "dropped": "dropped"}[one.state]
            if one.reason is not None:
                state += f": {REASONS[one.reason]}"
            if one.until is not None:
                state += f"; until {moment(one.until)}"
            what = f"retraining of “{text(one.experiment, 80)}” for {check}"
            return Deed(at, when, what, state, one.id, one.state != "dropped")
        case Rollback():
            at, when = _decided_at(one, unit)
            return Deed(at, when, f"rollback proposed for {check}", "", one.id)
        case _:
            assert_never(one)


def _decided_at(one: Retrain | Rollback, unit: Unit) -> tuple[Window, str]:
    """Where it stands among windows, and its event time for people."""
    when = bound(one.window, unit) if one.time is None else moment(one.time)
    return (one.window if one.time is None or unit == "rows" else one.time), when
