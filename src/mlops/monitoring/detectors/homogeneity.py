"""Whether two samples over the same bins can come from one distribution: the significance of PSI, Jensen-Shannon, …"""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from mlops.monitoring.detectors.binned import Binned


def homogeneity(binned: Binned) -> float:
    """The p-value of Pearson's chi-square test of homogeneity, 2 samples by B bins.

    X² = n·m/(n+m) · Σ (p−q)²/p̄ with p̄ = (n·p + m·q)/(n+m) follows χ²(B−1) when both samples come from one
    distribution (Pearson 1900; Cochran 1952 for how few rows a bin may expect: join bins first, `Binned.coarse`).
    PSI and Jensen-Shannon divergence J (in nats, each sample at half the weight) are the same statistic to second
    order: n·m/(n+m)·PSI and 8·n·m/(n+m)·J tend to X² (PSI: Yurdakul 2018; J: Lin 1991 with Wilks 1938), so this
    one test, exact for fewer rows than their own limits (Koehler & Larntz 1980), serves all.

    >>> homogeneity(Binned.of([50, 50], [50, 50]))
    1.0
    >>> round(homogeneity(Binned.of([60, 40], [40, 60])), 6)  # X² = 8 with one degree of freedom
    0.004678
    """
    bins = len(binned.reference)
    if bins < 2:
        return 1.0
    n, m = binned.reference_size, binned.window_size
    p, q = binned.shares()
    pooled = (n * p + m * q) / (n + m)
    statistic = n * m / (n + m) * float(np.sum((p - q) ** 2 / pooled))
    return float(chdtrc(bins - 1, statistic))
