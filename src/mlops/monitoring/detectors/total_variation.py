"""Total variation distance."""

from __future__ import annotations

import numpy as np

from mlops.monitoring.detectors.binned import Binned, Measured
from mlops.monitoring.detectors.homogeneity import homogeneity


def total_variation(binned: Binned) -> Measured:
    """½ Σ |p−q|: the share of rows that would have to move to another bin; from 0 to 1.

    On at most 20 quantile bins, or categories of which the rare are counted together. Levin, Peres & Wilmer 2009,
    "Markov chains and mixing times", proposition 4.2.

    >>> round(total_variation(Binned.of([90, 10], [70, 30])).effect, 4)
    0.2
    """
    coarse = binned.coarse()
    p, q = coarse.shares()
    return Measured(float(np.abs(p - q).sum()) / 2, homogeneity(coarse))
