"""Whether a window may help to clear a check: hysteresis, so that nothing flaps around its threshold."""

from __future__ import annotations

from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict

HYSTERESIS = 0.8  # of the threshold
_Q = 0.05  # what a p-value, corrected over columns, has to come to
_BY_SHARE = ("dataDrift", "targetDrift")  # violated by a share of columns; the others by any


def clears(check: CheckVerdict) -> bool:
    """Whether the check would have stayed quiet had its thresholds been 0.8 of what they are.

    An estimate never does, nor does a window that could not be judged.
    """
    if check.verdict != "quiet" or check.estimate:
        return False
    if not _below(check.value, check.threshold):
        return False
    near = sum(map(_near, check.columns))
    if near == 0 or check.type not in _BY_SHARE or check.threshold is None:
        return near == 0
    judged = sum(column.verdict in ("quiet", "violated") for column in check.columns)
    return near < check.threshold * judged


def _near(column: ColumnVerdict) -> bool:
    if column.verdict == "violated":
        return True
    significant = column.p_adjusted is None or column.p_adjusted <= _Q
    return column.verdict == "quiet" and significant and not _below(column.value, column.threshold)


def _below(value: float | None, threshold: float | None) -> bool:
    return value is None or threshold is None or value < HYSTERESIS * threshold
