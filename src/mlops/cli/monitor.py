"""`mlops monitor`: evaluate policies now, their windows and verdicts, a replay over the past, the report as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops.cli.monitor_text import counted, print_evaluated, print_head, print_status
from mlops.cli.output import (
    duration,
    open_controller,
    output_option,
    print_json,
    print_lines,
    print_yaml,
    say,
)

if TYPE_CHECKING:
    from mlops.applying.decided import Evaluated
    from mlops.applying.monitored import Window
    from mlops.controller import Controller
    from mlops.planning.plan import Step
    from mlops.report import Row
    from mlops.resources import Key, MonitoringPolicy
    from mlops.view import View


@click.group()
def monitor() -> None:
    """Watch the models in production: evaluate, look at verdicts, replay a policy over the past."""


@monitor.command()
@click.argument("policies", nargs=-1, metavar="[POLICY]...")
@click.option("--dry-run", is_flag=True, help="Evaluate and decide, and write and do nothing.")
@click.option(
    "--fail-on",
    type=click.Choice(["violated"]),
    help="Exit 2 when a policy's newest window violates a check.",
)
@click.option("--timeout", metavar="DURATION", type=duration, help="How long to wait for another writer.")
@click.pass_context
def run(
    ctx: click.Context, policies: tuple[str, ...], dry_run: bool, fail_on: str | None, timeout: float | None
) -> int:
    """Evaluate what is new and act on it, as a pass of the daemon does, at the revision in force.

    Exit codes: 0 it could be evaluated, whatever the verdict; 1 data could not be read; 2 with --fail-on violated:
    a newest window violates.
    """
    controller = open_controller(ctx)
    view = _in_force(controller)
    chosen = _chosen(view, policies)
    if not chosen:
        say(f"Nothing to evaluate: no MonitoringPolicy is declared at {_shown(view)}.")
        return 0
    if dry_run:
        failed, verdicts = False, []
        for resource in chosen:
            found, problem = _evaluate(controller, view, resource, afresh=False)
            failed = failed or problem is not None
            if problem is not None:
                say(f"error: {problem}")
            if found is not None:
                print_head(resource, found.record.verdict, found.record.message, found.version)
                print_evaluated(resource, found, found.windows)
                verdicts.append(found.windows[-1].evaluation.verdict if found.windows else "")
        return 1 if failed else _code(verdicts, fail_on)
    from mlops.cli.apply import run_targets

    code = run_targets(controller, view.desired.revision, [resource.key for resource in chosen], timeout)
    rows = _rows(controller)
    for resource in chosen:
        print_status(controller, resource, rows[resource.key])
    if code == 1:
        return 1
    newest = [rows[resource.key].status["windows"][-1:] for resource in chosen]
    return _code([window["verdict"] for windows in newest for window in windows], fail_on)


@monitor.command()
@click.argument("policy", metavar="POLICY")
@output_option("json", "yaml")
@click.pass_context
def status(ctx: click.Context, policy: str, output: str | None) -> int:
    """Windows and verdicts of a policy, newest last, and what was done."""
    controller = open_controller(ctx)
    view = _in_force(controller)
    resource = _chosen(view, (policy,))[0]
    _restore(controller, view, resource)
    row = _rows(controller)[resource.key]
    match output:
        case "json":
            print_json(dict(row.status))
        case "yaml":
            print_yaml(dict(row.status))
        case _:
            print_status(controller, resource, row)
    return 0


@monitor.command()
@click.argument("policy", metavar="POLICY")
@click.option("--from", "since", metavar="TIME", help="Print windows from this date or time on.")
@click.option("--to", "until", metavar="TIME", help="Print windows that start before this date or time.")
@click.option(
    "--against", metavar="REV", help="Beside the policy of this revision. Default: the one in force."
)
@click.option(
    "--revision", metavar="REV", help="The policy as it is at this revision. Default: the working tree."
)
@output_option("json")
@click.pass_context
def backtest(
    ctx: click.Context,
    policy: str,
    since: str | None,
    until: str | None,
    against: str | None,
    revision: str | None,
    output: str | None,
) -> int:
    """Replay a policy over all the data there is: what would have fired, beside the policy in force. Writes nothing."""
    part = _part(since, until)
    controller = open_controller(ctx)
    proposed = controller.look(revision, working_tree=revision is None)
    resource = _chosen(proposed, (policy,))[0]
    found, problem = _evaluate(controller, proposed, resource, afresh=True)
    if found is None:
        raise problem or AssertionError
    if problem is not None:
        say(f"error: {problem}")
    sides = [(proposed, resource, found)]
    base = controller.look(against) if against else _in_force(controller, or_else=proposed)
    other: Any = base.desired.resources.get(resource.key)
    another = proposed.desired.dirty or base.desired.revision != proposed.desired.revision
    if other is not None and another:
        before, unlike = _evaluate(controller, base, other, afresh=True)
        if unlike is not None:
            say(f"warning: at {_shown(base)}: {unlike}")
        if before is not None:
            sides.insert(0, (base, other, before))
    if output == "json":
        print_json([_replayed(view, one, part.of(one.windows)) for view, _, one in sides])
    else:
        for view, one, replayed in sides:
            windows = part.of(replayed.windows)
            title = f"{one.key} at {_shown(view)}{', in force' if view is base and not against else ''}"
            print_lines([(f"{title}: {counted(replayed, windows)}", "bold")])
            print_evaluated(one, replayed, windows, replayed=True)
    return 1 if problem is not None else 0


@monitor.command()
@click.argument("policy", metavar="POLICY")
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write it there."
)
@click.pass_context
def report(ctx: click.Context, policy: str, path: Path | None) -> int:
    """The HTML page of a policy's newest window: what drifted, by how much, since when. One file, no network."""
    from mlops.applying.telling import report_of
    from mlops.errors import MlopsError

    controller = open_controller(ctx)
    view = _in_force(controller)
    resource = _chosen(view, (policy,))[0]
    found, problem = _evaluate(controller, view, resource, afresh=False)
    if found is None:
        raise problem or AssertionError
    if problem is not None:
        say(f"error: {problem}")
    page = report_of(controller.state, view.desired.project, view.desired.revision, found)
    if path is None:
        click.echo(page)
    else:
        try:
            path.write_text(page, "utf-8")
        except OSError as error:
            raise MlopsError(f"the report cannot be written: {error.strerror}", where=str(path)) from error
        say(f"wrote {path}")
    return 1 if problem is not None else 0


def _in_force(controller: Controller, or_else: View | None = None) -> View:
    """The revision in force, which is what policies are evaluated at."""
    from mlops.errors import MlopsError

    head = controller.look()
    base = head.planned.plan.base
    if base is None:
        if or_else is not None:
            return or_else
        raise MlopsError("nothing was applied yet, so nothing is watched", fix="Run `mlops apply` first")
    return head if base == head.desired.revision else controller.look(base)


def _chosen(view: View, names: tuple[str, ...]) -> list[MonitoringPolicy]:
    """The policies of these names, each once; all where none is named."""
    from mlops.errors import MlopsError
    from mlops.resources import Key, MonitoringPolicy
    from mlops.resources.nearest import Nearest

    known = {one.key: one for one in view.desired.resources.values() if isinstance(one, MonitoringPolicy)}
    if not names:
        return list(known.values())
    chosen = {}
    for name in names:
        key = Key.parse(name) if "/" in name else Key("MonitoringPolicy", name)
        if key.kind != "MonitoringPolicy":
            raise MlopsError(f"{key} is no MonitoringPolicy", fix="Name one; `mlops get` lists them")
        if key not in known:
            near = Nearest().nearest(key.name, [one.name for one in known])
            fix = f"Did you mean {near}?" if near else "Declare it, and apply the commit that does"
            raise MlopsError(f"there is no {key} at {_shown(view)}", fix=fix)
        chosen[key] = known[key]
    return list(chosen.values())


def _step(resource: MonitoringPolicy) -> Step:
    from mlops.planning.plan import Step
    from mlops.planning.work import MonitorPolicy

    name = resource.metadata.name
    return Step(f"monitor:{resource.key}", str(resource.key), "monitor", "", MonitorPolicy(name, "", ""))


def _evaluate(
    controller: Controller, view: View, resource: Any, *, afresh: bool
) -> tuple[Evaluated | None, Exception | None]:
    """Evaluate without writing; gives what could not be read or evaluated, too."""
    from mlops.applying.monitor import evaluated, unread
    from mlops.cli.progress import progress
    from mlops.errors import MlopsError

    step = _step(resource)
    try:
        with progress() as bars:
            bars.started(step)
            world = controller.world(view, bars, lambda: None, None)
            found = evaluated(world, step, resource, afresh=afresh)
    except MlopsError as error:
        return None, error
    return found, unread(resource.metadata.name, found.assessed) if found.assessed.unread else None


def _restore(controller: Controller, view: View, resource: MonitoringPolicy) -> None:
    """Read back from MLflow what a lost state held."""
    from mlops.applying.decided import restore

    restore(controller.state, controller.tracker, view.desired.project, resource)


def _rows(controller: Controller) -> dict[Key, Row]:
    """How every resource of the revision in force stands now."""
    from mlops.report import Report

    return {row.key: row for row in Report.of(_in_force(controller), controller.state, controller.now()).rows}


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of a replay that is shown: windows from `begin` on that start before `end`, in seconds since 1970."""

    begin: float | None
    end: float | None

    def of(self, windows: Sequence[Window]) -> list[Window]:
        return [one for one in windows if self._holds(one)]

    def _holds(self, window: Window) -> bool:
        at = window.evaluation.start if window.time is None else window.time
        return (self.begin is None or at >= self.begin) and (self.end is None or at < self.end)


def _part(since: str | None, until: str | None) -> _Part:
    from mlops.errors import MlopsError
    from mlops.observation.history import parse_time

    begin = parse_time(since).timestamp() if since else None
    end = parse_time(until).timestamp() if until else None
    if begin is not None and end is not None and end <= begin:
        raise MlopsError(f"--to {until} is not after --from {since}", fix="Swap them")
    return _Part(begin, end)


def _replayed(view: View, found: Evaluated, windows: Sequence[Window]) -> dict[str, Any]:
    starts = {window.evaluation.start for window in windows}
    return {
        "revision": None if view.desired.dirty else view.desired.revision,
        "version": found.version,
        "verdict": found.record.verdict,
        "windows": [one.evaluation.document() for one in windows],
        "actions": [one.to_json() for one in found.record.actions if one.window in starts],
    }


def _shown(view: View) -> str:
    return "the working tree" if view.desired.dirty else f"revision {view.desired.revision[:12]}"


def _code(verdicts: Sequence[str], fail_on: str | None) -> int:
    return 2 if fail_on is not None and fail_on in verdicts else 0
