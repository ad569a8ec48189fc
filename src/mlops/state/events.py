"""What happened to a resource, kept for `describe` and `get`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["normal", "warning"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; the same thing again raises `count` and `last_at` instead of a new event.

    Two events are the same if `resource`, `reason`, `message` and `revision` are. `at` and `last_at` are
    seconds since the epoch (`last_at` None means `at`), `duration` is in seconds. The text must have gone
    through the redactor before.
    """

    at: float
    resource: str
    reason: str
    message: str
    severity: Severity = "normal"
    revision: str = ""
    step: str | None = None
    duration: float | None = None
    cause: str | None = None
    count: int = 1
    last_at: float | None = None
