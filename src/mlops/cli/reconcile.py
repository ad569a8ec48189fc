"""`mlops reconcile`, and what an apply does beside a daemon: it asks, and reports how it went there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from mlops.cli.output import open_controller, print_lines, print_problems, say

if TYPE_CHECKING:
    from mlops.controller import Controller
    from mlops.daemon.requests import Request
    from mlops.state import Holder

LOOK_EVERY: Final = 0.1  # seconds
SILENCE: Final = 15.0  # seconds without a renewal of its lease after which a daemon is taken for dead
PATIENCE: Final = 60.0  # seconds until `reconcile` stops waiting for the daemon to take it up


@click.command()
@click.option(
    "--accept-rewrite",
    is_flag=True,
    help="Take the branch as it stands now, although its history was rewritten.",
)
@click.pass_context
def reconcile(ctx: click.Context, accept_rewrite: bool) -> int:
    """Have the daemon make a pass now, and try again what waits for a retry. One with --source fetches first.

    Exit codes: 0 the pass was made; 1 no daemon leads this project, it did not answer, or what it follows is away;
    3 something is blocked.
    """
    if ctx.obj["server"] is not None:
        from mlops.cli.server import reconcile as remote

        return remote(ctx, accept_rewrite)
    from mlops.daemon.requests import ask
    from mlops.errors import MlopsError

    controller = open_controller(ctx)
    snapshot = controller.snapshot()
    controller.open(snapshot)
    if leading(controller) is None:
        how = "mlops apply --accept-rewrite" if accept_rewrite else "mlops apply"
        raise MlopsError(
            f"no daemon leads the project {controller.project_name}",
            fix=f"Start one with `mlops daemon`, or do it once with `{how}`",
        )
    asked = ask(controller.state, by="mlops reconcile", now=controller.now(), accept_rewrite=accept_rewrite)
    return told(wait_for(controller, asked, PATIENCE))


def leading(controller: Controller) -> Holder | None:
    """The daemon that leads this project, if one does."""
    from mlops.daemon.loop import COMMAND

    holder = controller.state.lease_holder(controller.project_name)
    return holder if holder is not None and holder.command == COMMAND else None


def ask_and_wait(
    controller: Controller, daemon: Holder, patience: float | None, **wish: Any
) -> Mapping[str, Any] | None:
    """Have a daemon that leads do something, and wait for its answer as `wait_for` does."""
    from mlops.daemon.requests import ask
    from mlops.state.lease import described

    say(f"{described(daemon)} leads: it is asked to do this")
    asked = ask(controller.state, by="the command line", now=controller.now(), report=True, **wish)
    return wait_for(controller, asked, patience)


def wait_for(controller: Controller, asked: Request, patience: float | None) -> Mapping[str, Any] | None:
    """The daemon's answer; None when the daemon went away. Raises MlopsError after `patience` seconds.

    One that died where this process cannot see it, on another host or before this one started again, has gone when
    its lease stands still.
    """
    from mlops.daemon.requests import answer_to, withdraw
    from mlops.errors import MlopsError
    from mlops.resources.quantities import render_duration

    until = None if patience is None else time.monotonic() + patience
    pulse, since = None, 0.0
    try:
        while True:
            if (content := answer_to(controller.state, asked.id)) is not None:
                return content
            if (holder := leading(controller)) is None:
                return None
            if (now := controller.state.lease_pulse(controller.project_name)) != pulse:
                pulse, since = now, time.monotonic()
            elif time.monotonic() - since > SILENCE:
                return None
            if until is not None and time.monotonic() >= until:
                raise MlopsError(
                    f"the daemon (pid {holder.pid} on {holder.host}) has not finished this after "
                    f"{render_duration(patience or 0.0)}; it goes on",
                    fix="See `mlops get` and its log, or wait with `mlops wait`",
                )
            time.sleep(LOOK_EVERY)
    finally:
        withdraw(controller.state, asked.id)


def told(content: Mapping[str, Any] | None) -> int:
    """Print an answer; gives the exit code."""
    from mlops.errors import MlopsError

    if content is None:
        raise MlopsError("the daemon went away before it answered", fix="Run it again")
    if "problem" in content:
        raise MlopsError(str(content["problem"]), fix="Ask for what it follows, or stop it")
    if "superseded" in content:
        say(f"a newer revision, {content['superseded'][:12]}, was taken up by the daemon instead")
        return 0
    broken = print_problems(content.get("errors", ()))
    failed, blocked, left = content["failed"], content["blocked"], content["left"]
    lines = [(f"! {resource}: {reason}: {message}", "yellow") for resource, reason, message in blocked]
    lines += [(f"✗ {step}: {message}", "red") for step, message in failed.items()]
    if content["refused"] is not None:
        lines.append((f"! {str(content['inForce'])[:12]} stays in force: {content['refused']}", "yellow"))
    if (source := content.get("source")) is not None:
        lines.append((f"✗ what it follows cannot be read: {source}", "red"))
    parts = [f"{content['done']} steps done"] if content["done"] else []
    parts += [f"{len(blocked)} blocked"] if blocked else []
    parts += [f"{len(failed)} failed"] if failed else []
    parts += [f"{left} to go"] if left else []
    shown = ", ".join(parts) or "nothing to change"
    lines.append((f"Revision {content['revision'][:12]} by the daemon: {shown}.", "bold"))
    print_lines(lines, stderr=True)
    from mlops.planning.conditions import FAILURES

    if failed or broken or source is not None or any(reason in FAILURES for _, reason, _ in blocked):
        return 1
    return 3 if blocked or content["refused"] is not None else 0
