"""`mlops wait`."""

from __future__ import annotations

import time

import click

from mlops.cli.output import duration, open_controller, say

LOOK_EVERY = 1.0  # seconds


@click.command()
@click.argument("what", metavar="KIND/NAME")
@click.option("--for", "condition", type=click.Choice(["ready"]), default="ready", help="What to wait for.")
@click.option("--revision", metavar="REV", help="The revision that is to be in force. Default: HEAD.")
@click.option(
    "--timeout",
    metavar="DURATION",
    type=duration,
    default="10m",
    show_default=True,
    help="How long to wait.",
)
@click.pass_context
def wait(ctx: click.Context, what: str, condition: str, revision: str | None, timeout: float) -> int:
    """Wait until a resource is ready with a revision in force, or say why it is not.

    Exit codes: 0 ready; 1 the time is over or it cannot become ready by itself; 3 it is blocked.
    """
    from mlops.errors import MlopsError
    from mlops.planning.conditions import FAILURES
    from mlops.resources import Key
    from mlops.resources.quantities import render_duration

    key = Key.parse(what)
    until = time.monotonic() + timeout
    controller = open_controller(ctx)
    sha = controller.snapshot(revision).revision
    told = ""
    while True:
        view = controller.look(sha)
        made = view.planned.assessments.get(key)
        if made is None:
            raise MlopsError(f"{key} is not declared at {sha[:12]}", fix="See `mlops get`")
        force = view.planned.plan.base
        if made.ready.status == "True" and force == sha:
            say(f"{key} is ready at {sha[:12]}")
            return 0
        why = made.ready.message or made.ready.reason
        if made.ready.status == "True":
            why = f"{(force or 'no revision')[:12]} is in force, not {sha[:12]}; apply it"
        if made.blocks and made.blocks[0].reason in FAILURES:
            raise MlopsError(f"{key} will not become ready by itself: {why}")
        if time.monotonic() >= until:
            say(f"{key} is not ready after {render_duration(timeout)}: {why}")
            return 3 if made.blocks else 1
        if why != told:
            say(f"{key}: {why}")
            told = why
        time.sleep(min(LOOK_EVERY, max(0.0, until - time.monotonic())))
