"""Record batches become one summary for each window: each row is read once, and only sums are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import numpy as np

from mlops.data.tallies import type_name
from mlops.errors import Stalled
from mlops.monitoring.summaries.binning import Binning
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.counting import count_categories, count_numbers, count_rows
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import (
    CategoricalPlan,
    ColumnPlan,
    NumericPlan,
    OpaquePlan,
    Plan,
    unplanned,
)
from mlops.monitoring.summaries.reading import categories_of, numbers_of, plain, times_of
from mlops.monitoring.summaries.segments import Partition, Places, Segment, partitions_of
from mlops.monitoring.summaries.tally import added_types
from mlops.monitoring.summaries.vectors import Flags, Integers
from mlops.monitoring.summaries.windowed import (
    ColumnSummary,
    Group,
    SeasonGroup,
    WindowSummary,
    merge_columns,
    season_order,
    slice_order,
)
from mlops.monitoring.windows import EventWindows, RowWindows

_PILE: Final = 8  # summaries of batches that are put together at once
_NEVER: Final = 2**63 - 1
_MOST: Final = (
    800_000  # kilobytes or so of summaries: four for a column of a window or slice, one for a season of it
)


@dataclass(frozen=True, slots=True, eq=False)
class FileSummary:
    """What one file adds to each window.

    Args:
        windows: by key, in order; without windows the one key is 0.
        rows: all rows of the file.
        undated: of them, those without a readable event time. They are in no window of event time and no season.
    """

    windows: Mapping[int, WindowSummary]
    rows: int
    undated: int


def summarise(
    batches: Iterable[Any],
    plan: Plan,
    windows: EventWindows | RowWindows | None = None,
    *,
    timestamp: str | None = None,
    first_row: int = 0,
    text: bool = False,
    threads: int = 2,
) -> FileSummary:
    """Sum up rows. The same rows give the same bytes, however they are cut into batches and in whatever order.

    Args:
        batches: pyarrow record batches. All their columns are summed up but those that the plan excludes.
        plan: made from the reference.
        windows: how rows are put into windows; None for one of all rows, as for a reference.
        timestamp: the column with the event time (timestamp, date, ISO 8601 text, or seconds since 1970); needed
            for event windows and for seasons. It is summed up itself only where it is in the plan.
        first_row: the number of the first row, for row windows.
        text: whether all values are texts because the format knows no types: then a text that can be read as the
            reference's type is of that type.
        threads: columns summed up at the same time.
    Raises:
        ValueError: event windows without a timestamp.
        Stalled: so many windows that they do not fit into memory.
    """
    if isinstance(windows, EventWindows) and timestamp is None:
        raise ValueError("windows of event time need the column of the timestamp")
    tally = _Tally(plan, timestamp, text)
    at = first_row
    if threads < 2:
        for batch in batches:
            at = tally.add(batch, windows, at, map)
    else:
        with ThreadPoolExecutor(threads + 1) as pool:
            for batch in _ahead(batches, pool):
                at = tally.add(batch, windows, at, pool.map)
    return tally.summary(always=windows is None)


def _ahead(batches: Iterable[Any], pool: ThreadPoolExecutor) -> Iterator[Any]:
    """The same batches, the next one read while one is summed up."""
    source = iter(batches)
    coming = pool.submit(next, source, None)
    while (batch := coming.result()) is not None:
        coming = pool.submit(next, source, None)
        yield batch


@dataclass(slots=True)
class _Column:
    """What is known so far of one column, by segment."""

    piles: dict[Segment, list[ColumnSummary]] = field(default_factory=dict)
    cells: dict[Segment, Integers] = field(default_factory=dict)
    binning: Binning | None = None

    def put(self, segment: Segment, summary: ColumnSummary) -> None:
        if segment.season is None:
            pile = self.piles.setdefault(segment, [])
            pile.append(summary)
            if len(pile) >= _PILE:
                pile[:] = [merge_columns(pile)]
        elif isinstance(summary, NumericSummary | CategoricalSummary):
            known = self.cells.get(segment)
            self.cells[segment] = summary.cells if known is None else known + summary.cells


class _Tally:
    def __init__(self, plan: Plan, timestamp: str | None, text: bool) -> None:
        self._plan = plan
        self._text = text
        self._timestamp = timestamp
        self._columns: dict[str, _Column] = {}
        self._rows: dict[Segment, int] = {}
        self._times: dict[int, tuple[int, int]] = {}
        self._all = 0
        self._undated = 0
        self._size = 0

    def add(self, batch: Any, windows: EventWindows | RowWindows | None, at: int, mapped: Any) -> int:
        """Count a batch; gives the number of the row after it. `mapped` is `map`, or that of a pool."""
        rows: int = batch.num_rows
        if not rows:
            return at
        self._all += rows
        places = self._places(batch, windows, at)
        if places.dated is not None:
            self._undated += rows - int(places.dated.sum())
        if places.inside is not None and not places.inside.any():
            return at + rows
        partitions = partitions_of(batch, self._plan, places)
        for partition in partitions:
            for segment, count in zip(partition.segments, np.diff(partition.bounds).tolist(), strict=True):
                if segment not in self._rows:
                    self._size += 4 if segment.season is None else 1
                self._rows[segment] = self._rows.get(segment, 0) + count
        if places.times is not None and places.dated is not None:
            self._note_times(partitions[0], places.times, places.dated)
        names = [name for name in batch.schema.names if self._wanted(name)]
        names.sort(key=self._is_number)  # texts take longest: begun last, one would be waited for alone
        if self._size * len(names) > _MOST:
            count = len({segment.window for segment in self._rows})
            what = (
                f"{count} windows of {len(names)} columns, with slices and seasons, are too many for one file"
            )
            raise Stalled(
                what, fix="Choose larger windows or fewer slices, mend the timestamps, or split the file."
            )
        for name in names:
            self._columns.setdefault(name, _Column())
        for _ in mapped(lambda name: self._add_column(name, batch.column(name), partitions), names):
            pass
        return at + rows

    def _wanted(self, name: str) -> bool:
        planned = name in self._plan.columns
        return planned or (name not in self._plan.excluded and name != self._timestamp)

    def _is_number(self, name: str) -> bool:
        return isinstance(self._plan.columns.get(name), NumericPlan)

    def _places(self, batch: Any, windows: EventWindows | RowWindows | None, at: int) -> Places:
        times = dated = None
        if self._timestamp is not None and self._timestamp in batch.schema.names:
            times, dated = times_of(batch.column(self._timestamp))
        elif self._timestamp is not None:
            times, dated = np.zeros(batch.num_rows, np.int64), np.zeros(batch.num_rows, np.bool_)
        if isinstance(windows, EventWindows):
            return Places(windows.starts(cast(Integers, times)), dated, times, dated)
        if isinstance(windows, RowWindows):
            return Places(windows.starts(at, batch.num_rows), None, times, dated)
        return Places(np.zeros(batch.num_rows, np.int64), None, times, dated)

    def _note_times(self, partition: Partition, times: Integers, dated: Flags) -> None:
        order = slice(None) if partition.order is None else partition.order
        starts = partition.bounds[:-1]
        earliest = np.minimum.reduceat(np.where(dated, times, _NEVER)[order], starts)
        latest = np.maximum.reduceat(np.where(dated, times, -_NEVER)[order], starts)
        for segment, low, high in zip(partition.segments, earliest.tolist(), latest.tolist(), strict=True):
            if low != _NEVER:
                known = self._times.get(segment.window, (low, high))
                self._times[segment.window] = min(known[0], low), max(known[1], high)

    def _add_column(self, name: str, array: Any, partitions: list[Partition]) -> None:
        column = self._columns[name]
        kind = type_name(array.type)
        plan = self._plan.columns.get(name) or unplanned(name, kind)
        count = _counter(column, plan, array, kind)
        for partition in partitions:
            for segment, summary in zip(partition.segments, count(partition), strict=True):
                column.put(segment, _typed(summary) if self._text and kind == "string" else summary)

    def summary(self, *, always: bool) -> FileSummary:
        """All windows, in order; `always` gives window 0 even where there is no row."""
        groups: dict[int, dict[Any, Group]] = {}
        seasons: dict[int, dict[Any, SeasonGroup]] = {}
        names = sorted(self._columns)
        if always:
            self._rows.setdefault(Segment(0, None, None), 0)
        for segment, rows in self._rows.items():
            if segment.season is None:
                piles = {name: self._columns[name].piles.get(segment) for name in names}
                columns = {name: merge_columns(pile) for name, pile in piles.items() if pile}
                groups.setdefault(segment.window, {})[segment.slice] = Group(rows, columns)
            else:
                cells = {name: self._columns[name].cells.get(segment) for name in names}
                found = SeasonGroup(rows, {name: each for name, each in cells.items() if each is not None})
                seasons.setdefault(segment.window, {})[segment.season, segment.slice] = found
        windows = {}
        for window in sorted(groups):
            whole = groups[window].pop(None)
            slices = {key: groups[window][key] for key in sorted(groups[window], key=slice_order)}
            of_window = seasons.get(window, {})
            seasonal = {key: of_window[key] for key in sorted(of_window, key=season_order)}
            earliest, latest = self._times.get(window, (None, None))
            windows[window] = WindowSummary(self._plan, whole, earliest, latest, slices, seasonal)
        return FileSummary(windows, self._all, self._undated)


def _typed(summary: ColumnSummary) -> ColumnSummary:
    """With texts told by what they can be read as."""
    unread = summary.unparsable if isinstance(summary, NumericSummary) else 0
    types = added_types([{summary.plan.type: summary.rows - unread}, {"string": unread} if unread else {}])
    return replace(summary, types=types)


def _counter(column: _Column, plan: ColumnPlan, array: Any, kind: str) -> Any:
    """What makes summaries of one partition's segments; the array is read once for all partitions."""
    match plan:
        case NumericPlan():
            numbers = numbers_of(array, plan.type)
            binning = column.binning = column.binning or Binning(plan)
            return lambda part: count_numbers(binning, numbers.ordered(part.order), part.bounds, kind)
        case CategoricalPlan():
            categories = categories_of(array, plan.type)
            return lambda part: count_categories(plan, categories.ordered(part.order), part.bounds, kind)
        case OpaquePlan():
            array = plain(array)
            return lambda part: count_rows(
                plan, array if part.order is None else array.take(part.order), part.bounds
            )
