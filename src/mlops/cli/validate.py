"""`mlops validate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops.cli.output import open_controller, output_option, print_json, print_problems, say

if TYPE_CHECKING:
    from mlops.errors import Location
    from mlops.resources import Problem


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--revision", metavar="REV", help="Check a commit instead of the working tree.")
@output_option("json", "github")
@click.pass_context
def validate(ctx: click.Context, paths: tuple[Path, ...], revision: str | None, output: str | None) -> int:
    """Check every document of the working tree: schema, references, graph; all errors at once.

    With PATHs, only the errors in these files or folders are shown.
    """
    controller = open_controller(ctx)
    loaded = controller.check(revision)
    problems = loaded.problems
    places = list(loaded.locations.values())
    if paths:
        wanted = [Path(os.path.normpath(path.absolute())) for path in paths]
        for path, given in zip(wanted, paths, strict=True):
            if revision is None and not path.exists():
                raise click.UsageError(f"there is no {given}")

        def meant(place: Location) -> bool:
            return any(
                Path(os.path.normpath(controller.root / place.file)).is_relative_to(path) for path in wanted
            )

        problems = tuple(problem for problem in problems if meant(problem.location))
        places = [place for place in places if meant(place)]
    if output == "json":
        rows = [
            {
                "file": problem.location.file,
                "line": problem.location.line,
                "column": problem.location.column,
                "resource": problem.resource,
                "field": problem.field,
                "message": problem.what,
                "fix": problem.fix,
            }
            for problem in problems
        ]
        print_json({"errors": rows})
    elif output == "github":
        top = Path(os.path.relpath(controller.root, controller.repository.root))
        for problem in problems:
            print(_annotation(problem, top))
    elif not print_problems(problems):
        count = len(places)
        say(f"{count} resource{'s' if count != 1 else ''} in order")
    return 1 if problems else 0


def _annotation(problem: Problem, top: Path) -> str:
    """A problem of the project in the folder `top` of its repository: GitHub counts from there.

    A workflow command of GitHub Actions; escaped as its toolkit does, so that no text can forge another."""
    location = problem.location
    title = _property(problem.resource or "mlops")
    place = f"file={_property((top / location.file).as_posix())},line={location.line or 1},col={location.column or 1}"
    what, fix = problem.what, problem.fix
    field = f"{problem.field}: " if problem.field else ""
    return f"::error {place},title={title}::{_data(f'{field}{what}. {fix}')}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
