"""`mlops get`, `mlops describe` and `mlops tree`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from mlops.cli.output import (
    console,
    one_line,
    output_option,
    plain,
    print_json,
    print_problems,
    print_yaml,
    revision_options,
)
from mlops.cli.reader import Asked, open_reader

if TYPE_CHECKING:
    from mlops.report import Report, Row
    from mlops.resources import Key

STYLES: Final = {
    "Synced": "green",
    "OutOfSync": "yellow",
    "Healthy": "green",
    "Progressing": "cyan",
    "Degraded": "red",
    "Missing": "yellow",
    "Suspended": "dim",
    "Unknown": "dim",
}
MARKS: Final = {
    "Healthy": "✓",
    "Progressing": "…",
    "Degraded": "✗",
    "Missing": "○",
    "Suspended": "‖",
    "Unknown": "?",
}
GATES: Final = {"passed": "✓", "failed": "✗", "error": "✗", "pending": "…", "skipped": "-"}


@click.command()
@click.argument("what", required=False, metavar="[KIND[/NAME]]")
@revision_options
@output_option("json", "yaml", "name")
@click.pass_context
def get(
    ctx: click.Context, what: str | None, revision: str | None, working_tree: bool, output: str | None
) -> int:
    """List resources with sync, health, revision and age; of one KIND, or one KIND/NAME."""
    from mlops.report import problem_text

    reader = open_reader(ctx)
    report = reader.report(Asked(revision, working_tree))
    found = chosen(report.rows, what)
    if output in ("json", "yaml"):
        (print_json if output == "json" else print_yaml)(report.chosen(found))
    elif output == "name":
        for row in found:
            print(plain(str(row.key)))
    else:
        print_problems(map(problem_text, report.errors))
        _table(found, reader.now())
    return 1 if report.errors else 0


@click.command()
@click.argument("what", metavar="KIND/NAME")
@revision_options
@output_option("json", "yaml")
@click.pass_context
def describe(
    ctx: click.Context, what: str, revision: str | None, working_tree: bool, output: str | None
) -> int:
    """Show one resource: what it declares, its conditions, its gates or runs, and its events."""
    from mlops.resources import Key

    reader = open_reader(ctx)
    key = Key.parse(what)
    report = reader.report(Asked(revision, working_tree))
    row = chosen(report.rows, str(key))[0]
    events = reader.events(str(key))
    if output is not None:
        (print_json if output == "json" else print_yaml)(row.to_json() | {"events": events})
        return 0
    _describe(report, row, reader.now())
    terminal = console()
    terminal.print("\nEvents", style="bold")
    for event in events:
        times = f" ×{event['count']}" if event["count"] > 1 else ""
        moment = _age(event["lastAt"], reader.now())
        style = "yellow" if event["severity"] == "warning" else None
        terminal.print(
            f"  {moment:>5} ago  {event['reason']}{times}: {event['message']}", style=style, markup=False
        )
    if not events:
        terminal.print("  none recorded", style="dim")
    return 0


@click.command()
@revision_options
@click.pass_context
def tree(ctx: click.Context, revision: str | None, working_tree: bool) -> int:
    """Draw the graph: what feeds what, with health and sync of each."""
    from rich.text import Text
    from rich.tree import Tree

    from mlops.report import problem_text

    report = open_reader(ctx).report(Asked(revision, working_tree))
    print_problems(map(problem_text, report.errors))
    found = {row.key: row for row in report.rows}
    feeds = report.feeds
    fed = {child for below in feeds.values() for child in below}
    top = next(key for key in found if key.kind == "Project")
    drawn: set[Key] = set()

    def label(row: Row) -> Text:
        text = Text(f"{MARKS.get(row.health, '?')} ", style=STYLES.get(row.health, ""))
        text.append(one_line(str(row.key)), style="bold")
        text.append(f"  {one_line(row.message)}", style="dim")
        if row.sync != "Synced":
            text.append(f"  {one_line(row.sync)}", style=STYLES.get(row.sync, ""))
        return text

    def grow(branch: Tree, key: Key) -> None:
        again = key in drawn and bool(feeds[key])
        drawn.add(key)
        text = label(found[key])
        if again:
            text.append("  (see above)", style="dim")
        twig = branch.add(text)
        for child in () if again else feeds[key]:
            grow(twig, child)

    root = Tree(label(found[top]))
    for key in found:
        if key != top and key not in fed:
            grow(root, key)
    console().print(root)
    return 1 if report.errors else 0


def chosen(found: tuple[Row, ...], what: str | None) -> tuple[Row, ...]:
    """The rows of a KIND or KIND/NAME; raises MlopsError when there is no such resource."""
    from difflib import get_close_matches

    from mlops.errors import MlopsError
    from mlops.resources import Key
    from mlops.resources.key import parse_kind

    if what is None:
        return found
    if "/" not in what:
        kind = parse_kind(what)
        return tuple(row for row in found if row.key.kind == kind)
    key = Key.parse(what)
    chosen = tuple(row for row in found if row.key == key)
    if not chosen:
        near = get_close_matches(str(key), [str(row.key) for row in found], n=1)
        raise MlopsError(
            f"{key} is not declared", fix=f"Did you mean {near[0]}?" if near else "See `mlops get`"
        )
    return chosen


def _table(found: tuple[Row, ...], now: float) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("KIND", "NAME", "SYNC", "HEALTH", "REVISION", "AGE", "MESSAGE"):
        table.add_column(title, overflow="fold", no_wrap=title in ("SYNC", "HEALTH", "REVISION", "AGE"))
    for row in found:
        table.add_row(
            _plain(row.key.kind),
            _plain(row.key.name),
            _styled(row.sync),
            _styled(row.health),
            _plain((row.revision or "")[:8]),
            _age(_seconds(row.since), now),
            _plain(row.message),
        )
    console().print(table)


def _styled(word: str) -> Any:
    from rich.text import Text

    return Text(one_line(word), style=STYLES.get(word, ""))


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(one_line(text))


def _describe(report: Report, row: Row, now: float) -> None:
    from rich.table import Table

    terminal = console()
    terminal.print(str(row.key), style="bold", markup=False)
    if row.key in report.places:
        terminal.print(f"declared in {report.places[row.key]}", style="dim", markup=False)
    terminal.print(
        f"sync {row.sync}, health {row.health}, revision {(row.revision or 'none')[:12]}", markup=False
    )
    if row.message:
        terminal.print(row.message, markup=False)
    terminal.print("\nConditions", style="bold")
    table = Table(box=None, pad_edge=False)
    for title in ("  TYPE", "STATUS", "REASON", "AGE", "MESSAGE"):
        table.add_column(title, overflow="fold")
    for condition in row.conditions:
        age = _age(_seconds(condition["since"]), now)
        cells = (f"  {condition['type']}", condition["status"], condition["reason"], age)
        table.add_row(*cells, _plain(condition["message"]))
    terminal.print(table)
    gates = row.status.get("gates") or ()
    if gates:
        terminal.print("\nGates", style="bold")
    for gate in gates:
        sign = GATES.get(gate["status"], "?")
        terminal.print(f"  {sign} {gate['name']} {gate['required']}: {gate['message']}", markup=False)
    rest = {name: value for name, value in row.status.items() if name not in ("gates", "runs") and value}
    if rest:
        terminal.print("\nStatus", style="bold")
    for name, value in rest.items():
        terminal.print(f"  {name}: {value}", markup=False)
    if row.status.get("runs"):
        terminal.print(
            f"\n{len(row.status['runs'])} runs: `mlops runs {row.key.name}` lists them", markup=False
        )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone(UTC).timestamp()


def _age(then: float, now: float) -> str:
    """How long ago, as kubectl writes it: 42s, 3m, 5h, 8d."""
    seconds = max(0, int(now - then))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
