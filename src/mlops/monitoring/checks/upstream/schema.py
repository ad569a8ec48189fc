"""Columns that are gone, new, renamed, or of another type."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from mlops.monitoring.checks.cumulative import distance, noise, of_summary
from mlops.monitoring.checks.upstream.findings import Finding
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.windowed import ColumnSummary, WindowSummary

PART = 0.02  # of the rows that lack a column, or have it in another type, from which on it is a change
ALIKE = 0.1  # Kolmogorov-Smirnov or total variation distance up to which two columns are one renamed

# Types that carry the same values: a whole number may come as a double, a date as a time.
_SAME = {"integer": "number", "double": "number", "date": "time", "timestamp": "time"}


def schema(reference: WindowSummary, window: WindowSummary, columns: Collection[str]) -> Iterator[Finding]:
    """What changed of the columns themselves. A new column alone is told and is no change: no model reads it.

    Args:
        columns: those that are watched.
    """
    new = {
        name: column
        for name, column in window.columns.items()
        if name not in reference.columns and column.rows
    }
    renamed: set[str] = set()
    for name in sorted(columns):
        before = reference.columns.get(name)
        if before is None or not before.rows:
            continue
        now = window.columns.get(name)
        absent = 1.0 - (now.rows / window.rows if now is not None else 0.0)
        if now is None or not now.rows:
            other = _renamed(before, {key: one for key, one in new.items() if key not in renamed})
            note = "the column is gone"
            if other is not None:
                renamed.add(other[0])
                note += f"; {other[0]!r} is new and has its distribution (distance {other[1]:.3f})"
            yield Finding(name, None, "schema", 1.0, PART, True, None, note)
            continue
        if absent >= PART:
            yield Finding(
                name, None, "schema", absent, PART, True, None, f"{absent:.1%} of the rows lack the column"
            )
        yield from _retyped(name, before, now)
    for name in sorted(new.keys() - renamed):
        yield Finding(name, None, "schema", None, None, False, None, "a new column")


def _retyped(name: str, before: ColumnSummary, now: ColumnSummary) -> Iterator[Finding]:
    known = {_SAME.get(one, one) for one in before.types}
    other = {
        one: rows for one, rows in now.types.items() if one != "null" and _SAME.get(one, one) not in known
    }
    if not other or known <= {"null"}:
        return
    share = sum(other.values()) / sum(now.types.values())
    before_that = ", ".join(sorted(before.types))
    note = f"it came as {', '.join(sorted(other))} in {share:.1%} of the rows, as {before_that} before"
    yield Finding(name, None, "schema", share, PART, share >= PART, None, note)


def _renamed(gone: ColumnSummary, new: dict[str, ColumnSummary]) -> tuple[str, float] | None:
    """The new column that looks most like the one that is gone, if one does, and how far they are apart."""
    found = [(apart, name) for name, column in new.items() if (apart := _apart(gone, column)) is not None]
    if not found:
        return None
    apart, name = min(found)
    return name, apart


def _apart(gone: ColumnSummary, new: ColumnSummary) -> float | None:
    """How far two columns are apart; None when they are not alike or cannot be compared."""
    match gone, new:
        case NumericSummary(), NumericSummary():
            left, right = of_summary(gone), of_summary(new)
            if left is None or right is None or gone.minimum == gone.maximum:
                return None
            apart = distance(left, right)
            return apart if apart <= max(ALIKE, noise(left, right)) else None
        case CategoricalSummary(), CategoricalSummary() if gone.values and new.values:
            before = dict(zip(gone.plan.categories, gone.top.tolist(), strict=True))
            now = dict(zip(new.unseen.names, new.unseen.counts.tolist(), strict=True))
            names = before.keys() | now.keys()
            if np.count_nonzero(gone.top) < 2:
                return None
            apart = (
                sum(abs(before.get(one, 0) / gone.values - now.get(one, 0) / new.values) for one in names) / 2
            )
            return apart if apart <= ALIKE else None
    return None
