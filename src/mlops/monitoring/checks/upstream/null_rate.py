"""More rows without a value than there were."""

from __future__ import annotations

from mlops.monitoring.checks.pairs import Pair
from mlops.monitoring.checks.significance import more_than
from mlops.monitoring.checks.upstream.findings import Finding

THRESHOLD = 0.02


def null_rate(pair: Pair, threshold: float = THRESHOLD) -> Finding | None:
    """The share of rows without a usable value (null, NaN, infinite, text that is no number), less the reference's.

    A change from `threshold` on. None for a column whose values are not looked into.
    """
    if pair.cells is None or pair.usable is None:
        return None
    size, rows = pair.cells.size, float(pair.cells.window.sum())
    before, now = (max(0.0, 1 - part.sum() / of) for part, of in zip(pair.usable, (size, rows), strict=True))
    p_value = more_than(now, rows, before, size)
    note = f"{now:.1%} of the rows have no usable value, {before:.1%} in the reference"
    rise = now - before
    changed = rise >= threshold
    return Finding(
        pair.column, pair.slice, "nullRate", rise, threshold, changed, p_value, note if changed else None
    )
