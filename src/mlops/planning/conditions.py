"""How each resource stands: conditions, and the two axes sync and health that people read first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mlops.planning.plan import Block, Step
from mlops.resources import Key

Truth = Literal["True", "False", "Unknown"]
Sync = Literal["Synced", "OutOfSync", "Unknown"]
Health = Literal["Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"]

# reasons of a block that are failures (exit 1), not something to wait for or decide about (exit 3)
FAILURES: Final = frozenset(
    {
        "ArtifactMissing",
        "CodeMissing",
        "Defect",
        "DigestMismatch",
        "ExecutorMissing",
        "ExpectationFailed",
        "Immutable",
        "Invalid",
        "MissingExtra",
        "NotFound",
        "ObjectiveMissing",
        "OwnedByAnotherProject",
        "RunMissing",
        "TrainingFailed",
        "Unreachable",
        "Unreadable",
    }
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about a resource, with a reason for programs and a message for people."""

    type: str
    status: Truth
    reason: str
    message: str = ""


_NOTHING_TO_DO: Final = Condition("Reconciling", "False", "NothingToDo")  # of nearly all of them
_NOT_STALLED: Final = Condition("Stalled", "False", "NotStalled")


@dataclass(frozen=True, slots=True)
class Assessment:
    """What planning found out about one resource; `status` is the kind's own part of `get -o json`."""

    key: Key
    sync: Sync
    health: Health
    conditions: tuple[Condition, ...]
    steps: tuple[Step, ...] = ()
    blocks: tuple[Block, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ready(self) -> Condition:
        return next(condition for condition in self.conditions if condition.type == "Ready")


def assess(
    key: Key,
    *,
    steps: tuple[Step, ...] = (),
    blocks: tuple[Block, ...] = (),
    conditions: tuple[Condition, ...] = (),
    status: Mapping[str, Any] | None = None,
    message: str = "",
    exists: bool = True,
    suspended: bool = False,
    stalled: bool = False,
    waiting: bool = False,
    unknown: bool = False,
) -> Assessment:
    """Sum up: `Ready`, `Reconciling` and `Stalled` follow from what is to be done and what stands in the way."""
    sync: Sync
    health: Health
    if unknown:
        sync, health = "Unknown", "Unknown"
    else:
        sync = "OutOfSync" if steps or blocks else "Synced"
        if stalled or (blocks and not waiting):
            health = "Degraded"
        elif steps or waiting:
            health = "Progressing" if exists else "Missing"
        else:
            health = "Healthy" if exists else "Missing"
    if suspended:
        health = "Suspended"
    if blocks:
        ready = Condition("Ready", "False", blocks[0].reason, blocks[0].message)
    elif steps:
        ready = Condition("Ready", "False", "Reconciling", message or steps[0].reason)
    elif suspended:
        ready = Condition("Ready", "Unknown", "Suspended", "spec.suspend is true: observed, never acted on")
    else:
        ready = Condition(
            "Ready", "Unknown" if unknown else "True", "Unknown" if unknown else "Ready", message
        )
    standing = [
        ready,
        Condition("Reconciling", "True", "StepsPlanned") if steps else _NOTHING_TO_DO,
        Condition("Stalled", "True", ready.reason) if stalled else _NOT_STALLED,
    ]
    return Assessment(
        key, sync, health, (*standing, *conditions), tuple(steps), tuple(blocks), dict(status or {})
    )
