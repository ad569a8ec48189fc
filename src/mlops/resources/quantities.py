"""Durations, sizes and improvements: written for people, held as numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from mlops.resources.document import refuse

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
DURATION_PATTERN = "^[1-9][0-9]{0,8}(s|m|h|d|w)$"
SIZE_PATTERN = "^[1-9][0-9]{0,8}(Ki|Mi|Gi|Ti)$"
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhdw])")
_SIZE = re.compile(r"([1-9][0-9]{0,8})([KMGT]i)")
_PERCENT = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)%")


def parse_duration(value: object) -> float:
    """Seconds of `30s`, `15m`, `24h`, `7d` or `2w`; refuses everything else."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise refuse(
            "is not a duration", "Write a whole number above 0 and a unit, such as 30s, 15m, 24h, 7d or 2w."
        )
    return float(int(match[1]) * _SECONDS[match[2]])


def render_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as `seconds`."""
    whole = int(seconds)
    unit = next(unit for unit in ("w", "d", "h", "m", "s") if whole % _SECONDS[unit] == 0)
    return f"{whole // _SECONDS[unit]}{unit}"


def parse_size(value: object) -> int:
    """Bytes of `512Mi` or `4Gi`; refuses everything else."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise refuse("is not a size", "Write a whole number and a unit, such as 512Mi or 4Gi.")
    return int(match[1]) * _BYTES[match[2]]


def render_size(size: int) -> str:
    """The shortest text that `parse_size` reads as `size`."""
    unit = next((unit for unit in ("Ti", "Gi", "Mi") if size % _BYTES[unit] == 0), "Ki")
    return f"{size // _BYTES[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class Improvement:
    """How much better a challenger has to be: `relative` to the champion's absolute value, or absolute."""

    value: float  # 0.01 for 1%
    relative: bool


def parse_improvement(value: object) -> Improvement:
    """Read `1%` (relative) or `0.5` (absolute); refuses everything else."""
    if isinstance(value, Improvement):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return Improvement(float(value), relative=False)
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        return Improvement(float(match[1]) / 100, relative=True)
    raise refuse("is not an improvement", "Write a share such as 1%, or a number of at least 0 such as 0.5.")


def render_improvement(improvement: Improvement) -> str | float:
    """The inverse of `parse_improvement`."""
    if not improvement.relative:
        return improvement.value
    return f"{round(improvement.value * 100, 9):.9f}".rstrip("0").rstrip(".") + "%"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(render_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["30s", "15m", "24h", "7d"]}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(render_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["512Mi", "4Gi"]}),
]
ImprovementText = Annotated[
    Improvement,
    PlainValidator(parse_improvement),
    PlainSerializer(render_improvement),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]{1,6}(\\.[0-9]{1,9})?%$"},
            ],
            "examples": ["1%", 0.5],
        }
    ),
]
