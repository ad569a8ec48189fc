"""What of a policy decides: k of n, severities, rules. Plain values, whoever made them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")  # ascending


def rank(severity: Severity | None) -> int:
    """Where a severity stands: info 0, warning 1, critical 2; none is below all."""
    return -1 if severity is None else SEVERITIES.index(severity)


@dataclass(frozen=True, slots=True)
class Check:
    """What a check means for decisions; `blocks`: while it fires, or its newest window violates, nothing retrains."""

    name: str
    severity: Severity = "warning"
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Retraining:
    """Which experiment a rule trains again, at most once in `cooldown` seconds and `budget` times in `period` seconds.

    Both are counted in event time over all versions that the policy watched; None is no limit.
    """

    experiment: str
    cooldown: float | None = None
    budget: int | None = None
    period: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens when one of the checks in `on` fires with at least this severity."""

    on: tuple[str, ...]
    severity: Severity = "info"
    notify: tuple[str, ...] = ()
    retrain: Retraining | None = None
    rollback: bool = False


@dataclass(frozen=True)
class Settings:
    """All of a policy that its decisions depend on.

    Args:
        policy: its name, a part of every action's id.
        fire: how many of the newest `of` judged windows have to violate, the newest among them.
        of: see `fire`.
        clear: how many windows in a row, after the firing, have to stay below 0.8 of the threshold.
        warmup: how many judged windows of a version pass before it is retrained.
        checks: in the order of the policy.
        rules: its actions.
        notifiers: the least severity that each notifier wants to hear of, by name.
    """

    policy: str
    checks: tuple[Check, ...]
    rules: tuple[Rule, ...] = ()
    fire: int = 2
    of: int = 3
    clear: int = 3
    warmup: int = 3
    notifiers: tuple[tuple[str, Severity], ...] = field(default=())

    @cached_property
    def digest(self) -> str:
        """Equal for settings that decide the same."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Watched:
    """The version that a policy watches, and from where on windows are its own.

    Args:
        version: its number.
        start: windows that start earlier are shown and decide nothing; None: all are its own. In seconds of event
            time, or a row number: what stood at the end of the data when the version was promoted.
        proposed: a retraining of this very policy made it, and nobody else asked for it.
    """

    version: str
    start: float | int | None = None
    proposed: bool = False
