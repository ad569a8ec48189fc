"""The plan: frozen, hashable, serialisable; what `plan` prints is what `apply` walks.

A `Step` carries a typed `work` value for whoever executes it. The work is not part of the JSON: apply
always plans again from the same revision and compares digests, so nothing is read back from a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from mlops.planning.canonical import sha256_of
from mlops.planning.work import Work

UNKNOWN: Final = "(known after apply)"

Action = Literal[
    "train",
    "register",
    "bind",
    "evaluate",
    "promote",
    "demote",
    "heal",
    "update",
    "monitor",
    "archive",
    "delete",
    "propose",
]


@dataclass(frozen=True, slots=True)
class Change:
    """One field that a step changes; None means absent, `UNKNOWN` not yet known."""

    field: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        return {"field": self.field, "from": self.before, "to": self.after}


@dataclass(frozen=True, slots=True)
class Step:
    """One write to be made, the reason for it, and the steps that come first."""

    id: str
    resource: str
    action: Action
    reason: str
    work: Work
    changes: tuple[Change, ...] = ()
    needs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "resource": self.resource,
            "action": self.action,
            "reason": self.reason,
            "changes": [change.to_json() for change in self.changes],
            "needs": list(self.needs),
        }


@dataclass(frozen=True, slots=True)
class Block:
    """What may not happen now: the condition that stands in the way, and what to do about it."""

    resource: str
    condition: str
    reason: str
    message: str

    def to_json(self) -> dict[str, Any]:
        return {
            "resource": self.resource,
            "condition": self.condition,
            "reason": self.reason,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that would change, in the order in which it would.

    `observed` maps each thing the plan depends on to a short hash of how it was found; a saved plan is
    refused when one of them is found otherwise.
    """

    revision: str
    base: str | None
    steps: tuple[Step, ...]
    blocked: tuple[Block, ...]
    observed: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, int]:
        """How many steps of each action, and how many blocks."""
        counts: dict[str, int] = dict(sorted(Counter(step.action for step in self.steps).items()))
        counts["blocked"] = len(self.blocked)
        return counts

    def _content(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "base": self.base,
            "steps": [step.to_json() for step in self.steps],
            "blocked": [block.to_json() for block in self.blocked],
            "observed": dict(self.observed),
            "summary": self.summary,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's canonical JSON."""
        return "sha256:" + sha256_of(self._content())

    def to_json(self) -> dict[str, Any]:
        return {**self._content(), "digest": self.digest}


def without(plan: Plan, left_out: Collection[str]) -> Plan:
    """`plan` without the steps of these ids and without all that needs them, directly or not."""
    if not left_out:
        return plan
    gone = set(left_out)
    kept = []
    for step in plan.steps:  # what a step needs stands before it
        if step.id in gone or not gone.isdisjoint(step.needs):
            gone.add(step.id)
        else:
            kept.append(step)
    return replace(plan, steps=tuple(kept))
