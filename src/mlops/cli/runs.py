"""`mlops runs` and `mlops logs`."""

from __future__ import annotations

import codecs
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from mlops.cli.output import console, open_controller, output_option, print_json, revision_options, say

if TYPE_CHECKING:
    from mlops.controller import Controller, View

FOLLOW = 0.2  # seconds between looks at a growing log


@click.command()
@click.argument("experiment")
@revision_options
@output_option("json")
@click.pass_context
def runs(
    ctx: click.Context, experiment: str, revision: str | None, working_tree: bool, output: str | None
) -> int:
    """List the trials of EXPERIMENT: parameters, metrics, fingerprint, state; the best is marked."""
    controller = open_controller(ctx)
    view = controller.look(revision, working_tree=working_tree)
    status = _experiment(view, experiment)
    if output == "json":
        print_json(status)
        return 0
    from rich.table import Table

    rows: list[dict[str, Any]] = status["runs"]
    parameters = sorted({name for row in rows for name in row["parameters"]})
    metrics = sorted({name for row in rows for name in row["metrics"]})[:8]
    table = Table(box=None, pad_edge=False)
    for title in ("", "FINGERPRINT", "RUN", "STATE", *parameters, *metrics):
        table.add_column(title)
    for row in rows:
        best = row["runId"] is not None and row["runId"] == status["best"]
        table.add_row(
            "★" if best else "",
            row["fingerprint"][:12],
            (row["runId"] or "")[:8],
            row["state"],
            *(str(row["parameters"].get(name, "")) for name in parameters),
            *(_number(row["metrics"].get(name)) for name in metrics),
            style="bold" if best else None,
        )
    console().print(table)
    return 0


@click.command()
@click.argument("experiment", metavar="Experiment/NAME")
@click.option("-f", "--follow", is_flag=True, help="Go on while the run does.")
@revision_options
@click.pass_context
def logs(ctx: click.Context, experiment: str, follow: bool, revision: str | None, working_tree: bool) -> int:
    """Print the training log of the experiment's newest run."""
    from mlops.applying.collect import LOG_ARTIFACT
    from mlops.errors import MlopsError
    from mlops.planning.runs import FINGERPRINT, is_open

    controller = open_controller(ctx)
    view = controller.look(revision, working_tree=working_tree)
    name = _name(experiment)
    _experiment(view, name)
    full = view.desired.ledger_name(name)
    ours = [r for r in view.observed.ledger.runs.values() if r.experiment == full and FINGERPRINT in r.tags]
    if not ours:
        raise MlopsError(f"Experiment/{name} has no run yet", fix="Train it with `mlops apply`")
    newest = max(ours, key=lambda run: (run.started_ms, run.run_id))
    say(f"run {newest.run_id} ({newest.name}, {newest.status.lower()})")
    if is_open(newest):
        _live(controller, view, name, newest.run_id, follow=follow)
        return 0
    data = controller.tracker.read_artifact(newest.run_id, LOG_ARTIFACT)
    if data is None:
        raise MlopsError(
            f"run {newest.run_id} has no log", fix="It was not trained by mlops, or its artifacts are gone"
        )
    sys.stdout.write(data.decode("utf-8", "replace"))
    return 0


def _live(controller: Controller, view: View, name: str, run_id: str, *, follow: bool) -> None:
    """The log of a job that still runs, or that nobody collected yet."""
    from mlops.execution.registry import executor
    from mlops.resources import Experiment, Key

    resource = view.desired.resources[Key("Experiment", name)]
    assert isinstance(resource, Experiment)
    jobs = executor(resource.spec.executor, controller.home / "jobs")
    clean = controller.redactor.stream()  # a secret, like a character, may end in the next piece
    text = codecs.getincrementaldecoder("utf-8")("replace")
    offset = 0
    while True:
        ended = jobs.poll(run_id).ended or not follow
        chunk = jobs.log(run_id, offset)
        while chunk:
            sys.stdout.write(text.decode(clean.feed(chunk)))
            offset += len(chunk)
            chunk = jobs.log(run_id, offset)
        if ended:
            sys.stdout.write(text.decode(clean.flush(), True))
            return
        sys.stdout.flush()
        time.sleep(FOLLOW)


def _name(text: str) -> str:
    return text.partition("/")[2] if text.lower().startswith("experiment/") else text


def _experiment(view: View, text: str) -> Any:
    """The status of an Experiment; raises MlopsError when none has this name."""
    from difflib import get_close_matches

    from mlops.errors import MlopsError
    from mlops.resources import Key

    name = _name(text)
    made = view.planned.assessments.get(Key("Experiment", name))
    if made is None:
        near = get_close_matches(
            name, [key.name for key in view.planned.assessments if key.kind == "Experiment"], n=1
        )
        raise MlopsError(
            f"Experiment/{name} is not declared",
            fix=f"Did you mean {near[0]}?" if near else "See `mlops get`",
        )
    return made.status or {"runs": [], "best": None}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
