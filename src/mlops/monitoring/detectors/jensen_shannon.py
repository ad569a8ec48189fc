"""Jensen-Shannon distance."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import rel_entr

from mlops.monitoring.detectors.binned import Binned, Measured
from mlops.monitoring.detectors.homogeneity import homogeneity


def jensen_shannon(binned: Binned) -> Measured:
    """The root of the base-2 Jensen-Shannon divergence ½·KL(p‖a) + ½·KL(q‖a), a = (p+q)/2; from 0 to 1.

    On at most 20 quantile bins, or categories of which the rare are counted together. Lin 1991, "Divergence measures
    based on the Shannon entropy"; a metric: Endres & Schindelin 2003.

    >>> round(jensen_shannon(Binned.of([90, 10], [70, 30])).effect, 4)
    0.2163
    >>> jensen_shannon(Binned.of([80, 0], [0, 80])).effect
    1.0
    """
    coarse = binned.coarse()
    p, q = coarse.shares()
    middle = (p + q) / 2
    nats = float(np.sum(rel_entr(p, middle) + rel_entr(q, middle))) / 2
    return Measured(math.sqrt(max(0.0, nats) / math.log(2)), homogeneity(coarse))
