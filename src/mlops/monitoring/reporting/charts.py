"""A check's value from window to window as a drawing: places in a picture, whoever draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mlops.monitoring.deciding.actions import Window
from mlops.monitoring.reporting.about import Unit
from mlops.monitoring.reporting.wording import VERDICTS, bound, effect, number
from mlops.monitoring.verdicts import CheckVerdict, Evaluation, Verdict

WIDTH: Final = 960
HEIGHT: Final = 150
LEFT: Final = 64  # room for the numbers of the axis
MOST_WINDOWS: Final = 1_000  # drawn, the newest ones
_TOP, _BOTTOM, _RIGHT = 12, 24, 10
_FAR = 20.0  # thresholds from which on a logarithmic axis shows both
_SMALLEST = 1e-300
_FARTHEST = 1e300  # of a metric that is drawn
_TICKS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A check in a window; `value` is None where it was not judged."""

    start: Window
    value: float | None
    threshold: float | None
    verdict: Verdict
    estimate: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign at a place in pixels, and what it says."""

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis in pixels and what stands there, about it (`middle`) or before it (`end`)."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines and marks in a picture of `width` × `height` pixels.

    Args:
        measured, estimated: path data of what was measured and of what was only estimated.
        dots: path data of the quiet windows, which need no words each.
        marks: the others.
        limit: path data of the threshold, which may change from window to window.
        across, upwards: ticks.
        floor, logarithmic: y of the axis; whether it is logarithmic.
        size: of a mark, smaller where there are many.
        told: the same in a sentence, for those who do not see it.
    """

    width: int
    height: int
    measured: str
    estimated: str
    dots: str
    marks: tuple[Mark, ...]
    limit: str
    across: tuple[Tick, ...]
    upwards: tuple[Tick, ...]
    floor: float
    logarithmic: bool
    size: float
    told: str


def points(check: str, evaluations: Iterable[Evaluation]) -> list[Point]:
    """The check in each window that has it, oldest first."""
    return [
        Point(one.start, found.value, found.threshold, found.verdict, found.estimate)
        for one in evaluations
        for found in one.checks
        if found.name == check
    ]


def metric_points(check: str, evaluations: Iterable[Evaluation]) -> list[Point]:
    """The metric that a check of performance measured, with that of the reference in the place of a threshold."""
    return [
        Point(one.start, found.metric.window, found.metric.reference, found.verdict, found.estimate)
        for one in evaluations
        for found in one.checks
        if found.name == check and found.metric is not None
    ]


def chart(check: CheckVerdict, seen: Sequence[Point], unit: Unit) -> Chart:
    """Of the newest windows: the value of `check`, its threshold, and what each window's verdict was."""

    def shown(value: float | None) -> str:
        return effect(value, check.type, "")

    seen = seen[-MOST_WINDOWS:]
    return _drawn(seen, unit, _Scale(seen), shown, "threshold")


def metric_chart(seen: Sequence[Point], unit: Unit) -> Chart:
    """Of the newest windows: the metric itself, and what it is on the reference; the axis begins near the lowest."""
    seen = seen[-MOST_WINDOWS:]
    return _drawn(seen, unit, _Scale(seen, from_zero=False), number, "reference")


def _drawn(
    seen: Sequence[Point], unit: Unit, scale: _Scale, shown: Callable[[float | None], str], limit_is: str
) -> Chart:
    xs = places(len(seen), WIDTH)
    marks = []
    for x, point in zip(xs, seen, strict=True):
        if point.verdict != "quiet":
            kind = "estimate" if point.estimate and point.verdict == "violated" else point.verdict
            guess = " (estimate)" if point.estimate else ""
            value, beside = shown(point.value), shown(point.threshold)
            said = (
                f"{bound(point.start, unit)}: {VERDICTS[point.verdict]}, {value}{guess}, {limit_is} {beside}"
            )
            marks.append(Mark(x, scale.y(point.value), kind, said))
    measured, estimated = (
        path(
            (x, None if one.value is None or one.estimate is not guessed else scale.y(one.value))
            for x, one in zip(xs, seen, strict=True)
        )
        for guessed in (False, True)
    )
    dots = "".join(
        f"M{x:g} {scale.y(one.value):g}h0" for x, one in zip(xs, seen, strict=True) if one.verdict == "quiet"
    )
    limit = path(
        (x, None if one.threshold is None else scale.y(one.threshold))
        for x, one in zip(xs, seen, strict=True)
    )
    upwards = tuple(Tick(scale.y(value), shown(value)) for value in scale.ticks())
    told = f"{len(seen)} windows, {sum(one.verdict == 'violated' for one in seen)} of them violated."
    return Chart(
        *(WIDTH, HEIGHT, measured, estimated, dots, tuple(marks), limit),
        *(ticks([one.start for one in seen], xs, unit), upwards, scale.y(None), scale.logarithmic),
        *(mark_size(len(seen), WIDTH), told),
    )


def places(count: int, width: int, left: int = LEFT) -> list[float]:
    """The middle of each of `count` windows across the picture."""
    step = (width - left - _RIGHT) / max(count, 1)
    return [round(left + step * (index + 0.5), 1) for index in range(count)]


def mark_size(count: int, width: int, left: int = LEFT) -> float:
    """Half the width of a mark, so that neighbours leave each other some room."""
    return round(min(max((width - left) / max(count, 1) * 0.45, 1.5), 5.0), 1)


def ticks(starts: Sequence[Window], xs: Sequence[float], unit: Unit) -> tuple[Tick, ...]:
    """A few windows by their start, the first and the newest among them."""
    if not starts:
        return ()
    last = len(starts) - 1
    chosen = sorted({round(last * part / (_TICKS - 1)) for part in range(_TICKS)})
    return tuple(
        Tick(xs[index], bound(starts[index], unit).split("T")[0], "end" if index == last > 0 else "middle")
        for index in chosen
    )


def path(places: Iterable[tuple[float, float | None]]) -> str:
    """SVG path data through the places, broken where there is none."""
    parts: list[str] = []
    pen = "M"
    for x, y in places:
        if y is None:
            pen = "M"
            continue
        parts.append(f"{pen}{x:g} {y:g}")
        pen = "L"
    return "".join(parts)


class _Scale:
    """From values to pixels. Logarithmic where the largest is so far over the threshold that both would not be seen."""

    def __init__(self, seen: Sequence[Point], *, from_zero: bool = True) -> None:
        values = [one.value for one in seen if one.value is not None]
        limits = [one.threshold for one in seen if one.threshold]
        high, low = max([*values, *limits, 0.0]), min([*values, 0.0])
        limit = min(limits, default=0.0)
        self.logarithmic = limit > _SMALLEST and low >= 0 and high > _FAR * limit
        self._low = limit / 10 if self.logarithmic else low
        self._high = high if high > self._low else self._low + 1.0
        self._shown = [*([limit] if limits else []), high, self._low]
        if not from_zero and values:
            near = [min(max(one, -_FARTHEST), _FARTHEST) for one in (*values, *limits)]
            low, high = min(near), max(near)
            room = (high / 10 - low / 10) or abs(high) / 10 or 1.0
            self.logarithmic, self._low, self._high = False, low - room, high + room
            self._shown = [*limits[-1:], high, low]

    def y(self, value: float | None) -> float:
        """None stands on the axis."""
        low, high = self._low, self._high
        at = low if value is None else min(max(value, low), high)
        if self.logarithmic:  # differences, as a quotient may be beyond doubles
            share = (math.log(at) - math.log(low)) / (math.log(high) - math.log(low))
        else:
            share = _share(at, low, high)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def ticks(self) -> list[float]:
        """The axis, the threshold and the largest, unless they would stand upon each other."""
        found: list[float] = []
        for value in self._shown:
            if all(abs(self.y(value) - self.y(other)) >= 11 for other in found):
                found.append(value)
        return found


def _share(at: float, low: float, high: float) -> float:
    return at / high if low == 0 else at / (high - low) - low / (high - low)  # no overflow of a difference
