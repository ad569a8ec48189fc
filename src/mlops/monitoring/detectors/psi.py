"""Population stability index."""

from __future__ import annotations

import numpy as np

from mlops.monitoring.detectors.binned import Binned, Measured
from mlops.monitoring.detectors.homogeneity import homogeneity


def psi(binned: Binned) -> Measured:
    """PSI = Σ (q−p)·ln(q/p) on at most 20 quantile bins, less its expectation without drift, not below 0.

    p and q are the shares of reference and window, each bin with half a row more so that an empty one stays finite
    (Jeffreys' prior). Without drift PSI is about χ²(B−1)·(1/n+1/m), so (B−1)(1/n+1/m) is what chance gives (Yurdakul
    2018, "Statistical properties of population stability index"); PSI itself: Kullback & Leibler 1951, equation
    2.6 ("divergence", Jeffreys 1946). 0.1 is commonly called moderate, 0.2 or 0.25 large (Siddiqi 2006).

    >>> round(psi(Binned.of([50_000, 50_000], [40_000, 60_000])).effect, 4)
    0.0405
    >>> psi(Binned.of([50, 50], [48, 52])).effect  # less than chance gives
    0.0
    """
    coarse = binned.coarse()
    bins = len(coarse.reference)
    if bins < 2:
        return Measured(0.0, 1.0)
    n, m = coarse.reference_size, coarse.window_size
    p, q = coarse.shares()
    p = (n * p + 0.5) / (n + 0.5 * bins)
    q = (m * q + 0.5) / (m + 0.5 * bins)
    index = float(np.sum((q - p) * np.log(q / p)))
    return Measured(max(0.0, index - (bins - 1) * (1 / n + 1 / m)), homogeneity(coarse))
