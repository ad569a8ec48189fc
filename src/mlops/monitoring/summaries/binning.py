"""Which bin each value of a column falls into, and how many have which leading bits, without sorting.

A table of equal cells between the inner edges tells the bin of every value whose cell has no edge in it. Cells are
found by arithmetic that keeps the order of values when it rounds, so that the table is exact; in cells with edges
values are compared with them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlops.monitoring.summaries.histogram import EMPTY, SCALE_SHIFT, Histogram, limited
from mlops.monitoring.summaries.plans import NumericPlan
from mlops.monitoring.summaries.vectors import Floats, Integers, frozen

_CELLS: Final = 16_384
_TAIL: Final = 64  # a share of 1/_TAIL of the edges at each end lies outside the table
_MAGNITUDES: Final = 1 << (63 - SCALE_SHIFT)  # leading bits without the sign
_LAID_OUT: Final = 1 << 20  # counters of segments and leading bits that are laid out at once


class Binning:
    """The edges of a plan, and a table of where they stand.

    Args:
        plan: of the column.
    """

    def __init__(self, plan: NumericPlan) -> None:
        edges = plan.edges
        self.plan = plan
        self._edges = edges
        tail = len(edges) // _TAIL
        self._low, high = (float(edges[tail]), float(edges[-1 - tail])) if len(edges) else (0.0, 0.0)
        with np.errstate(over="ignore", divide="ignore"):
            factor = float((_CELLS - 2) / np.float64(high - self._low))
        self._factor = factor if np.isfinite(factor) else 0.0
        cells = self._cells(edges)
        counts = np.bincount(cells, minlength=_CELLS)
        self._below = (
            np.cumsum(counts) - counts
        )  # edges in the cells before: the bin, if there are none in it
        self._has_edge = counts > 0
        self._crowded = counts > 2
        self._any_double, self._any_crowded = bool((counts > 1).any()), bool(self._crowded.any())
        first = np.minimum(self._below, max(len(edges) - 1, 0))
        padded = np.append(edges, np.inf) if len(edges) else np.full(2, np.inf)
        self._first = np.where(counts > 0, padded[first], np.inf)
        self._second = np.where(counts > 1, padded[first + 1], np.inf)

    def bins(self, values: Floats) -> Integers:
        """The number of edges that are not above each of these finite values, shape (n,)."""
        cells = self._cells(values)
        bins: Integers = self._below[cells]
        close = self._has_edge[cells]
        count = int(np.count_nonzero(close))
        if (
            count > len(values) // 4
        ):  # as of few different values: comparing all is less work than picking out
            self._compare(bins, cells, values)
        elif count:
            near = np.flatnonzero(close)
            found = bins[near]
            self._compare(found, cells[near], values[near])
            bins[near] = found
        return bins

    def _compare(self, bins: Integers, cells: Integers, values: Floats) -> None:
        bins += values >= self._first[cells]
        if self._any_double:
            bins += values >= self._second[cells]
        if self._any_crowded and len(crowded := np.flatnonzero(self._crowded[cells])):
            bins[crowded] = np.searchsorted(self._edges, values[crowded], side="right")

    def _cells(self, values: Floats) -> Integers:
        if not self._factor:
            return np.zeros(len(values), np.int64)
        with np.errstate(over="ignore"):
            at = (values - self._low) * self._factor
        cells: Integers = np.clip(at, -1.0, _CELLS - 2, out=at).astype(np.int64)
        cells += 1
        return cells


def scales(values: Floats, bounds: Integers) -> list[Histogram]:
    """How many values of each segment have which leading bits.

    Args:
        values: finite, without -0.0, shape (n,).
        bounds: where segments begin and, last, where the last one ends.
    """
    if not len(values):
        return [EMPTY] * (len(bounds) - 1)
    leading = values.view(np.int64) >> SCALE_SHIFT
    lowest = int(leading.min())
    if lowest > 0 and len(bounds) == 2:  # nothing but positive values, as in most columns
        leading -= lowest
        counts = np.bincount(leading)
        present = np.flatnonzero(counts)
        return [_histogram(present + (_MAGNITUDES + lowest), counts[present])]
    sign = leading >> 63  # -1 or 0
    leading &= _MAGNITUDES - 1
    # zero is taken next to the smallest of the others, so that counters lie close together
    smallest = int(np.min(np.where(leading == 0, _MAGNITUDES, leading))) - 1
    leading -= smallest
    np.maximum(leading, 0, out=leading)
    most = int(leading.max())
    leading ^= sign
    below = most + 1 if int(leading.min()) < 0 else 0
    leading += below
    if len(bounds) == 2:
        counts = np.bincount(leading)
        present = np.flatnonzero(counts)
        return [_histogram(_keys(present - below, smallest), counts[present])]
    distinct = np.flatnonzero(np.bincount(leading))
    ranks = np.zeros(distinct[-1] + 1, np.int64)
    ranks[distinct] = np.arange(len(distinct))
    keys = _keys(distinct - below, smallest)
    found = []
    step = max(1, _LAID_OUT // len(distinct))
    for first in range(0, len(bounds) - 1, step):
        part = bounds[first : first + step + 1]
        rows = np.repeat(np.arange(len(part) - 1) * len(distinct), np.diff(part))
        counts = np.bincount(
            rows + ranks[leading[part[0] : part[-1]]], minlength=(len(part) - 1) * len(distinct)
        )
        for row in counts.reshape(-1, len(distinct)):
            present = np.flatnonzero(row)
            found.append(_histogram(keys[present], row[present]))
    return found


def _keys(places: Integers, smallest: int) -> Integers:
    sign = places >> 63
    magnitudes = places ^ sign
    keys: Integers = _MAGNITUDES + (np.where(magnitudes > 0, magnitudes + smallest, 0) ^ sign)
    return keys


def _histogram(keys: Integers, counts: Integers) -> Histogram:
    return limited(Histogram(SCALE_SHIFT, frozen(keys.astype(np.uint64)), frozen(counts)))
