"""How a step ended: done, blocked by a condition, failed, or left running for a later pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops.errors import MlopsError
from mlops.planning.plan import Block


@dataclass(frozen=True, slots=True)
class Done:
    """The step's change is in place; `detail` says what it came to."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing was changed because of a condition that was only known now."""

    block: Block
    gates: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """An error; what the step had begun is safe to go on with in the next pass."""

    error: MlopsError


@dataclass(frozen=True, slots=True)
class Left:
    """A job goes on by itself; the next pass adopts it."""

    detail: str


Outcome = Done | Blocked | Failed | Left
UNDONE = (Blocked, Failed, Left)
