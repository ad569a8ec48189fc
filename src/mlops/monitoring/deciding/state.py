"""What a fold carries from window to window: small, frozen, and the same bytes for the same windows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlops.errors import Stalled
from mlops.monitoring.deciding.actions import Reason, Window
from mlops.monitoring.deciding.settings import Severity, Watched

Health = Literal["Healthy", "Degraded", "Unknown"]
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Incident:
    """A check that fired and has not cleared yet.

    Args:
        first: the window (its start) at which k of n violated.
        named: the window that its actions are named by: `first`, unless late data moved it after they were done.
        severity: of the check, raised by one with each `worse`.
        level: the value that was last announced, at least the threshold; None: the check has no value.
        worse: how often it got worse.
        clean: how many of the newest windows in a row could clear it.
        held: late data took the firing back; it stays open until it clears, as it was announced.
    """

    first: Window
    named: Window
    severity: Severity
    level: float | None
    worse: int
    clean: int
    held: bool


@dataclass(frozen=True, slots=True)
class CheckState:
    """One check: `recent` has a bit for each of the newest n judged windows, the newest lowest, 1 for violated."""

    name: str
    recent: int
    incident: Incident | None
    cleared: bool  # once, while this version was watched

    @property
    def fired(self) -> bool:
        """Whether k of n made it act, and nothing cleared it since."""
        return self.incident is not None


@dataclass(frozen=True, slots=True)
class Request:
    """A retraining that was asked for and is not decided: of the firing named by `window`, by the rule at `rule`."""

    id: str
    check: str
    window: Window
    rule: int
    reason: Reason | None
    until: float | None


@dataclass(frozen=True, slots=True)
class Past:
    """A retraining that was decided at event time `time`, in the window `own` of the version watched now.

    `open`: the firing that it answers has not cleared. Of those for other versions only `time` counts.
    """

    id: str
    experiment: str
    check: str
    time: float | None
    own: int | None
    open: bool


@dataclass(frozen=True, slots=True)
class State:
    """Where a fold stands.

    Args:
        settings: digest of the settings it was folded with.
        watched: the version.
        until: start of the newest window that was folded, and `time` the event time of its end.
        own: how many judged windows the version has.
        silent: how many of its newest windows in a row could not be judged.
        of: n of "k of n".
        checks: in the order of the policy.
        tripped: checks that fired at once on a version that was proposed by a retraining, and did not clear.
        requests: retrainings that wait, oldest first.
        past: retrainings that cooldown, budget or cover still depend on, oldest first.
    """

    settings: str
    watched: Watched
    until: Window | None
    time: float | None
    own: int
    silent: int
    of: int
    checks: tuple[CheckState, ...]
    tripped: tuple[str, ...]
    requests: tuple[Request, ...]
    past: tuple[Past, ...]

    @property
    def verdict(self) -> Health:
        """`Degraded` while a check has fired; `Unknown` before the first judged window and after n without one."""
        if any(check.fired for check in self.checks):
            return "Degraded"
        return "Healthy" if self.own and self.silent < self.of else "Unknown"

    def check(self, name: str) -> CheckState | None:
        """The state of a check, None if the policy has none of that name."""
        return next((check for check in self.checks if check.name == name), None)

    def to_json(self) -> str:
        """One line of JSON, the same for equal states."""
        content = {"format": _FORMAT, **asdict(self)}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> State:
        """The state that `to_json` wrote. Raises `Stalled` when `text` is no such thing."""
        try:
            raw = json.loads(text)
            if raw.pop("format") != _FORMAT:
                raise ValueError("format")
            raw["watched"] = Watched(**raw["watched"])
            raw["checks"] = tuple(_check(check) for check in raw["checks"])
            raw["tripped"] = tuple(raw["tripped"])
            raw["requests"] = tuple(Request(**request) for request in raw["requests"])
            raw["past"] = tuple(Past(**past) for past in raw["past"])
            return cls(**raw)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            what = f"A stored state of a policy cannot be read ({type(error).__name__})"
            raise Stalled(what, fix="Delete the state; it is folded again from the evaluations") from None


def _check(raw: dict[str, Any]) -> CheckState:
    incident = raw["incident"]
    return CheckState(**{**raw, "incident": None if incident is None else Incident(**incident)})
