"""A column that has stopped moving."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mlops.monitoring.checks.pairs import Pair, beside_neighbours
from mlops.monitoring.checks.upstream.findings import Finding
from mlops.monitoring.detectors.dependence import design_effect
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.windowed import WindowSummary

Dependence = Mapping[tuple[str, str | None], float | None]
"""By column and slice: how many rows are worth one independent one, None where that is not known."""


def dependence_of(windows: Sequence[WindowSummary], columns: Sequence[str]) -> Dependence:
    """How rows of the reference depend on each other.

    Args:
        windows: the reference cut in windows of the watched size, in order, all of one plan.
    """
    parts = sorted({part for one in windows for part in one.slices}, key=lambda part: part.label)
    return {
        (name, part.label if part else None): design_effect(
            [pair.binned() for pair in beside_neighbours(windows, part, name) if not pair.why_not()]
        )
        for part in (None, *parts)
        for name in columns
    }


def constant(pair: Pair, worth: float = 1.0) -> Finding | None:
    """All rows have one value in a column that had several; None for any other column.

    The p-value is how probable it is that the reference gives this value (or, for numbers, one of its bin) in every
    row: shareⁿ. So a column that was nearly constant before does not alarm. `worth` is how many rows are worth one
    independent one: a fortnight without rain is no fault of a gauge.
    """
    reference, window = pair.reference, pair.window
    if pair.usable is None or pair.why_not() is not None:
        return None
    if isinstance(window, NumericSummary):
        one = window.minimum == window.maximum
        varied = isinstance(reference, NumericSummary) and reference.minimum != reference.maximum
    elif isinstance(window, CategoricalSummary):
        distinct = np.count_nonzero(window.top) + len(window.unseen.hashes) + 2 * bool(window.other_known)
        one, varied = bool(distinct == 1), bool(np.count_nonzero(pair.usable[0]) > 1)
    else:
        return None
    if not (one and varied):
        return None
    before, now = pair.usable
    share = float(before[int(np.argmax(now))] / before.sum())
    rows = float(now.sum()) / worth
    # One row more that had the value: the reference has not seen everything.
    share = (share * before.sum() + 1) / (before.sum() + 1)
    p_value = math.exp(rows * math.log(share)) if share < 1 else 1.0
    return Finding(pair.column, pair.slice, "constant", 1.0, 1.0, True, p_value, "one value in all rows")
