"""A bounded sample of a window's rows, for detectors that need rows: the same whatever order and files they came in.

Each row has a rank, a hash of what it holds; the rows of least rank are kept (bottom-k sampling: Cohen & Kaplan 2007),
which is a uniform sample, and that of two samples put together is the sample of all their rows. The copies of a row
have ranks of their own by their number, so that a row is in the sample as often as it is frequent. One thing that can
depend on how rows were cut into files: a row whose copies lie in several, in some of them too rare to be kept. Columns
that tell rows apart, an id or a time, make that rare; it moves no share by more than the sample's own noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlops.monitoring.ranks import kept, least_copies, mixed
from mlops.monitoring.summaries.encoding import Damaged, Reader, Writer
from mlops.monitoring.summaries.plans import CategoricalPlan, NumericPlan, Plan
from mlops.monitoring.summaries.reading import categories_of, numbers_of, times_of
from mlops.monitoring.summaries.vectors import Flags, Floats, Hashes, Integers, frozen
from mlops.monitoring.windows import EventWindows, RowWindows, season_keys

MOST_ROWS: Final = 2_000  # of a window: detectors see a small shift, and what is stored stays small
_FORMAT: Final = "rows 1"
_PILE: Final = 8
_NOTHING: Final = np.uint64(0x6E756C6C)  # the hash of a null


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What is kept of each row.

    Args:
        plan: of the columns.
        columns: names of those that are kept, each of numbers or of categories.
        apart: columns that are not kept and tell rows apart, such as the id.
        most: how many rows are kept.
    """

    plan: Plan
    columns: tuple[str, ...]
    apart: tuple[str, ...] = ()
    most: int = MOST_ROWS

    @classmethod
    def of(
        cls, plan: Plan, columns: Iterable[str], apart: Iterable[str] = (), most: int = MOST_ROWS
    ) -> Layout:
        """Those of `columns` that hold numbers or categories in the reference, in the order of their names."""
        kept = sorted(
            {name for name in columns if isinstance(plan.columns.get(name), NumericPlan | CategoricalPlan)}
        )
        return cls(plan, tuple(kept), tuple(sorted(set(apart) - set(kept))), most)

    @property
    def categorical(self) -> Flags:
        """Which columns hold codes of categories, shape (columns,)."""
        return np.array([isinstance(self.plan.columns[name], CategoricalPlan) for name in self.columns], bool)

    @property
    def digest(self) -> str:
        """Of all of this; part of the cache key of a sample."""
        writer = Writer()
        writer.text(_FORMAT)
        writer.text(self.plan.digest)
        writer.texts(self.columns)
        writer.texts(self.apart)
        writer.whole(self.most)
        return hashlib.sha256(writer.done()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Rows of one window, of one file or of several.

    Args:
        layout: what is kept.
        rows: how many there were.
        hashes: of each different row that is kept, ascending, shape (r,).
        copies: how often each came, shape (r,).
        seasons: the season's key of each, 0 where the plan has no season, -1 without a time, shape (r,).
        values: shape (r, columns), NaN for null. Numbers, times in seconds since 1970 UTC; of categories their place
            in the plan's, then one code for the others that the reference has, and one for those it has not.
    """

    layout: Layout
    rows: int
    hashes: Hashes
    copies: Integers
    seasons: Integers
    values: Floats

    def drawn(self) -> tuple[Floats, Integers]:
        """At most `layout.most` rows (rows, columns) and their seasons (rows,), in the order of their ranks."""
        places = least_copies(self.hashes, self.copies, self.layout.most)
        return self.values[places], self.seasons[places]


@dataclass(frozen=True, slots=True, eq=False)
class RowSample:
    """Rows of the reference and of a window side by side.

    Args:
        columns: their names.
        reference, window: shape (rows, columns); NaN for null, whole numbers for categories.
        categorical: which columns hold categories, shape (columns,).
        seed: for detectors that draw.
    """

    columns: tuple[str, ...]
    reference: Floats
    window: Floats
    categorical: Flags
    seed: int

    @classmethod
    def of(cls, reference: Sketch, window: Sketch, seed: int) -> RowSample:
        """From two samples of one layout.

        With seasons, the reference's rows are chosen in the window's proportions, and seasons that it lacks or that
        are less than one in a hundred of the window's rows are left out on both sides.
        """
        left, seasons = reference.drawn()
        right, own = window.drawn()
        layout = reference.layout
        if layout.plan.season != "none":
            of_left, of_right = _same_seasons(seasons, own)
            left, right = left[of_left], right[of_right]
        return cls(layout.columns, left, right, layout.categorical, seed)

    def only(self, columns: Collection[str]) -> RowSample:
        """With those of its columns that are among these."""
        kept = np.array([name in columns for name in self.columns], np.bool_)
        names = tuple(name for name in self.columns if name in columns)
        return RowSample(
            names, self.reference[:, kept], self.window[:, kept], self.categorical[kept], self.seed
        )


class Sampler:
    """Draws samples while a file is read.

    Args:
        layout: what is kept of each row.
        windows: how rows are put into windows; None for one of all rows, as for a reference.
        timestamp: the column with the event time; needed for event windows and for seasons. It tells rows apart.
        first_row: the number of the first row, for row windows.
    """

    def __init__(
        self,
        layout: Layout,
        windows: EventWindows | RowWindows | None = None,
        *,
        timestamp: str | None = None,
        first_row: int = 0,
    ) -> None:
        if timestamp is None and (isinstance(windows, EventWindows) or layout.plan.season != "none"):
            raise ValueError("windows of event time and seasons need the column of the timestamp")
        self._layout = layout
        self._windows = windows
        self._timestamp = timestamp
        self._at = first_row
        self._piles: dict[int, list[Sketch]] = {}

    def through(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same record batches, each sampled on its way."""
        for batch in batches:
            self.add(batch)
            yield batch

    def add(self, batch: Any) -> None:
        """Sample a pyarrow record batch."""
        if not batch.num_rows:
            return
        times, dated = self._times(batch)
        if isinstance(self._windows, EventWindows):
            keys, inside = self._windows.starts(times), dated
        else:
            inside = np.ones(batch.num_rows, np.bool_)
            keys = np.zeros(batch.num_rows, np.int64)
            if isinstance(self._windows, RowWindows):
                keys = self._windows.starts(self._at, batch.num_rows)
        self._at += batch.num_rows
        seasons = np.zeros(batch.num_rows, np.int64)
        if self._layout.plan.season != "none":
            seasons = np.where(dated, season_keys(times, self._layout.plan.season), -1)
        hashes, columns = self._read(batch, times, dated)
        order = np.flatnonzero(inside)
        if not len(order):
            return
        order = order[np.argsort(keys[order], kind="stable")]
        found, starts = np.unique(keys[order], return_index=True)
        ends = np.append(starts[1:], len(order))
        for key, start, end in zip(found.tolist(), starts.tolist(), ends.tolist(), strict=True):
            part = order[start:end]
            distinct, first, copies = np.unique(hashes[part], return_index=True, return_counts=True)
            least = kept(distinct, copies, self._layout.most)
            at = part[first[least]]
            values = (
                np.column_stack([column(at) for column in columns]) if columns else np.empty((len(at), 0))
            )
            pile = self._piles.setdefault(key, [])
            pile.append(Sketch(self._layout, len(part), distinct[least], copies[least], seasons[at], values))
            if len(pile) >= _PILE:
                pile[:] = [merge(pile)]

    def sketches(self) -> dict[int, Sketch]:
        """By the key of their windows, in order; without windows the one key is 0."""
        if self._windows is None:
            self._piles.setdefault(0, [empty(self._layout)])
        return {key: merge(self._piles[key]) for key in sorted(self._piles)}

    def _times(self, batch: Any) -> tuple[Integers, Flags]:
        if self._timestamp is not None and self._timestamp in batch.schema.names:
            return times_of(batch.column(self._timestamp))
        return np.zeros(batch.num_rows, np.int64), np.zeros(batch.num_rows, np.bool_)

    def _read(self, batch: Any, times: Integers, dated: Flags) -> tuple[Hashes, list[Any]]:
        """A hash of each row, and for each column what gives its values at some places."""
        hashes: Hashes = np.where(dated, mixed(times.view(np.uint64)), _NOTHING).astype(np.uint64)
        columns = []
        for name in self._layout.columns:
            plan = self._layout.plan.columns[name]
            if name not in batch.schema.names:
                hashes = mixed(hashes ^ _NOTHING)
                columns.append(lambda at: np.full(len(at), np.nan))
            elif isinstance(plan, NumericPlan):
                values = numbers_of(batch.column(name), plan.type).values + 0.0  # without -0.0
                bits: Hashes = np.where(np.isnan(values), _NOTHING, values.view(np.uint64)).astype(np.uint64)
                hashes = mixed(hashes ^ bits)
                columns.append(values.__getitem__)
            else:
                assert isinstance(plan, CategoricalPlan)
                found = categories_of(batch.column(name), plan.type)
                hashes = mixed(hashes ^ np.append(found.hashes, _NOTHING)[found.codes])
                codes = np.append(_codes(plan, found.hashes), np.nan)[found.codes]
                columns.append(codes.__getitem__)
        for name in self._layout.apart:
            if name in batch.schema.names and name != self._timestamp:
                found = categories_of(batch.column(name), "string")
                hashes = mixed(hashes ^ np.append(found.hashes, _NOTHING)[found.codes])
        return hashes, columns


def empty(layout: Layout) -> Sketch:
    """The sample of no rows."""
    none = np.empty(0, np.int64)
    return Sketch(layout, 0, np.empty(0, np.uint64), none, none, np.empty((0, len(layout.columns))))


def merge(parts: Sequence[Sketch]) -> Sketch:
    """The sample of all rows of `parts`, of which there is at least one and which have one layout.

    Raises:
        ValueError: they have different layouts.
    """
    layout = parts[0].layout
    if len(parts) == 1:
        return parts[0]
    if any(part.layout is not layout and part.layout.digest != layout.digest for part in parts):
        raise ValueError("samples of different columns do not add up")
    hashes = np.concatenate([part.hashes for part in parts])
    distinct, first, places = np.unique(hashes, return_index=True, return_inverse=True)
    copies = np.bincount(places, np.concatenate([part.copies for part in parts]), len(distinct))
    copies = copies.astype(np.int64)
    least = kept(distinct, copies, layout.most)
    at = first[least]
    return Sketch(
        layout,
        sum(part.rows for part in parts),
        frozen(distinct[least]),
        frozen(copies[least]),
        frozen(np.concatenate([part.seasons for part in parts])[at]),
        frozen(np.concatenate([part.values for part in parts])[at]),
    )


def encode(sketch: Sketch) -> bytes:
    """Bytes that `decode` reads; equal for equal samples."""
    writer = Writer()
    writer.text(_FORMAT)
    writer.text(sketch.layout.digest)
    writer.whole(sketch.rows)
    writer.array(sketch.hashes)
    writer.array(sketch.copies)
    writer.array(sketch.seasons + 1)
    for place in range(len(sketch.layout.columns)):
        values = sketch.values[:, place]
        writer.array(np.where(np.isnan(values), np.nan, values))  # one NaN of the many
    return writer.done()


def decode(value: bytes | None, layout: Layout) -> Sketch | None:
    """What `encode` gave for a sample of this layout; None for anything else: then the rows are read again."""
    if value is None:
        return None
    try:
        reader = Reader(value)
        if reader.text() != _FORMAT or reader.text() != layout.digest:
            return None
        rows, hashes = reader.count(), reader.array(np.uint64)
        copies, seasons = reader.array(np.int64), reader.array(np.int64) - 1
        columns = [reader.array(np.float64) for _ in layout.columns]
        reader.end()
    except Damaged:  # cut off, or not ours
        return None
    if {len(part) for part in (copies, seasons, *columns)} != {len(hashes)}:
        return None
    values = np.column_stack(columns) if columns else np.empty((len(hashes), 0))
    return Sketch(layout, rows, hashes, copies, frozen(seasons), frozen(values))


def _same_seasons(reference: Integers, window: Integers) -> tuple[Integers, Integers]:
    """Places in both, of the reference as many as keep the window's proportions; the first of each season."""
    keys, counts = np.unique(window[window >= 0], return_counts=True)
    known = np.array([np.count_nonzero(reference == key) for key in keys.tolist()], np.int64)
    told = (known > 0) & (counts >= len(window) / 100)
    if not told.any():
        none = np.empty(0, np.int64)
        return none, none
    keys, counts, known = keys[told], counts[told], known[told]
    wanted = np.floor(counts * np.min(known / counts)).astype(np.int64)
    chosen = [np.flatnonzero(reference == key)[:most] for key, most in zip(keys, wanted, strict=True)]
    return np.sort(np.concatenate(chosen)), np.flatnonzero(np.isin(window, keys))


def _codes(plan: CategoricalPlan, hashes: Hashes) -> Floats:
    """The code of each category: its slot in the plan, or the one after the others for what the reference has not."""
    unseen = len(plan.categories) + 1
    if not len(plan.known):
        return np.full(len(hashes), float(unseen))
    places = np.minimum(np.searchsorted(plan.known, hashes), len(plan.known) - 1)
    return np.where(plan.known[places] == hashes, plan.slots[places], unseen).astype(np.float64)
