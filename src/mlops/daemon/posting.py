"""The loop's side of the board: what the HTTP server reads of the daemon, from its own threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mlops.daemon import requests, wakeups
from mlops.daemon.board import Found, Page, Role
from mlops.errors import MlopsError, Waiting
from mlops.execution.registry import executor
from mlops.report import EVENTS_SHOWN, Report, event_json
from mlops.training_log import LogPiece, Sources, TrainingLogs

if TYPE_CHECKING:
    from mlops.applying.status import Failure
    from mlops.daemon.loop import Daemon
    from mlops.view import View

LONGEST_PASS: Final = 600.0  # seconds; a loop in which nothing was seen to go on for that long is not well


class Posted:
    """A `Board` over a running daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._page: tuple[View, Mapping[str, Failure], Page] | None = None
        controller = daemon.controller
        self._logs = TrainingLogs(
            Sources(
                look=self._view,
                executor=lambda name: executor(name, controller.home / "jobs"),
                artifact=lambda run_id, path: controller.tracker.read_artifact(run_id, path),
                redactor=lambda: controller.redactor,
                attended=lambda: True,
            )
        )

    def role(self) -> Role:
        if self._daemon.term is not None:
            return "leader"
        return "standby" if self._daemon.stands_by else "starting"

    def unwell(self) -> str | None:
        daemon = self._daemon
        if daemon.term is None or daemon.came_round is None:
            return None
        silent = daemon.controller.monotonic() - daemon.came_round
        return f"the loop has not come round for {silent:.0f} s" if silent > LONGEST_PASS else None

    def unready(self) -> str | None:
        match self.role():
            case "standby":
                return None
            case "leader" if self._daemon.term is not None and self._daemon.term.view is not None:
                return None
        return self._daemon.journal.trouble or "no pass was made yet"

    def status(self) -> Page | None:
        term = self._daemon.term
        view = term.view if term is not None else None
        if term is None or view is None:
            return None
        failures = term.recorder.failures
        if self._page is None or self._page[0] is not view or self._page[1] != failures:
            controller = self._daemon.controller
            now, redact = controller.now(), controller.redactor.redact
            page = Page(lambda: Report.of(view, controller.state, now).to_json(), redact)
            self._page = view, failures, page
        return self._page[2]

    def events(self, resource: str) -> Sequence[Mapping[str, Any]]:
        found = self._daemon.controller.state.events(resource, limit=EVENTS_SHOWN)
        return [event_json(event) for event in found]

    def find(self, revision: str) -> Found | None:
        repository = self._daemon.controller.repository
        try:
            sha = repository.resolve(revision).sha
        except MlopsError:
            return None
        term = self._daemon.term
        base = term.view.planned.plan.base if term is not None and term.view is not None else None
        return Found(sha, base is not None and repository.is_ancestor(sha, base) is True)

    def log(self, experiment: str, run_id: str | None, offset: int) -> LogPiece:
        return self._logs.read(experiment, run_id, offset)

    def wake(self, reason: str) -> None:
        self._daemon.following.ask()
        self._daemon.wakeups.wake(wakeups.WEBHOOK)

    def reconcile(self, accept_rewrite: bool) -> str:
        controller = self._daemon.controller
        asked = requests.ask(
            controller.state, by="the API", now=controller.now(), accept_rewrite=accept_rewrite
        )
        self._daemon.wakeups.wake(wakeups.REQUEST)
        return asked.id

    def answer(self, request: str) -> Mapping[str, Any] | None:
        return requests.answer_to(self._daemon.controller.state, request)

    def _view(self) -> View:
        term = self._daemon.term
        if term is None or term.view is None:
            raise Waiting("no pass was made yet", fix="Ask again in a moment")
        return term.view
