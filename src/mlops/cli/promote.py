"""`mlops promote`, `mlops rollback` and `mlops pin`: changes written to a branch, for people to review."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from mlops.cli.output import open_controller, output_option, print_json, say

if TYPE_CHECKING:
    from mlops.applying.writing_back import Written
    from mlops.proposing.proposal import Moot
    from mlops.writing import Writer

_onto = click.option(
    "--revision",
    metavar="REV",
    help="What the change is made for. Default: the head of `source.branch`, here.",
)


@click.command()
@click.argument("model")
@click.argument("version")
@click.option("--to", "stage", metavar="STAGE", required=True, help="The stage that is to have it.")
@_onto
@output_option("json")
@click.pass_context
def promote(
    ctx: click.Context, model: str, version: str, stage: str, revision: str | None, output: str | None
) -> int:
    """Ask for VERSION of MODEL in a stage: one line of YAML, committed on a branch of its own.

    The branch is pushed where the repository has a remote called origin. Nothing is promoted before it is merged and
    the stage's gates and approvals let it. Neither the working tree nor the index is touched.
    """
    return _write(ctx, revision, output, lambda writer: writer.promote(model, version, stage))


@click.command()
@click.argument("promotion", metavar="PROMOTION")
@click.option("--to", "version", metavar="VERSION", help="Another version than the one before.")
@_onto
@output_option("json")
@click.pass_context
def rollback(
    ctx: click.Context, promotion: str, version: str | None, revision: str | None, output: str | None
) -> int:
    """Ask for the version that was in the stage of PROMOTION before, on a branch of its own."""
    name = promotion.removeprefix("Promotion/")
    return _write(ctx, revision, output, lambda writer: writer.roll_back(name, version))


@click.command()
@click.argument("what", metavar="KIND/NAME...", nargs=-1, required=True)
@_onto
@output_option("json")
@click.pass_context
def pin(ctx: click.Context, what: tuple[str, ...], revision: str | None, output: str | None) -> int:
    """Pin Datasets to the bytes that they hold now, and ModelVersions to their run and its bytes, on a branch."""
    from mlops.resources import Key

    keys = [Key.parse(one) for one in what]
    return _write(ctx, revision, output, lambda writer: writer.pin(keys))


def _write(
    ctx: click.Context,
    revision: str | None,
    output: str | None,
    ask: Callable[[Writer], Written | Moot],
) -> int:
    from mlops.proposing.proposal import Moot
    from mlops.writing import Writer

    writer = Writer(open_controller(ctx), revision)
    written = ask(writer)
    if isinstance(written, Moot):
        say(f"{written.reason}; nothing was written")
        if output == "json":
            print_json(
                {
                    "branch": None,
                    "commit": None,
                    "files": [],
                    "new": False,
                    "pushed": False,
                    "pullRequest": None,
                }
            )
        return 0
    say(f"{written.proposal.title}{'' if written.new else ': exists already'}")
    if written.new and output is None:
        click.echo(writer.difference(written), nl=False)
    say(f"branch {written.proposal.branch}, commit {written.commit[:12]}")
    shown = writer.publish(written)
    if shown.pushed:
        say("pushed to origin")
    missing = writer.missing_token if shown.pushed else None
    if missing is None:
        shown = writer.request(shown)
    else:
        say(
            f"no pull request was opened, as {missing} is not set: open it yourself, or set it and do this again"
        )
    request = shown.pull_request
    if request is not None:
        say(f"pull request #{request.number}: {request.url}")
    if output == "json":
        print_json(
            {
                "branch": shown.proposal.branch,
                "commit": shown.commit,
                "files": sorted(shown.proposal.files),
                "new": shown.new,
                "pushed": shown.pushed,
                "pullRequest": {"number": request.number, "url": request.url}
                if request is not None
                else None,
            }
        )
    say(f"next: mlops plan --revision {shown.proposal.branch}")
    if request is not None:
        say("then have the pull request reviewed and merged")
    elif shown.pushed:
        say(f"then have it reviewed, and merged into {writer.branch}")
    else:
        say(f"then: git merge {shown.proposal.branch}")
    return 0
