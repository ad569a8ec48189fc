"""Whether a window may help to clear a check: hysteresis, so that nothing flaps around its threshold."""

from __future__ import annotations

from collections import Counter

from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict

HYSTERESIS = 0.8  # of the threshold
_Q = 0.05  # what a p-value, corrected over columns, has to come to
_BY_SHARE = ("dataDrift", "targetDrift")  # may need a share of the columns; the others are violated by any
_BY_SHAPE = (
    "tailExceedance"  # a share of rows that is a change by their shape alone: without it, it is no near miss
)
_ALL_COLUMNS = "*"


def clears(check: CheckVerdict) -> bool:
    """Whether the check would have stayed quiet had its thresholds been 0.8 of what they are.

    As for a violation, an effect counts that is significant, too.

    Args:
        check: of a window in which it was judged, and quiet.
    """
    near = [column for column in check.columns if _near(column)]
    if check.type in _BY_SHARE:
        return _below(check.value, check.threshold) and not _enough(near, check)
    return not near if check.columns else _below(check.value, check.threshold)


def _enough(near: list[ColumnVerdict], check: CheckVerdict) -> bool:
    """Whether so many columns are near that their share, in all rows or in a slice, violates."""
    if any(column.column == _ALL_COLUMNS for column in near) or check.threshold is None:
        return bool(near)
    judged = Counter(column.slice for column in check.columns if column.p_adjusted is not None)
    found = Counter(column.slice for column in near)
    return any(count >= check.threshold * judged[part] for part, count in found.items())


def _near(column: ColumnVerdict) -> bool:
    if column.verdict == "violated":
        return True
    if column.verdict != "quiet" or column.detector == _BY_SHAPE or _below(column.value, column.threshold):
        return False
    return column.p_adjusted is None or column.p_adjusted <= _Q


def _below(value: float | None, threshold: float | None) -> bool:
    return value is None or threshold is None or value < HYSTERESIS * threshold
