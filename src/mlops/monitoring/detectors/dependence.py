"""How many rows are worth one: where neighbours are alike, a window says less than its rows promise.

In weather, sensors and sessions one row tells much of the next, and tests for independent rows call chance a fault. How
much further windows of the reference lie apart than those of independent rows would is the design effect of survey
sampling (Kish 1965); a test is right again when it counts its rows divided by it (Rao & Scott 1981). Each window is
compared with its two neighbours, so that seasons and growth, which are no chance, do not count (second differences, as
von Neumann 1941 used first ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.special import chdtri

from mlops.monitoring.detectors.binned import Binned

FEWEST: Final = 4  # windows with neighbours; with less, nothing is known of how they vary
_TAIL = 0.05  # shares this near to 0 or 1 say little about a distribution
_CONFIDENCE = 0.95
_FREEDOM = 3.45  # of an Anderson-Darling statistic: 1/Σλ², λ = 1/(j(j+1)) (Anderson & Darling 1952; Satterthwaite 1946)
_OVERLAP = 1.61  # 3 windows of 5 have neighbours; their differences correlate by -2/3 and 1/6


def design_effect(windows: Sequence[Binned]) -> float | None:
    """How many rows are worth one independent one, at least 1: an upper bound at a confidence of 95 %.

    An upper bound because the reference stays the same: one whose few windows happened to be alike would go on
    alarming.

    Args:
        windows: windows of the reference, each against its neighbours.

    Returns:
        None where there are fewer than 4.

    >>> same, other = Binned.of([50, 50], [25, 25]), Binned.of([50, 50], [15, 35])
    >>> round(design_effect([same, other] * 4), 1)
    11.9
    """
    told = [one for one in map(_apart, windows) if one is not None]
    if len(told) < FEWEST:
        return None
    statistic, freedom = np.mean(np.array(told), axis=0)
    freedom *= len(told) / _OVERLAP
    return max(1.0, float(statistic * freedom / chdtri(freedom, _CONFIDENCE)))


def _apart(binned: Binned) -> tuple[float, float] | None:
    """A statistic that is 1 on average for independent rows, and its degrees of freedom; None where nothing varies."""
    n, m = binned.reference_size, binned.window_size
    scale = n * m / (n + m)
    if binned.bounds is None:
        coarse = binned.coarse()
        bins = len(coarse.reference)
        if bins < 2:
            return None
        p, q = coarse.shares()
        return scale * float(np.sum((p - q) ** 2 / ((n * p + m * q) / (n + m)))) / (bins - 1), bins - 1
    p, q = binned.shares()
    pooled = (n * p + m * q) / (n + m)
    below = np.cumsum(pooled)[:-1]
    told = (below > _TAIL) & (below < 1 - _TAIL)
    weights = (pooled[:-1] + pooled[1:]) * told
    if not weights.sum():
        return None
    apart = np.cumsum(q - p)[:-1][told] ** 2 / (below * (1 - below))[told]
    return scale * float(np.average(apart, weights=weights[told])), _FREEDOM
