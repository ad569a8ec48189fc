"""A plan for people, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from mlops.cli.output import one_line
from mlops.planning.plan import Action, Plan, Step

SYMBOLS: Final[dict[Action, tuple[str, str]]] = {
    "train": ("+", "green"),
    "register": ("+", "green"),
    "bind": ("+", "green"),
    "evaluate": ("+", "green"),
    "promote": ("↑", "green"),
    "propose": ("+", "green"),
    "monitor": ("+", "green"),
    "update": ("~", "yellow"),
    "heal": ("~", "yellow"),
    "demote": ("-", "red"),
    "archive": ("-", "red"),
    "delete": ("-", "red"),
}
LEGEND: Final = {
    "+": "create",
    "↑": "promote",
    "~": "change in place",
    "-": "take away",
    "!": "blocked",
}
MOST_CHANGES: Final = 12  # lines of changes shown of one step


def subject(plan: Plan, *, dirty: bool = False) -> str:
    """What was planned, in words: a revision, or the files as they stand where they differ from it."""
    revision = plan.revision[:12]
    if not dirty:
        return f"revision {revision}"
    return f"the working tree on {revision}" if revision else "the working tree"


def lines(plan: Plan, *, dirty: bool = False) -> Iterator[tuple[str, str]]:
    """The plan's lines, each with a style of rich; the last line is the count."""
    base = f", in force: {plan.base[:12]}" if plan.base else ", nothing is in force yet"
    yield f"Plan for {subject(plan, dirty=dirty)}{base}", "bold"
    yield "", ""
    if plan.steps or plan.blocked:
        used = {SYMBOLS[step.action][0] for step in plan.steps} | ({"!"} if plan.blocked else set())
        yield "  ".join(f"{sign} {text}" for sign, text in LEGEND.items() if sign in used), "dim"
        yield "", ""
    for resource, steps in groupby(plan.steps, key=lambda step: step.resource):
        yield from _resource(one_line(resource), list(steps))
    for block in plan.blocked:
        yield f"  ! {one_line(block.resource)}", "red"
        yield f"      {one_line(f'{block.condition}: {block.reason}. {block.message}')}", ""
    if plan.blocked:
        yield "", ""
    yield count(plan, dirty=dirty), "bold"


def count(plan: Plan, *, dirty: bool = False) -> str:
    """The last line: how many of what."""
    if not plan.steps and not plan.blocked:
        return f"Nothing to change: MLflow is as {'the working tree' if dirty else 'this revision'} says."
    numbers = plan.summary
    shown = [f"{numbers[action]} to {action}" for action in SYMBOLS if action in numbers]
    shown += [f"{numbers['blocked']} blocked"] if plan.blocked else []
    return f"Plan: {', '.join(shown)}."


def _resource(resource: str, steps: list[Step]) -> Iterator[tuple[str, str]]:
    for action, group in groupby(steps, key=lambda step: step.action):
        same = list(group)
        sign, style = SYMBOLS[action]
        if len(same) == 1 or action != "train":
            for step in same:
                yield f"  {sign} {action} {resource}", style
                yield f"      because {one_line(step.reason)}", "dim"
                yield from _changes(step)
            continue
        yield f"  {sign} {action} {resource}: {len(same)} trials", style
        for reason, equal in groupby(same, key=lambda step: step.reason):
            yield f"      because {one_line(reason)}", "dim"
            for step in equal:
                varied = {c.field: c.after for c in step.changes if c.field.startswith("parameters.")}
                shown = "  ".join(f"{f.removeprefix('parameters.')}={shorter(v)}" for f, v in varied.items())
                fingerprint = next((c.after for c in step.changes if c.field == "fingerprint"), "")
                yield f"      · {str(fingerprint)[:12]}  {shown}", ""


def _changes(step: Step) -> Iterator[tuple[str, str]]:
    shown = [(one_line(change.field), change) for change in step.changes[:MOST_CHANGES]]
    width = max((len(field) for field, _ in shown), default=0)
    for field, change in shown:
        before = "" if change.before is None else f"{shorter(change.before)} → "
        after = "(none)" if change.after is None else shorter(change.after)
        yield f"      {field:<{width}}  {before}{after}", ""
    if len(step.changes) > MOST_CHANGES:
        yield f"      … and {len(step.changes) - MOST_CHANGES} more", "dim"


def shorter(value: Any) -> str:
    """A value on one line, cut to 72 characters."""
    text = one_line(str(value))
    if text.startswith("sha256:"):
        return text[:19]
    return text if len(text) <= 72 else text[:69] + "…"
