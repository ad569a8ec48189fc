"""What is kept of a column of numbers. Merging adds whole numbers, so that order and batches do not matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mlops.monitoring.summaries import histogram
from mlops.monitoring.summaries.encoding import Damaged, Reader, Writer
from mlops.monitoring.summaries.histogram import Histogram
from mlops.monitoring.summaries.plans import NumericPlan
from mlops.monitoring.summaries.sums import UNIT, quotient
from mlops.monitoring.summaries.tally import OpaqueSummary, added_types, read_types, write_types
from mlops.monitoring.summaries.vectors import Integers, added, frozen

_SQUARABLE = math.sqrt(1.7976931348623157e308)


@dataclass(frozen=True, slots=True, eq=False)
class NumericSummary:
    """A column of numbers; timestamps and dates are seconds since 1970 UTC, integers the nearest double.

    Args:
        plan: whose edges `bins` stand on.
        rows: rows that had the column.
        nulls: of them, null or NaN.
        unparsable: of them, text that is no number.
        negative_infinities, positive_infinities: of them; all that follows is about the finite rest.
        zeros, negatives: of the finite ones.
        minimum, maximum: None if no value is finite.
        total: exact sum in units of 2**-1074.
        squares: exact sum, in the same unit, of the squares rounded to doubles (0 for those beyond the largest double).
        bins: below the first edge, between edges, from the last edge on; shape (edges + 1,).
        scale: the same values by their leading bits, which knows those far outside the edges too.
        types: type names as they came → rows, such as `{"double": 990, "string": 10}`.
    """

    plan: NumericPlan
    rows: int
    nulls: int
    unparsable: int
    negative_infinities: int
    positive_infinities: int
    zeros: int
    negatives: int
    minimum: float | None
    maximum: float | None
    total: int
    squares: int
    bins: Integers
    scale: Histogram
    types: Mapping[str, int]

    @property
    def finite(self) -> int:
        """Rows with a finite value."""
        return int(self.bins.sum())

    @property
    def mean(self) -> float | None:
        """Of the finite values, rounded once."""
        return quotient(self.total, self.finite) if self.finite else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the finite values (divided by n); infinite where squares are beyond doubles."""
        if self.minimum is None or self.maximum is None:
            return None
        if self.minimum == self.maximum:
            return 0.0
        if max(-self.minimum, self.maximum) >= _SQUARABLE:
            return math.inf
        count, one = self.finite, 1 << UNIT
        variance = Fraction(self.squares, one * count) - Fraction(self.total, one * count) ** 2
        return math.sqrt(max(variance, Fraction(0)))

    @property
    def cells(self) -> Integers:
        """`bins`, then infinite values, then nulls (unparsable text among them); shape (edges + 3,)."""
        infinite = self.negative_infinities + self.positive_infinities
        return np.concatenate((self.bins, [infinite, self.nulls + self.unparsable])).astype(np.int64)

    def quantile(self, share: float) -> float | None:
        """The finite value below which `share` of them lie, or None if there is none.

        It stands in one bin of the edges and in one bucket of the scale, both counted exactly, and the narrower
        tells it: within the edges by its rank in the bin, elsewhere to 0.4 % of the value.
        """
        if self.minimum is None or self.maximum is None:
            return None
        rank = min(max(share, 0.0), 1.0) * (self.finite - 1)
        if rank <= 0 or rank >= self.finite - 1:
            return self.minimum if rank <= 0 else self.maximum
        scale_place, _ = _place(self.scale.counts, rank)
        low = max(self.minimum, float(self.scale.lower[scale_place]))
        high = min(self.maximum, float(self.scale.upper[scale_place]))
        edges = self.plan.edges
        place, within = _place(self.bins, rank)
        below = self.minimum if place == 0 else max(self.minimum, float(edges[place - 1]))
        last = self.maximum if place == len(edges) else float(np.nextafter(edges[place], -np.inf))
        above = min(self.maximum, last)
        if above - below < high - low:
            return min(max(below + within * (above - below), low), high)
        low, high = max(low, below), min(high, above)
        return low + (high - low) / 2


def merge(parts: Sequence[NumericSummary]) -> NumericSummary:
    """The summary of all rows of `parts`, which have one plan."""
    least = [part.minimum for part in parts if part.minimum is not None]
    greatest = [part.maximum for part in parts if part.maximum is not None]
    return NumericSummary(
        plan=parts[0].plan,
        rows=sum(part.rows for part in parts),
        nulls=sum(part.nulls for part in parts),
        unparsable=sum(part.unparsable for part in parts),
        negative_infinities=sum(part.negative_infinities for part in parts),
        positive_infinities=sum(part.positive_infinities for part in parts),
        zeros=sum(part.zeros for part in parts),
        negatives=sum(part.negatives for part in parts),
        minimum=min(least, default=None),
        maximum=max(greatest, default=None),
        total=sum(part.total for part in parts),
        squares=sum(part.squares for part in parts),
        bins=added([part.bins for part in parts]),
        scale=histogram.merged([part.scale for part in parts]),
        types=added_types([part.types for part in parts]),
    )


def nulls(plan: NumericPlan, part: OpaqueSummary) -> NumericSummary:
    """Rows without any value, as of a column of numbers."""
    bins = frozen(np.zeros(len(plan.edges) + 1, np.int64))
    none = dict.fromkeys(
        ("unparsable", "negative_infinities", "positive_infinities", "zeros", "negatives"), 0
    )
    return NumericSummary(
        plan, part.rows, part.nulls, **none, minimum=None, maximum=None, total=0, squares=0, bins=bins,
        scale=histogram.EMPTY, types=part.types,
    )  # fmt: skip


def write(writer: Writer, summary: NumericSummary) -> None:
    """Put a summary without its plan."""
    for count in (
        summary.rows,
        summary.nulls,
        summary.unparsable,
        summary.negative_infinities,
        summary.positive_infinities,
        summary.zeros,
        summary.negatives,
    ):
        writer.whole(count)
    writer.number(summary.minimum)
    writer.number(summary.maximum)
    writer.whole(summary.total)
    writer.whole(summary.squares)
    writer.array(summary.bins)
    writer.whole(summary.scale.shift)
    writer.array(np.diff(summary.scale.keys, prepend=np.uint64(0)))
    writer.array(summary.scale.counts)
    write_types(writer, summary.types)


def read(reader: Reader, plan: NumericPlan) -> NumericSummary:
    """What `write` put. Raises Damaged."""
    rows, nulls, unparsable, below, above, zeros, negatives = (reader.count() for _ in range(7))
    minimum, maximum = reader.number(), reader.number()
    total, squares = reader.whole(), reader.whole()
    bins = reader.array(np.int64)
    shift = reader.count()
    keys = np.cumsum(reader.array(np.uint64), dtype=np.uint64)
    scale = Histogram(shift, keys, reader.array(np.int64))
    if len(bins) != len(plan.edges) + 1 or len(scale.keys) != len(scale.counts) or shift > 63:
        raise Damaged("the bins are not those of the plan")
    types = read_types(reader)
    counts = (rows, nulls, unparsable, below, above, zeros, negatives)
    return NumericSummary(plan, *counts, minimum, maximum, total, squares, bins, scale, types)


def _place(counts: Integers, rank: float) -> tuple[int, float]:
    """Which bin holds the value at `rank` (from 0), and where among the bin's values it stands, from 0 to 1."""
    ends = np.cumsum(counts)
    place = int(np.searchsorted(ends, rank, side="right"))
    count = int(counts[place])
    return place, (rank - (int(ends[place]) - count) + 0.5) / (count + 1)
