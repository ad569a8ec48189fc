"""`mlops monitor`: evaluate policies now, their windows and verdicts, a replay over the past, the report as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops.cli.output import duration, open_controller, print_json, print_lines, print_yaml, say

if TYPE_CHECKING:
    from mlops.applying.monitor import Evaluated
    from mlops.applying.world import World
    from mlops.controller import Controller
    from mlops.planning.plan import Step
    from mlops.resources import MonitoringPolicy
    from mlops.view import View

_GLYPHS = {"Healthy": "green", "Degraded": "red", "Unknown": "yellow"}


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
    if dry_run:
        failed = 0
        for resource in chosen:
            found, problem = _evaluate(controller, view, resource, afresh=False)
            failed += problem is not None
            if found is not None:
                _print_evaluated(resource, found)
        verdicts = [_newest(controller, resource) for resource in chosen]
        return 1 if failed else _code(verdicts, fail_on)
    from mlops.cli.apply import run_targets

    code = run_targets(controller, view.desired.revision, [resource.key for resource in chosen], timeout)
    for resource in chosen:
        _print_status(controller, resource)
    if code == 1:
        return 1
    return _code([_newest(controller, resource) for resource in chosen], fail_on)


@monitor.command()
@click.argument("policy", metavar="POLICY")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", help="How to print it."
)
@click.pass_context
def status(ctx: click.Context, policy: str, output: str) -> int:
    """Windows and verdicts of a policy, newest last, and what was done."""
    from mlops.report import Report
    from mlops.resources import Key

    controller = open_controller(ctx)
    view = _in_force(controller)
    resource = _chosen(view, (policy,))[0]
    _restore(controller, view, resource)
    if output == "text":
        _print_status(controller, resource)
        return 0
    view = _in_force(controller)
    report = Report.of(view, controller.state, controller.now())
    row = next(row for row in report.rows if row.key == Key("MonitoringPolicy", resource.metadata.name))
    shown: dict[str, Any] = dict(row.status)
    if output == "yaml":
        print_yaml(shown)
    else:
        print_json(shown)
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
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@click.pass_context
def backtest(
    ctx: click.Context,
    policy: str,
    since: str | None,
    until: str | None,
    against: str | None,
    revision: str | None,
    output: str,
) -> int:
    """Replay a policy over all the data there is: what would have fired, beside the policy in force. Writes nothing."""
    from mlops.observation.history import parse_time

    controller = open_controller(ctx)
    begin = parse_time(since).timestamp() if since else None
    end = parse_time(until).timestamp() if until else None
    proposed = controller.look(revision, working_tree=revision is None)
    resource = _chosen(proposed, (policy,))[0]
    found, problem = _evaluate(controller, proposed, resource, afresh=True)
    if found is None:
        raise problem or AssertionError
    sides: dict[str, tuple[Any, Evaluated]] = {_shown(proposed): (resource, found)}
    base = controller.look(against) if against else _in_force(controller, or_else=proposed)
    other = base.desired.resources.get(resource.key)
    if other is not None and base.desired.revision != proposed.desired.revision:
        before, _ = _evaluate(controller, base, other, afresh=True)
        if before is not None:
            sides = {f"{_shown(base)} (in force)" if not against else _shown(base): (other, before), **sides}
    if output == "json":
        print_json({name: _replayed(one, begin, end) for name, (_, one) in sides.items()})
        return 0
    for name, (one, replayed) in sides.items():
        print_lines([(f"{one.key} at {name}: {_count(replayed, begin, end)}", "bold")])
        _print_evaluated(one, replayed, begin, end)
    return 1 if problem is not None else 0


@monitor.command()
@click.argument("policy", metavar="POLICY")
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write it there."
)
@click.pass_context
def report(ctx: click.Context, policy: str, path: Path | None) -> int:
    """The HTML page of a policy's newest window: what drifted, by how much, since when. One file, no network."""
    from mlops.applying.monitor import report_of

    controller = open_controller(ctx)
    view = _in_force(controller)
    resource = _chosen(view, (policy,))[0]
    found, problem = _evaluate(controller, view, resource, afresh=False)
    if found is None:
        raise problem or AssertionError
    page = report_of(view.desired.project, view.desired.revision, resource, found)
    if path is None:
        click.echo(page)
    else:
        path.write_text(page, "utf-8")
        say(f"wrote {path}")
    return 0


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
    from mlops.resources import Key, MonitoringPolicy

    known = [one for one in view.desired.resources.values() if isinstance(one, MonitoringPolicy)]
    if not names:
        return known
    keys = [Key("MonitoringPolicy", name.rpartition("/")[2]) for name in names]
    for key in keys:
        Key.parse(str(key), known=[one.key for one in known] or [Key("MonitoringPolicy", "")])
    return [one for key in keys for one in known if one.key == key]


def _world(controller: Controller, view: View) -> World:
    from mlops.cli.progress import progress

    return controller.world(view, progress(), lambda: None, None)


def _step(resource: MonitoringPolicy) -> Step:
    from mlops.planning.plan import Step
    from mlops.planning.work import MonitorPolicy

    name = resource.metadata.name
    return Step(f"monitor:{resource.key}", str(resource.key), "monitor", "", MonitorPolicy(name, "", ""))


def _evaluate(
    controller: Controller, view: View, resource: Any, *, afresh: bool
) -> tuple[Evaluated | None, Exception | None]:
    """Evaluate without writing; what could not be read is said, and given back."""
    from mlops.applying.monitor import evaluated, unread
    from mlops.errors import MlopsError

    try:
        found = evaluated(_world(controller, view), _step(resource), resource, afresh=afresh)
    except MlopsError as error:
        say(f"error: {error}")
        return None, error
    if found.assessed.unread:
        problem = unread(resource.metadata.name, found.assessed)
        say(f"error: {problem}")
        return found, problem
    return found, None


def _restore(controller: Controller, view: View, resource: MonitoringPolicy) -> None:
    """Read back from MLflow what a lost state held."""
    from mlops.applying.monitor import restore

    restore(controller.state, controller.tracker, view.desired.project, resource)


def _print_status(controller: Controller, resource: MonitoringPolicy) -> None:
    from mlops.applying.monitored import Kept
    from mlops.monitoring.reporting.timeline import timeline_text
    from mlops.observation.policies import RECORDS, PolicyRecord

    name = resource.metadata.name
    record = PolicyRecord.decode(controller.state.get(RECORDS, name))
    kept = Kept.read(controller.state, name)
    shown = f"{resource.key}  {record.verdict}  {record.message}"
    print_lines(
        [(shown, _GLYPHS[record.verdict]), (f"watches {resource.spec.model} {record.version or '-'}", "")]
    )
    windows = [window.evaluation for window in kept.of(record.version or "")]
    if windows:
        unit = "rows" if resource.spec.window.size is None else "time"
        click.echo(timeline_text(windows, unit=unit))  # type: ignore[arg-type]
    _print_actions([action.to_json() for action in record.actions])


def _print_evaluated(
    resource: MonitoringPolicy, found: Evaluated, begin: float | None = None, end: float | None = None
) -> None:
    from mlops.monitoring.reporting.timeline import timeline_text

    windows = [window.evaluation for window in found.windows if _within(window.evaluation.start, begin, end)]
    unit = "rows" if resource.spec.window.size is None else "time"
    if windows:
        click.echo(timeline_text(windows, found.decision, unit=unit))  # type: ignore[arg-type]
    _print_actions([one.to_json() for one in found.record.actions if _within(one.window, begin, end)])


def _print_actions(actions: list[dict[str, Any]]) -> None:
    from mlops.applying.monitored import moment

    for one in actions:
        where = f" on {one['branch']}" if one["branch"] else ""
        why = f": {one['message']}" if one["message"] else ""
        print_lines(
            [(f"{moment(one['window'])}  {one['type']} for {one['check']}: {one['state']}{where}{why}", "")]
        )


def _within(start: float, begin: float | None, end: float | None) -> bool:
    return (begin is None or start >= begin) and (end is None or start < end)


def _count(found: Evaluated, begin: float | None, end: float | None) -> str:
    windows = [one for one in found.windows if _within(one.evaluation.start, begin, end)]
    fired = [one for one in found.decision.transitions if one.turn == "fired" and _within(one.at, begin, end)]
    actions = [one for one in found.record.actions if _within(one.window, begin, end) and one.type != "alert"]
    return f"{len(windows)} windows, fired {len(fired)} times, {len(actions)} proposals"


def _replayed(found: Evaluated, begin: float | None, end: float | None) -> dict[str, Any]:
    return {
        "version": found.version,
        "verdict": found.record.verdict,
        "windows": [
            one.evaluation.document() for one in found.windows if _within(one.evaluation.start, begin, end)
        ],
        "actions": [one.to_json() for one in found.record.actions if _within(one.window, begin, end)],
    }


def _shown(view: View) -> str:
    return "the working tree" if view.desired.dirty else view.desired.revision[:12]


def _newest(controller: Controller, resource: MonitoringPolicy) -> str:
    """The verdict of a policy's newest window; empty where there is none."""
    from mlops.applying.monitored import Kept
    from mlops.observation.policies import RECORDS, PolicyRecord

    name = resource.metadata.name
    record = PolicyRecord.decode(controller.state.get(RECORDS, name))
    windows = Kept.read(controller.state, name).of(record.version or "")
    return windows[-1].evaluation.verdict if windows else ""


def _code(verdicts: list[str], fail_on: str | None) -> int:
    return 2 if fail_on is not None and fail_on in verdicts else 0
