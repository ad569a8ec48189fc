"""The cumulative share of a column's values, from its bins and its scale together: exact at every bound of either."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mlops.monitoring.checks.pairs import Pair
from mlops.monitoring.detectors.binned import Floats
from mlops.monitoring.summaries.numeric import NumericSummary

# How far apart two values may be and still be the same: rounding after a conversion, and a bucket of the scale.
SLACK = 0.03  # of the quartiles' distance
SMIRNOV = 1.36  # of √(1/n+1/m): the 95 % quantile of the distance of two samples
_TINY = 1e-300  # what is below shares the scale's bucket with zero


@dataclass(frozen=True, slots=True, eq=False)
class Cumulative:
    """P(X < point), straight between `points` (k,), ascending; `shares` (k,) go from 0 to 1; `size` rows."""

    points: Floats
    shares: Floats
    size: float

    def at(self, points: Floats) -> Floats:
        """P(X < point) for each of `points`."""
        return np.interp(points, self.points, self.shares, left=0.0, right=1.0)

    def quantile(self, shares: Floats) -> Floats:
        """The values below which such shares lie."""
        return np.interp(shares, self.shares, self.points)

    def moved(self, slope: float, offset: float) -> Cumulative:
        """Of slope·X + offset; `slope` is above 0."""
        with np.errstate(over="ignore"):
            return replace(self, points=self.points * slope + offset)

    def logarithm(self) -> Cumulative:
        """Of ln X, of the rows with X above 0."""
        return self.within(_TINY, math.inf)._logarithm()

    def within(self, low: float, high: float) -> Cumulative:
        """Of the rows with low ≤ X < high; there must be some."""
        least, most = self.at(np.array([low, high]))
        inside = (self.points > low) & (self.points < high)
        points = np.concatenate(
            ([max(low, self.points[0])], self.points[inside], [min(high, self.points[-1])])
        )
        shares = (self.at(points) - least) / (most - least)
        return Cumulative(points, np.clip(shares, 0.0, 1.0), self.size * float(most - least))

    def share(self, low: float, high: float) -> float:
        """P(low ≤ X < high)."""
        least, most = self.at(np.array([low, high]))
        return float(most - least)

    @property
    def spread(self) -> float:
        """The distance of the quartiles; infinite beyond the largest double."""
        low, high = self.quantile(np.array([0.25, 0.75])).tolist()
        return float(high) - float(low)

    def _logarithm(self) -> Cumulative:
        above = self.points > 0
        return replace(self, points=np.log(self.points[above]), shares=self.shares[above])


def distance(left: Cumulative, right: Cumulative, slack: float = 0.0) -> float:
    """The largest difference of two cumulative shares, points `slack` apart counting as one.

    Kolmogorov-Smirnov's distance for a slack of 0, else with Lévy's allowance sideways.
    """
    slack = slack if math.isfinite(slack) else 0.0
    points = np.concatenate((left.points, right.points))
    points = np.concatenate((points - slack / 2, points + slack / 2)) if slack else points
    low, high = points - slack / 2, points + slack / 2
    with np.errstate(
        invalid="ignore"
    ):  # beyond the largest double a share is unknown: as far apart as can be
        above = np.max(left.at(low) - right.at(high), initial=0.0)
        below = np.max(right.at(low) - left.at(high), initial=0.0)
    found = float(np.maximum(above, below))
    return 1.0 if math.isnan(found) else found


def noise(left: Cumulative, right: Cumulative) -> float:
    """The distance that one of twenty pairs of such samples of one distribution exceeds (Smirnov 1939)."""
    return SMIRNOV * math.sqrt(1 / left.size + 1 / right.size)


def of_summary(summary: NumericSummary) -> Cumulative | None:
    """Of all finite values; None if there are none."""
    if summary.minimum is None or summary.maximum is None:
        return None
    ends = np.cumsum(summary.bins)
    counts = np.concatenate((ends[:-1], np.cumsum(summary.scale.counts) - summary.scale.counts))
    points = np.concatenate((summary.plan.edges, summary.scale.lower))
    # Where a bucket ends matters too: after it may come a gap.
    with np.errstate(over="ignore"):  # nothing comes after the largest double
        points = np.concatenate((points, np.nextafter(summary.scale.upper, np.inf)))
    counts = np.concatenate((counts, np.cumsum(summary.scale.counts)))
    return _between(summary.minimum, summary.maximum, points, counts / summary.finite, float(summary.finite))


def of_pair(pair: Pair) -> tuple[Cumulative, Cumulative] | None:
    """Of reference and window; the reference mixed by season from its bins alone. None if a side has no values."""
    if not isinstance(pair.reference, NumericSummary) or not isinstance(pair.window, NumericSummary):
        return None
    window = of_summary(pair.window)
    if window is None or pair.cells is None or pair.usable is None:
        return None
    mixed, _ = pair.usable
    if not pair.seasonal:
        reference = of_summary(pair.reference)
        return None if reference is None else (reference, window)
    edges, low, high = pair.reference.plan.edges, pair.reference.minimum, pair.reference.maximum
    if low is None or high is None or not mixed.sum():
        return None
    shares = np.cumsum(mixed)[:-1] / mixed.sum()
    return _between(low, high, edges, shares, float(mixed.sum())), window


def _between(low: float, high: float, points: Floats, shares: Floats, size: float) -> Cumulative:
    inside = (points > low) & (points <= high)
    points = np.concatenate(([low], points[inside], [math.nextafter(high, math.inf)]))
    shares = np.concatenate(([0.0], shares[inside], [1.0]))
    order = np.lexsort((shares, points))
    return Cumulative(points[order], np.maximum.accumulate(shares[order]), size)
