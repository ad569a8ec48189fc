"""Wasserstein-1 distance, in standard deviations of the reference."""

from __future__ import annotations

import math

import numpy as np

from mlops.monitoring.detectors.binned import Binned, Floats, Measured
from mlops.monitoring.detectors.ks import ks


def wasserstein(binned: Binned) -> Measured:
    """∫ |F−G| dx over the reference's standard deviation: how far rows have to be moved on average.

    F and G are the cumulative shares of reference and window, straight lines within a bin (Vallender 1974). The
    p-value is the larger of two: of the Kolmogorov-Smirnov test on the same bins, as one far value would pass for drift
    otherwise; and of this distance itself, which small windows have without drift (`_chance`). Without a spread in
    the reference there is no unit to measure in: the effect is NaN and a note says so.

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
    width = np.diff(binned.bounds) / binned.scale
    effect = float(np.sum(height * width))
    p_value = ks(binned).p_value
    return Measured(effect, None if p_value is None else max(p_value, _chance(binned, effect, width)))


def _chance(binned: Binned, effect: float, width: Floats) -> float:
    """A bound of the probability of at least this distance without drift.

    Without drift √(nm/(n+m))·(F−G) is near a Brownian bridge: the mean distance is √(2/π)·√(1/n+1/m)·∫√(F(1−F)) dx
    (del Barrio, Giné & Matrán 1999). As the distance is the largest difference of means of a function of slope at most
    1 (Kantorovich), none of which varies more than x itself, it exceeds that by t·√(1/n+1/m) deviations with a
    probability of at most exp(−t²/2) (Borell 1975; Tsirelson, Ibragimov & Sudakov 1976).
    """
    n, m = binned.reference_size, binned.window_size
    noise = math.sqrt(1 / n + 1 / m)
    p, q = binned.shares()
    ends = np.concatenate(([0.0], np.clip(np.cumsum((n * p + m * q) / (n + m)), 0.0, 1.0)))
    roots = np.sqrt(ends * (1 - ends))
    usual = math.sqrt(2 / math.pi) * noise * float(np.sum((roots[:-1] + roots[1:]) / 2 * width))
    return math.exp(-(max(0.0, (effect - usual) / noise) ** 2) / 2)
