"""A column that has stopped moving."""

from __future__ import annotations

import math

import numpy as np

from mlops.monitoring.checks.pairs import Pair
from mlops.monitoring.checks.upstream.findings import Finding
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.numeric import NumericSummary


def constant(pair: Pair) -> Finding | None:
    """All rows have one value in a column that had several; None for any other column.

    The p-value is how probable it is that the reference gives this value (or, for numbers, one of its bin) in every
    row: shareⁿ. So a column that was nearly constant before does not alarm.
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
    rows = float(now.sum())
    # One row more that had the value: the reference has not seen everything.
    share = (share * before.sum() + 1) / (before.sum() + 1)
    p_value = math.exp(rows * math.log(share)) if share < 1 else 1.0
    return Finding(pair.column, pair.slice, "constant", 1.0, 1.0, True, p_value, "one value in all rows")
