"""What is kept of a column of categories: exact counts of those the reference has, of new ones as many as fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlops.monitoring.summaries.encoding import Damaged, Reader, Writer
from mlops.monitoring.summaries.plans import CategoricalPlan
from mlops.monitoring.summaries.tally import OpaqueSummary, added_types, read_types, write_types
from mlops.monitoring.summaries.vectors import Hashes, Integers, added, frozen

MOST_UNSEEN: Final = 10_000
BUCKETS: Final = 4_096
LONGEST_NAME: Final = 200  # characters kept of an unseen category's name


@dataclass(frozen=True, slots=True, eq=False)
class Unseen:
    """Categories that the reference does not have.

    The `most` with the smallest hashes are kept with name and exact count: which these are depends on the set of
    categories alone. What the others count is kept by a part of their hash, so that a frequent one still shows.

    Args:
        hashes: of those kept, ascending, shape (k,).
        counts: rows of each, shape (k,).
        names: of each, cut at 200 characters.
        spilled: rows of the categories that are not kept, by the low bits of their hash, shape (4096,); or None.
    """

    hashes: Hashes
    counts: Integers
    names: tuple[str, ...]
    spilled: Integers | None = None

    @property
    def rows(self) -> int:
        """Rows with an unseen category."""
        return int(self.counts.sum()) + (0 if self.spilled is None else int(self.spilled.sum()))

    @property
    def distinct(self) -> float:
        """How many categories there are: exact if all are kept, else estimated from the hashes.

        Estimator (k - 1) / (k-th smallest hash as a share of 2**64): Bar-Yossef et al., RANDOM 2002; Beyer et al.,
        SIGMOD 2007.
        """
        if self.spilled is None or len(self.hashes) < 2:
            return float(len(self.hashes))
        return (len(self.hashes) - 1) / (float(self.hashes[-1]) / 2.0**64)

    def heavy(self, rows: float) -> list[tuple[str | None, int]]:
        """Categories of at least `rows` rows, the most frequent first, none missed.

        None stands for one whose name is not kept; its rows are at most the number given.
        """
        kept = [
            (name, int(count)) for name, count in zip(self.names, self.counts, strict=True) if count >= rows
        ]
        kept.sort(key=lambda item: (-item[1], item[0]))
        nameless = (
            [] if self.spilled is None else sorted(self.spilled[self.spilled >= rows].tolist(), reverse=True)
        )
        return [*kept, *((None, int(count)) for count in nameless)]


NONE_UNSEEN: Final = Unseen(np.empty(0, np.uint64), np.empty(0, np.int64), ())


@dataclass(frozen=True, slots=True, eq=False)
class CategoricalSummary:
    """A column of categories.

    Args:
        plan: whose categories `top` counts.
        rows: rows that had the column.
        nulls: of them, null (for numbers also NaN).
        top: rows of each of `plan.categories`, shape (c,).
        other_known: rows of the other categories of the reference.
        unseen: rows of all the rest.
        types: type names as they came → rows.
    """

    plan: CategoricalPlan
    rows: int
    nulls: int
    top: Integers
    other_known: int
    unseen: Unseen
    types: Mapping[str, int]

    @property
    def values(self) -> int:
        """Rows with a value."""
        return self.rows - self.nulls

    @property
    def cells(self) -> Integers:
        """`top`, then other known, then unseen, then nulls; shape (c + 3,)."""
        return np.concatenate((self.top, [self.other_known, self.unseen.rows, self.nulls])).astype(np.int64)


def merge(parts: Sequence[CategoricalSummary], *, most: int = MOST_UNSEEN) -> CategoricalSummary:
    """The summary of all rows of `parts`, which have one plan."""
    return CategoricalSummary(
        plan=parts[0].plan,
        rows=sum(part.rows for part in parts),
        nulls=sum(part.nulls for part in parts),
        top=added([part.top for part in parts]),
        other_known=sum(part.other_known for part in parts),
        unseen=merge_unseen([part.unseen for part in parts], most=most),
        types=added_types([part.types for part in parts]),
    )


def nulls(plan: CategoricalPlan, part: OpaqueSummary) -> CategoricalSummary:
    """Rows without any value, as of a column of categories."""
    top = frozen(np.zeros(len(plan.categories), np.int64))
    return CategoricalSummary(plan, part.rows, part.nulls, top, 0, NONE_UNSEEN, part.types)


def merge_unseen(parts: Sequence[Unseen], *, most: int = MOST_UNSEEN) -> Unseen:
    """All categories of `parts` together, of which the `most` with the smallest hashes are kept."""
    parts = [part for part in parts if len(part.hashes)]
    if not parts:
        return NONE_UNSEEN
    if len(parts) == 1:
        return parts[0]
    names = [name for part in parts for name in part.names]
    return keep_unseen(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.counts for part in parts]),
        lambda places: [names[place] for place in places.tolist()],
        spilled=[part.spilled for part in parts if part.spilled is not None],
        most=most,
    )


def keep_unseen(
    hashes: Hashes,
    counts: Integers,
    names_at: Callable[[Integers], Sequence[str]],
    *,
    spilled: Sequence[Integers] = (),
    most: int = MOST_UNSEEN,
) -> Unseen:
    """Keep those with the smallest hashes by name, and of the rest a count.

    Args:
        hashes, counts: of some categories in any order, one may stand there more than once, shape (n,).
        names_at: gives the names of those at some places, cut at 200 characters.
        spilled: what was spilled before.
        most: how many are kept.
    """
    distinct, first, places = np.unique(hashes, return_index=True, return_inverse=True)
    totals = np.bincount(places, counts).astype(np.int64)
    gone = list(spilled)
    if len(distinct) > most:
        gone.append(np.bincount(bucket_of(distinct[most:]), totals[most:], BUCKETS).astype(np.int64))
    names = tuple(names_at(first[:most]))
    # copies, so that the long arrays they are cut from can go
    kept, kept_counts = frozen(distinct[:most].copy()), frozen(totals[:most].copy())
    return Unseen(kept, kept_counts, names, added(gone) if gone else None)


def bucket_of(hashes: Hashes) -> Integers:
    """Which of the 4,096 counters is used; by low bits, since those with small hashes are kept."""
    return (hashes & np.uint64(BUCKETS - 1)).astype(np.int64)


def write(writer: Writer, summary: CategoricalSummary) -> None:
    """Put a summary without its plan."""
    writer.whole(summary.rows)
    writer.whole(summary.nulls)
    writer.array(summary.top)
    writer.whole(summary.other_known)
    writer.array(summary.unseen.hashes)
    writer.array(summary.unseen.counts)
    writer.texts(summary.unseen.names)
    writer.array(np.empty(0, np.int64) if summary.unseen.spilled is None else summary.unseen.spilled)
    write_types(writer, summary.types)


def read(reader: Reader, plan: CategoricalPlan) -> CategoricalSummary:
    """What `write` put. Raises Damaged."""
    rows, nulls, top, other = reader.count(), reader.count(), reader.array(np.int64), reader.count()
    hashes, counts, names = reader.array(np.uint64), reader.array(np.int64), reader.texts()
    spilled = reader.array(np.int64)
    if len(top) != len(plan.categories) or not len(hashes) == len(counts) == len(names):
        raise Damaged("the categories are not those of the plan")
    if len(spilled) not in (0, BUCKETS):
        raise Damaged("the counters of spilled categories are incomplete")
    unseen = Unseen(hashes, counts, names, spilled if len(spilled) else None)
    return CategoricalSummary(plan, rows, nulls, top, other, unseen, read_types(reader))
