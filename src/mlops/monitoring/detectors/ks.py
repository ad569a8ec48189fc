"""Kolmogorov-Smirnov distance."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import kolmogorov

from mlops.monitoring.detectors.binned import Binned, Measured


def ks(binned: Binned) -> Measured:
    """The largest difference of the cumulative shares at the bounds of the bins; from 0 to 1.

    With b quantile bins it is at most 1/b below the exact distance, so p-values err to the safe side. They are those of
    Kolmogorov's limit (Kolmogorov 1933, Smirnov 1939) at (√e + 0.12 + 0.11/√e)·D with e = n·m/(n+m), Stephens' (1970)
    correction for small samples.

    >>> measured = ks(Binned.of([10, 10, 10, 10], [5, 5, 15, 15], bounds=[0, 1, 2, 3, 4]))
    >>> measured.effect, round(measured.p_value, 4)
    (0.25, 0.1393)
    """
    p, q = binned.shares()
    distance = min(1.0, float(np.abs(np.cumsum(p - q)).max()))
    return Measured(distance, ks_p_value(distance, binned.reference_size, binned.window_size))


def ks_p_value(distance: float, n: float, m: float) -> float:
    """The probability of a distance at least this large between samples of `n` and `m` rows of one distribution."""
    root = math.sqrt(n * m / (n + m))
    return float(kolmogorov((root + 0.12 + 0.11 / root) * distance))
