"""`mlops wait`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mlops.cli.output import duration, say
from mlops.cli.reader import open_reader

if TYPE_CHECKING:
    from mlops.cli.reader import Reader
    from mlops.resources import Key

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
    from mlops.errors import MlopsError, Transient, Waiting
    from mlops.resources import Key
    from mlops.resources.quantities import render_duration

    key = Key.parse(what)
    until = time.monotonic() + timeout
    reader = open_reader(ctx)
    sha = look = fetched = None
    told = ""
    while True:
        try:
            if sha is None and revision is not None:
                sha = reader.find(revision)
            if sha is None:  # it may have been pushed a moment ago
                fetched = fetched or reader.fetch()
                sha = reader.find(revision) if fetched() else None
            look = _look(reader, key, sha) if sha else Look(_missing(revision))
        except (Transient, Waiting) as error:  # a store or a server that is away for a while is waited for
            if look is None and isinstance(error, Transient):  # one that never was there is not
                raise
            look = Look(str(error))
        if look.ready:
            say(f"{key} is ready at {look.text}")
            return 0
        if look.never:
            raise MlopsError(f"{key} will not become ready by itself: {look.text}")
        if time.monotonic() >= until:
            say(f"{key} is not ready after {render_duration(timeout)}: {look.text}")
            return 3 if look.blocked else 1
        if look.text != told:
            say(f"{key}: {look.text}")
            told = look.text
        time.sleep(min(LOOK_EVERY, max(0.0, until - time.monotonic())))


def _missing(revision: str | None) -> str:
    return "the daemon asks for news" if revision is None else f"there is no commit {revision} there yet"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: ready, at `text`; or `text` says why not, and whether waiting can help."""

    text: str
    ready: bool = False
    never: bool = False
    blocked: bool = False


def _look(reader: Reader, key: Key, sha: str) -> Look:
    """How a resource stands on the way to a revision."""
    from mlops.applying.status import STEP_FAILED
    from mlops.errors import MlopsError
    from mlops.planning.conditions import FAILURES

    report, in_force = reader.standing(sha)
    if report.refused is not None and report.head == sha and not in_force:
        return Look(f"{sha[:12]} does not come into force: {report.refused}", never=True)
    about_it = in_force or report.revision == sha  # else what is shown is how an older revision stands
    row = next((row for row in report.rows if row.key == key), None)
    if row is None and about_it:
        raise MlopsError(f"{key} is not declared at {report.revision[:12]}", fix="See `mlops get`")
    ready = row.condition("Ready") if row is not None else {}
    if in_force and ready["status"] == "True":
        later = f"{(report.in_force or '')[:12]}, which came after {sha[:12]}"
        return Look(sha[:12] if report.in_force == sha else later, ready=True)
    if not about_it or ready["status"] == "True":
        held = any("holder" in row.status for row in report.rows if row.key.kind == "Project")
        missing = f"{(report.in_force or 'no revision')[:12]} is in force, not {sha[:12]}"
        return Look(missing if held else f"{missing}; apply it")
    assert row is not None
    why = str(ready["message"] or ready["reason"])
    failed = ready["status"] == "False" and ready["reason"] in FAILURES
    never = failed or row.condition("Stalled").get("status") == "True"
    waits = ready["status"] == "False" and ready["reason"] not in {"Reconciling", *STEP_FAILED}
    return Look(why, never=never, blocked=waits)
