"""What the Dataset's `expect` asks of columns, tested of the rows of a window by its sums."""

from __future__ import annotations

from mlops.data.expectations import violations
from mlops.data.profiles import Profile
from mlops.data.tallies import ColumnProfile
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.windowed import ColumnSummary, WindowSummary
from mlops.resources.dataset import Expect

_PER_SECOND = 1_000_000


def broken(expect: Expect | None, window: WindowSummary) -> list[str]:
    """Every expectation of a column that the window does not keep, as a phrase each.

    How many rows there have to be is asked of the dataset, not of a window; a column that is not looked at (an id, the
    time) is not tested here.
    """
    if expect is None:
        return []
    excluded = window.plan.excluded
    watched = {name: wanted for name, wanted in expect.columns.items() if name not in excluded}
    columns = tuple(_profile(name, summary, window.rows) for name, summary in window.columns.items())
    asked = Expect(columns=watched)
    return violations(asked, Profile(window.rows, columns))


def _profile(name: str, summary: ColumnSummary, rows: int) -> ColumnProfile:
    types = set(summary.types) - {"null"}
    kind = "double" if types == {"integer", "double"} else next(iter(types)) if len(types) == 1 else "mixed"
    absent = rows - summary.rows
    extremes = _extremes(summary, kind) if isinstance(summary, NumericSummary) else {}
    return ColumnProfile(name, kind, (kind,), summary.nulls + absent, extremes)


def _extremes(summary: NumericSummary, kind: str) -> dict[str, tuple[int | float, int | float]]:
    least: float | None = float("-inf") if summary.negative_infinities else summary.minimum
    greatest: float | None = float("inf") if summary.positive_infinities else summary.maximum
    if least is None:
        least = float("inf") if summary.positive_infinities else None
    if greatest is None:
        greatest = float("-inf") if summary.negative_infinities else None
    if least is None or greatest is None:
        return {}
    if kind in ("timestamp", "date"):
        return {kind: (round(least * _PER_SECOND), round(greatest * _PER_SECOND))}
    return {kind: (least, greatest)}
