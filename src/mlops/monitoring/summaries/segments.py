"""Which rows of a batch belong to which window, slice and season."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlops.monitoring.summaries.hashing import hashes_of
from mlops.monitoring.summaries.plans import Plan, Slice
from mlops.monitoring.summaries.reading import Categories, categories_of
from mlops.monitoring.summaries.vectors import Flags, Integers
from mlops.monitoring.windows import season_keys


class Segment(NamedTuple):
    """Rows of one window, of one slice of it, or of one season of either."""

    window: int
    slice: Slice | None
    season: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Rows of a batch put in order of their segments.

    Args:
        segments: those that have rows, by code.
        order: row numbers, segment after segment; None: all rows as they stand.
        bounds: where segments begin in `order` and, last, its length, shape (segments + 1,).
    """

    segments: Sequence[Segment]
    order: Integers | None
    bounds: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the rows of a batch belong.

    Args:
        windows: the key of each row's window.
        inside: which rows have a window; None: all.
        times: event times in microseconds since 1970 UTC, or None if there are none.
        dated: which rows have one.
    """

    windows: Integers
    inside: Flags | None = None
    times: Integers | None = None
    dated: Flags | None = None


def partitions_of(batch: Any, plan: Plan, places: Places) -> list[Partition]:
    """By window; by window and slice; by window and season (and slice).

    Hours of the week are not told apart by slice: that would be thousands of segments.
    """
    keys, codes = _codes(places.windows)
    if places.inside is not None and not places.inside.all():
        codes = np.where(places.inside, codes, -1)
    windows = [Segment(key, None, None) for key in keys]
    found = [_partition(windows, codes)]
    sliced = {
        column: _slice_codes(categories_of(batch.column(column), _kind(plan, column)), values)
        for column, values in plan.slices.items()
        if column in batch.schema.names
    }
    for column, slice_codes in sliced.items():
        segments = [s._replace(slice=each) for s in windows for each in _slices(column, plan.slices[column])]
        found.append(_partition(segments, _within(codes, slice_codes, len(plan.slices[column]) + 1)))
    if plan.season == "none" or places.times is None or places.dated is None:
        return found
    seasons, season_codes = _codes(season_keys(places.times, plan.season))
    seasonal = [s._replace(season=season) for s in windows for season in seasons]
    codes = np.where(places.dated, _within(codes, season_codes, len(seasons)), -1)
    found.append(_partition(seasonal, codes))
    if plan.season != "hourOfWeek":
        for column, slice_codes in sliced.items():
            segments = [
                s._replace(slice=each) for s in seasonal for each in _slices(column, plan.slices[column])
            ]
            found.append(_partition(segments, _within(codes, slice_codes, len(plan.slices[column]) + 1)))
    return found


def _kind(plan: Plan, column: str) -> str:
    planned = plan.columns.get(column)
    return "string" if planned is None else planned.type


def _slices(column: str, values: Sequence[str]) -> list[Slice]:
    return [*(Slice(column, value) for value in values), Slice(column, None)]


def _codes(keys: Integers) -> tuple[list[int], Integers]:
    if keys.min() == keys.max():
        return [int(keys[0])], np.zeros(len(keys), np.int64)
    found, codes = np.unique(keys, return_inverse=True)
    return found.tolist(), codes


def _within(outer: Integers, inner: Integers, size: int) -> Integers:
    return np.where(outer >= 0, outer * size + inner, -1)


def _slice_codes(categories: Categories, values: Sequence[str]) -> Integers:
    """The place of each row's value in `values`; after the last for all others and for null."""
    import pyarrow as pa

    hashes: Mapping[int, int] = {
        key: place for place, key in enumerate(hashes_of(pa.array(values, pa.string())).tolist())
    }
    places = [hashes.get(key, len(values)) for key in categories.hashes.tolist()]
    return np.array([*places, len(values)])[categories.codes]


def _partition(segments: Sequence[Segment], codes: Integers) -> Partition:
    if len(segments) == 1 and codes.min() == 0:
        return Partition(segments, None, np.array([0, len(codes)]))
    counts = np.bincount(codes + 1, minlength=len(segments) + 1)
    order = np.argsort(codes, kind="stable")[counts[0] :]
    present = np.flatnonzero(counts[1:])
    ends = np.cumsum(counts[1:][present])
    return Partition([segments[code] for code in present.tolist()], order, np.concatenate(([0], ends)))
