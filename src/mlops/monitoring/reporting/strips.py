"""All checks over all windows in one picture: verdicts, what fired from when to when, and what was done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from mlops.monitoring.deciding.actions import Action, Alert, Retrain, Rollback, Window
from mlops.monitoring.deciding.fold import Decision
from mlops.monitoring.reporting.about import Unit
from mlops.monitoring.reporting.charts import Mark, Tick, mark_size, places, ticks
from mlops.monitoring.reporting.wording import VERDICTS, bound, text
from mlops.monitoring.verdicts import Evaluation, Verdict

WIDTH: Final = 960
LEFT: Final = 170
ROW: Final = 26
MOST_CHECKS: Final = 30
MOST_PLACES: Final = 96  # across; more windows share one, which shows the worst of them
_WORST: tuple[Verdict, ...] = ("violated", "error", "insufficient", "quiet", "noData")


@dataclass(frozen=True, slots=True)
class Strip:
    """One check.

    Args:
        name: of the check.
        y: of its middle.
        dots: path data of its quiet windows.
        marks: of the others.
        fired: spans (x, width) in which it had fired.
        turns: where it fired, got worse and cleared.
    """

    name: str
    y: float
    dots: str
    marks: tuple[Mark, ...]
    fired: tuple[tuple[float, float], ...]
    turns: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Strips:
    """All of it.

    `grouped` is how many windows share a place, `left_out` how many checks are not drawn, `size` that of a mark,
    `promoted` where the watched version was promoted (None: not among these windows).
    """

    width: int
    height: int
    strips: tuple[Strip, ...]
    actions: tuple[Mark, ...]
    across: tuple[Tick, ...]
    grouped: int
    left_out: int
    size: float
    told: str
    promoted: float | None


def strips(
    evaluations: Sequence[Evaluation],
    decision: Decision | None,
    unit: Unit,
    before: Collection[Window] = (),
) -> Strips:
    """Evaluations oldest first. Checks in the order of the newest window."""
    grouped = -(-len(evaluations) // MOST_PLACES) or 1
    groups = [evaluations[at : at + grouped] for at in range(0, len(evaluations), grouped)]
    xs = places(len(groups), WIDTH, LEFT)
    at = {one.start: xs[index] for index, group in enumerate(groups) for one in group}
    names = list(dict.fromkeys(check.name for one in reversed(evaluations) for check in one.checks))
    half = (WIDTH - LEFT) / max(len(groups), 1) / 2
    drawn = []
    for index, name in enumerate(names[:MOST_CHECKS]):
        y = ROW * (index + 0.5)
        dots, marks = _marks(name, groups, xs, y, unit)
        turns = _turns(name, decision, at, y, unit)
        drawn.append(Strip(name, y, dots, marks, _spans(name, decision, at, xs, half), turns))
    lane = ROW * (len(drawn) + 0.5)
    violated = sum(one.verdict == "violated" for one in evaluations)
    told = f"{len(names)} checks over {len(evaluations)} windows, {violated} of them violated."
    return Strips(
        *(WIDTH, ROW * (len(drawn) + 1) + 22, tuple(drawn), _actions(decision, evaluations, at, lane, unit)),
        *(ticks([group[0].start for group in groups], xs, unit), grouped, max(0, len(names) - MOST_CHECKS)),
        mark_size(len(groups), WIDTH, LEFT),
        told,
        _promoted(evaluations, before, at, half),
    )


def _promoted(
    evaluations: Sequence[Evaluation], before: Collection[Window], at: dict[Window, float], half: float
) -> float | None:
    older = [one.start for one in evaluations if one.start in before]
    return round(at[older[-1]] + half, 1) if older else None


def _marks(
    name: str, groups: Sequence[Sequence[Evaluation]], xs: Sequence[float], y: float, unit: Unit
) -> tuple[str, tuple[Mark, ...]]:
    dots, marks = [], []
    for x, group in zip(xs, groups, strict=True):
        found = [(one, check) for one in group for check in one.checks if check.name == name]
        if not found:
            continue
        window, check = min(found, key=lambda pair: _WORST.index(pair[1].verdict))
        if check.verdict == "quiet":
            dots.append(f"M{x:g} {y:g}h0")
            continue
        kind = "estimate" if check.estimate and check.verdict == "violated" else check.verdict
        title = (
            f"{bound(window.start, unit)}: {VERDICTS[check.verdict]}{' (estimate)' if check.estimate else ''}"
        )
        marks.append(Mark(x, y, kind, title))
    return "".join(dots), tuple(marks)


def _turns(
    name: str, decision: Decision | None, at: dict[Window, float], y: float, unit: Unit
) -> tuple[Mark, ...]:
    return tuple(
        Mark(at[one.at], y, one.turn, f"{one.turn} at {bound(one.at, unit)}, {one.severity}")
        for one in (decision.transitions if decision is not None else ())
        if one.check == name and one.at in at
    )


def _spans(
    name: str, decision: Decision | None, at: dict[Window, float], xs: Sequence[float], half: float
) -> tuple[tuple[float, float], ...]:
    """From where it fired to where it cleared; to the newest window while it has not."""
    if decision is None or not xs:
        return ()
    spans: list[tuple[float, float]] = []
    known = decision.state.check(name)
    incident = None if known is None else known.incident
    begun = None
    for one in decision.transitions:
        if one.check != name or one.at not in at:
            continue
        if one.turn == "fired":
            begun = at[one.at]
        elif one.turn == "cleared":
            start = xs[0] if begun is None else begun
            spans.append((round(start - half, 1), round(at[one.at] - start + 2 * half, 1)))
            begun = None
    if incident is not None:
        start = at.get(incident.named, xs[0]) if begun is None else begun
        spans.append((round(start - half, 1), round(xs[-1] - start + 2 * half, 1)))
    return tuple(spans)


def _actions(
    decision: Decision | None,
    evaluations: Sequence[Evaluation],
    at: dict[Window, float],
    y: float,
    unit: Unit,
) -> tuple[Mark, ...]:
    if decision is None:
        return ()
    ends = {float(one.end): one.start for one in evaluations} if unit == "time" else {}
    here: dict[float, list[tuple[str, str]]] = defaultdict(list)
    for action in decision.actions:
        if isinstance(action, Retrain) and action.state != "due":
            continue
        time = None if isinstance(action, Alert) else action.time
        window = action.at if isinstance(action, Alert) else ends.get(time or 0.0, action.window)
        if window in at:
            letter, words = _words(action)
            here[at[window]].append((letter, f"{bound(window, unit)}: {words}"))
    return tuple(
        Mark(x, y, "".join(sorted({letter for letter, _ in found})), "; ".join(words for _, words in found))
        for x, found in sorted(here.items())
    )


def _words(action: Action) -> tuple[str, str]:
    match action:
        case Alert():
            return "A", f"alert, {text(action.check, 60)} {action.turn}"
        case Retrain():
            return "R", f"retraining of {text(action.experiment, 60)} for {text(action.check, 60)}"
        case Rollback():
            return "B", f"rollback proposed for {text(action.check, 60)}"
        case _:
            assert_never(action)
