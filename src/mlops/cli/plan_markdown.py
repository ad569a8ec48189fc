"""A plan as GitHub-flavoured Markdown, for the people who review a pull request.

Whatever comes from a document is inert: no tags, links, mentions or table cells of its own. The text never outgrows
what a comment on GitHub may hold; what is left out is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlops.cli.output import one_line
from mlops.cli.plan_text import MOST_CHANGES, SYMBOLS, count, shorter
from mlops.planning.plan import Block, Plan, Step

if TYPE_CHECKING:
    from mlops.resources import Problem
    from mlops.view import View

MOST_TEXT: Final = 60_000  # characters; a comment on GitHub holds 65,536, and a marker goes before this
_MOST_CELL: Final = 700  # characters of one cell
_MOST_METRICS: Final = 20
# What GitHub makes a link of, up to the place where a space of no width breaks it.
_LINKED: Final = re.compile(r"@|:(?=//)|\bwww(?=\.)|#(?=\d)|\bgh-(?=\d)", re.IGNORECASE)
_SHOWN: Final = {"passed": "✅", "failed": "❌", "pending": "⏳", "skipped": "⏭️", "error": "❌"}


@dataclass(frozen=True, slots=True)
class Moving:
    """A promotion that is asked for and not in force: its gates, and its metrics beside the champion's.

    `metrics` has a row each: name, of the version asked for, of the one in the stage now (None where there is none).
    """

    resource: str
    version: str
    champion: str | None
    gates: Sequence[Mapping[str, Any]]
    metrics: Sequence[tuple[str, float | None, float | None]]


def of_view(view: View, *, problems: Iterable[Problem | str] = (), notes: Iterable[str] = ()) -> str:
    """The plan of a view as Markdown, with the promotions that it moves."""
    name = view.project.metadata.name
    return markdown(view.planned.plan, project=name, moving=moving(view), problems=problems, notes=notes)


def markdown(
    plan: Plan,
    *,
    project: str = "",
    moving: Iterable[Moving] = (),
    problems: Iterable[Problem | str] = (),
    notes: Iterable[str] = (),
) -> str:
    """A plan as Markdown of at most `MOST_TEXT` characters.

    Args:
        problems: what is wrong with documents.
        notes: sentences about how the plan was made.
    """
    against = f" against `{plan.base[:12]}`, which is in force" if plan.base else "; nothing is in force yet"
    title = "### mlops plan" + (f": {inert(project)}" if project else "")
    page = _Page([title, "", f"Revision `{plan.revision[:12]}`{against}. **{count(plan)}**", ""])
    page.end = f"\n<sub>plan {inert(plan.digest)}</sub>"
    for note in notes:
        page.add([f"> {_cell(note)}", ""])
    page.table("| error | |", "|---|---|", (f"| ❌ | {_cell(problem)} |" for problem in problems))
    page.table(
        "| | action | resource | why |",
        "|---|---|---|---|",
        (
            _row(SYMBOLS[step.action][0], step.action, _cell(step.resource), _cell(step.reason))
            for step in plan.steps
        ),
    )
    page.table("| blocked | condition | why |", "|---|---|---|", map(_blocked_row, plan.blocked))
    for one in moving:
        _promotion(page, one)
    _details(page, plan.steps)
    return page.text()


class _Page:
    """Lines up to the most text; beyond it, lines are counted instead."""

    def __init__(self, head: Iterable[str]) -> None:
        self.lines = list(head)
        self.end = ""
        self.left = MOST_TEXT - sum(len(line) + 1 for line in self.lines) - 500  # of the end, closing tags

    def add(self, lines: Sequence[str]) -> bool:
        """Whether these lines still had room: all of them, or none."""
        size = sum(len(line) + 1 for line in lines)
        if size > self.left:
            return False
        self.left -= size
        self.lines += lines
        return True

    def table(self, head: str, rule: str, rows: Iterable[str]) -> None:
        """A table as far as there is room for it; nothing where there are no rows."""
        all_rows = list(rows)
        if not all_rows or not self.add([head, rule]):
            return
        shown = 0
        while shown < len(all_rows) and self.add([all_rows[shown]]):
            shown += 1
        self.lines.append("")
        if shown < len(all_rows):
            self.lines += [f"… and {len(all_rows) - shown} more; `mlops plan` shows all.", ""]
            self.left -= 60

    def text(self) -> str:
        return "\n".join([*self.lines, self.end]).strip() + "\n"


def _promotion(page: _Page, one: Moving) -> None:
    if one.gates:
        page.add([f"**Gates of {inert(one.resource)}** for {inert(one.version)}", ""])
    page.table(
        "| gate | | observed | required | |",
        "|---|---|---|---|---|",
        (
            _row(
                _cell(gate.get("name", "")),
                f"{_SHOWN.get(str(gate.get('status')), '')} {_cell(gate.get('status', ''))}",
                _cell(_observed(gate.get("observed"))),
                _cell(gate.get("required", "")),
                _cell(gate.get("message", "")),
            )
            for gate in one.gates
        ),
    )
    if not one.metrics:
        return
    champion = f"champion {inert(one.champion)}" if one.champion is not None else "no champion yet"
    page.table(
        f"| metric of the run | {inert(one.version)} | {champion} |",
        "|---|---:|---:|",
        (_row(_cell(name), _number(mine), _number(theirs)) for name, mine, theirs in one.metrics),
    )


def _details(page: _Page, steps: Sequence[Step]) -> None:
    changed = [step for step in steps if step.changes]
    if not changed or not page.add(["<details><summary>Every field that changes</summary>", ""]):
        return
    page.table(
        "| resource | field | from | to |",
        "|---|---|---|---|",
        (row for step in changed for row in _fields(step)),
    )
    page.lines.append("</details>")


def _fields(step: Step) -> Iterator[str]:
    name = inert(step.resource)
    for change in step.changes[:MOST_CHANGES]:
        before = "" if change.before is None else inert(shorter(change.before))
        after = "(none)" if change.after is None else inert(shorter(change.after))
        yield _row(name, inert(change.field), before, after)
    if len(step.changes) > MOST_CHANGES:
        yield _row(name, f"… {len(step.changes) - MOST_CHANGES} more", "", "")


def _blocked_row(block: Block) -> str:
    return _row(_cell(block.resource), _cell(f"{block.condition}: {block.reason}"), _cell(block.message))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    text = one_line(str(value))
    return inert(text if len(text) <= _MOST_CELL else text[: _MOST_CELL - 1] + "…")


def _observed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return "" if value is None else _plain(value)


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def inert(text: Any) -> str:
    """Text that Markdown and HTML take for nothing but text: no tags, links, mentions, issues or table cells."""
    cut = _LINKED.sub(
        "\\g<0>\u200b", one_line(str(text))
    )  # before escaping, which writes # and digits itself
    escaped = cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\`*_[]|~":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return escaped


def moving(view: View) -> Iterator[Moving]:
    """The promotions of a view that are not in force, each with what speaks for it and against it."""
    from mlops.resources import Key, Model, Promotion

    planned, ledger = view.planned, view.observed.ledger
    binds = {
        step.resource: change.after
        for step in planned.plan.steps
        for change in step.changes
        if step.action == "bind" and change.field == "runId"
    }
    wanted = {step.resource for step in planned.plan.steps if step.action in ("promote", "evaluate")}
    wanted |= {block.resource for block in planned.plan.blocked}
    for key, found in planned.assessments.items():
        resource = view.desired.resources.get(key)
        if str(key) not in wanted or not isinstance(resource, Promotion):
            continue
        target = planned.graph.promoted(resource)
        model = view.desired.resources.get(Key("Model", resource.spec.model))
        if target is None or not isinstance(model, Model):
            continue
        registered = planned.assessments[model.key].status.get("registeredName", resource.spec.model)
        bound = planned.bound.get(target.metadata.name)
        mine = ledger.runs.get((bound.run_id if bound else binds.get(str(target.key))) or "")
        previous = found.status.get("previous")
        champion = ledger.versions.get((registered, previous)) if previous is not None else None
        theirs = ledger.runs.get(champion.run_id or "") if champion is not None else None
        both = [dict(run.metrics) if run is not None else {} for run in (mine, theirs)]
        names = sorted(both[0])[:_MOST_METRICS]
        yield Moving(
            str(key),
            target.spec.version,
            _named(champion.tags, previous) if champion is not None else None,
            found.status.get("gates", ()),
            [(name, both[0].get(name), both[1].get(name)) for name in names],
        )


def _named(tags: Mapping[str, str], number: Any) -> str:
    from mlops.planning.context import VERSION_TAG

    return tags.get(VERSION_TAG, f"v{number}")
