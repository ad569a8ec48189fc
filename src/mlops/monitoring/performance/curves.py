"""Areas under curves from scores on a fixed grid: counts only, so files merge in any order to the same bytes.

The grid is even in neither scores nor logits but in their floating-point pattern, from both ends of [0, 1]: a cell is
a 2,048th of an octave of p below one half and of 1 - p above, so 0.0001 and 0.0002 are as far apart as 0.9998 and
0.9999. Scores outside [0, 1] (a decision function) have cells of their own. Rows of a cell count as ties; `half_width`
and `precision_bounds` say how far that can be from the area of the scores as they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DROPPED = 52 - 11  # bits of the significand that a cell does not tell apart


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Counts per cell that has any, cells ascending: of rows of the class, and of other rows. int64, all [cells]."""

    cells: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @classmethod
    def of(
        cls, scores: NDArray[np.float64], positives: NDArray[np.int64], negatives: NDArray[np.int64]
    ) -> Grid:
        """Of scores [rows], finite, each standing for so many positive and negative rows."""
        return _gathered(cells_of(scores), positives, negatives)

    def merge(self, other: Grid) -> Grid:
        """Of the rows of both."""
        return _gathered(
            np.concatenate([self.cells, other.cells]),
            np.concatenate([self.positives, other.positives]),
            np.concatenate([self.negatives, other.negatives]),
        )


@dataclass(frozen=True, slots=True)
class Area:
    """An area under a curve and its standard error; `half_width` bounds what the grid can have changed of it."""

    value: float
    standard_error: float
    half_width: float


def cells_of(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The cell of each finite score; it never falls where the score rises."""

    def pattern(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.ascontiguousarray(numbers + 0.0).view(np.int64) >> _DROPPED  # + 0.0 makes a zero of -0.0

    half, one = int(pattern(np.array([0.5]))[0]), int(pattern(np.array([1.0]))[0])
    below = pattern(np.clip(scores, 0.0, 0.5))
    above = 2 * half - pattern(1.0 - np.clip(scores, 0.5, 1.0))  # exact there, by Sterbenz
    over = 2 * half + 1 + pattern(np.maximum(scores, 1.0)) - one
    under = -1 - pattern(np.maximum(-scores, 0.0))
    cells = np.where(scores <= 0.5, below, above)
    return np.where(scores > 1.0, over, np.where(scores < 0.0, under, cells))


def roc_area(grid: Grid, unit: int = 1) -> Area | None:
    """The area under the ROC curve: P(a positive's score > a negative's) + half of P(equal). None without both.

    Standard error by DeLong, DeLong and Clarke-Pearson (1988), whose placements are the same for all rows of a cell;
    by Hanley and McNeil (1982) where a side has one row. `unit` is how many counts are one row.
    """
    positives, negatives = grid.positives / unit, grid.negatives / unit
    many, few = float(positives.sum()), float(negatives.sum())
    if not many or not few:
        return None
    of_positives = (np.cumsum(negatives) - negatives / 2) / few
    of_negatives = (many - np.cumsum(positives) + positives / 2) / many
    area = float((positives * of_positives).sum() / many)
    if min(many, few) > 1:
        spread = float((positives * (of_positives - area) ** 2).sum() / (many - 1)) / many
        spread += float((negatives * (of_negatives - area) ** 2).sum() / (few - 1)) / few
    else:
        both_above, both_below = area / (2 - area), 2 * area**2 / (1 + area)
        spread = area * (1 - area) + (many - 1) * (both_above - area**2) + (few - 1) * (both_below - area**2)
        spread = max(0.0, spread) / (many * few)
    tied = float((positives * negatives).sum()) / (many * few)
    return Area(area, math.sqrt(spread), tied / 2)


def precision_area(grid: Grid, unit: int = 1) -> Area | None:
    """Average precision: the mean of precision at each positive, ties together. None without positives.

    Standard error of a proportion over the positives, sqrt(AP (1 - AP) / positives): Boyd, Eng and Page (2013).
    """
    positives, negatives = grid.positives[::-1] / unit, grid.negatives[::-1] / unit
    many = float(positives.sum())
    if not many:
        return None
    hits, misses = np.cumsum(positives), np.cumsum(negatives)
    precision = hits / np.maximum(hits + misses, 1 / unit)
    area = float((positives * precision).sum() / many)
    low, high = precision_bounds(grid, unit)
    return Area(area, math.sqrt(max(0.0, area * (1 - area)) / many), max(high - area, area - low))


def precision_bounds(grid: Grid, unit: int = 1) -> tuple[float, float]:
    """The least and the greatest average precision that the scores as they were can have had.

    In a cell with p positives all negatives come first, or last: the sum of (t + i) / (t + i + f) for i in 1..p is
    p - f (digamma(t + p + f + 1) - digamma(t + f + 1)), where t and f count the rows before.
    """
    from scipy.special import digamma

    positives, negatives = grid.positives[::-1] / unit, grid.negatives[::-1] / unit
    hits = np.cumsum(positives) - positives
    after = np.cumsum(negatives)

    def total(misses: NDArray[np.float64]) -> float:
        lost = misses * (digamma(hits + positives + misses + 1) - digamma(hits + misses + 1))
        return float((positives - lost).sum() / positives.sum())

    return total(after), total(after - negatives)


def _gathered(cells: NDArray[np.int64], positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> Grid:
    distinct, places = np.unique(cells, return_inverse=True)
    # Sums of integers below 2**53, so the doubles of bincount are exact.
    summed = [
        np.bincount(places, weights=counts, minlength=len(distinct)).astype(np.int64)
        for counts in (positives, negatives)
    ]
    return Grid(distinct, *summed)
