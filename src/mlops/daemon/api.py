"""What is answered over HTTP: health, metrics, the API that `mlops --server` reads, and webhooks. An ASGI application.

Everything it says is JSON (metrics aside), is redacted, and says nothing of how it came about: a defect is a line in
the log and a bare 500 outside.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

from mlops.daemon.board import Board, Redact, json_text
from mlops.daemon.exchange import (
    JSON,
    MOST_BYTES,
    Answer,
    Headers,
    Receive,
    Request,
    Scope,
    Send,
    T,
    beside,
    send_answer,
)
from mlops.daemon.logs import event
from mlops.daemon.metrics import CONTENT_TYPE, Hook, Metrics
from mlops.daemon.webhook import A_SECOND, SIGNATURE_HEADER, Bucket, signed
from mlops.errors import MlopsError, Transient, Waiting

MOST_HEADER_BYTES: Final = 16 * 1024
BODY_SECONDS: Final = 10.0  # in which a body has to be here
MOST_AT_ONCE: Final = 8  # calls that wait for git, MLflow or the disk
API: Final = "/api/v1/"


class _Refused(Exception):
    """Carries an answer out of the middle of handling a request."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(slots=True)
class Api:
    """Answers requests from a board.

    Args:
        token: what a client of the API has to bear; empty turns the API off.
        secret: what webhooks are signed with; empty turns them off.
        monotonic: seconds of a clock that never goes back.
    """

    board: Board
    metrics: Metrics
    token: str
    secret: str
    redact: Redact
    monotonic: Callable[[], float] = time.monotonic
    _bucket: Bucket = field(init=False)
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = Bucket(A_SECOND, self.monotonic)
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(
            scope["method"], scope["path"], scope["query_string"], tuple(scope["headers"]), receive
        )
        try:
            answer = await self._answer(request)
        except _Refused as refused:
            answer = refused.answer
        except MlopsError as error:
            status = 503 if isinstance(error, Transient | Waiting) else 404
            answer = self._error(status, error.what, error.fix)
        except Exception as error:  # a defect: told in the log, and nothing of it outside
            event("RequestFailed", "a request could not be answered", level=logging.ERROR, error=error)
            answer = self._error(500, "this is a defect of mlops; its log says more")
        event("Request", request.method, level=logging.DEBUG, path=request.path, status=answer.status)
        await send_answer(answer, request, send)

    async def _answer(self, request: Request) -> Answer:
        path = request.path
        if sum(len(name) + len(value) for name, value in request.headers) > MOST_HEADER_BYTES:
            raise _Refused(request.refused(self._error(431, "the headers are too large")))
        if path == "/hooks/git" and self.secret:
            return await self._hook(request)
        if path.startswith(API):
            self._authorise(request)
            return await self._api(request, path.removeprefix(API))
        pages = {"/healthz": self._health, "/readyz": self._ready, "/metrics": self._metrics}
        if path not in pages:
            raise _Refused(request.refused(self._error(404, "there is nothing here")))
        self._only(request, "GET", "HEAD")
        return pages[path]()

    def _health(self) -> Answer:
        why = self.board.unwell()
        return self._said(200 if why is None else 503, {"ok": why is None, "reason": why})

    def _ready(self) -> Answer:
        why = self.board.unready()
        told = {"ready": why is None, "role": self.board.role(), "reason": why}
        return self._said(200 if why is None else 503, told)

    def _metrics(self) -> Answer:
        return Answer(200, self.metrics.render(), ((b"content-type", CONTENT_TYPE.encode()),))

    async def _hook(self, request: Request) -> Answer:
        """Wake a pass if the body is signed. How often is looked at first: a flood costs next to nothing."""
        self._only(request, "POST")
        if not self._bucket.take():
            answer = self._error(429, f"more than {A_SECOND} webhooks a second")
            limited = Answer(429, answer.body, (*answer.headers, (b"retry-after", b"1")))
            raise self._hooked("limited", request.refused(limited))
        try:
            body = await self._body(request)
        except _Refused as refused:
            raise self._hooked(
                "too_large" if refused.answer.status == 413 else "broken", refused.answer
            ) from None
        if not signed(self.secret.encode(), body, request.values(SIGNATURE_HEADER)):
            raise self._hooked("unsigned", self._error(401, "the signature is not the one of this body"))
        self.board.wake("webhook")
        self.metrics.webhook("accepted")
        return self._said(202, {"accepted": True})

    def _hooked(self, result: Hook, answer: Answer) -> _Refused:
        self.metrics.webhook(result)
        return _Refused(answer)

    async def _api(self, request: Request, path: str) -> Answer:
        first, _, rest = path.partition("/")
        if path == "reconcile":
            self._only(request, "POST")
            accept = _accept_rewrite(await self._body(request))
            if accept is None:
                return self._error(400, 'the body is not {"acceptRewrite": true or false}')
            return self._said(202, {"request": await self._beside(lambda: self.board.reconcile(accept))})
        self._only(request, "GET", "HEAD")
        if path == "status":
            return await self._status(request)
        if first == "events" and rest:
            events = await self._beside(lambda: self.board.events(rest))
            return self._said(200, {"events": [dict(row) for row in events]})
        if first == "revisions" and rest:
            found = await self._beside(lambda: self.board.find(rest))
            told = {"revision": found.sha if found else None, "inForce": found is not None and found.in_force}
            return self._said(200, told)
        if first == "requests" and rest:
            return self._said(200, {"answer": await self._beside(lambda: self.board.answer(rest))})
        if first == "experiments" and rest.endswith("/log"):
            return await self._log(request, rest.removesuffix("/log"))
        return self._error(404, "there is nothing here")

    async def _status(self, request: Request) -> Answer:
        page = self.board.status()
        if page is None:
            if self.board.role() == "standby":
                return self._error(503, "this daemon stands by and makes no passes", "Ask the one that leads")
            return self._error(503, "there was no pass yet", "Ask again in a moment")
        body, tag = await self._beside(page.read)
        headers: Headers = (JSON, (b"etag", tag.encode()), (b"vary", b"accept-encoding"))
        if any(tag.encode() in value for value in request.values(b"if-none-match")):
            return Answer(304, b"", headers[1:])
        if any(b"gzip" in value for value in request.values(b"accept-encoding")):
            body = await self._beside(page.packed)
            headers += ((b"content-encoding", b"gzip"),)
        return Answer(200, body, headers)

    async def _log(self, request: Request, experiment: str) -> Answer:
        asked = parse_qs(request.query.decode("latin-1"), max_num_fields=8)
        offset, run_id = asked.get("offset", ["0"])[0], asked.get("run", [None])[0]
        if not offset.isascii() or not offset.isdecimal() or len(offset) > 18:
            return self._error(400, "offset is not a number of bytes")
        piece = await self._beside(lambda: self.board.log(experiment, run_id, int(offset)))
        return Answer(200, json.dumps(piece.to_json()).encode())  # without secrets already

    def _only(self, request: Request, *methods: str) -> None:
        if request.method not in methods:
            answer = self._error(405, f"only {' and '.join(methods)} here")
            allow = (b"allow", ", ".join(methods).encode())
            raise _Refused(request.refused(Answer(405, answer.body, (*answer.headers, allow))))

    def _authorise(self, request: Request) -> None:
        """Raise unless the API is on and the request bears its token, compared in constant time."""
        if not self.token:
            off = self._error(404, "the API is off", "Set MLOPS_API_TOKEN where the daemon runs")
            raise _Refused(request.refused(off))
        given = request.values(b"authorization")
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        same = hmac.compare_digest(_digest(token.strip()), _digest(self.token.encode()))
        if not same or scheme.lower() != b"bearer":
            answer = self._error(401, "the API asks for a token", "Send it as a bearer token")
            headers = (*answer.headers, (b"www-authenticate", b"Bearer"))
            raise _Refused(request.refused(Answer(401, answer.body, headers)))

    async def _body(self, request: Request) -> bytes:
        """The body, read in pieces; refused as soon as it is too large, whatever its headers say."""
        large = self._error(413, f"the body is larger than {MOST_BYTES} bytes")
        if (request.length or 0) > MOST_BYTES:
            raise _Refused(request.refused(large))
        pieces, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await request.receive()
                    if message["type"] != "http.request":
                        raise _Refused(self._error(400, "the body ended early"))
                    pieces.append(message["body"])
                    size += len(message["body"])
                    if size > MOST_BYTES:
                        raise _Refused(Answer(413, large.body, cut=True))
                    if not message["more_body"]:
                        return b"".join(pieces)
        except TimeoutError:
            late = self._error(408, f"the body was not here within {BODY_SECONDS:g} seconds")
            raise _Refused(Answer(408, late.body, cut=True)) from None

    async def _beside(self, work: Callable[[], T]) -> T:
        async with self._slots:
            return await beside(work)

    def _said(self, status: int, value: dict[str, Any]) -> Answer:
        return Answer(status, json_text(value, self.redact))

    def _error(self, status: int, what: str, fix: str | None = None) -> Answer:
        return self._said(status, {"error": {"what": what, "fix": fix}})


def _accept_rewrite(body: bytes) -> bool | None:
    """What a request for a pass says; None for a body that is none."""
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return None
    accept = asked.get("acceptRewrite", False) if isinstance(asked, dict) else None
    return accept if isinstance(accept, bool) and asked.keys() <= {"acceptRewrite"} else None


def _digest(text: bytes) -> bytes:
    return hmac.digest(
        b"", text, "sha256"
    )  # of equal length, so that a comparison tells nothing of the token's
