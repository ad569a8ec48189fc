"""Wasserstein-1 distance, in standard deviations of the reference."""

from __future__ import annotations

import numpy as np

from mlops.monitoring.detectors.binned import Binned, Measured
from mlops.monitoring.detectors.ks import ks


def wasserstein(binned: Binned) -> Measured:
    """∫ |F−G| dx over the reference's standard deviation: how far rows have to be moved on average.

    F and G are the cumulative shares of reference and window, straight lines within a bin (Vallender 1974). The
    significance is that of the Kolmogorov-Smirnov test on the same bins: the null law of this distance depends on the
    unknown distribution, and one far value would pass for drift under its normal limit. Without a spread in the
    reference there is no unit to measure in: the effect is NaN and a note says so.

    >>> uniform = [25, 25, 25, 25, 0]
    >>> moved = Binned.of(uniform, [0, 25, 25, 25, 25], bounds=[0, 1, 2, 3, 4, 5], scale=2.0)
    >>> wasserstein(moved).effect  # each row by 1, which is half a standard deviation
    0.5
    """
    if binned.bounds is None or not binned.scale:
        return Measured(float("nan"), None, "the reference has no spread to measure in")
    p, q = binned.shares()
    difference = np.concatenate(([0.0], np.cumsum(p - q)))
    left, right = difference[:-1], difference[1:]
    crossing = left * right < 0
    total = np.abs(left) + np.abs(right)
    # The area between two straight lines over a bin: a trapezium, or two triangles where they cross.
    height = np.where(crossing, (left**2 + right**2) / np.where(total > 0, 2 * total, 1.0), total / 2)
    area = float(np.sum(height * np.diff(binned.bounds)))
    return Measured(area / binned.scale, ks(binned).p_value)
