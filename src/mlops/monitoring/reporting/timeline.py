"""Windows and checks for a terminal: one row a window, readable without colour."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.monitoring.deciding.actions import Turn, Window
from mlops.monitoring.deciding.fold import Decision
from mlops.monitoring.reporting.about import Unit
from mlops.monitoring.reporting.wording import GLYPHS, VERDICTS, bound, effect, text
from mlops.monitoring.verdicts import CheckVerdict, Evaluation

_NAME = 24
_TURNS: dict[Turn, str] = {"fired": "◀ fired", "worse": "◀ worse", "cleared": "◀ cleared"}
LEGEND = "  ".join(f"{glyph} {VERDICTS[verdict]}" for verdict, glyph in GLYPHS.items()) + "  ~ estimate"


def timeline_text(
    evaluations: Sequence[Evaluation],
    decision: Decision | None = None,
    *,
    unit: Unit = "time",
    width: int = 100,
) -> str:
    """A table with a row for each window and a column for each check, and a legend; ends with a line break.

    Args:
        evaluations: oldest first, of each window its newest revision.
        decision: for what fired and cleared, which is told at the end of a row.
        unit: of windows.
        width: characters of a line. Where the checks need more, they are numbered and told above.
    """
    if not evaluations:
        return "No window was evaluated yet.\n"
    names = list(dict.fromkeys(check.name for one in evaluations for check in one.checks))
    turns = _turns(decision)
    cells = [[_cell(one, name) for name in names] for one in evaluations]
    heads, above = [text(name, _NAME) for name in names], list[str]()
    fixed = [
        [bound(one.start, unit), f"{one.rows:,}", f"{GLYPHS[one.verdict]} {VERDICTS[one.verdict]}"]
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
    return "\n".join([*above, *_aligned([["window", "rows", "verdict", *heads], *rows]), "", LEGEND, ""])


def _cell(one: Evaluation, name: str) -> str:
    check = next((check for check in one.checks if check.name == name), None)
    if check is None:
        return ""
    glyph, marked = GLYPHS[check.verdict], "~" if check.estimate else ""
    return glyph if check.value is None else f"{glyph} {marked}{_value(check)}"


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
