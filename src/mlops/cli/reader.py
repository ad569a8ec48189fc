"""Where `get`, `describe`, `tree`, `wait`, `runs` and `logs` read from: the project here, or a daemon elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click

from mlops.cli.output import open_controller

if TYPE_CHECKING:
    from mlops.controller import Controller
    from mlops.report import Report
    from mlops.training_log import LogPiece, TrainingLogs
    from mlops.view import View


@dataclass(frozen=True, slots=True)
class Asked:
    """The revision that the command line names."""

    revision: str | None = None
    working_tree: bool = False


class Reader(Protocol):
    """What can be read of a project."""

    def report(self, asked: Asked) -> Report:
        """Every resource, at the revision asked for."""
        ...

    def events(self, resource: str) -> Sequence[Mapping[str, Any]]:
        """The newest events of a `Kind/name`, newest first, as `event_json` gives them."""
        ...

    def find(self, revision: str | None) -> str | None:
        """The full sha of a revision, by default of the newest; None for one that is not there yet."""
        ...

    def fetch(self) -> Callable[[], bool]:
        """Have a daemon that follows a remote ask it now; gives what tells whether that was done."""
        ...

    def standing(self, sha: str) -> tuple[Report, bool]:
        """How things stand on the way to a revision, and whether it, or one that descends from it, is in force."""
        ...

    def log(self, experiment: str, run_id: str | None, offset: int, asked: Asked) -> LogPiece:
        """A piece of a run's log; see `TrainingLogs.read`."""
        ...

    def now(self) -> float:
        """Seconds since the epoch."""
        ...


def open_reader(ctx: click.Context) -> Reader:
    """The reader that the command line asks for; closed when the command ends."""
    if ctx.obj["server"] is None:
        return Here(ctx, open_controller(ctx))
    from mlops.cli.server import open_server

    return open_server(ctx)


class Here:
    """Reads git, MLflow and the state of the project on this machine; whether a daemon runs makes no difference."""

    def __init__(self, ctx: click.Context, controller: Controller) -> None:
        self._controller = controller
        self._logs: TrainingLogs | None = None
        self._on_close = ctx.call_on_close

    def report(self, asked: Asked) -> Report:
        return self._report(self._look(asked))

    def events(self, resource: str) -> Sequence[Mapping[str, Any]]:
        from mlops.report import EVENTS_SHOWN, event_json

        return [event_json(event) for event in self._controller.state.events(resource, EVENTS_SHOWN)]

    def find(self, revision: str | None) -> str | None:
        from mlops.errors import MlopsError

        try:
            return self._controller.snapshot(revision).revision
        except MlopsError:
            if not self._mirrored:
                raise
            return None  # not fetched yet

    def fetch(self) -> Callable[[], bool]:
        from mlops.cli.reconcile import leading
        from mlops.daemon.requests import answer_to, ask

        controller = self._controller
        if self._mirrored:
            controller.open(controller.snapshot())
        if not self._mirrored or leading(controller) is None:
            return lambda: True
        asked = ask(controller.state, by="mlops wait", now=controller.now())
        return lambda: answer_to(controller.state, asked.id) is not None or leading(controller) is None

    @property
    def _mirrored(self) -> bool:
        return self._controller.repository.bare

    def standing(self, sha: str) -> tuple[Report, bool]:
        view = self._controller.look(sha)
        force = view.planned.plan.base
        if force is None or force == sha:
            return self._report(view), force == sha
        later = self._controller.repository.is_ancestor(sha, force) is True
        return self._report(self._controller.look(force) if later else view), later

    def log(self, experiment: str, run_id: str | None, offset: int, asked: Asked) -> LogPiece:
        if self._logs is None:
            self._logs = self._open_logs(asked)
        return self._logs.read(experiment, run_id, offset)

    def now(self) -> float:
        return self._controller.now()

    def _look(self, asked: Asked) -> View:
        return self._controller.look(asked.revision, working_tree=asked.working_tree)

    def _report(self, view: View) -> Report:
        from mlops.report import Report

        return Report.of(view, self._controller.state, self._controller.now())

    def _open_logs(self, asked: Asked) -> TrainingLogs:
        from mlops.execution.registry import executor
        from mlops.training_log import Sources, TrainingLogs

        ours = self._controller
        logs = TrainingLogs(
            Sources(
                look=lambda: self._look(asked),
                executor=lambda name: executor(name, ours.home / "jobs"),
                artifact=lambda run_id, path: ours.tracker.read_artifact(run_id, path),
                redactor=lambda: ours.redactor,
                attended=lambda: ours.state.lease_holder(ours.project_name) is not None,
            )
        )
        self._on_close(logs.close)
        return logs
