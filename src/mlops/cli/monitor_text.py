"""Monitoring for a terminal: how a policy stands, its windows, what was done about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from mlops.cli.output import print_lines

if TYPE_CHECKING:
    from mlops.applying.decided import Evaluated
    from mlops.applying.monitored import Window
    from mlops.controller import Controller
    from mlops.monitoring.deciding import Decision
    from mlops.report import Row
    from mlops.resources import MonitoringPolicy

_STYLES = {"Healthy": "green", "Degraded": "red", "Unknown": "yellow"}
_ON_A_BRANCH = ("training", "proposed")


def print_status(controller: Controller, resource: MonitoringPolicy, row: Row) -> None:
    """How a policy stands: its verdict, the windows of the version that it watches, what was done."""
    from mlops.applying.monitored import Kept
    from mlops.observation.policies import RECORDS, PolicyRecord

    healthy, version = row.condition("Healthy"), row.status["version"]
    message = healthy.get("message") or row.message or "not evaluated yet"
    print_head(resource, row.status["verdict"], message, version)
    promoted = PolicyRecord.decode(controller.state.get(RECORDS, resource.metadata.name)).promoted
    windows = Kept.read(controller.state, resource.metadata.name).of(version or "")
    _print_windows(resource, windows, None, promoted)
    _print_actions(resource, row.status["actions"])


def print_head(resource: MonitoringPolicy, verdict: str, message: str, version: str | None) -> None:
    """A policy's verdict and what it watches, a line each."""
    spec = resource.spec
    watched = f"{version} of {spec.model}" if version else f"no version of {spec.model} yet"
    print_lines(
        [
            (f"{resource.key}  {verdict}  {message}", _STYLES[verdict]),
            (f"watches {watched} in {spec.stage}", ""),
        ]
    )


def print_evaluated(
    resource: MonitoringPolicy, found: Evaluated, windows: Sequence[Window], *, replayed: bool = False
) -> None:
    """`windows` of an evaluation with what fired, and what came of those; `replayed`: as if there had always been the
    version that is watched."""
    _print_windows(resource, windows, found.decision, None if replayed else found.watching.promoted_at)
    starts = {window.evaluation.start for window in windows}
    _print_actions(resource, [one.to_json() for one in found.record.actions if one.window in starts])


def _print_windows(
    resource: MonitoringPolicy, windows: Sequence[Window], decision: Decision | None, promoted: float | None
) -> None:
    from mlops.monitoring.reporting.timeline import timeline_text

    if windows:
        shown = [window.evaluation for window in windows]
        before = [window.evaluation.start for window in windows if window.before(promoted)]
        click.echo(timeline_text(shown, decision, unit=_unit(resource), before=before))


def _print_actions(resource: MonitoringPolicy, actions: Sequence[Mapping[str, Any]]) -> None:
    from mlops.monitoring.reporting.wording import bound

    for one in actions:
        where = f" on {one['branch']}" if one["branch"] and one["state"] in _ON_A_BRANCH else ""
        why = f": {one['message']}" if one["message"] else ""
        when = bound(one["window"], _unit(resource))
        print_lines([(f"{when}  {one['type']} for {one['check']} {one['state']}{where}{why}", "")])


def _unit(resource: MonitoringPolicy) -> Literal["time", "rows"]:
    return "rows" if resource.spec.window.size is None else "time"


def counted(found: Evaluated, windows: Sequence[Window]) -> str:
    """How many there are of `windows`, and of what happened in them."""
    starts = {window.evaluation.start for window in windows}
    fired = sum(one.turn == "fired" for one in found.decision.transitions if one.at in starts)
    proposed = sum(one.type != "alert" for one in found.record.actions if one.window in starts)
    counts = ((len(windows), "window"), (fired, "firing"), (proposed, "proposal"))
    return ", ".join(f"{count} {noun}{'s' if count != 1 else ''}" for count, noun in counts)
