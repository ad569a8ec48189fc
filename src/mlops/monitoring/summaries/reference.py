"""From one reading of the reference to the plan by which it and every window are summed up.

Memory is bounded and the plan is the same in whatever order rows come: numbers are counted by their leading bits, as
many as 65,536 counters allow (all 64 where there are fewer distinct values), categories as `Unseen` does it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlops.monitoring.summaries.categorical import Unseen, merge_unseen
from mlops.monitoring.summaries.counting import count_categories
from mlops.monitoring.summaries.histogram import bits_to_drop, ordered
from mlops.monitoring.summaries.plans import (
    NUMERIC_TYPES,
    SLICES_PER_COLUMN,
    CategoricalPlan,
    ColumnPlan,
    NumericPlan,
    OpaquePlan,
    Plan,
    unplanned,
)
from mlops.monitoring.summaries.reading import categories_of, numbers_of
from mlops.monitoring.summaries.vectors import Floats, Hashes, Integers, frozen
from mlops.monitoring.windows import Season

MOST_CATEGORIES: Final = 1_000  # counted one by one
MOST_KNOWN: Final = 131_072
_COUNTERS: Final = 65_536
_FOLD: Final = 262_144  # values that are sorted at once
_PILE: Final = 8
# 128 quantile bins, the 20 of the population stability index (which hold the deciles), and the tails
_SHARES: Final = sorted(
    {*((i, 128) for i in range(128)), *((i, 20) for i in range(1, 20)), (1, 1000), (999, 1000)}
)


def plan_of(
    batches: Iterable[Any],
    types: Mapping[str, str],
    *,
    categorical: Collection[str] = (),
    slices: Collection[str] = (),
    season: Season = "none",
    excluded: Collection[str] = (),
    threads: int = 2,
) -> Plan:
    """Read the reference once.

    Args:
        batches: pyarrow record batches.
        types: column → type name, as a dataset's profile tells it; of CSV too, whose batches hold texts. Other
            columns are not planned.
        categorical: columns that hold categories although they are numbers, such as classes.
        slices: columns whose most frequent 50 values get a summary of their own.
        season: by which key of event time rows are counted apart.
        excluded: columns that are not looked at, here and in windows.
        threads: columns read at the same time.
    """
    sketches: dict[str, _Numbers | _Categories] = {}
    planned = {name: kind for name, kind in types.items() if name not in excluded}
    for name, kind in planned.items():
        if name not in categorical and kind in NUMERIC_TYPES:
            sketches[name] = _Numbers(name, kind)
        elif name in categorical or not isinstance(unplanned(name, kind), OpaquePlan):
            sketches[name] = _Categories(name, kind)
    by_slice = {name: _Categories(name, types.get(name, "string")) for name in sorted(set(slices))}
    everyone = [*sketches.values(), *by_slice.values()]
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            present = [sketch for sketch in everyone if sketch.name in batch.schema.names]
            for _ in pool.map(lambda sketch: sketch.add(batch.column(sketch.name)), present):  # noqa: B023
                pass
        plans = list(pool.map(lambda sketch: sketch.plan(), sketches.values()))
    columns: dict[str, ColumnPlan] = dict(zip(sketches, plans, strict=True))
    for name, kind in planned.items():
        columns.setdefault(name, OpaquePlan(name, kind))
    values = {name: sketch.frequent(SLICES_PER_COLUMN) for name, sketch in by_slice.items()}
    return Plan({name: columns[name] for name in sorted(columns)}, values, season, frozenset(excluded))


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Distinct values, or neighbours that share their leading bits, in order.

    Args:
        shift: how many low bits of `histogram.ordered` are left out.
        keys: the rest of them, ascending, shape (k,).
        counts: rows of each key, shape (k,).
        least, greatest: value of each key, shape (k,).
    """

    shift: int
    keys: Hashes
    counts: Integers
    least: Floats
    greatest: Floats


NO_SPREAD: Final = Spread(0, np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0), np.empty(0))


def spread(known: Spread, values: Floats, *, most: int = _COUNTERS) -> Spread:
    """`known` and these values (finite, no -0.0), with the fewest bits left out for which `most` keys are enough.

    How many bits that are depends on the set of all values alone.
    """
    values = np.sort(values)
    ones = np.ones(len(values), np.int64)
    new = _folded(Spread(0, ordered(values), ones, values, values), known.shift)
    both = Spread(
        known.shift,
        np.concatenate((known.keys, new.keys)),
        np.concatenate((known.counts, new.counts)),
        np.concatenate((known.least, new.least)),
        np.concatenate((known.greatest, new.greatest)),
    )
    both = _folded(both, known.shift)
    return _folded(both, both.shift + bits_to_drop(both.keys, most))


def edges_of(found: Spread) -> Floats:
    """The edges of a column: at the values of the quantiles in `_SHARES`, at the least value, and after the greatest.

    A value that more than one row has gets a bin of its own where a quantile falls on it.
    """
    ends = np.cumsum(found.counts)
    if not len(ends):
        return np.empty(0)
    rows = int(ends[-1])
    ranks = [min(-(-rows * part // whole), rows - 1) for part, whole in _SHARES]
    at = np.unique(np.searchsorted(ends, ranks, side="right"))
    counts, least, greatest = found.counts[at], found.least[at], found.greatest[at]
    own = (counts > 1) & ((least == greatest) | (counts > rows // 256))
    with np.errstate(over="ignore"):
        after = np.nextafter(np.append(greatest[own], found.greatest[-1]), np.inf)
    edges = np.unique(np.concatenate((least, after)))
    return edges[: np.searchsorted(edges, np.inf)]


def _folded(parts: Spread, shift: int) -> Spread:
    """With `shift` bits left out, each key once."""
    keys = parts.keys >> np.uint64(shift - parts.shift)
    if not len(keys):
        return Spread(shift, keys, parts.counts, parts.least, parts.greatest)
    order = np.argsort(keys, kind="stable") if np.any(keys[1:] < keys[:-1]) else slice(None)
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return Spread(
        shift,
        keys[starts],
        np.add.reduceat(parts.counts[order], starts),
        np.minimum.reduceat(parts.least[order], starts),
        np.maximum.reduceat(parts.greatest[order], starts),
    )


class _Numbers:
    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self._kind = kind
        self._waiting: list[Floats] = []
        self._spread = NO_SPREAD

    def add(self, array: Any) -> None:
        """Count the finite values of an Arrow array."""
        values = numbers_of(array, self._kind).values
        self._waiting.append(values[np.isfinite(values)] + 0.0)
        if sum(map(len, self._waiting)) >= _FOLD:
            self._fold()

    def plan(self) -> ColumnPlan:
        """The column, on the edges that its values make."""
        self._fold()
        return NumericPlan(self.name, self._kind, frozen(edges_of(self._spread)))

    def _fold(self) -> None:
        self._spread = spread(self._spread, np.concatenate([np.empty(0), *self._waiting]))
        self._waiting = []


class _Categories:
    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self._kind = kind
        self._pile: list[Unseen] = []

    def add(self, array: Any) -> None:
        """Count the categories of an Arrow array."""
        blank = unplanned(self.name, "string")
        assert isinstance(blank, CategoricalPlan)
        found = categories_of(array, self._kind)
        (counted,) = count_categories(blank, found, np.array([0, len(array)]), "string", most=MOST_KNOWN)
        self._pile.append(counted.unseen)
        if len(self._pile) >= _PILE:
            self._pile = [merge_unseen(self._pile, most=MOST_KNOWN)]

    def plan(self) -> ColumnPlan:
        """The column, with the most frequent categories counted one by one."""
        found = merge_unseen(self._pile, most=MOST_KNOWN)
        top = _frequent(found, MOST_CATEGORIES)
        slots = np.full(len(found.hashes), len(top), np.int64)
        slots[top] = np.arange(len(top))
        names = tuple(found.names[place] for place in top)
        return CategoricalPlan(
            self.name, self._kind, names, found.hashes, frozen(slots), found.spilled is None
        )

    def frequent(self, most: int) -> tuple[str, ...]:
        """The most frequent categories."""
        found = merge_unseen(self._pile, most=MOST_KNOWN)
        return tuple(found.names[place] for place in _frequent(found, most))


def _frequent(found: Unseen, most: int) -> list[int]:
    places = np.lexsort((np.array(found.names, np.object_), -found.counts))
    chosen: list[int] = places[:most].tolist()
    return chosen
