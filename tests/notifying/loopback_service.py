"""A real HTTP server that answers as a test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Service:
    """What reached a server, and how it answers by path: HTTP statuses in turn, the last for good; or a fault."""

    port: int = 0
    answers: dict[str, list[int | str]] = field(default_factory=dict)
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    hanging: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def url(self, path: str, userinfo: str = "") -> str:
        return f"json://{userinfo}127.0.0.1:{self.port}/{path}"

    def reached(self, path: str) -> list[dict[str, Any]]:
        return [body for at, body in self.got if at == f"/{path}"]

    def next(self, path: str) -> int | str:
        answers = self.answers.get(path.strip("/"), [200])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def serving() -> Iterator[Service]:
    """Such a server on a free port of 127.0.0.1."""
    served = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.got.append((self.path, body))
            match served.next(self.path):
                case "hang":
                    served.hanging.release()
                    served.released.wait(30)
                case "drip":
                    self._bytes(b" ", 0.05)
                case "flood":
                    self._bytes(b" " * 2**20, 0)
                case int(status):
                    self.send_response(status)
                    if 300 <= status < 400:
                        self.send_header("Location", f"http://127.0.0.1:{served.port}/elsewhere")
                    self.end_headers()

        def do_GET(self) -> None:
            served.got.append((self.path, {}))
            self.send_response(200)
            self.end_headers()

        def _bytes(self, chunk: bytes, pause: float) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while not served.released.is_set():
                    self.wfile.write(chunk)
                    self.wfile.flush()
                    time.sleep(pause)
            except OSError:
                return  # who listened is gone, as it should be

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield served
    served.released.set()
    server.shutdown()
    server.server_close()
