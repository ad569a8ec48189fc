"""Reference and window drawn over each other: shares of rows in common cells, as the checks compare them.

Where rows are counted by season the reference is mixed from its seasons as the window has them. numpy stands at the
top: import this module inside a function.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mlops.monitoring.checks.cumulative import Cumulative, of_pair
from mlops.monitoring.checks.pairs import Pair, pairs
from mlops.monitoring.detectors.binned import Floats
from mlops.monitoring.reporting.wording import moment, number
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.windowed import ColumnSummary, WindowSummary

WIDTH: Final = 340
HEIGHT: Final = 110
CELLS: Final = 40
MOST_CATEGORIES: Final = 10
_TOP, _FLOOR = 6, 92
_OUTER = 0.002  # of the rows on each side may lie outside the picture
_WIDE = 15.0  # the far quantile over the median from which on the axis is logarithmic
_EVERY_ROW = 1 << 62  # more rows than a slice has: slices are left out
_TIMES = ("timestamp", "date")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Two shapes over one axis: path data, what stands at the axis' ends and middle, and rows left outside."""

    reference: str
    window: str
    axis: tuple[str, str, str]
    logarithmic: bool
    outside: tuple[float, float]  # shares of reference and window


@dataclass(frozen=True, slots=True)
class Bars:
    """A category (None: all others) with its share of reference and window, in pixels too."""

    name: str | None
    shares: tuple[float, float]
    lengths: tuple[float, float]
    new: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """A number of a column in reference and window, as text."""

    name: str
    reference: str
    window: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A column as it is drawn, with its facts; `why_not` where there is nothing to draw."""

    column: str
    histogram: Histogram | None
    bars: tuple[Bars, ...]
    nulls: tuple[float, float]
    facts: tuple[Fact, ...]
    seasonal: bool
    why_not: str | None


def drawings(reference: WindowSummary, window: WindowSummary, columns: Collection[str]) -> dict[str, Drawing]:
    """Of those `columns` that both have."""
    return {pair.column: _drawing(pair) for pair in pairs(reference, window, columns, _EVERY_ROW)}


def _drawing(pair: Pair) -> Drawing:
    why_not = pair.why_not()
    drawing = Drawing(
        pair.column,
        None,
        (),
        (_nulls(pair.reference), _nulls(pair.window)),
        facts(pair.reference, pair.window),
        pair.seasonal,
        why_not,
    )
    if why_not is not None:
        return drawing
    both = of_pair(pair)
    if both is not None:
        return replace(drawing, histogram=_histogram(pair, *both))
    if isinstance(pair.reference, CategoricalSummary):
        return replace(drawing, bars=_bars(pair))
    return replace(drawing, why_not="neither numbers nor categories")


def facts(reference: ColumnSummary | None, window: ColumnSummary | None) -> tuple[Fact, ...]:
    """Rows, nulls, and of numbers mean, deviation and quantiles."""
    sides = (_facts(reference), _facts(window))
    names = dict.fromkeys([*sides[0], *sides[1]])
    return tuple(Fact(name, *(side.get(name, number(None)) for side in sides)) for name in names)


def _facts(summary: ColumnSummary | None) -> dict[str, str]:
    if summary is None:
        return {}
    found = {"rows": number(summary.rows)}
    if isinstance(summary, NumericSummary):
        shown = moment if summary.plan.type in _TIMES else number
        told = {
            "mean": summary.mean,
            "minimum": summary.minimum,
            "median": summary.quantile(0.5),
            "maximum": summary.maximum,
        }
        found |= {name: number(None) if value is None else shown(value) for name, value in told.items()}
        found["deviation"] = number(summary.deviation)
        infinite = summary.negative_infinities + summary.positive_infinities
        found |= {
            name: number(rows)
            for name, rows in (("infinite", infinite), ("no number", summary.unparsable))
            if rows
        }
    elif isinstance(summary, CategoricalSummary):
        found["categories"] = number(int(np.count_nonzero(summary.top)) + round(summary.unseen.distinct))
        if summary.unseen.rows:
            found["rows of new categories"] = number(summary.unseen.rows)
    return found


def _nulls(summary: ColumnSummary) -> float:
    missing = summary.nulls + (summary.unparsable if isinstance(summary, NumericSummary) else 0)
    return missing / summary.rows if summary.rows else 0.0


def _histogram(pair: Pair, reference: Cumulative, window: Cumulative) -> Histogram:
    ends = np.array([_OUTER, 1 - _OUTER])
    low = min(float(side.quantile(ends)[0]) for side in (reference, window))
    high = max(float(side.quantile(ends)[1]) for side in (reference, window))
    middle = min(abs(float(side.quantile(np.array([0.5]))[0])) for side in (reference, window))
    edges, logarithmic = _edges(low, high, middle, _whole(pair))
    shares = [np.diff(side.at(edges)) for side in (reference, window)]
    tallest = max(float(share.max()) for share in shares) or 1.0
    outside = [max(0.0, 1.0 - float(share.sum())) for share in shares]
    shown = _day if pair.reference.plan.type in _TIMES else number
    half = math.exp((math.log(edges[0]) + math.log(edges[-1])) / 2) if logarithmic else low / 2 + high / 2
    return Histogram(
        _steps(shares[0], tallest),
        _steps(shares[1], tallest),
        (shown(float(edges[0])), shown(half), shown(float(edges[-1]))),
        logarithmic,
        (outside[0], outside[1]),
    )


def _day(seconds: float) -> str:
    return moment(seconds).split("T")[0]


def _whole(pair: Pair) -> bool:
    plans = (pair.reference, pair.window)
    return all(isinstance(one, NumericSummary) and set(one.types) <= {"integer", "null"} for one in plans)


def _edges(low: float, high: float, middle: float, whole: bool) -> tuple[Floats, bool]:
    """Of the cells: one for each whole number where that is possible, of equal width, or of equal ratio."""
    if whole and high - low < CELLS:
        return np.arange(math.floor(low), math.floor(high) + 2, dtype=np.float64) - 0.5, False
    if low > 0 and high / _WIDE > middle:
        edges: Floats = np.geomspace(low, high, CELLS + 1).astype(np.float64)
        edges[0], edges[-1] = low, math.nextafter(high, math.inf)
        return edges, True
    if not high > low:
        room = max(abs(low) * 0.05, 0.5)
        return np.linspace(low - room, high + room, CELLS + 1), False
    steps = np.linspace(0.0, 1.0, CELLS + 1)
    edges = low * (1 - steps) + high * steps  # no overflow of high - low
    edges[-1] = math.nextafter(high, math.inf)
    return edges, False


def _steps(shares: Sequence[float] | Floats, tallest: float) -> str:
    """Path data of a closed shape with a step for each cell."""
    width = WIDTH / len(shares)
    parts = [f"M0 {_FLOOR}"]
    for index, share in enumerate(shares):
        y = round(_FLOOR - float(share) / tallest * (_FLOOR - _TOP), 1)
        parts.append(f"V{y:g}H{round(width * (index + 1), 1):g}")
    return "".join([*parts, f"V{_FLOOR}Z"])


def _bars(pair: Pair) -> tuple[Bars, ...]:
    assert pair.usable is not None
    assert isinstance(pair.reference, CategoricalSummary)
    before, now = (side / side.sum() for side in pair.usable)
    names = pair.reference.plan.categories
    found: list[tuple[str | None, float, float, bool]] = [
        (name, float(before[place]), float(now[place]), False) for place, name in enumerate(names)
    ]
    if isinstance(pair.window, CategoricalSummary) and pair.window.values:
        known = dict(zip(pair.reference.unseen.names, pair.reference.unseen.counts.tolist(), strict=True))
        for new, rows in pair.window.unseen.heavy(0.002 * pair.window.values):
            if new is not None:
                share = known.get(new, 0) / pair.reference.values
                found.append((new, share, rows / pair.window.values, not share))
    found.sort(key=lambda one: (-max(one[1], one[2]), one[0] or ""))
    shown, rest = found[:MOST_CATEGORIES], found[MOST_CATEGORIES:]
    others = [1.0 - sum(one[1] for one in shown), 1.0 - sum(one[2] for one in shown)]
    if rest or max(others) > 1e-9:
        shown.append((None, max(0.0, others[0]), max(0.0, others[1]), False))
    longest = max((max(one[1], one[2]) for one in shown), default=1.0) or 1.0
    return tuple(
        Bars(name, (a, b), (round(130 * a / longest, 1), round(130 * b / longest, 1)), unseen)
        for name, a, b, unseen in shown
    )
