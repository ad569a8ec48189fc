"""`mlops daemon`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops.cli.output import know_secrets

if TYPE_CHECKING:
    from mlops.controller import Controller
    from mlops.daemon.following import Following
    from mlops.daemon.loop import Daemon
    from mlops.daemon.metrics import Metrics

LONGEST_END = 5.0  # seconds after which the process ends although a call to a store still hangs


@click.command()
@click.option(
    "--source", metavar="PATH_OR_URL", help="Follow this repository (https, ssh, a path) in a mirror."
)
@click.option(
    "--home",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --source: where stores and jobs are. Default: $XDG_STATE_HOME/mlops/<project>.",
)
@click.option("--listen", metavar="ADDR:PORT", help="Serve health, metrics, the API and webhooks over HTTP.")
@click.option("--working-tree", is_flag=True, help="Follow the files as they stand, instead of the branch.")
@click.option(
    "--stop-jobs", is_flag=True, help="When stopped, end the jobs that run instead of leaving them."
)
@click.pass_context
def daemon(
    ctx: click.Context,
    source: str | None,
    home: Path | None,
    listen: str | None,
    working_tree: bool,
    stop_jobs: bool,
) -> int:
    """Keep MLflow as the branch says: reconcile each commit, heal what is changed by hand, until stopped.

    Follows Project.spec.source.branch of the repository here, or of --source. SIGTERM and Ctrl-C stop it within
    seconds; jobs go on and are taken up by the next daemon.
    """
    if home is not None and source is None:
        raise click.UsageError("--home goes with --source; a checkout is its own home")
    if source is not None and working_tree:
        raise click.UsageError("--working-tree follows the files here; leave out --source")
    stopping = threading.Event()
    _on_signals(stopping.set)
    from mlops.daemon.journal import Journal
    from mlops.daemon.logs import logging_to
    from mlops.daemon.loop import Daemon
    from mlops.daemon.metrics import Metrics
    from mlops.source import git

    with ExitStack() as stack:
        stream = getattr(sys.stderr, "stream", sys.stderr)  # lines are redacted once, not twice
        secrets = _Secrets()
        stack.enter_context(logging_to(stream, secrets.redact, level=_level(ctx)))
        metrics = Metrics()
        journal = Journal(metrics)
        if source is None:
            controller, following = _here(ctx, journal, working_tree)
        else:
            controller, following = _mirrored(ctx, journal, source, home, stopping)
        controller.on_redactor = secrets.know
        controller.on_warning = lambda warning: journal.say("Warning", warning, warning=True)
        git.on_call = lambda command, seconds, failed: metrics.called("git", command, seconds, failed)
        controller.on_call = lambda doing, seconds, failed: metrics.called("mlflow", doing, seconds, failed)
        process = Daemon(
            controller,
            following,
            journal,
            working_tree=working_tree,
            stop_jobs=stop_jobs,
            stopping=stopping,
        )
        _on_signals(process.stop)
        if listen is not None:
            stack.enter_context(_serving(process, metrics, listen, secrets))
        process.run()
    return 0


class _Secrets:
    """The redactor of the log, which knows more once the Project is read."""

    def __init__(self) -> None:
        from mlops.redaction import Redactor

        self._redactor = Redactor.from_environ(os.environ, ())

    def redact(self, text: str) -> str:
        return self._redactor.redact(text)

    def know(self, redactor: Any) -> None:
        self._redactor = redactor
        know_secrets(redactor)


def _level(ctx: click.Context) -> int:
    import logging

    return logging.DEBUG if ctx.obj["debug"] else logging.INFO


def _here(ctx: click.Context, journal: Any, working_tree: bool) -> tuple[Controller, Following]:
    from mlops.controller import Controller
    from mlops.daemon.following import LocalBranch

    controller = Controller.find(Path(ctx.obj["project"] or "."))
    warn = lambda text: journal.say("Warning", text, warning=True)  # noqa: E731
    return controller, LocalBranch(controller.repository, controller.root, files=working_tree, warn=warn)


def _mirrored(
    ctx: click.Context,
    journal: Any,
    source: str,
    home: Path | None,
    stopping: threading.Event,
) -> tuple[Controller, Following]:
    from mlops.controller import Controller
    from mlops.daemon.following import RemoteBranch
    from mlops.daemon.homes import home_of

    def told(why: str) -> None:
        journal.say("RemoteAway", why, warning=True)

    def pause(seconds: float) -> None:
        if stopping.wait(seconds):
            raise click.exceptions.Exit(0)

    folder = ctx.obj["project"] or ""
    place = home_of(source, home, folder=folder, environ=os.environ, told=told, pause=pause)
    controller = Controller(place.home, mirror=place.mirrored)

    trouble = ""

    def fetched(seconds: float, error: Exception | None) -> None:
        nonlocal trouble
        before, trouble = trouble, str(error or "")
        if trouble and trouble != before:  # the same is told once, as long as it lasts
            journal.say("FetchFailed", trouble, warning=True)
        elif before and not trouble:
            journal.say("FetchRecovered", "the remote answers again")

    controller.remote = place.mirror.remote
    return controller, RemoteBranch(place.mirror, controller.repository, place.branch, fetched=fetched)


def _on_signals(stop: Callable[[], None]) -> None:
    def end() -> None:
        stop()
        time.sleep(LONGEST_END)
        os._exit(0)  # a call to a store that hangs is not waited for: whatever it does can be done again

    def stopped(number: int, frame: object) -> None:
        # Not here: the signal may have come while this thread holds a lock that stopping takes.
        try:
            threading.Thread(target=end, name="mlops-end", daemon=True).start()
        except RuntimeError:  # the machine has no thread left
            stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopped)


def _serving(process: Daemon, metrics: Metrics, listen: str, secrets: _Secrets) -> Any:
    from mlops.daemon.http import serving
    from mlops.daemon.posting import Posted

    return serving(Posted(process), metrics, listen, environ=os.environ, redact=secrets.redact)
