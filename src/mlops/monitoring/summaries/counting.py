"""One batch of a column becomes summaries, one for each segment of its rows (a window, a slice, a season)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.data.tallies import type_name
from mlops.monitoring.summaries.binning import Binning, scales
from mlops.monitoring.summaries.categorical import (
    LONGEST_NAME,
    MOST_UNSEEN,
    NONE_UNSEEN,
    CategoricalSummary,
    Unseen,
    keep_unseen,
)
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import CategoricalPlan, OpaquePlan
from mlops.monitoring.summaries.reading import Categories, Numbers
from mlops.monitoring.summaries.sums import exact_sums
from mlops.monitoring.summaries.tally import OpaqueSummary
from mlops.monitoring.summaries.vectors import Flags, Floats, Integers, frozen


def count_numbers(binning: Binning, numbers: Numbers, bounds: Integers, kind: str) -> list[NumericSummary]:
    """A summary of each segment.

    Args:
        binning: of the column's plan.
        numbers: of all segments, one after the other.
        bounds: where segments begin and, last, where the last one ends, shape (segments + 1,); none is empty.
        kind: the name of the type that the values came with.
    """
    values = numbers.values
    lengths, segments = np.diff(bounds), len(bounds) - 1
    none = [0] * segments
    below = above = unparsable = none
    known = lengths
    finite = np.isfinite(values)
    if finite.all():
        values = values + 0.0  # without -0.0
    else:
        starts = bounds[:-1]
        below, above = (_per(values == infinite, starts) for infinite in (-np.inf, np.inf))
        if numbers.unparsable is not None:
            unparsable = _per(numbers.unparsable, starts)
        known = np.array(_per(finite, starts))
        values = values[finite] + 0.0
    ends = np.cumsum(known)
    bounds = np.concatenate(([0], ends))
    present = np.flatnonzero(known)  # segments without a finite value cannot be reduced
    starts = bounds[:-1][present]
    bins = binning.bins(values)
    size = len(binning.plan.edges) + 1
    if segments > 1:
        bins += np.repeat(np.arange(segments) * size, known)
    table = np.bincount(bins, minlength=segments * size).reshape(segments, size)
    scale = scales(values, bounds)
    columns = _placed(_measured(values, starts), present.tolist(), segments)
    summaries = []
    for place, (length, count) in enumerate(zip(lengths.tolist(), known.tolist(), strict=True)):
        zeros, negatives, minimum, maximum, total, squares = columns[place]
        infinite = below[place] + above[place]
        summaries.append(
            NumericSummary(
                plan=binning.plan,
                rows=length,
                nulls=length - count - infinite - unparsable[place],
                unparsable=unparsable[place],
                negative_infinities=below[place],
                positive_infinities=above[place],
                zeros=zeros,
                negatives=negatives,
                minimum=minimum,
                maximum=maximum,
                total=total,
                squares=squares,
                bins=frozen(table[place]),
                scale=scale[place],
                types={kind: length},
            )
        )
    return summaries


def count_categories(
    plan: CategoricalPlan, categories: Categories, bounds: Integers, kind: str, *, most: int = MOST_UNSEEN
) -> list[CategoricalSummary]:
    """A summary of each segment; see `count_numbers`."""
    distinct = len(categories.hashes)
    places, order = np.empty(distinct, np.int64), np.argsort(categories.hashes)
    places[order] = np.searchsorted(plan.known, categories.hashes[order])  # in order: near in memory
    known = np.zeros(distinct, np.bool_)
    if len(plan.known):
        places = np.minimum(places, len(plan.known) - 1)
        known = plan.known[places] == categories.hashes
    slots = np.where(known, plan.slots[places] if len(plan.known) else 0, -1)
    summaries = []
    for begin, end in itertools.pairwise(bounds.tolist()):
        codes, counts = _frequencies(categories.codes[begin:end], distinct, end - begin)
        found = slots[codes]
        seen = found >= 0
        top = np.bincount(found[seen], counts[seen], len(plan.categories) + 1).astype(np.int64)
        summaries.append(
            CategoricalSummary(
                plan=plan,
                rows=end - begin,
                nulls=end - begin - int(counts.sum()),
                top=frozen(top[:-1]),
                other_known=int(top[-1]),
                unseen=_unseen(categories, codes[~seen], counts[~seen], most),
                types={kind: end - begin},
            )
        )
    return summaries


def count_rows(plan: OpaquePlan, array: Any, bounds: Integers) -> list[OpaqueSummary]:
    """A summary of each segment of a column whose values are not looked into."""
    kind = type_name(array.type)
    absent = np.concatenate(([0], np.cumsum(array.is_null().to_numpy(zero_copy_only=False))))
    spans = itertools.pairwise(bounds.tolist())
    return [
        OpaqueSummary(plan, end - begin, int(absent[end] - absent[begin]), {kind: end - begin})
        for begin, end in spans
    ]


_SQUARABLE = 1e154  # the square of what is not larger is a double
_Measures = tuple[int, int, float | None, float | None, int, int]


def _measured(values: Floats, starts: Integers) -> list[_Measures]:
    """Zeros, negatives, minimum, maximum, sum and sum of squares of each segment."""
    if not len(values):
        return []
    lows, highs = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    lowest, highest = float(lows.min()), float(highs.max())
    largest = max(-lowest, highest)
    none = [0] * len(starts)
    with np.errstate(over="ignore", under="ignore"):
        squares = values * values
    if largest > _SQUARABLE:
        squares[np.isinf(squares)] = 0.0
    return list(
        zip(
            _per(values == 0.0, starts) if lowest <= 0.0 <= highest else none,
            _per(values < 0.0, starts) if lowest < 0.0 else none,
            lows.tolist(),
            highs.tolist(),
            exact_sums(values, starts, largest),
            exact_sums(squares, starts, None if largest > _SQUARABLE else largest * largest),
            strict=True,
        )
    )


def _placed(measures: list[_Measures], places: list[int], segments: int) -> list[_Measures]:
    found: list[_Measures] = [(0, 0, None, None, 0, 0)] * segments
    for place, measure in zip(places, measures, strict=True):
        found[place] = measure
    return found


def _per(flags: Flags, starts: Integers) -> list[int]:
    """How many are set in each segment."""
    if len(starts) == 1:
        return [int(np.count_nonzero(flags))]
    counts: list[int] = np.add.reduceat(flags, starts, dtype=np.int64).tolist()
    return counts


def _frequencies(codes: Integers, distinct: int, rows: int) -> tuple[Integers, Integers]:
    """Which codes occur, without -1, and how often."""
    if distinct <= 4 * rows + 64:
        counts = np.bincount(codes + 1, minlength=distinct + 1)[1:]
        found = np.flatnonzero(counts)
        return found, counts[found]
    found, counts = np.unique(codes, return_counts=True)
    return (found[1:], counts[1:]) if found[0] < 0 else (found, counts)


def _unseen(categories: Categories, codes: Integers, counts: Integers, most: int) -> Unseen:
    if not len(codes):
        return NONE_UNSEEN
    return keep_unseen(
        categories.hashes[codes],
        counts,
        lambda places: _short(categories.names.take(pa.array(codes[places]))),
        most=most,
    )


def _short(names: Any) -> list[str]:
    short: list[str] = pc.utf8_slice_codeunits(names, 0, LONGEST_NAME).to_pylist()
    return short
