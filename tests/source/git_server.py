"""A git host on this machine: git's own smart http backend behind a small server that remembers what it was asked."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit


@dataclass
class GitServer:
    """Serves the bare repositories below `root`.

    Attributes:
        login: `user:password` that it asks for, None for none.
        redirect: another server's URL that everything is redirected to.
        echo: whether it repeats the credentials it was given in its refusal, as a hostile host would.
        before_pack: called before a pack is sent; may block.
        tls: what it needs to speak https.
    """

    root: Path
    login: str | None = None
    redirect: str | None = None
    echo: bool = False
    before_pack: Callable[[], None] = lambda: None
    tls: ssl.SSLContext | None = None
    headers: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        serving = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                serving.answer(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if self.tls is not None:
            self._http.socket = self.tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self._http.server_address[1]}"

    @property
    def credentials(self) -> list[str]:
        """The Authorization headers that it was sent."""
        return [headers["authorization"] for headers in self.headers if "authorization" in headers]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        names = {name.lower() for name in request.headers}
        given = {name: ", ".join(request.headers.get_all(name)) for name in names}
        self.headers.append(given)
        if self.redirect is not None:
            request.send_response(302)
            request.send_header("Location", self.redirect + request.path)
            request.end_headers()
            return
        expected = base64.b64encode((self.login or "").encode()).decode()
        if self.login is not None and given.get("authorization") != f"Basic {expected}":
            body = f"you sent {given.get('authorization')}\n".encode() if self.echo else b""
            request.send_response(403 if self.echo else 401)
            request.send_header("WWW-Authenticate", 'Basic realm="git"')
            request.send_header("Content-Type", "text/plain")
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
            return
        self._backend(request, given)

    def _backend(self, request: BaseHTTPRequestHandler, given: dict[str, str]) -> None:
        parts = urlsplit(request.path)
        sent = request.rfile.read(int(given.get("content-length", "0")))
        if b"command=fetch" in sent and b"done" in sent:
            self.before_pack()
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "REQUEST_METHOD": request.command,
            "PATH_INFO": unquote(parts.path),
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": given.get("content-type", ""),
            "CONTENT_LENGTH": str(len(sent)),
            "HTTP_CONTENT_ENCODING": given.get("content-encoding", ""),
            "GIT_PROTOCOL": given.get("git-protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environ, input=sent, capture_output=True, check=False
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        request.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
