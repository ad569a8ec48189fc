"""What the newest windows say, worst first: of checks, columns and slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mlops.monitoring.deciding.actions import Window
from mlops.monitoring.deciding.state import Incident, State
from mlops.monitoring.reporting.charts import path
from mlops.monitoring.reporting.wording import excess
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Evaluation, Verdict

SPARKS: Final = 12  # measures of a check whose way through the windows is drawn
SPARK_WIDTH, SPARK_HEIGHT = 120, 20
_SPARK_WINDOWS = 60
_ORDER: dict[Verdict, int] = {"violated": 0, "error": 1, "insufficient": 3, "noData": 4, "quiet": 2}
_FIRST = {"upstreamChange": 0, "conceptDrift": 1}  # a broken source explains the drift of its columns
_ALL = "*"
_BY_SHAPE = "tailExceedance"  # over its threshold and quiet where all rows moved: no near miss

_Key = tuple[str, str, str | None, str]


@dataclass(frozen=True, slots=True)
class Found:
    """A measure of the newest window.

    Args:
        check, measure: what was found.
        since: the first of the windows in a row that violated.
        spark: path data of its way through the newest windows.
        slices: for one that stands for others: in how many more slices the same column violates.
    """

    check: CheckVerdict
    measure: ColumnVerdict
    since: Window | None
    spark: str | None
    slices: int = 0

    @property
    def note(self) -> str | None:
        """The measure's own, or why it is quiet although its effect comes to the threshold."""
        one = self.measure
        if one.note is not None or one.verdict != "quiet" or excess(one) < 1:
            return one.note
        return "the other rows moved, too" if one.detector == _BY_SHAPE else "it may be chance"


@dataclass(frozen=True, slots=True)
class Standing:
    """A check in the newest window that has it, with its firing and its measures, worst first."""

    check: CheckVerdict
    window: Evaluation
    incident: Incident | None
    since: Window | None
    measures: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class SliceRow:
    """A slice of the newest window: its measures, how many are violated, and the worst of them."""

    slice: str
    judged: int
    violated: int
    worst: Found


def standings(evaluations: Sequence[Evaluation], state: State | None) -> tuple[Standing, ...]:
    """Every check of the newest window (and of older ones, if the newest lacks it), in the order of the policy."""
    newest: dict[str, tuple[CheckVerdict, Evaluation]] = {}
    for one in reversed(evaluations):
        for check in one.checks:
            newest.setdefault(check.name, (check, one))
    wanted = {
        (check.name, measure.column, measure.slice, measure.detector)
        for check, _ in newest.values()
        for measure in check.columns
        if measure.verdict == "violated"
    }
    since = _since(evaluations, wanted)
    found = []
    for check, window in newest.values():
        ranked = sorted(check.columns, key=_rank)
        sparks = _sparks(check.name, ranked[:SPARKS], evaluations)
        measures = tuple(
            Found(check, one, since.get(key := _key(check, one)), sparks.get(key)) for one in ranked
        )
        known = None if state is None else state.check(check.name)
        incident = None if known is None else known.incident
        found.append(Standing(check, window, incident, _violated_since(check.name, evaluations), measures))
    return tuple(found)


def worst_first(standing: Iterable[Standing]) -> list[Found]:
    """All measures of checks that are violated, then the others; of each the largest excess first."""
    return sorted((one for each in standing for one in each.measures), key=_importance)


def told(found: Iterable[Found]) -> list[Found]:
    """One for each column and check: its worst, with the number of the others."""
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        groups.setdefault((one.check.name, one.measure.column), []).append(one)
    return [
        replace(
            next((one for one in each if one.measure.slice is None), each[0]),
            slices=len({one.measure.slice for one in each if one.measure.slice is not None}),
        )
        for each in groups.values()
    ]


def columns_of(found: Iterable[Found], most: int) -> list[str]:
    """The first `most` different columns."""
    return list(dict.fromkeys(one.measure.column for one in found if one.measure.column != _ALL))[:most]


def slices_of(standing: Iterable[Standing], most: int) -> list[SliceRow]:
    """The worst `most` slices."""
    parts: dict[str, list[Found]] = {}
    for each in standing:
        for one in each.measures:
            if one.measure.slice is not None:
                parts.setdefault(one.measure.slice, []).append(one)
    rows = [
        SliceRow(
            name,
            sum(one.measure.verdict in ("quiet", "violated") for one in found),
            sum(one.measure.verdict == "violated" for one in found),
            min(found, key=_importance),
        )
        for name, found in parts.items()
    ]
    return sorted(rows, key=lambda row: (-row.violated, _importance(row.worst), row.slice))[:most]


def _key(check: CheckVerdict, one: ColumnVerdict) -> _Key:
    return check.name, one.column, one.slice, one.detector


def _rank(one: ColumnVerdict) -> tuple[int, float, str, bool, str, str]:
    size = 0.0 if one.verdict == "quiet" and one.detector == _BY_SHAPE else excess(one)
    return (
        *(_ORDER[one.verdict], -size),
        *(one.column, one.slice is not None, one.slice or "", one.detector),
    )


def _importance(one: Found) -> tuple[object, ...]:
    return (
        one.check.verdict != "violated",
        _ORDER[one.measure.verdict],
        _FIRST.get(one.check.type, 2),
        *_rank(one.measure),
    )


def _since(evaluations: Sequence[Evaluation], wanted: set[_Key]) -> dict[_Key, Window]:
    """Where each violation began: windows in which it could not be judged are passed over."""
    found: dict[_Key, Window] = {}
    going = set(wanted)
    for one in reversed(evaluations):
        if not going:
            break
        for check in one.checks:
            for measure in check.columns:
                if (key := _key(check, measure)) not in going:
                    continue
                if measure.verdict == "violated":
                    found[key] = one.start
                elif measure.verdict == "quiet":
                    going.discard(key)
    return found


def _violated_since(name: str, evaluations: Sequence[Evaluation]) -> Window | None:
    found: Window | None = None
    for one in reversed(evaluations):
        check = next((each for each in one.checks if each.name == name), None)
        if check is not None and check.verdict == "violated":
            found = one.start
        elif check is not None and check.verdict == "quiet":
            break
    return found


def _sparks(name: str, worst: Sequence[ColumnVerdict], evaluations: Sequence[Evaluation]) -> dict[_Key, str]:
    """The excess of each measure over the newest windows; the threshold is the middle of the picture."""
    keys = {(name, one.column, one.slice, one.detector) for one in worst}
    shown = evaluations[-_SPARK_WINDOWS:]
    lines: dict[_Key, list[tuple[float, float | None]]] = {key: [] for key in keys}
    step = SPARK_WIDTH / max(len(shown), 1)
    for place, one in enumerate(shown):
        for check in one.checks:
            if check.name != name:
                continue
            for measure in check.columns:
                if (key := _key(check, measure)) in keys and measure.value is not None and measure.threshold:
                    height = min(max(measure.value / measure.threshold, 0.0), 2.0) * SPARK_HEIGHT / 2
                    lines[key].append((round(step * (place + 0.5), 1), round(SPARK_HEIGHT - height, 1)))
    return {key: path(line) for key, line in lines.items() if len(line) > 1}
