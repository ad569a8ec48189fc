"""One request and its answer, as ASGI has them: what is read of a body, and how a client is told that it is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

MOST_BYTES: Final = 2**20  # of a body
LINGER_SECONDS: Final = 1.0  # for a sender who has not read yet that its body is refused
LINGER_BYTES: Final = 8 * 2**20
JSON: Final = (b"content-type", b"application/json")
_SAFE: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `cut` ends the connection, since what the client still sends is not wanted."""

    status: int
    body: bytes
    headers: Headers = (JSON,)
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose body is not read yet."""

    method: str
    path: str
    query: bytes
    headers: Headers
    receive: Receive

    def values(self, name: bytes) -> list[bytes]:
        """The values of every header of this name (in lower case)."""
        return [value for key, value in self.headers if key == name]

    @property
    def length(self) -> int | None:
        """The size that the body is said to have; None for one that says nothing."""
        found = self.values(b"content-length")
        return int(found[0]) if found and found[0].isdigit() else None

    def refused(self, answer: Answer) -> Answer:
        """`answer` to a request whose body is not read: only what is known to be small is read past."""
        small = self.method in ("GET", "HEAD") or (self.length or MOST_BYTES + 1) <= MOST_BYTES
        return Answer(answer.status, answer.body, answer.headers, cut=not small)


async def beside(work: Callable[[], T]) -> T:
    """Run `work` on a thread of its own, which dies with the process: a call that hangs delays no shutdown."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # whatever it is belongs to who asked
            failure = error
        with suppress(RuntimeError):  # the server was closed meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="mlops-http-call", daemon=True).start()
    return await future


async def send_answer(answer: Answer, request: Request, send: Send) -> None:
    headers = [*answer.headers, *_SAFE]
    if answer.status != HTTPStatus.NOT_MODIFIED:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    if answer.cut:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": answer.cut})
    if answer.cut:
        if not request.values(b"expect"):
            await _linger(request.receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _linger(receive: Receive) -> None:
    """Throw away what comes for a moment: a sender who is cut off at once may never see why."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while size < LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
