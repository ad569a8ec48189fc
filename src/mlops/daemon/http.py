"""The HTTP server: a thread beside the loop, with bounds on whatever a client can make it hold.

uvicorn speaks HTTP; what it leaves open is closed here: a client that sends its headers a byte a minute, one that
never reads its answer, and more connections than there are files.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mlops.daemon.api import MOST_HEADER_BYTES, Api
from mlops.daemon.board import Board, Redact
from mlops.daemon.logs import event
from mlops.daemon.metrics import Metrics
from mlops.errors import MlopsError

if TYPE_CHECKING:
    import asyncio

    import uvicorn

TOKEN: Final = "MLOPS_API_TOKEN"
SECRET: Final = "MLOPS_WEBHOOK_SECRET"
REQUEST_SECONDS: Final = 30.0  # for a request and its answer, from the first byte to the last
KEEP_ALIVE_SECONDS: Final = 5
MOST_CONNECTIONS: Final = 256
BACKLOG: Final = 1024
CLOSE_SECONDS: Final = 1  # for answers under way when the server is closed


@contextmanager
def serving(
    board: Board,
    metrics: Metrics,
    listen: str,
    *,
    environ: Mapping[str, str],
    redact: Redact,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[HttpServer]:
    """Serve a board meanwhile.

    Args:
        listen: `ADDR:PORT`; port 0 takes a free one.
        environ: holds MLOPS_API_TOKEN (without it the API is off) and MLOPS_WEBHOOK_SECRET (webhooks).
        redact: masks secrets in whatever is told.

    Raises MlopsError where that address cannot be listened on.
    """
    token, secret = environ.get(TOKEN, "").strip(), environ.get(SECRET, "").strip()
    server = HttpServer(Api(board, metrics, token, secret, redact, monotonic), listen)
    server.start()
    try:
        yield server
    finally:
        server.close()


class HttpServer:
    """Serves an application on an address, on a thread of its own."""

    def __init__(self, api: Api, listen: str) -> None:
        self._api = api
        self._listen = listen
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.address = ""  # what is really listened on, ADDR:PORT

    def start(self) -> None:
        """Listen; connections are taken from now on. Raises MlopsError where that is not possible."""
        import uvicorn

        listener = _listener(self._listen)
        host, port = listener.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        config = uvicorn.Config(
            self._api,
            loop="asyncio",
            http=_bounded(),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,  # what a client does wrong is not worth a line
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS + 1,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=CLOSE_SECONDS,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(listener,), name="mlops-http", daemon=True)
        self._thread.start()
        self._say(host)

    def close(self) -> None:
        """Stop; answers under way have a moment to end. May be called twice."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(CLOSE_SECONDS + 4)

    def _run(self, listener: socket.socket) -> None:
        assert self._server is not None
        try:
            self._server.run(sockets=[listener])
        except Exception as error:  # the daemon goes on without HTTP: its work is elsewhere
            event("HttpEnded", "the HTTP server ended", level=logging.ERROR, error=error)
        finally:
            listener.close()

    def _say(self, host: str) -> None:
        api, hooks = bool(self._api.token), bool(self._api.secret)
        text = f"listening on http://{self.address}"
        event("Listening", text, address=self.address, api=api, webhooks=hooks)
        if api and not _loopback(host):
            event(
                "PlainHttp",
                f"{self.address} speaks plain HTTP: who sees the network sees the token. Put TLS in front of it",
                level=logging.WARNING,
            )


def _listener(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise MlopsError(
            f"--listen {listen[:100]!r} is not ADDR:PORT", fix="Write it as 127.0.0.1:8080 or [::1]:8080"
        )
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # With its protocol said, or else asyncio leaves Nagle's algorithm on, and answers take 40 ms.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise MlopsError(
            f"{listen} cannot be listened on: {error.strerror}", fix="Name another address or port"
        ) from error


def _loopback(host: str) -> bool:
    from ipaddress import ip_address

    return ip_address(host.partition("%")[0]).is_loopback


def _bounded() -> Any:
    """uvicorn's HTTP protocol, with a time for everything."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Bounded(H11Protocol):
        """Aborts a connection whose request and answer take too long, and makes room for new ones."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._since = self.loop.time()
            self._limit = self.loop.call_later(REQUEST_SECONDS, transport.abort)
            if len(self.connections) > MOST_CONNECTIONS:
                waiting = [one for one in self.connections if one is not self and _waits(one)]
                for oldest in sorted(waiting, key=lambda one: one._since)[:1]:  # type: ignore[union-attr]
                    oldest.transport.abort()
                    self.connections.discard(oldest)  # it counts no more, though its end comes later

        def connection_lost(self, exc: Exception | None) -> None:
            self._limit.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self._limit.cancel()
            self._limit = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
            super().on_response_complete()

    return Bounded


def _waits(connection: Any) -> bool:
    return connection.cycle is None or connection.cycle.response_complete
