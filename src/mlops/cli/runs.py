"""`mlops runs` and `mlops logs`."""

from __future__ import annotations

import codecs
import sys
import time
from typing import Any

import click

from mlops.cli.output import console, output_option, print_json, revision_options, say
from mlops.cli.reader import Asked, open_reader
from mlops.cli.status import chosen

FOLLOW = 0.2  # seconds between looks at a growing log
AGAIN = 1.0  # seconds between looks for the next attempt, or for a store or server that is away
PATIENCE = 60.0  # seconds for which it may be away


@click.command()
@click.argument("experiment")
@revision_options
@output_option("json")
@click.pass_context
def runs(
    ctx: click.Context, experiment: str, revision: str | None, working_tree: bool, output: str | None
) -> int:
    """List the trials of EXPERIMENT: parameters, metrics, fingerprint, state; the best is marked."""
    report = open_reader(ctx).report(Asked(revision, working_tree))
    status = chosen(report.rows, f"Experiment/{_name(experiment)}")[0].status or {"runs": [], "best": None}
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
    """Print the training log of the experiment's newest run.

    With -f it goes on while the run does, and with the next attempt if this one failed and is tried again.
    """
    from mlops.errors import Transient, Waiting

    reader, asked = open_reader(ctx), Asked(revision, working_tree)
    name, run_id, offset, shown = _name(experiment), None, 0, None
    text = codecs.getincrementaldecoder("utf-8")("replace")
    away = 0.0
    while True:
        try:
            piece = reader.log(name, run_id, offset, asked)
        except (Transient, Waiting):  # a daemon that is started again is back in a moment
            if not follow or run_id is None or away >= PATIENCE:
                raise
            away += AGAIN
            time.sleep(AGAIN)
            continue
        away = 0.0
        if piece.run_id != shown:
            say(f"run {piece.run_id} ({piece.name}, {piece.status})")
        run_id = shown = piece.run_id
        offset = piece.next_offset
        sys.stdout.write(text.decode(piece.data))  # a character, too, may end in the next piece
        if piece.data and not piece.ended:
            continue
        if piece.ended or not follow:
            sys.stdout.write(text.decode(b"", True))
            text.reset()
        if not follow or (piece.ended and piece.next_run is None and not piece.due):
            return 0
        if piece.ended and piece.next_run is not None:
            run_id, offset = piece.next_run, 0
            continue
        sys.stdout.flush()
        time.sleep(AGAIN if piece.ended else FOLLOW)


def _name(text: str) -> str:
    return text.partition("/")[2] if text.lower().startswith("experiment/") else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
