"""What the servers of both forges share: a loopback HTTP server that keeps to a contract, and faults on request."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

from forges.contract import Contract

CANARY = "ghp_canaryTokenThatIsNeverShown0123456789"


@dataclass(frozen=True)
class Request:
    """A request that was made; `status` is what it was answered with."""

    method: str
    path: str
    query: str
    body: Any
    headers: dict[str, str]
    status: int


@dataclass
class Fault:
    """What happens instead of an answer: a status, a pause before it, a body that is huge or dripping."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    pause: float = 0.0
    drip: float = 0.0
    hang_up: bool = False
    after: bool = False  # the request is carried out before it fails
    only: str = ""  # a part of the method and path of the requests that it is for
    times: int = 1


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class ForgeServer:
    """A stateful forge on loopback. Leaving the `with` fails if anybody broke the published contract.

    Attributes:
        requests: every request that came.
        broken: what in requests and answers was not as published.
        paid: how many requests count against the limit: all but those answered 304.
    """

    contract: Contract
    authorization: str
    prefix = ""  # of the paths, where the API is not at the root

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.broken: list[str] = []
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.host = f"http://127.0.0.1:{self._server.server_port}"
        self.url = self.host + self.prefix
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._serving.join()
        if error is None:
            assert not self.broken, "\n".join(self.broken)

    @property
    def paid(self) -> int:
        return sum(request.status != 304 for request in self.requests)

    def fail(self, status: int = 500, **fault: Any) -> None:
        """Answer the next requests (`times`, those that `only` names) with a fault."""
        self._faults.append(Fault(status, **fault))

    def count(self, method: str, part: str = "") -> int:
        """How many requests of a method had `part` in their path."""
        return sum(request.method == method and part in request.path for request in self.requests)

    def routed(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        raise NotImplementedError

    def answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        path, _, query = handler.path.partition("?")
        length = int(handler.headers.get("Content-Length") or 0)
        sent = handler.rfile.read(length)
        body = json.loads(sent) if sent else None
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            fault = next((f for f in self._faults if f.only in f"{method} {path}"), None)
            if fault is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
            if fault is None or fault.after:
                answer = self._answered(method, path, query, body, headers)
            status = answer.status if fault is None else fault.status
            self.requests.append(Request(method, path, query, body, headers, status))
        if fault is not None:
            self._stopped.wait(fault.pause)
            if fault.hang_up:
                handler.close_connection = True
            else:
                _write(handler, fault.status, fault.body, fault.headers, fault.drip, self._stopped)
            return
        _write(handler, answer.status, b"" if answer.status == 304 else _json(answer.body), answer.headers)

    def _answered(self, method: str, path: str, query: str, body: Any, headers: dict[str, str]) -> Answer:
        inner = path.removeprefix(self.prefix)
        operation = self.contract.operation(method, inner)
        if operation is None:
            self.broken.append(f"{method} {path}: no such operation")
            return Answer(404, {"message": "Not Found"})
        if headers.get("authorization") != self.authorization:
            return Answer(401, {"message": "Bad credentials"})
        if faults := operation.broken_by_request(query, body):
            self.broken += [f"{method} {path}: {fault}" for fault in faults]
            return Answer(422, {"message": "Validation Failed"})
        answer = self.routed(method, unquote(inner), dict(parse_qsl(query)), body)
        self.broken += [
            f"answer to {method} {path}: {fault}"
            for fault in operation.broken_by_answer(answer.status, answer.body)
        ]
        etag = f'W/"{hashlib.sha256(_json(answer.body)).hexdigest()}"'
        if method == "GET" and answer.status == 200 and self.has_etags:
            if headers.get("if-none-match") == etag:
                return Answer(304, None, {"ETag": etag, **answer.headers})
            return Answer(200, answer.body, {"ETag": etag, **answer.headers})
        return answer

    has_etags = True


def moment() -> Callable[[], str]:
    """ISO times, each a second after the one before."""
    at = [1_767_225_600]

    def tick() -> str:
        at[0] += 1
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at[0]))

    return tick


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


def _write(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str],
    drip: float = 0.0,
    stopped: threading.Event | None = None,
) -> None:
    try:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if status != 304:
            handler.send_header("Content-Type", "application/json; charset=utf-8")
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if drip and stopped is not None:
            for byte in body:
                handler.wfile.write(bytes((byte,)))
                if stopped.wait(drip):
                    return
        else:
            handler.wfile.write(body)
    except (BrokenPipeError, ConnectionResetError):
        handler.close_connection = True


def _handler(server: ForgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body go in two writes
        timeout = 30

        def do_GET(self) -> None:
            server.answer(self, "GET")

        def do_POST(self) -> None:
            server.answer(self, "POST")

        def do_PATCH(self) -> None:
            server.answer(self, "PATCH")

        def log_message(self, format: str, *args: Any) -> None: ...

    return Handler
