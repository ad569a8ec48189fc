"""P-values of many measures at once, and of two shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg's adjusted p-values, in the order given; None stays None and counts for nothing.

    Rejecting those at or below q keeps the expected share of false ones among them at q, for independent and for
    positively dependent tests (Benjamini & Hochberg 1995; Benjamini & Yekutieli 2001).

    >>> adjusted([0.01, None, 0.04, 0.03])
    [0.03, None, 0.04, 0.04]
    """
    told = [place for place, p_value in enumerate(p_values) if p_value is not None]
    values = np.array([p_values[place] for place in told], np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * len(values) / np.arange(1, len(values) + 1)
    steps = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    result: list[float | None] = [None] * len(p_values)
    for place, value in zip(order, steps, strict=True):
        result[told[place]] = float(value)
    return result


def more_than(share: float, rows: float, expected: float, size: float) -> float:
    """The one-sided p-value that `share` of `rows` is no more than `expected`, seen in `size` rows.

    The pooled two-sample test of proportions; each side counts one success and one failure more, so that an expectation
    of none keeps a variance (Agresti & Caffo 2000).

    >>> more_than(0.05, 1000, 0.0, 50_000) < 1e-12, round(more_than(0.01, 1000, 0.01, 1000), 1)
    (True, 0.5)
    """
    successes, others = share * rows + 1, expected * size + 1
    rows, size = rows + 2, size + 2
    pooled = (successes + others) / (rows + size)
    deviation = math.sqrt(max(pooled * (1 - pooled), 1e-300) * (1 / rows + 1 / size))
    return float(ndtr(-(share - expected) / deviation))
