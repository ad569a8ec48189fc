"""Objects out of git's store, any number in one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mlops.errors import MlopsError
from mlops.source.git import TIME_LIMIT, Conversation, failure, shown

OBJECT_LIMIT = 2 * 1024 * 1024 * 1024
"""Bytes that one object may have to be read."""


@dataclass(frozen=True, slots=True)
class GitObject:
    """One answer: `kind` is blob, tree, commit or tag; or missing or ambiguous, without data."""

    id: str
    kind: str
    data: bytes


class _Lines:
    """Lines and exact lengths out of a stream of chunks."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self._data = b""
        self._at = 0

    def line(self) -> bytes:
        while (end := self._data.find(b"\n", self._at)) < 0:
            more = self._talk.chunk(TIME_LIMIT)
            if not more:
                return b""
            self._data = self._data[self._at :] + more
            self._at = 0
        found = self._data[self._at : end]
        self._at = end + 1
        return found

    def exactly(self, size: int) -> bytes | None:
        have = self._data[self._at : self._at + size]
        self._at += len(have)
        parts, need = [have], size - len(have)
        while need:
            more = self._talk.chunk(TIME_LIMIT)
            if not more:
                return None
            parts.append(more[:need])
            self._data, self._at = more, min(len(more), need)
            need -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)


def read_objects(cwd: Path, names: Iterable[str], *, limit: int = OBJECT_LIMIT) -> Iterator[GitObject]:
    """Reads objects by id or by revision expression, in the order asked, one process for all.

    Args:
        cwd: a folder of the repository.
        names: what git calls them; none may hold a newline.
        limit: bytes that one object may have.

    Raises:
        MlopsError: an object is larger than `limit`, or git failed.
    """
    talk = Conversation(["cat-file", "--batch", "--buffer"], cwd, _lines_of(names))
    try:
        lines = _Lines(talk)
        while header := lines.line():
            if header.endswith((b" missing", b" ambiguous")):
                name, _, kind = header.rpartition(b" ")
                yield GitObject(name.decode("utf-8", "surrogateescape"), kind.decode(), b"")
                continue
            object_id, kind, size = header.split(b" ")
            if int(size) > limit:
                message = f"a git object has {int(size)} bytes, more than the {limit} that may be read"
                raise MlopsError(message, where=shown(str(cwd)), fix="Keep large data outside of git.")
            data = lines.exactly(int(size) + 1)
            if data is None:
                break
            yield GitObject(object_id.decode(), kind.decode(), data[:-1])
        status, errors = talk.finish()
        if status:
            raise failure(talk.name, status, errors, cwd)
    finally:
        talk.close()


def _lines_of(names: Iterable[str]) -> Iterator[bytes]:
    asked = iter(names)
    while some := list(islice(asked, 512)):
        yield "".join(f"{name}\n" for name in some).encode("utf-8", "surrogateescape")
