"""What the HTTP server reads of the loop: plain values, and two ways to knock.

The loop posts; the server, on a thread of its own, reads. Every method may be called from any thread at any time,
also before the first pass.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlops.finite import finite
from mlops.training_log import LogPiece

Role = Literal["leader", "standby", "starting"]
Redact = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Found:
    """A revision that a client asked for: its full sha, and whether what is in force is it or descends from it."""

    sha: str
    in_force: bool


class Board(Protocol):
    """What the loop tells, and what it can be told. What takes an argument may do I/O."""

    def role(self) -> Role:
        """Who this process is: the writer, one that waits for the lease, or neither yet."""
        ...

    def unwell(self) -> str | None:
        """Why the process should be started again (the loop has not come round for long); None while it is well."""
        ...

    def unready(self) -> str | None:
        """Why nobody should count on it yet; None for a leader after its first pass, and for a standby."""
        ...

    def status(self) -> Page | None:
        """`Report.to_json` of the last pass; the same object until the next one. None where there was no pass."""
        ...

    def events(self, resource: str) -> Sequence[Mapping[str, Any]]:
        """The newest events of a `Kind/name`, newest first, as `event_json` gives them."""
        ...

    def find(self, revision: str) -> Found | None:
        """What a sha, branch or tag means in the repository that is watched; None while it has no such commit."""
        ...

    def log(self, experiment: str, run_id: str | None, offset: int) -> LogPiece:
        """A piece of the log of a run, by default of the experiment's newest; see `TrainingLogs.read`."""
        ...

    def wake(self, reason: str) -> None:
        """Have a pass soon; many calls are one pass."""
        ...

    def reconcile(self, accept_rewrite: bool) -> str:
        """Ask for a pass, as `mlops reconcile` does; gives the id of the request."""
        ...

    def answer(self, request: str) -> Mapping[str, Any] | None:
        """What came of a request, once something did; it can be asked for an hour long."""
        ...


class Page:
    """A JSON document that is made, redacted and serialised once, when somebody first asks for it."""

    __slots__ = ("_data", "_etag", "_lock", "_make", "_packed", "_redact")

    def __init__(self, make: Callable[[], Mapping[str, Any]], redact: Redact) -> None:
        self._make: Callable[[], Mapping[str, Any]] | None = make
        self._redact = redact
        self._lock = threading.Lock()
        self._data = self._packed = b""
        self._etag = ""

    def read(self) -> tuple[bytes, str]:
        """The document as UTF-8, and an entity tag that changes with it."""
        with self._lock:
            if self._make is not None:
                self._data = json_text(self._make(), self._redact)
                self._etag = f'W/"{hashlib.sha256(self._data).hexdigest()[:32]}"'
                self._make = None  # what it was made of need not be kept
            return self._data, self._etag

    def packed(self) -> bytes:
        """The document with gzip."""
        data, _ = self.read()
        with self._lock:
            if not self._packed:
                self._packed = gzip.compress(data, compresslevel=1, mtime=0)
            return self._packed


def json_text(value: Mapping[str, Any], redact: Redact) -> bytes:
    """Valid JSON without secrets. Only where there is one in the text are names and values looked at one by one."""
    try:
        text = _dumped(value)
    except ValueError:  # a metric that is NaN
        value = finite(value)
        text = _dumped(value)
    if redact(text) != text:
        text = _dumped(_redacted(value, redact))
    return text.encode("utf-8", "backslashreplace")


def _dumped(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _redacted(value: Any, redact: Redact) -> Any:
    if isinstance(value, dict):
        return {redact(key): _redacted(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item, redact) for item in value]
    return redact(value) if isinstance(value, str) else value
