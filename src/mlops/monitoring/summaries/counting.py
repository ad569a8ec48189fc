"""One batch of a column becomes summaries, one for each segment of its rows (a window, a slice, a season)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.data.tallies import type_name
from mlops.monitoring.summaries.categorical import (
    MOST_UNSEEN,
    NONE_UNSEEN,
    CategoricalSummary,
    Unseen,
    keep_unseen,
)
from mlops.monitoring.summaries.histogram import EMPTY, SCALE_SHIFT, Histogram, limited, ordered
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import CategoricalPlan, NumericPlan, OpaquePlan
from mlops.monitoring.summaries.reading import Categories, Numbers
from mlops.monitoring.summaries.sums import exact_sums
from mlops.monitoring.summaries.tally import OpaqueSummary
from mlops.monitoring.summaries.vectors import Floats, Integers, frozen

_LEAST = np.nextafter(-np.inf, 0.0)
_ABOVE_ZERO = np.nextafter(0.0, 1.0)


def count_numbers(plan: NumericPlan, numbers: Numbers, bounds: Integers, kind: str) -> list[NumericSummary]:
    """A summary of each segment.

    Each is sorted once; edges searched in it give the bins, and runs of equal leading bits the scale.

    Args:
        numbers: of all segments, one after the other.
        bounds: where segments begin and, last, where the last one ends, shape (segments + 1,); none is empty.
        kind: the name of the type that the values came with.
    """
    values = numbers.values + 0.0  # a copy, without -0.0
    needles = np.concatenate(([_LEAST, 0.0, _ABOVE_ZERO, np.inf, np.nan], plan.edges))
    spans = list(itertools.pairwise(bounds.tolist()))
    cuts = []
    for begin, end in spans:
        part = values[begin:end]
        part.sort()
        cuts.append(part.searchsorted(needles))
    finite = [
        values[begin + int(cut[0]) : begin + int(cut[3])] for (begin, _), cut in zip(spans, cuts, strict=True)
    ]
    measured = iter(_measured([part for part in finite if len(part)]))
    unparsable = _flagged(numbers, spans)
    summaries = []
    for (begin, end), cut, part, unreadable in zip(spans, cuts, finite, unparsable, strict=True):
        total, squares, scale = next(measured) if len(part) else (0, 0, EMPTY)
        below, negatives, not_above, above, known = cut[:5].tolist()
        marks = np.concatenate(([below], cut[5:], [above]))
        summaries.append(
            NumericSummary(
                plan=plan,
                rows=end - begin,
                nulls=end - begin - known - unreadable,
                unparsable=unreadable,
                negative_infinities=below,
                positive_infinities=known - above,
                zeros=not_above - negatives,
                negatives=negatives - below,
                minimum=float(part[0]) if len(part) else None,
                maximum=float(part[-1]) if len(part) else None,
                total=total,
                squares=squares,
                bins=frozen(np.diff(marks)),
                scale=scale,
                types={kind: end - begin},
            )
        )
    return summaries


def count_categories(
    plan: CategoricalPlan, categories: Categories, bounds: Integers, kind: str, *, most: int = MOST_UNSEEN
) -> list[CategoricalSummary]:
    """A summary of each segment; see `count_numbers`."""
    distinct = len(categories.hashes)
    places = np.searchsorted(plan.known, categories.hashes)
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


def _measured(parts: list[Floats]) -> list[tuple[int, int, Histogram]]:
    """Sum, sum of squares and scale of each part; sorted, not empty, finite."""
    if not parts:
        return []
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    lengths = np.array([len(part) for part in parts])
    starts = np.cumsum(lengths) - lengths
    totals = exact_sums(values, starts)
    with np.errstate(over="ignore", under="ignore"):
        squares = values * values
    squares[np.isinf(squares)] = 0.0
    squared = exact_sums(squares, starts)
    leading = values.view(np.int64) >> SCALE_SHIFT
    changes = np.flatnonzero(leading[1:] != leading[:-1]) + 1
    runs = np.union1d(starts, changes) if len(parts) > 1 else np.concatenate(([0], changes))
    counts = np.diff(np.append(runs, len(values)))
    keys = ordered(values[runs]) >> np.uint64(SCALE_SHIFT)
    cuts = np.append(np.searchsorted(runs, starts), len(runs)).tolist()
    scales = [
        limited(Histogram(SCALE_SHIFT, frozen(keys[a:b]), frozen(counts[a:b])))
        for a, b in itertools.pairwise(cuts)
    ]
    return list(zip(totals, squared, scales, strict=True))


def _flagged(numbers: Numbers, spans: list[tuple[int, int]]) -> list[int]:
    if numbers.unparsable is None:
        return [0] * len(spans)
    return [int(numbers.unparsable[begin:end].sum()) for begin, end in spans]


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
        lambda places: categories.names.take(pa.array(codes[places])).to_pylist(),
        most=most,
    )
