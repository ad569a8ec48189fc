"""A board in memory, the real HTTP server over it, and a plain client."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from mlops.cli import run
from mlops.daemon.board import Found, Page, Role
from mlops.daemon.http import HttpServer, serving
from mlops.daemon.metrics import Metrics
from mlops.redaction import Redactor
from mlops.training_log import LogPiece

TOKEN = "token-of-the-tests-1234"
SECRET = "secret-of-the-hook-5678"
ENVIRON = {"MLOPS_API_TOKEN": TOKEN, "MLOPS_WEBHOOK_SECRET": SECRET}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class BoardInMemory:
    """Holds what a test puts there, and what it was told."""

    is_role: Role = "leader"
    ill: str | None = None
    waits: str | None = None
    shown: Mapping[str, Any] | None = None
    told: list[str] = field(default_factory=list)
    made: int = 0  # pages serialised
    on_events: Callable[[str], Sequence[Mapping[str, Any]]] = lambda resource: []
    on_find: Callable[[str], Found | None] = lambda revision: None
    on_log: Callable[[str, str | None, int], LogPiece] = lambda experiment, run_id, offset: LogPiece(
        "r1", "fit-1", "running", b"line\n"[offset:], 5, ended=False
    )
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    page: Page | None = None

    def role(self) -> Role:
        return self.is_role

    def unwell(self) -> str | None:
        return self.ill

    def unready(self) -> str | None:
        return self.waits

    def post(self, shown: Mapping[str, Any]) -> None:
        """A pass ended."""
        self.shown, self.page = shown, None

    def status(self) -> Page | None:
        shown = self.shown
        if shown is not None and self.page is None:

            def make() -> Mapping[str, Any]:
                self.made += 1
                return shown

            self.page = Page(make, REDACT)
        return self.page if shown is not None else None

    def events(self, resource: str) -> Sequence[Mapping[str, Any]]:
        return self.on_events(resource)

    def find(self, revision: str) -> Found | None:
        return self.on_find(revision)

    def log(self, experiment: str, run_id: str | None, offset: int) -> LogPiece:
        return self.on_log(experiment, run_id, offset)

    def wake(self, reason: str) -> None:
        self.told.append(reason)

    def reconcile(self, accept_rewrite: bool) -> str:
        self.told.append(f"reconcile {accept_rewrite}")
        return "r-1"

    def answer(self, request: str) -> Mapping[str, Any] | None:
        return self.answers.get(request)


REDACT = Redactor(("canary-of-the-tests",)).redact


@dataclass
class Response:
    """An answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Site:
    """A server under test, and what is behind it."""

    server: HttpServer
    board: BoardInMemory
    metrics: Metrics
    clock: Clock

    @property
    def url(self) -> str:
        return f"http://{self.server.address}"

    @property
    def where(self) -> tuple[str, int]:
        host, _, port = self.server.address.rpartition(":")
        return host.strip("[]"), int(port)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(self.where, timeout=20)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.where, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Response:
        """One GET with the API's token."""
        return self.ask("GET", path, headers={**BEARER, **headers})

    def counted(self, name: str) -> dict[str, float]:
        """A metric's values by its label."""
        lines = self.metrics.render().decode().splitlines()
        rows = [line for line in lines if line.startswith(name + "{")]
        return {row.split('"')[1]: float(row.rpartition(" ")[2]) for row in rows}


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str


Mlops = Callable[..., Ran]


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Run one command line in this process; whatever goes wrong is a sentence without the token."""
    capsys.readouterr()
    code = run(list(arguments))
    ran = Ran(code, *capsys.readouterr())
    assert "Traceback" not in ran.err
    assert "defect of mlops" not in ran.err
    assert TOKEN not in ran.out + ran.err
    return ran


@contextmanager
def site(listen: str = "127.0.0.1:0", environ: Mapping[str, str] = ENVIRON) -> Iterator[Site]:
    """A server over a board in memory."""
    board, metrics, clock = BoardInMemory(), Metrics(), Clock()
    with serving(board, metrics, listen, environ=environ, redact=REDACT, monotonic=clock) as server:
        yield Site(server, board, metrics, clock)


def signature(body: bytes, secret: str = SECRET) -> str:
    """What a forge sends as X-Hub-Signature-256."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
