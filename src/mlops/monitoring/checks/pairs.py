"""One column of the reference beside the same column of a window, in all rows or in a slice.

Where rows are counted by season, the reference is mixed from its seasons in the window's own proportions, so that a
window in January is compared with Januaries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops.monitoring.detectors.binned import Binned, Floats
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.numeric import NumericSummary, merge
from mlops.monitoring.summaries.plans import Slice
from mlops.monitoring.summaries.windowed import ColumnSummary, Group, WindowSummary
from mlops.monitoring.windows import Expected, expected

RUN = 5  # windows of the reference that follow each other

Strata = Mapping[
    int, NDArray[np.int64]
]  # cells of a column by season key; one key where there are no seasons


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A column with what is known of it on both sides, and its counts in common cells.

    `cells` is None for a column whose values are not looked into, and where the reference has no rows of the window's
    seasons. `seasonal` says that the reference is mixed from seasons.
    """

    column: str
    slice: str | None
    reference: ColumnSummary
    window: ColumnSummary
    cells: Expected | None
    seasonal: bool

    @property
    def usable(self) -> tuple[Floats, Floats] | None:
        """Cells of reference and window that hold values: without nulls, unparsable text and infinities."""
        if self.cells is None:
            return None
        rest = 2 if isinstance(self.reference, NumericSummary) else 1
        return self.cells.counts[:-rest], self.cells.window[:-rest].astype(np.float64)

    @property
    def rows_with_values(self) -> float:
        """Of the window."""
        return 0.0 if self.usable is None else float(self.usable[1].sum())

    def binned(self) -> Binned:
        """As detectors take it. Both sides need values: see `why_not`."""
        assert self.usable is not None
        reference, window = self.usable
        sizes = float(reference.sum()), float(window.sum())
        if not isinstance(self.reference, NumericSummary):
            # Those not counted one by one and those the reference has not seen yet: both are the rare ones.
            reference, window = (np.append(part[:-2], part[-2:].sum()) for part in (reference, window))
            return Binned.of(reference, window, sizes=sizes, rest=True)
        scale = self.reference.deviation
        bounds = _bounds(self.reference, self.window)
        return Binned.of(
            reference,
            window,
            sizes=sizes,
            bounds=bounds,
            scale=scale if scale and np.isfinite(scale) else None,
        )

    def why_not(self) -> str | None:
        """Why the column cannot be compared, or None when it can."""
        if self.usable is None:
            known = isinstance(self.reference, NumericSummary | CategoricalSummary)
            seasonal = known and self.seasonal
            return (
                "the reference has no rows of this season" if seasonal else "neither numbers nor categories"
            )
        if not self.usable[0].sum():
            return "the reference has no values"
        if not self.usable[1].sum():
            return "all null"
        return None


def pairs(
    reference: WindowSummary, window: WindowSummary, columns: Collection[str] | None = None, min_rows: int = 0
) -> Iterator[Pair]:
    """Every column that both have, in all rows and then in each slice with at least `min_rows` rows in the window.

    Args:
        columns: which ones (default: all of the reference).
    """
    for part, left, right in _groups(reference, window):
        if part is not None and right.rows < min_rows:
            continue
        for name, summary in left.columns.items():
            other = right.columns.get(name)
            if (
                other is None
                or name not in reference.plan.columns
                or (columns is not None and name not in columns)
            ):
                continue
            cells = _cells(strata(reference, part, name), strata(window, part, name))
            seasonal = reference.plan.season != "none"
            yield Pair(name, part.label if part else None, summary, other, cells, seasonal)


def against_the_rest(windows: Sequence[WindowSummary], part: Slice | None, column: str) -> Iterator[Pair]:
    """Each of `windows` that has the column beside the sum of the others."""
    cut = [(window, own) for window in windows if (own := strata(window, part, column)) is not None]
    whole: dict[int, NDArray[np.int64]] = {}
    for _, own in cut:
        for key, cells in own.items():
            whole[key] = whole[key] + cells if key in whole else cells
    summaries = [(window.whole if part is None else window.slices[part]).columns[column] for window, _ in cut]
    numeric = [summary for summary in summaries if isinstance(summary, NumericSummary)]
    base = merge(numeric) if numeric else None
    for summary, (_, own) in zip(summaries, cut, strict=True):
        rest = {key: cells - own[key] if key in own else cells for key, cells in whole.items()}
        label = part.label if part else None
        yield Pair(column, label, base or summary, summary, _cells(rest, own), len(whole) > 1)


def beside_neighbours(windows: Sequence[WindowSummary], part: Slice | None, column: str) -> Iterator[Pair]:
    """Each window beside the sum of the one before and the one after it, in runs of `RUN` that follow each other.

    Whatever moves slowly, such as seasons and growth, is about the same on both sides.
    """
    for first in range(0, len(windows), RUN):
        for three in zip(*(windows[first + place : first + RUN] for place in range(3)), strict=False):
            cells = [strata(one, part, column) for one in three]
            before, own, after = cells
            if before is None or own is None or after is None:
                continue
            around = dict(before)
            for key, counts in after.items():
                around[key] = around[key] + counts if key in around else counts
            groups = [one.whole if part is None else one.slices[part] for one in three]
            left, middle, right = (group.columns[column] for group in groups)
            base = left
            if isinstance(left, NumericSummary) and isinstance(right, NumericSummary):
                base = merge([left, right])
            seasonal = three[0].plan.season != "none"
            yield Pair(column, part.label if part else None, base, middle, _cells(around, own), seasonal)


def small_slices(reference: WindowSummary, window: WindowSummary, min_rows: int) -> list[tuple[str, int]]:
    """Slices that are too small to be judged in this window, with their rows."""
    return [
        (part.label, right.rows)
        for part, _, right in _groups(reference, window)
        if part is not None and right.rows < min_rows
    ]


def strata(summary: WindowSummary, part: Slice | None, column: str) -> Strata | None:
    """Cells of a column by season key (by 0 where there are no seasons); None for one without cells."""
    if summary.plan.season == "none":
        group = summary.whole if part is None else summary.slices.get(part)
        found = None if group is None else group.columns.get(column)
        return {0: found.cells} if isinstance(found, NumericSummary | CategoricalSummary) else None
    found_cells = {
        key: group.cells[column]
        for (key, of), group in sorted(summary.seasons.items(), key=lambda item: item[0][0])
        if of == part and column in group.cells
    }
    return found_cells or None


def _cells(reference: Strata | None, window: Strata | None) -> Expected | None:
    return expected(reference, window) if reference and window else None


def _groups(reference: WindowSummary, window: WindowSummary) -> Iterator[tuple[Slice | None, Group, Group]]:
    yield None, reference.whole, window.whole
    for part in sorted(reference.slices.keys() & window.slices.keys(), key=lambda one: one.label):
        yield part, reference.slices[part], window.slices[part]


def _bounds(reference: NumericSummary, window: ColumnSummary) -> Floats | None:
    """The ends of all bins, the outer ones as far as values go."""
    edges = reference.plan.edges
    if not len(edges):
        return None
    ends = [edges[0], edges[-1], reference.minimum, reference.maximum]
    if isinstance(window, NumericSummary):
        ends += [window.minimum, window.maximum]
    told = [float(end) for end in ends if end is not None]
    return np.concatenate(([min(told)], edges, [max(told)]))
