"""A small plot for an alert: one check from window to window, with its threshold."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from mlops.monitoring.reporting.about import Unit
from mlops.monitoring.reporting.charts import Point, chart, points
from mlops.monitoring.reporting.rendering import rendered
from mlops.monitoring.reporting.wording import TYPES, bound, effect, meaning, text
from mlops.monitoring.verdicts import CheckVerdict, Evaluation, Verdict

_WINDOWS: Final = 60
_LARGEST: Final = 1e100
_INCHES, _DOTS = (7.2, 2.8), 110
_BLUE, _RED, _GREY = "#1f4e79", "#b3261e", "#5f6368"


def picture(check: str, evaluations: Sequence[Evaluation], *, unit: Unit = "time") -> bytes:
    """A PNG of the newest 60 windows. Equal evaluations give equal bytes, with one version of matplotlib.

    Args:
        check: its name; without a window that has it, the plot is empty and says so.
        evaluations: oldest first.
        unit: of windows.
    """
    # Not pyplot, which keeps figures and a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    newest, seen = _found(check, evaluations)
    figure = Figure(figsize=_INCHES, dpi=_DOTS, facecolor="white", layout=None)
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0.1, 0.13, 0.87, 0.66), facecolor="white")
    _drawn(axes, newest, seen, unit)
    figure.text(0.02, 0.92, _title(newest, check), fontsize=10, parse_math=False, color="black")
    stream = io.BytesIO()
    canvas.print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def svg_picture(check: str, evaluations: Sequence[Evaluation], *, unit: Unit = "time") -> bytes:
    """The same as an SVG document, which needs no matplotlib."""
    newest, seen = _found(check, evaluations)
    return rendered("chart.svg.jinja", chart=chart(newest, seen, unit), title=_title(newest, check)).encode()


def _found(check: str, evaluations: Sequence[Evaluation]) -> tuple[CheckVerdict, list[Point]]:
    shown = [one for one in evaluations if any(found.name == check for found in one.checks)][-_WINDOWS:]
    newest = next((found for one in reversed(shown) for found in one.checks if found.name == check), None)
    return newest or CheckVerdict(check, "", "noData", None, None, ()), points(check, shown)


def _title(newest: CheckVerdict, check: str) -> str:
    kind = f" ({text(TYPES.get(newest.type, newest.type), 30)})" if newest.type else ""
    return f"{text(check, 40)}{kind}: {meaning(newest)}" if kind else f"{text(check, 40)}: no windows"


def _drawn(axes: Any, check: CheckVerdict, seen: Sequence[Point], unit: Unit) -> None:
    xs = range(len(seen))
    seen = [replace(one, value=_within(one.value), threshold=_within(one.threshold)) for one in seen]
    none = float("nan")
    for guessed, style in ((False, "-"), (True, ":")):
        values = [none if one.value is None or one.estimate is not guessed else one.value for one in seen]
        axes.plot(xs, values, linestyle=style, color=_BLUE, linewidth=1.4, marker="", zorder=2)
    limits = [none if one.threshold is None else one.threshold for one in seen]
    axes.plot(xs, limits, linestyle="--", color=_GREY, linewidth=1, marker="", zorder=1)
    signs: tuple[tuple[Verdict, bool | None, str, str, str, str], ...] = (
        ("quiet", False, ".", _BLUE, _BLUE, "quiet"),
        ("violated", False, "^", _RED, _RED, "violated"),
        ("violated", True, "^", _RED, "white", "violated by an estimate"),
        ("insufficient", None, "|", _GREY, _GREY, "not judged"),
        ("noData", None, "o", _GREY, "white", "no data"),
        ("error", None, "x", _RED, _RED, "error"),
    )
    for verdict, only, sign, colour, face, label in signs:
        here = [x for x in xs if seen[x].verdict == verdict and only in (None, seen[x].estimate)]
        if here:
            heights = [seen[x].value or 0.0 for x in here]
            axes.plot(
                here, heights, linestyle="", marker=sign, markersize=6, color=colour, label=label,
                markerfacecolor=face, markeredgecolor=colour, zorder=3,
            )  # fmt: skip
    told = [value for one in seen for value in (one.value, one.threshold) if value is not None]
    low, high = min([0.0, *told]), max([*told, 1e-9])
    axes.set_ylim(low, high + (high - low) / 8)
    axes.set_xlim(-0.5, max(len(seen) - 0.5, 0.5))
    marked = sorted({0, len(seen) // 2, len(seen) - 1}) if seen else []
    axes.set_xticks(marked, [bound(seen[x].start, unit) for x in marked], fontsize=8)
    heights = [low]
    for height in (_within(check.threshold), high):
        if height and all(abs(height - other) > (high - low) / 12 for other in heights):
            heights.append(height)
    axes.set_yticks(heights, [effect(y, check.type, "") for y in heights], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if seen:
        axes.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 0.98), ncols=6)


def _within(value: float | None) -> float | None:
    """What matplotlib can draw: beyond, its own sums overflow."""
    return None if value is None else min(max(value, -_LARGEST), _LARGEST)
