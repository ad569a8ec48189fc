"""A small plot for an alert: one check from window to window, with its threshold."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from mlops.monitoring.reporting.about import Unit
from mlops.monitoring.reporting.charts import Point, chart, points
from mlops.monitoring.reporting.rendering import rendered
from mlops.monitoring.reporting.wording import TYPES, bound, effect, meaning, text
from mlops.monitoring.verdicts import CheckVerdict, Evaluation, Verdict

_WINDOWS: Final = 60
_LARGEST: Final = 1e100
_WIDTH, _HEIGHT = 792, 308  # pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 80, 66, 768, 268  # of the axes
_FINE: Final = 3  # lines are drawn so many times larger, and smoothed
_BLUE, _RED, _GREY, _WHITE, _BLACK = "#1f4e79", "#b3261e", "#5f6368", "#ffffff", "#000000"
_SIGNS: Final[tuple[tuple[Verdict, bool | None, str, str], ...]] = (
    ("quiet", False, "quiet", "quiet"),
    ("violated", False, "violated", "violated"),
    ("violated", True, "estimate", "violated by an estimate"),
    ("insufficient", None, "insufficient", "not judged"),
    ("noData", None, "noData", "no data"),
    ("error", None, "error", "error"),
)

Place = tuple[float, float]


def picture(check: str, evaluations: Sequence[Evaluation], *, unit: Unit = "time") -> bytes:
    """A PNG of the newest 60 windows. Equal evaluations give equal bytes, with one version of Pillow.

    Args:
        check: its name; without a window that has it, the plot is empty and says so.
        evaluations: oldest first.
        unit: of windows.
    """
    # Pillow alone: matplotlib, with which it comes, costs a second and 50 MB before it draws anything.
    from PIL import Image, ImageDraw

    newest, seen = _found(check, evaluations)
    seen = [replace(one, value=_within(one.value), threshold=_within(one.threshold)) for one in seen]
    axes = _Axes(seen, _within(newest.threshold))
    large = Image.new("RGB", (_WIDTH * _FINE, _HEIGHT * _FINE), _WHITE)
    legend = _lines(ImageDraw.Draw(large), axes, seen)
    small = large.resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)
    _words(ImageDraw.Draw(small), axes, seen, unit, newest.type, legend)
    ImageDraw.Draw(small).text((16, 14), _title(newest, check), font=_font(15), fill=_BLACK)
    stream = io.BytesIO()
    small.save(stream, "PNG")
    return stream.getvalue()


def svg_picture(check: str, evaluations: Sequence[Evaluation], *, unit: Unit = "time") -> bytes:
    """The same as an SVG document."""
    newest, seen = _found(check, evaluations)
    return rendered("chart.svg.jinja", chart=chart(newest, seen, unit), title=_title(newest, check)).encode()


def _found(check: str, evaluations: Sequence[Evaluation]) -> tuple[CheckVerdict, list[Point]]:
    shown = [one for one in evaluations if any(found.name == check for found in one.checks)][-_WINDOWS:]
    newest = next((found for one in reversed(shown) for found in one.checks if found.name == check), None)
    return newest or CheckVerdict(check, "", "noData", None, None, ()), points(check, shown)


def _title(newest: CheckVerdict, check: str) -> str:
    kind = f" ({text(TYPES.get(newest.type, newest.type), 30)})" if newest.type else ""
    return f"{text(check, 40)}{kind}: {meaning(newest)}" if kind else f"{text(check, 40)}: no windows"


class _Axes:
    """From windows and values to pixels."""

    def __init__(self, seen: Sequence[Point], threshold: float | None) -> None:
        told = [value for one in seen for value in (one.value, one.threshold) if value is not None]
        self.low, high = min([0.0, *told]), max([*told, 1e-9])
        self.high = high + (high - self.low) / 8
        self._step = (_RIGHT - _LEFT) / max(len(seen), 1)
        self.ticks = [self.low]
        for height in (threshold, high):
            if height and all(abs(height - other) > (high - self.low) / 12 for other in self.ticks):
                self.ticks.append(height)

    def x(self, index: int) -> float:
        return _LEFT + self._step * (index + 0.5)

    def y(self, value: float) -> float:
        return _BOTTOM - (value - self.low) / (self.high - self.low) * (_BOTTOM - _TOP)


def _lines(draw: Any, axes: _Axes, seen: Sequence[Point]) -> list[tuple[float, str]]:
    """Draw all but the words, `_FINE` times larger. Gives the labels of the legend and where they stand."""

    def through(value: Callable[[Point], float | None]) -> list[list[Place]]:
        runs: list[list[Place]] = [[]]
        for index, one in enumerate(seen):
            found = value(one)
            if found is None:
                runs.append([])
            else:
                runs[-1].append((axes.x(index) * _FINE, axes.y(found) * _FINE))
        return runs

    for run in through(lambda one: one.threshold):
        _dashed(draw, run, _GREY, 1.5, on=6, off=4)
    for run in through(lambda one: None if one.estimate else one.value):
        if len(run) > 1:
            draw.line(run, fill=_BLUE, width=2 * _FINE, joint="curve")
    for run in through(lambda one: one.value if one.estimate else None):
        _dashed(draw, run, _BLUE, 2, on=2, off=3)
    frame = [(_LEFT, _TOP), (_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)]
    draw.line([(x * _FINE, y * _FINE) for x, y in frame], fill=_BLACK, width=_FINE)
    for height in axes.ticks:
        y = axes.y(height) * _FINE
        draw.line([((_LEFT - 5) * _FINE, y), (_LEFT * _FINE, y)], fill=_BLACK, width=_FINE)
    legend: list[tuple[float, str]] = []
    left = _LEFT + 8.0
    for verdict, only, sign, label in _SIGNS:
        here = [at for at, one in enumerate(seen) if one.verdict == verdict and only in (None, one.estimate)]
        for at in here:
            _sign(draw, sign, axes.x(at) * _FINE, axes.y(seen[at].value or 0.0) * _FINE)
        if here:
            _sign(draw, sign, left * _FINE, (_TOP - 14) * _FINE)
            legend.append((left + 10, label))
            left += 34 + _font(12).getlength(label)
    return legend


def _words(
    draw: Any,
    axes: _Axes,
    seen: Sequence[Point],
    unit: Unit,
    kind: str,
    legend: Sequence[tuple[float, str]],
) -> None:
    font = _font(12)
    for height in axes.ticks:
        draw.text((_LEFT - 8, axes.y(height)), effect(height, kind, ""), font=font, fill=_BLACK, anchor="rm")
    for at in sorted({0, len(seen) // 2, len(seen) - 1}) if seen else []:
        words = bound(seen[at].start, unit)
        half = font.getlength(words) / 2
        x = min(max(axes.x(at), half + 4), _WIDTH - half - 4)
        draw.text((x, _BOTTOM + 16), words, font=font, fill=_BLACK, anchor="mm")
    for left, label in legend:
        draw.text((left, _TOP - 14), label, font=font, fill=_BLACK, anchor="lm")


def _dashed(draw: Any, run: Sequence[Place], colour: str, width: float, *, on: int, off: int) -> None:
    """A line of dashes, `on` pixels long and `off` apart."""
    gone = 0.0
    for (x0, y0), (x1, y1) in pairwise(run):
        length = math.hypot(x1 - x0, y1 - y0)
        begin = -(gone % ((on + off) * _FINE))
        while begin < length:
            start, end = max(begin, 0.0) / length, min(begin + on * _FINE, length) / length
            if start < end:
                dash = [(x0 + (x1 - x0) * part, y0 + (y1 - y0) * part) for part in (start, end)]
                draw.line(dash, fill=colour, width=round(width * _FINE))
            begin += (on + off) * _FINE
        gone += length


def _sign(draw: Any, sign: str, x: float, y: float) -> None:
    """What a window's verdict was; told apart by form, too."""
    r = 4.5 * _FINE
    match sign:
        case "quiet":
            draw.ellipse([x - r / 2, y - r / 2, x + r / 2, y + r / 2], fill=_BLUE)
        case "violated" | "estimate":
            corners = [(x, y - r), (x + r, y + r), (x - r, y + r)]
            inside = _RED if sign == "violated" else _WHITE
            draw.polygon(corners, fill=inside, outline=_RED, width=round(1.4 * _FINE))
        case "noData":
            draw.ellipse([x - r, y - r, x + r, y + r], fill=_WHITE, outline=_GREY, width=round(1.4 * _FINE))
        case "error":
            for way in (-1, 1):
                draw.line([(x - r, y - way * r), (x + r, y + way * r)], fill=_RED, width=2 * _FINE)
        case _:
            draw.line([(x, y - r), (x, y + r)], fill=_GREY, width=2 * _FINE)


def _font(size: int) -> Any:
    """DejaVu Sans, which knows most alphabets, from beside matplotlib; else Pillow's own."""
    from PIL import ImageFont

    found = find_spec("matplotlib")  # finds it without importing it
    for folder in (found.submodule_search_locations if found else None) or ():
        file = Path(folder) / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)


def _within(value: float | None) -> float | None:
    """What can be drawn: beyond, sums overflow."""
    return None if value is None else min(max(value, -_LARGEST), _LARGEST)
