"""`mlops schema` and `mlops version`."""

from __future__ import annotations

import sys

import click

from mlops import __version__
from mlops.cli.output import open_controller, output_option, print_json


@click.command()
@click.argument("kind", required=False)
def schema(kind: str | None) -> int:
    """Print the JSON Schema (2020-12) of KIND, or one for any kind."""
    from mlops.resources.key import parse_kind
    from mlops.resources.schema import schema as schema_of

    print_json(schema_of(parse_kind(kind) if kind else None))
    return 0


@click.command()
@output_option("json")
@click.pass_context
def version(ctx: click.Context, output: str | None) -> int:
    """Print the versions of mlops, of what it stands on, and of the project's stores."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from mlops.errors import MlopsError

    rows = {"mlops": __version__, "python": sys.version.split()[0]}
    for name in ("mlflow", "pydantic", "pyarrow", "uv", "deltalake", "psycopg", "ray"):
        try:
            rows[name] = installed(name)
        except PackageNotFoundError:
            continue
    from mlops.monitoring.alibi.licence import notice

    if (alibi := notice()) is not None:
        rows["alibi-detect"] = alibi.removeprefix("alibi-detect ")
    try:
        controller = open_controller(ctx)
        project = controller.open(controller.snapshot(working_tree=True))
        rows["project"] = project.metadata.name
        rows["tracking"] = controller.tracker.versions()["store"]
        rows["state"] = controller.state.database.place
    except MlopsError as error:
        rows["project"] = f"none ({error.what})"
    if output == "json":
        print_json(rows)
    else:
        width = max(map(len, rows))
        for name, value in rows.items():
            print(f"{name:<{width}}  {value}")
    return 0
