"""`mlops apply` and `mlops train`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops.cli.output import duration, open_controller, print_lines, print_problems, revision_options, say

if TYPE_CHECKING:
    from mlops.applying.world import World
    from mlops.controller import Controller, Result
    from mlops.resources import Key
    from mlops.state import Holder
    from mlops.view import View

DAEMON_PATIENCE = 30.0  # seconds to wait for a daemon's lease, for what it cannot be asked to do


@click.command()
@click.argument("plan", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@revision_options
@click.option("--target", "targets", multiple=True, metavar="KIND/NAME", help="Only this and what it needs.")
@click.option("--wait/--no-wait", default=True, help="Wait for training, or leave it running. Default: wait.")
@click.option(
    "--timeout", metavar="DURATION", type=duration, help="How long to wait for training and for the lease."
)
@click.option("--retry-stalled", is_flag=True, help="Try trials again whose attempts are used up.")
@click.option("--accept-rewrite", is_flag=True, help="Take the revision although it rewrites history.")
@click.pass_context
def apply(
    ctx: click.Context,
    plan: Path | None,
    revision: str | None,
    working_tree: bool,
    targets: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    retry_stalled: bool,
    accept_rewrite: bool,
) -> int:
    """Make MLflow match a revision: train, register, bind, promote, heal, take away.

    Beside a daemon it wakes that one, and reports how the revision went there.

    With PLAN, a file that `mlops plan --out` wrote, it does exactly that plan, or refuses if anything it
    depended on has moved.

    Exit codes: 0 done; 1 something failed or is not finished; 3 something is blocked (a gate, an approval)
    and nothing failed.
    """
    from mlops.cli.saved_plan import holding, read
    from mlops.planning.context import Options
    from mlops.resources import Key

    controller = open_controller(ctx)
    keys = [Key.parse(target) for target in targets]
    saved = read(plan) if plan is not None else None
    if saved is not None and (
        revision is not None or working_tree or targets or retry_stalled or accept_rewrite
    ):
        raise click.UsageError("a saved plan says itself what is applied; leave out the other options")
    if saved is not None:
        revision, working_tree = saved.revision, saved.working_tree
        revision = None if working_tree else revision

    snapshot = controller.snapshot(revision, working_tree=working_tree)
    accepted = snapshot.revision if accept_rewrite else None

    def look() -> View:
        options = Options(retry_stalled=retry_stalled, accept=accepted)
        return controller.look(revision, working_tree=working_tree, targets=keys, options=options)

    controller.open(snapshot)  # the stores that it names
    wish = {"revision": snapshot.revision, "accept_rewrite": accept_rewrite}
    wish |= {"retry_stalled": retry_stalled, "until_rest": wait}
    return _go(
        controller,
        holding(saved, look) if saved is not None else look,
        record=not keys and not working_tree,
        wait=wait,
        timeout=timeout,
        wish=wish if saved is None and not working_tree and not keys else None,
    )


@click.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
@revision_options
@click.option("--refresh", is_flag=True, help="Train on outside data that moved, although it is held.")
@click.option("--wait/--no-wait", default=True, help="Wait for training, or leave it running. Default: wait.")
@click.option(
    "--timeout", metavar="DURATION", type=duration, help="How long to wait for training and for the lease."
)
@click.option("--retry-stalled", is_flag=True, help="Try trials again whose attempts are used up.")
@click.option(
    "--labelled-by",
    metavar="LOGIN",
    help="Only if LOGIN may write to the GitHub repository that GITHUB_REPOSITORY names.",
)
@click.pass_context
def train(
    ctx: click.Context,
    experiments: tuple[str, ...],
    revision: str | None,
    working_tree: bool,
    refresh: bool,
    wait: bool,
    timeout: float | None,
    retry_stalled: bool,
    labelled_by: str | None,
) -> int:
    """Do only the training that the plan holds, of all experiments or of those named.

    What a pull request's job runs so that the review has numbers; the merge then finds the runs done.
    """
    controller = open_controller(ctx)
    names = [
        name.partition("/")[2] if name.lower().startswith("experiment/") else name for name in experiments
    ]

    snapshot = controller.snapshot(revision, working_tree=working_tree)
    controller.open(snapshot)  # the stores that it names
    if labelled_by is not None:
        _may_write(controller, labelled_by)
    wish: dict[str, Any] | None = None
    if not working_tree:
        chosen = names or ([key.name for key in controller.check(revision).resources] if refresh else [])
        wish = {"revision": snapshot.revision, "train": tuple(names)}
        wish |= {"refresh": tuple(chosen) if refresh else ()}
        wish |= {"retry_stalled": retry_stalled, "until_rest": wait}

    def look() -> View:
        from mlops.planning.context import Options

        options = Options(retry_stalled=retry_stalled)
        if refresh:
            seen = controller.look(revision, working_tree=working_tree, training=names, options=options)
            chosen = names or [key.name for key in seen.desired.resources if key.kind == "Experiment"]
            options = Options(retry_stalled=retry_stalled, refresh=frozenset(chosen))
        return controller.look(revision, working_tree=working_tree, training=names, options=options)

    return _go(controller, look, record=False, wait=wait, timeout=timeout, wish=wish)


class _DaemonLeads(Exception):
    """A daemon has taken the lease that was waited for: it is asked instead."""


def _go(
    controller: Controller,
    look: Callable[[], View],
    *,
    record: bool,
    wait: bool,
    timeout: float | None,
    wish: Mapping[str, Any] | None,
) -> int:
    """Do it here, or have the daemon do it that leads; tell what came of it, and give the exit code.

    Args:
        wish: what a daemon is asked for; None for what no daemon does.
    """
    from mlops.cli.reconcile import ask_and_wait, leading, told

    until = controller.monotonic() + timeout if timeout is not None else None
    while True:
        left = None if until is None else max(0.0, until - controller.monotonic())
        daemon = leading(controller)
        if daemon is not None and wish is not None:
            content = ask_and_wait(controller, daemon, left, **wish)
            if content is not None:
                return told(content)
        elif daemon is not None and left is None:
            left = DAEMON_PATIENCE
        try:
            return _go_here(
                controller, look, daemon, record=record, wait=wait, left=left, asks=wish is not None
            )
        except _DaemonLeads:
            continue


def run_targets(controller: Controller, revision: str, keys: list[Key], timeout: float | None) -> int:
    """Apply what these resources need of a revision, or have the daemon do it that leads; gives the exit code."""

    def look() -> View:
        return controller.look(revision, targets=keys)

    wish = {"revision": revision, "until_rest": True}
    return _go(controller, look, record=False, wait=True, timeout=timeout, wish=wish)


def _go_here(
    controller: Controller,
    look: Callable[[], View],
    known: Holder | None,
    *,
    record: bool,
    wait: bool,
    left: float | None,
    asks: bool,
) -> int:
    """Apply with progress and signals; `known` is a daemon that does not answer, raises _DaemonLeads for another."""
    from mlops.applying.world import Waits
    from mlops.cli.progress import progress
    from mlops.daemon.loop import COMMAND
    from mlops.state.lease import described

    until = controller.monotonic() + left if left is not None else None
    broken: list[int] = []
    bars = progress()

    def first_look() -> View:
        view = look()
        broken.append(print_problems(view.loaded.problems))
        bars.expect(len(view.planned.plan.steps))
        return view

    def on_wait(holder: Holder) -> None:
        if asks and holder.command == COMMAND and holder != known:
            raise _DaemonLeads
        say(f"waiting for {described(holder)}, who holds the lease")

    with bars, _signals() as begun:
        result = controller.apply(
            first_look,
            bars,
            command="mlops apply",
            waits=Waits(wait, until),
            lease_wait=left,
            record=record,
            begun=begun,
            on_wait=on_wait,
        )
    return _tell(result, broken=bool(sum(broken)), wait=wait, held_back=result.view.refused)


def _tell(result: Result, *, broken: bool, wait: bool, held_back: str | None) -> int:
    """Say what is in force, what is blocked and what failed; gives the exit code."""
    from mlops.applying.outcomes import Blocked, Done, Failed, Left
    from mlops.cli.plan_text import subject
    from mlops.planning.conditions import FAILURES

    plan = result.applied.plan
    seen = subject(plan, dirty=result.view.desired.dirty)
    done = len(result.applied.having(Done))
    failed = result.applied.having(Failed)
    left = result.applied.having(Left)
    blocks = {block.resource: block for block in plan.blocked}
    waiting = []
    for step, outcome in result.applied.having(Blocked):
        assert isinstance(outcome, Blocked)
        blocks.setdefault(step.resource, outcome.block)
        if outcome.block.reason == "DependencyFailed":
            waiting.append(f"! {step.action} {step.resource}: not begun, {outcome.block.message}")
    lines = [(f"! {block.resource}: {block.reason}: {block.message}", "yellow") for block in plan.blocked]
    lines += [(line, "yellow") for line in waiting]
    if not plan.steps and not blocks:
        lines.append((f"Nothing to change: MLflow is as {seen} says.", "bold"))
    else:
        parts = [f"{done} of {len(plan.steps)} steps done"] if plan.steps else []
        parts += [f"{len(blocks)} blocked"] if blocks else []
        parts += [f"{len(failed)} failed"] if failed else []
        parts += [f"{len(left)} left for later"] if left else []
        lines.append((f"{seen[:1].upper()}{seen[1:]}: {', '.join(parts)}.", "bold"))
    if held_back is not None:
        lines.append((f"! {(plan.base or '')[:12]} stays in force: {held_back}", "yellow"))
    if result.unfinished:
        lines.append((f"{result.unfinished} changes came up meanwhile; apply again.", "yellow"))
    print_lines(lines, stderr=True)
    if failed or broken or any(block.reason in FAILURES for block in blocks.values()):
        return 1
    if (left and wait) or result.unfinished:
        return 1
    return 3 if blocks or held_back else 0


@contextmanager
def _signals() -> Iterator[Callable[[World], None]]:
    """SIGINT cancels jobs and stops, SIGTERM stops and leaves them running; a second SIGINT ends at once."""
    worlds: list[World] = []

    def stop(number: int, frame: object) -> None:
        for world in worlds:
            if world.stop.is_set() and number == signal.SIGINT:
                raise KeyboardInterrupt
            world.cancel_jobs = number == signal.SIGINT
            world.stop.set()
            word = "cancelling jobs" if world.cancel_jobs else "jobs go on; the next apply takes them up"
            say(f"stopping: {word}")
        if not worlds:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield worlds.append
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield worlds.append
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _may_write(controller: Controller, login: str) -> None:
    """Refuse to go on for somebody who may not write: a label is set by whoever may triage, too."""
    from mlops.errors import MlopsError
    from mlops.forges import forge_here
    from mlops.forges.github import GitHub

    forge = controller.forge_of(forge_here(None, controller.environ))
    if not isinstance(forge, GitHub) or not forge.may_write(login):
        raise MlopsError(
            f"{login} may not write to this repository, so the label trains nothing",
            fix="Somebody who may sets it again.",
        )
