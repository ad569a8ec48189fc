"""A daemon elsewhere, read over its HTTP API.

The token goes to that server and nowhere else: no redirect is followed, no password of `.netrc` takes its place, and
over plain http only this machine is spoken to.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import click

from mlops.cli.reader import Asked
from mlops.errors import MlopsError, Transient, Waiting

if TYPE_CHECKING:
    import requests

    from mlops.report import Report
    from mlops.training_log import LogPiece

TOKEN: Final = "MLOPS_API_TOKEN"
TIMEOUTS: Final = (10.0, 60.0)  # seconds to connect, and without a byte of the answer
LOOK_EVERY: Final = 0.5  # seconds between looks for an answer
MOST_BYTES: Final = 512 * 2**20  # of an answer
_API: Final = "/api/v1"


def open_server(ctx: click.Context) -> Server:
    """The server that the command line names; closed when the command ends."""
    server = Server(ctx.obj["server"], os.environ.get(TOKEN, "").strip())
    ctx.call_on_close(server.close)
    return server


def reconcile(ctx: click.Context, accept_rewrite: bool) -> int:
    """`mlops --server URL reconcile`: have the daemon make a pass now, and tell what came of it."""
    from mlops.cli.reconcile import PATIENCE, told

    server = open_server(ctx)
    request = server.reconcile(accept_rewrite)
    until = time.monotonic() + PATIENCE
    while (content := server.answer(request)) is None:
        if time.monotonic() >= until:
            raise MlopsError(
                f"the daemon has not finished this after {PATIENCE:g} s; it goes on",
                where=server.url,
                fix="See `mlops get` with --server, or wait with `mlops wait`",
            )
        time.sleep(LOOK_EVERY)
    with server.understood():
        return told(content)


class Server:
    """Reads from a daemon; a `Reader`.

    Args:
        url: `https://host[:port][/path]`, or http on this machine.
        token: what the daemon was given as MLOPS_API_TOKEN.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = _checked(url)
        self._token = _sendable(token)
        self._session: requests.Session | None = None
        self._seen: tuple[str, Report] | None = None  # the last report's entity tag, and the report

    def report(self, asked: Asked) -> Report:
        if asked != Asked():
            raise click.UsageError("a server shows the revision that it keeps: leave out --revision")
        return self._report()

    def events(self, resource: str) -> Sequence[Mapping[str, Any]]:
        answer = self._json(f"/events/{quote(resource)}")
        with self.understood():
            return [_event(row) for row in answer["events"]]

    def find(self, revision: str | None) -> str | None:
        return self._report().head if revision is None else self._found(revision)[0]

    def fetch(self) -> Callable[[], bool]:
        request = self.reconcile(accept_rewrite=False)
        return lambda: self.answer(request) is not None

    def standing(self, sha: str) -> tuple[Report, bool]:
        report = self._report()
        return report, report.in_force == sha or self._found(sha)[1]

    def log(self, experiment: str, run_id: str | None, offset: int, asked: Asked) -> LogPiece:
        from mlops.training_log import LogPiece

        if asked != Asked():
            raise click.UsageError("a server shows the revision that it keeps: leave out --revision")
        where = f"/experiments/{quote(experiment, safe='')}/log?offset={offset}"
        answer = self._json(where if run_id is None else f"{where}&run={quote(run_id, safe='')}")
        with self.understood():
            return LogPiece.from_json(answer)

    def reconcile(self, accept_rewrite: bool) -> str:
        """Ask for a pass; gives the id of the request."""
        answer = self._json("/reconcile", {"acceptRewrite": accept_rewrite})
        with self.understood():
            return str(answer["request"])

    def answer(self, request: str) -> Mapping[str, Any] | None:
        """What came of a request; None as long as nothing did."""
        answer = self._json(f"/requests/{quote(request, safe='')}")
        with self.understood():
            content = answer["answer"]
            return None if content is None else dict(content)

    def now(self) -> float:
        return time.time()

    def close(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            self._session.close()

    def _report(self) -> Report:
        from mlops.report import Report

        known = {"If-None-Match": self._seen[0]} if self._seen else {}
        response, body = self._call("/status", None, known)
        if response.status_code == 304 and self._seen is not None:
            return self._seen[1]
        answer = self._read(response, body)
        with self.understood():
            report = Report.from_json(answer)
        self._seen = (response.headers.get("ETag", ""), report)
        return report

    def _found(self, revision: str) -> tuple[str | None, bool]:
        """The sha of a revision, None where the server has none such, and whether it is in force or was."""
        answer = self._json(f"/revisions/{quote(revision, safe='')}")
        with self.understood():
            sha = answer["revision"]
            return (None if sha is None else str(sha)), answer["inForce"] is True

    def _json(self, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        return self._read(*self._call(path, body, {}))

    def _call(
        self, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[requests.Response, bytes]:
        import requests

        session = self._open()
        try:
            with session.request(
                "GET" if body is None else "POST",
                f"{self.url}{_API}{path}",
                json=body,
                headers=dict(headers),
                timeout=TIMEOUTS,
                allow_redirects=False,
                stream=True,
            ) as response:
                return response, self._body(response)
        except requests.exceptions.SSLError as error:
            raise MlopsError(
                "its certificate is not one that this machine trusts, or it does not speak TLS",
                where=self.url,
                fix="Name the file of your authority's certificates in REQUESTS_CA_BUNDLE, or correct the URL",
            ) from error
        except requests.exceptions.ProxyError as error:
            what = "the proxy that the environment names does not reach it"
            raise Transient(what, where=self.url, fix="See HTTPS_PROXY and NO_PROXY") from error
        except requests.exceptions.Timeout as error:
            what = "it did not answer in time"
            raise Transient(what, where=self.url, fix="See whether the daemon is well: /healthz") from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise Transient("the connection broke off", where=self.url, fix="Run it again") from error
        except requests.exceptions.ConnectionError as error:
            raise Transient(
                "nobody answers there",
                where=self.url,
                fix="Is the daemon running, with --listen, and does the URL name its address and port?",
            ) from error
        except requests.exceptions.RequestException as error:
            raise self._stranger(type(error).__name__) from error

    def _open(self) -> requests.Session:
        import requests

        if self._session is None:
            session = self._session = requests.Session()
            session.trust_env = self.url.startswith("https:")  # no proxy hears what goes to this machine
            session.headers.update({"User-Agent": "mlops", "Accept": "application/json"})
            session.auth = self._sign
        return self._session

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As a session's `auth`, so that no password of .netrc is sent in its place.
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _body(self, response: requests.Response) -> bytes:
        pieces, size = [], 0
        for piece in response.iter_content(1 << 16):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES:
                raise self._stranger(f"an answer of more than {MOST_BYTES // 2**20} MiB")
        return b"".join(pieces)

    def _read(self, response: requests.Response, body: bytes) -> Mapping[str, Any]:
        """The answer; raises MlopsError for one that says no, and for one that is none of ours."""
        status = response.status_code
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if 300 <= status < 400:
            what = "it sends elsewhere, and a token is not sent on"
            raise MlopsError(
                what, where=self.url, fix="Name the daemon's own URL, with https where it asks for it"
            )
        if not isinstance(answer, dict):
            raise self._stranger(f"status {status} and no JSON")
        if status == 401:
            fix = f"Export as {TOKEN} what the daemon was given" if self._token else f"Export {TOKEN}"
            raise MlopsError("the token is not the one that the daemon asks for", where=self.url, fix=fix)
        if status >= 400:
            raise self._refused(status, answer.get("error"))
        return answer

    def _refused(self, status: int, error: Any) -> MlopsError:
        if not isinstance(error, dict) or not isinstance(error.get("what"), str):
            return self._stranger(f"status {status}")
        fix = error.get("fix")
        kind = Waiting if status in (429, 503) else MlopsError
        return kind(error["what"], where=self.url, fix=fix if isinstance(fix, str) else None)

    def _stranger(self, what: str) -> MlopsError:
        return MlopsError(
            f"what answers there is no daemon of mlops: {what}",
            where=self.url,
            fix="Correct the URL, or ask whoever runs the proxy in front of it",
        )

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Tell of an answer whose shape is not the one that is read here."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MlopsError(
                "the answer has a shape that this mlops does not know",
                where=self.url,
                fix="Install the version here that the daemon runs: its /metrics name it in mlops_build_info",
            ) from error


def _checked(url: str) -> str:
    """`url` without a slash at its end; raises MlopsError where a token may not be sent to it."""
    from ipaddress import ip_address

    example = "Write it as https://mlops.example.com, or http://127.0.0.1:8080 on this machine"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise MlopsError("--server is not a URL", fix=example) from None
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise MlopsError("--server is not a URL", fix=example)
    if parts.username is not None or parts.password is not None:
        raise MlopsError("--server holds a user name or a password", fix=f"The token is read from {TOKEN}")
    if parts.query or parts.fragment or "\\" in url:
        raise MlopsError("--server holds more than an address and a path", fix=example)
    try:
        here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        here = False
    if parts.scheme == "http" and not here:
        what = f"over http the token could be read on the way to {host}"
        raise MlopsError(what, fix="Use https, or tunnel to the daemon: ssh -L 8080:127.0.0.1:8080 HOST")
    return url.rstrip("/")


def _sendable(token: str) -> str:
    """The token; raises MlopsError where it is none that a header can hold."""
    if not token:
        raise MlopsError(f"{TOKEN} is not set", fix="Export what the daemon was given under this name")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise MlopsError(f"{TOKEN} holds characters that no token has", fix="Export it again, on one line")
    return token


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    words = {name: str(row[name]) for name in ("reason", "message", "severity", "revision")}
    return {"at": float(row["at"]), "lastAt": float(row["lastAt"]), **words, "count": int(row["count"])}
