"""A policy's health as one HTML file: no network, no script, the same bytes for the same values.

The first screen answers whether it is healthy, what changed, since when, and what was done. Everything is bounded:
what is worst stands first, and where something is left out the page says how much.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlops.monitoring.deciding.actions import Window
from mlops.monitoring.deciding.fold import Decision
from mlops.monitoring.reporting.about import About, Unit
from mlops.monitoring.reporting.charts import Chart, chart, metric_chart, metric_points, points
from mlops.monitoring.reporting.deeds import Deed, Executed, deeds_of
from mlops.monitoring.reporting.findings import (
    Found,
    SliceRow,
    Standing,
    columns_of,
    slices_of,
    standings,
    told,
    worst_first,
)
from mlops.monitoring.reporting.rendering import rendered
from mlops.monitoring.reporting.strips import MOST_CHECKS, strips
from mlops.monitoring.reporting.wording import bound, excess, meaning, moment
from mlops.monitoring.verdicts import Evaluation

if TYPE_CHECKING:
    from mlops.monitoring.reporting.distributions import Drawing, Fact
    from mlops.monitoring.summaries.windowed import WindowSummary

_HEADLINE: Final = 8  # changes told on the first screen
_OPEN: Final = 12  # measures of a check, and distributions, that are not folded away
_DRAWN: Final = 36
_ROWS: Final = 2_400  # measures on the page
_COLUMNS: Final = 1_000  # in the table of facts
_WINDOWS: Final = 200  # in the table of windows
_SLICES: Final = 100
_FILES: Final = 500


@dataclass(frozen=True, slots=True)
class Section:
    """A check on the page: its chart, the measures that are shown at once, those folded, and how many are left out.

    `metric` is the chart of what a check of performance measured.
    """

    standing: Standing
    meaning: str
    chart: Chart
    metric: Chart | None
    first: tuple[Found, ...]
    more: tuple[Found, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Shown:
    """All values of the template that take computing."""

    changes: list[Found]
    closest: list[Found]
    fired: list[Standing]
    sections: list[Section]
    slices: list[SliceRow]
    deeds: list[Deed]
    drawings: list[Drawing]
    facts: list[tuple[str, tuple[Fact, ...]]]
    detectors: list[str]


def page(
    about: About,
    evaluations: Sequence[Evaluation],
    decision: Decision | None = None,
    reference: WindowSummary | None = None,
    window: WindowSummary | None = None,
    files: Sequence[tuple[str, str]] = (),
    *,
    executed: Mapping[str, Executed] | None = None,
    before: Collection[Window] = (),
) -> str:
    """The report on the newest of `evaluations`.

    Args:
        about: whose it is.
        evaluations: oldest first, of each window its newest revision.
        decision: of all these evaluations; of a part of them, earlier firings and actions are not marked.
        reference, window: summaries by one plan, of which distributions are drawn; `window` is the newest one.
        files: name and digest of those that the newest window was made of.
        executed: what became of decisions by now, by their ids.
        before: starts of the windows that ended before the watched version was promoted.
    """
    state = None if decision is None else decision.state
    standing = standings(evaluations, state)[:MOST_CHECKS]
    ranked = worst_first(standing)
    changes = [one for one in ranked if one.measure.verdict == "violated"]
    judged = [one for one in ranked if one.measure.verdict == "quiet" and 0 < excess(one.measure) < 1]
    columns = columns_of([*changes, *judged, *ranked], _DRAWN)
    drawings, facts = _columns(reference, window, columns)
    shown = Shown(
        told(changes),
        judged[:3],
        [one for one in standing if one.incident is not None],
        _sections(standing, evaluations, about.unit),
        slices_of(standing, _SLICES),
        deeds_of(decision, about.unit, executed or {}),
        drawings,
        facts,
        sorted({one.measure.detector for one in ranked if one.measure.detector}),
    )
    fired = [one.incident.named for one in shown.fired if one.incident is not None]
    unit = about.unit
    return rendered(
        "page.html.jinja",
        about=about,
        health=None if state is None else state.verdict,
        tripped=() if state is None else state.tripped,
        newest=evaluations[-1] if evaluations else None,
        windows=evaluations[: -_WINDOWS - 1 : -1],
        count=len(evaluations),
        names=[one.check.name for one in standing],
        shown=shown,
        headline=_HEADLINE,
        opened=_OPEN,
        since=min(fired, default=None),
        strips=strips(evaluations, decision, unit, before) if evaluations else None,
        before=frozenset(before),
        files=files[:_FILES],
        files_left_out=max(0, len(files) - _FILES),
        links=[(name, url) for name, url in about.links if _is_web(url)],
        bound=lambda value: bound(value, unit),
        moment=moment,
        is_web=_is_web,
    )


def _is_web(url: str) -> bool:
    return url.lower().startswith(("https://", "http://")) and url.isprintable() and " " not in url


def _sections(standing: Sequence[Standing], evaluations: Sequence[Evaluation], unit: Unit) -> list[Section]:
    """Every check has the same room for the measures that are folded away."""
    room = _ROWS // max(len(standing), 1)
    return [
        Section(
            one,
            meaning(one.check),
            chart(one.check, points(one.check.name, evaluations), unit),
            metric_chart(measured, unit)
            if (measured := metric_points(one.check.name, evaluations))
            else None,
            one.measures[:_OPEN],
            one.measures[_OPEN : _OPEN + room],
            max(0, len(one.measures) - _OPEN - room),
        )
        for one in standing
    ]


def _columns(
    reference: WindowSummary | None, window: WindowSummary | None, columns: Sequence[str]
) -> tuple[list[Drawing], list[tuple[str, tuple[Fact, ...]]]]:
    if reference is None or window is None:
        return [], []
    from mlops.monitoring.reporting.distributions import drawings, facts

    drawn = drawings(reference, window, columns)
    names = sorted({*reference.columns, *window.columns})[:_COLUMNS]
    numbers = [(name, facts(reference.columns.get(name), window.columns.get(name))) for name in names]
    return [drawn[name] for name in columns if name in drawn], numbers
