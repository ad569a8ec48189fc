"""`mlops history`."""

from __future__ import annotations

import click

from mlops.cli.output import console, open_controller, output_option, print_json, revision_options, say


@click.command()
@click.argument("model", required=False)
@click.option("--at", "moment", metavar="TIME", help="Only what was in a stage at that time (ISO 8601, UTC).")
@revision_options
@output_option("json")
@click.pass_context
def history(
    ctx: click.Context,
    model: str | None,
    moment: str | None,
    revision: str | None,
    working_tree: bool,
    output: str | None,
) -> int:
    """Tell who promoted what where and when, approved by whom, on what evidence; newest first.

    MODEL keeps one model. It is read from MLflow, so it survives the loss of everything else.
    """
    from mlops.errors import MlopsError
    from mlops.observation.history import at, parse_time, promotions
    from mlops.resources import Key, Model

    when = parse_time(moment) if moment else None
    controller = open_controller(ctx)
    view = controller.look(revision, working_tree=working_tree)
    rows = promotions(view.observed.ledger, view.desired.project, controller.tracker.read_artifact, say)
    if model is not None:
        resource = view.desired.resources.get(Key("Model", model))
        registered = resource.spec.registered_name if isinstance(resource, Model) else None
        rows = tuple(row for row in rows if row.model in (model, registered))
        if not rows and resource is None:
            raise MlopsError(
                f"Model/{model} is not declared and was never promoted", fix="See `mlops get model`"
            )
    if when is not None:
        rows = at(rows, when)
    if output == "json":
        print_json({"promotions": [row.to_json() for row in rows]})
        return 0
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in (
        "MODEL",
        "STAGE",
        "VERSION",
        "SINCE",
        "UNTIL",
        "REVISION",
        "APPROVED BY",
        "DIGEST",
        "EVIDENCE",
    ):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(
            row.model,
            row.stage,
            f"{row.version} (v{row.number})",
            row.stay.since[:19].replace("T", " "),
            (row.stay.until or "now")[:19].replace("T", " "),
            row.stay.revision[:8],
            ", ".join(str(approval.get("who", "")) for approval in row.stay.approved_by) or "none required",
            (row.stay.digest or row.digest or "")[:15],
            (row.stay.evidence or "")[:15],
        )
    console().print(table)
    return 0
