"""What a part of `upstreamChange` says of a column, before it is corrected over all of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One part's word on one column in one slice.

    Args:
        part: its name: `schema`, `nullRate`, `newCategory`, `constant`, `unitRatio`, `tailExceedance`, `expect`.
        value: in the part's own measure; at or over `threshold` it is large enough, if there is one.
        changed: whether it is a change, if it is significant too.
        p_value: None for what needs no test, such as a column that is gone.
    """

    column: str
    slice: str | None
    part: str
    value: float | None
    threshold: float | None
    changed: bool
    p_value: float | None = None
    note: str | None = None
