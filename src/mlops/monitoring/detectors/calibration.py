"""Thresholds from the reference's own windows, for data whose rows depend on each other.

Where neighbouring rows are alike (weather, sensors, anything in sessions), a window holds less than its rows say, and
p-values and thresholds made for independent rows alarm without drift. What a detector measures between each window of
the reference and the rest of it is what it measures without drift, dependence included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import nctdtrit, ndtri, stdtr, stdtrit

from mlops.monitoring.detectors.binned import Binned, Floats, Measured
from mlops.monitoring.detectors.registry import BinDetector

FEWEST_WINDOWS = 8  # with less, a t quantile is so wide that nothing would ever be found

_CONFIDENCE = 0.99
_FALSE_ALARMS = 0.005  # of a window without drift, over all of its measures


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a detector measures on a column without drift: mean and deviation of `windows` effects to `power`."""

    mean: float
    deviation: float
    windows: int
    power: float

    def threshold(self, measures: int) -> float:
        """The effect that a check of so many `measures` finds in at most one of 200 windows without drift.

        Surely so: the reference stays the same, and one whose few windows happened to be alike would go on alarming. It
        is the tolerance limit mean + k·s, k from the noncentral t distribution (Owen 1968), at a confidence of 99 %.
        """
        far = float(ndtri(1 - _FALSE_ALARMS / max(1, measures)))
        root = math.sqrt(self.windows)
        factor = float(nctdtrit(self.windows - 1, far * root, _CONFIDENCE)) / root
        return float(max(0.0, self.mean + factor * self.deviation) ** (1 / self.power))

    def limit(self, probability: float) -> float:
        """The effect that one more window without drift exceeds with this `probability`."""
        quantile = float(stdtrit(self.windows - 1, 1 - probability))
        return float(max(0.0, self.mean + quantile * self._spread()) ** (1 / self.power))

    def p_value(self, effect: float) -> float:
        """The probability of at least this effect in one more window without drift."""
        spread = self._spread()
        if spread == 0:
            return 1.0 if effect**self.power <= self.mean else 0.0
        return float(stdtr(self.windows - 1, -(effect**self.power - self.mean) / spread))

    def judged(self, measured: Measured) -> Measured:
        """The same effect with the p-value that it has here."""
        if not math.isfinite(measured.effect):
            return measured
        return Measured(measured.effect, self.p_value(measured.effect), measured.note)

    def _spread(self) -> float:
        return self.deviation * math.sqrt(1 + 1 / self.windows)


def calibrated(found: BinDetector, windows: Sequence[Binned]) -> Calibration | None:
    """What `found` measures over `windows`, each a window of the reference against the rest of it; None if too few.

    Effects like χ² are near-normal as cube roots (Wilson & Hilferty 1931), distances, whose squares are like χ², as
    their power of 2/3; p-values are then those of one more normal value, (x − mean)/(s·√(1+1/k)) with Student's t of
    k−1 degrees of freedom (Hahn 1969), which counts how few windows there were.
    """
    power = 1 / 3 if found.squared else 2 / 3
    effects = [found.measure(binned).effect for binned in windows]
    scaled = np.array([effect**power for effect in effects if math.isfinite(effect)])
    if len(scaled) < FEWEST_WINDOWS:
        return None
    return Calibration(float(scaled.mean()), float(scaled.std(ddof=1)), len(scaled), power)


def most_of(found: BinDetector, binned: Binned) -> float:
    """The largest effect that `found` can measure on as many rows: all of them in one bin, or beyond all others."""
    bounds, before, window = binned.bounds, binned.reference, binned.window
    if bounds is not None:  # values may go as far as they like
        far = bounds[-1] + 1e3 * max(binned.scale or 0.0, bounds[-1] - bounds[0])
        bounds, before, window = np.append(bounds, far), np.append(before, 0.0), np.append(window, 0.0)
    effects = []
    for place in {0, int(np.argmin(before)), len(before) - 1}:
        all_in_one = np.zeros_like(window)
        all_in_one[place] = window.sum()
        one = replace(binned, reference=before, window=all_in_one, bounds=bounds)
        effects.append(found.measure(one).effect)
    return max(effects)


def against_the_rest(
    counts: Floats, bounds: Floats | None = None, scale: float | None = None
) -> list[Binned]:
    """Each row of `counts` (windows, bins) against the sum of the other rows; empty windows are left out."""
    whole = counts.sum(axis=0)
    return [
        Binned.of(whole - own, own, bounds=bounds, scale=scale)
        for own in counts
        if own.sum() > 0 and (whole - own).sum() > 0
    ]
