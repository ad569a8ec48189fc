"""Chi-square test of homogeneity, with an effect that does not depend on how many rows there are."""

from __future__ import annotations

import math

import numpy as np

from mlops.monitoring.detectors.binned import Binned, Measured
from mlops.monitoring.detectors.homogeneity import homogeneity


def chi_square(binned: Binned) -> Measured:
    """Cramér's V as it would be with equally many rows on both sides: √(½ Σ (p−q)²/(p+q)), from 0 to 1.

    V of the table itself, √(X²/(n+m)), vanishes when the reference is much larger than the window; this one does
    not (its square is Le Cam's 1986 distance). 0.1 is a small effect (Cohen 1988). On at most 20 quantile bins, or
    categories of which the rare are counted together.

    >>> round(chi_square(Binned.of([60, 40], [40, 60])).effect, 4)
    0.2
    >>> round(chi_square(Binned.of([60_000, 40_000], [40, 60])).effect, 4)
    0.2
    """
    coarse = binned.coarse()
    p, q = coarse.shares()
    return Measured(math.sqrt(float(np.sum((p - q) ** 2 / (p + q))) / 2), homogeneity(coarse))
