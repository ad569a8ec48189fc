"""Numbers that JSON cannot hold, as text."""

from __future__ import annotations

from typing import Any


def finite(value: Any) -> Any:
    """`value` with NaN and infinities as the texts "NaN", "Infinity" and "-Infinity"."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return value
