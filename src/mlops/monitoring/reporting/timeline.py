"""Windows and checks for a terminal: one row a window, readable without colour."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mlops.monitoring.deciding.actions import Turn, Window
from mlops.monitoring.deciding.fold import Decision
from mlops.monitoring.reporting.about import Unit
from mlops.monitoring.reporting.wording import GLYPHS, VERDICTS, bound, effect, number, text
from mlops.monitoring.verdicts import CheckVerdict, Evaluation

_NAME = 24
_OLDER = " ‹"
_TURNS: dict[Turn, str] = {"fired": "◀ fired", "worse": "◀ worse", "cleared": "◀ cleared"}
LEGEND = "  ".join(f"{glyph} {VERDICTS[verdict]}" for verdict, glyph in GLYPHS.items()) + "  ~ estimate"


def timeline_text(
    evaluations: Sequence[Evaluation],
    decision: Decision | None = None,
    *,
    unit: Unit = "time",
    width: int = 100,
    before: Collection[Window] = (),
) -> str:
    """A table with a row for each window and a column for each check, and a legend; ends with a line break.

    Args:
        evaluations: oldest first, of each window its newest revision.
        decision: for what fired and cleared, which is told at the end of a row.
        unit: of windows.
        width: characters of a line. Where the checks need more, they are numbered and told above.
        before: starts of the windows that ended before the watched version was promoted.
    """
    if not evaluations:
        return "No window was evaluated yet.\n"
    names = list(dict.fromkeys(check.name for one in evaluations for check in one.checks))
    turns = _turns(decision)
    mixed = len({one.start in before for one in evaluations}) > 1
    cells = [[_cell(one, name) for name in names] for one in evaluations]
    heads, above = [text(name, _NAME) for name in names], list[str]()
    fixed = [
        [
            f"{bound(one.start, unit)}{_OLDER * (mixed and one.start in before)}",
            f"{one.rows:,}",
            f"{GLYPHS[one.verdict]} {VERDICTS[one.verdict]}",
        ]
        for one in evaluations
    ]
    needed = sum(max(len(row[place]) for row in [heads, *cells]) + 2 for place in range(len(names)))
    if needed + sum(max(map(len, column)) + 2 for column in zip(*fixed, strict=True)) > width:
        above = [f"{number:>3}  {text(name, width - 6)}" for number, name in enumerate(names, 1)]
        heads = [str(number) for number in range(1, len(names) + 1)]
        cells = [[cell[:1] + "~" * ("~" in cell) for cell in row] for row in cells]
    rows = [
        [*start, *row, *turns.get(one.start, ())]
        for start, row, one in zip(fixed, cells, evaluations, strict=True)
    ]
    table = _aligned([["window", "rows", "verdict", *heads], *rows])
    legend = f"{LEGEND}  {_OLDER.strip()} before the promotion" if mixed else LEGEND
    older = ["all of these windows ended before the promotion"] if before and not mixed else []
    return "\n".join([*above, *table, "", legend, *older, *_metrics(evaluations), ""])


def _cell(one: Evaluation, name: str) -> str:
    check = next((check for check in one.checks if check.name == name), None)
    if check is None:
        return ""
    glyph, marked = GLYPHS[check.verdict], "~" if check.estimate else ""
    value = glyph if check.value is None else f"{glyph} {marked}{_value(check)}"
    metric = None if check.metric is None else check.metric.window
    return value if metric is None else f"{value} ({number(metric)})"


def _metrics(evaluations: Sequence[Evaluation]) -> list[str]:
    """What stands in brackets, a line for each check of performance."""
    found = {check.name: check.metric for one in evaluations for check in one.checks if check.metric}
    return [
        f"{text(name, _NAME)}: how much worse, and in brackets {metric.name}, "
        f"which is {number(metric.reference)} on the reference"
        for name, metric in found.items()
    ]


def _value(check: CheckVerdict) -> str:
    return effect(check.value, check.type, "")


def _turns(decision: Decision | None) -> dict[Window, list[str]]:
    found: dict[Window, list[str]] = {}
    for one in decision.transitions if decision is not None else ():
        found.setdefault(one.at, []).append(f"{_TURNS[one.turn]}: {text(one.check, _NAME)}")
    return found


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns below each other, numbers of rows to the right; what follows the header's columns stands as it is."""
    columns = len(rows[0])
    widths = [max(len(row[place]) for row in rows) for place in range(columns)]
    lines = []
    for row in rows:
        parts = [
            part.rjust(width) if place == 1 else part.ljust(width)
            for place, (part, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join([*parts, *row[columns:]]).rstrip())
    return lines
