"""A policy's health as one HTML file: no network, no script, the same bytes for the same values.

The first screen answers whether it is healthy, what changed, since when, and what was done. Everything is bounded:
what is worst stands first, and where something is left out the page says how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from mlops.monitoring.deciding.actions import Alert, Decided, Happened, Retrain, Rollback, Window
from mlops.monitoring.deciding.fold import Decision
from mlops.monitoring.reporting.about import About, Unit
from mlops.monitoring.reporting.charts import Chart, chart, points
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
from mlops.monitoring.reporting.wording import REASONS, bound, excess, meaning, moment, text
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
_DONE: Final = 200
_FILES: Final = 500


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was decided, for people: when, what, how it stands."""

    window: Window
    when: str
    what: str
    state: str
    id: str
    acted: bool = True  # more than a transition, and not given up


@dataclass(frozen=True, slots=True)
class Section:
    """A check on the page: its chart, the measures that are shown at once, those folded, and how many are left out."""

    standing: Standing
    meaning: str
    chart: Chart
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
) -> str:
    """The report on the newest of `evaluations`.

    Args:
        about: whose it is.
        evaluations: oldest first, of each window its newest revision.
        decision: of all these evaluations; of a part of them, earlier firings and actions are not marked.
        reference, window: summaries by one plan, of which distributions are drawn; `window` is the newest one.
        files: name and digest of those that the newest window was made of.
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
        _deeds(decision, about.unit),
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
        strips=strips(evaluations, decision, unit) if evaluations else None,
        files=files[:_FILES],
        files_left_out=max(0, len(files) - _FILES),
        links=[(name, url) for name, url in about.links if _is_web(url)],
        bound=lambda value: bound(value, unit),
        moment=moment,
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


def _deeds(decision: Decision | None, unit: Unit) -> list[Deed]:
    """Newest first."""
    if decision is None:
        return []
    decided: list[Decided] = [*decision.transitions, *decision.actions]
    deeds = [_deed(one, unit) for one in decided]
    return sorted(deeds, key=lambda deed: (-deed.window, deed.id))[:_DONE]


def _deed(one: Decided, unit: Unit) -> Deed:
    check = f"“{text(one.check, 80)}”"
    match one:
        case Happened():
            first = f"; the firing began at {bound(one.window, unit)}" if one.turn != "fired" else ""
            said = one.turn if one.turn != "worse" else "got worse"
            note = f"; {one.note}" if one.note else ""
            return Deed(
                one.at,
                bound(one.at, unit),
                f"{check} {said}",
                f"{one.severity}{first}{note}",
                one.id,
                acted=False,
            )
        case Alert():
            names = ", ".join(text(name, 60) for name in one.notify)
            return Deed(one.at, bound(one.at, unit), f"alert: {check} {one.turn}", f"to {names}", one.id)
        case Retrain():
            at, when = _decided_at(one, unit)
            state = {"due": "decided", "blocked": "waits", "dropped": "dropped"}[one.state]
            if one.reason is not None:
                state += f": {REASONS[one.reason]}"
            if one.until is not None:
                state += f"; until {moment(one.until)}"
            what = f"retraining of “{text(one.experiment, 80)}” for {check}"
            return Deed(at, when, what, state, one.id, one.state != "dropped")
        case Rollback():
            at, when = _decided_at(one, unit)
            return Deed(at, when, f"rollback proposed for {check}", "", one.id)
        case _:
            assert_never(one)


def _decided_at(one: Retrain | Rollback, unit: Unit) -> tuple[Window, str]:
    """Where it stands among windows, and its event time for people."""
    when = bound(one.window, unit) if one.time is None else moment(one.time)
    return (one.window if one.time is None or unit == "rows" else one.time), when
