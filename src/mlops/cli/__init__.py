"""The command line. Commands are imported when they are called, so `--help` answers at once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from mlops import __version__

if TYPE_CHECKING:
    from mlops.errors import MlopsError

USAGE: Final = 64

# name → (module below mlops.cli, what it does); the order is that of `mlops --help`
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("init", "Make a working project: resources, training script, data, workflows."),
    "validate": ("validate", "Check every document: schema, references, graph. No MLflow, no network."),
    "plan": ("plan", "Show what would change and why; writes nothing, runs nothing."),
    "apply": ("apply", "Make MLflow match the revision: train, register, bind, promote, heal."),
    "train": ("apply", "Do only the training that the plan holds."),
    "daemon": ("daemon", "Keep MLflow as the branch says: follow commits, heal, until stopped."),
    "get": ("status", "List resources with sync, health, revision and age."),
    "describe": ("status", "Show one resource: conditions, gates, events."),
    "tree": ("status", "Draw the graph of resources with their status."),
    "wait": ("wait", "Wait until a resource is ready at a revision, or say why not."),
    "runs": ("runs", "List an experiment's trials: parameters, metrics, state; the best marked."),
    "logs": ("runs", "Print the training log of an experiment's newest run."),
    "monitor": ("monitor", "Watch what is in production: run, status, backtest, report."),
    "history": ("history", "Tell who promoted what where, when, and on what evidence."),
    "approve": ("approve", "Sign that a promotion may happen: a tag over its version and its bytes."),
    "promote": ("promote", "Ask for a version in a stage: a commit on a branch, for review."),
    "rollback": ("promote", "Ask for the version that was in the stage before."),
    "pin": ("promote", "Pin data and versions to what they are now."),
    "reconcile": ("reconcile", "Wake the daemon, or have it accept a rewritten history."),
    "suspend": ("suspend", "Freeze a resource: set spec.suspend in the working tree."),
    "resume": ("suspend", "Let a frozen resource go on: remove spec.suspend in the working tree."),
    "schema": ("schema", "Print the JSON Schema of a kind, or of all."),
    "version": ("schema", "Print the versions of mlops and of its stores."),
}

# Those that work with --server, too.
OVER_HTTP: Final = ("get", "describe", "tree", "wait", "runs", "logs", "reconcile")


class Commands(click.Group):
    """Lists commands from a table and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        from importlib import import_module

        command = getattr(import_module(f"mlops.cli.{COMMANDS[name][0]}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean `mlops {near[0]}`?" if near else "See `mlops --help`."
            raise click.UsageError(f"{error.message} {hint}", ctx) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--project", metavar="DIR", help="The project's folder. Default: the nearest upward with mlops.yaml."
)
@click.option("--server", metavar="URL", help="Read from a daemon's HTTP API. Its token: MLOPS_API_TOKEN.")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.version_option(__version__, prog_name="mlops", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, project: str | None, server: str | None, debug: bool) -> None:
    """Argo CD for machine learning: git declares, MLflow is made to match.

    A pull request is the approval. Start with `mlops init`, then `mlops plan` and `mlops apply`.
    """
    from mlops.cli.output import guard_streams

    command = ctx.invoked_subcommand
    if server is not None and project is not None:
        raise click.UsageError("--project reads here and --server reads there: name one of them")
    if server is not None and command in COMMANDS and command not in OVER_HTTP:
        raise click.UsageError(
            f"`mlops {command}` needs the project itself: leave out --server, and name it with --project. "
            f"Over HTTP there are {', '.join(OVER_HTTP)}"
        )
    ctx.obj = {"project": project, "server": server, "debug": debug}
    guard_streams()


def main() -> NoReturn:
    """The entry point of the command `mlops`."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone; the interpreter's own flush would complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def run(args: list[str]) -> int:
    """Run one command line; gives its exit code."""
    from mlops.errors import MlopsError

    try:
        result = cli.main(args=args, prog_name="mlops", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return 1
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    except MlopsError as error:
        return _report(error, args)
    except OSError as error:  # a full disk, a folder that may not be read
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
        told = MlopsError(error.strerror or type(error).__name__, where=where, fix="Mend it and run again.")
        return _report(told, args)
    except Exception as error:  # a defect of this program; whoever meets it gets a sentence, not its source
        fix = "This is a defect of mlops: run it again as `mlops --debug …`, and report what it prints."
        return _report(MlopsError(f"{type(error).__name__}: {error}", fix=fix), args)


def _report(error: MlopsError, args: list[str]) -> int:
    from mlops.cli.output import say

    if "--debug" in args:
        import traceback

        traceback.print_exc()
    say(f"error: {error}")
    return 1
