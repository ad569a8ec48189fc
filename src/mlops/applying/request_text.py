"""The text of a pull request: why it is proposed, what the gates say of it, and the exact plan of its merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mlops.planning.planner import Planned
from mlops.proposing.proposal import quoted

_MOST_ROWS: Final = 50  # a forge takes some 65,000 characters
_LONGEST: Final = 300  # characters of a cell


def request_text(body: str, planned: Planned) -> str:
    """A pull request's text, in Markdown in which every value is inert.

    Args:
        body: why it is proposed, as the commit says it.
        planned: what would be done if its head came into force.
    """
    plan = planned.plan
    parts = [body]
    touched = {one.resource for one in plan.steps} | {one.resource for one in plan.blocked}
    gates = [
        (key, gate)
        for key, made in planned.assessments.items()
        if key.kind == "Promotion" and str(key) in touched
        for gate in made.status.get("gates", ())
    ]
    if gates:
        parts.append("### Gates")
        parts.append(
            _table(
                ("promotion", "gate", "status", "observed", "required"),
                (_gate(key, gate) for key, gate in gates),
            )
        )
    parts.append(f"### Plan of {plan.revision[:12]}")
    if plan.steps:
        steps = ((step.action, step.resource, step.reason) for step in plan.steps)
        parts.append(_table(("action", "resource", "why"), steps))
    if plan.blocked:
        held = ((one.resource, f"{one.condition}: {one.reason}", one.message) for one in plan.blocked)
        parts.append(_table(("blocked", "condition", "why"), held))
    parts.append(f"{len(plan.steps)} to do, {len(plan.blocked)} blocked.")
    return "\n\n".join(parts)


def _gate(key: object, gate: Mapping[str, Any]) -> tuple[object, ...]:
    return (key, *(gate.get(name) for name in ("name", "status", "observed", "required")))


def _table(head: tuple[str, ...], rows: Iterable[Iterable[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for at, row in enumerate(rows):
        if at == _MOST_ROWS:
            lines.append(f"| … |{' |' * (len(head) - 1)}")
            break
        cells = ("–" if cell in (None, "") else quoted(str(cell)[:_LONGEST]) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
