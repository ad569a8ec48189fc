"""Fewer and larger calls: blobs of many small datasets in one read of git, cache entries in one write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from mlops.data.members import Blob
from mlops.data.request import DigestCache, Inside

_SMALL: Final = 1 << 20  # bytes; a larger blob is read when it is needed
_BUDGET: Final = 64 << 20  # bytes held at a time
_HOLD: Final = 1.0  # seconds that an entry is held back at most while work goes on


class ReadAhead:
    """The files of a revision, of which some were read in one go before they are asked for."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._ahead: dict[str, bytes] = {}

    @property
    def files(self) -> Mapping[str, tuple[str, int]]:
        """Path relative to the project root → (blob id, size in bytes)."""
        return self._inside.files

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of files; what was not read ahead is read now."""
        wanted = list(paths)
        found = {path: self._ahead[path] for path in wanted if path in self._ahead}
        missing = [path for path in wanted if path not in found]
        return found | self._inside.read(missing) if missing else found

    def prefetch(self, blobs: Iterable[Blob]) -> None:
        """Read the small ones among `blobs` with one call, as far as they fit into memory."""
        chosen: set[str] = set()
        room = _BUDGET - sum(map(len, self._ahead.values()))
        for blob in blobs:
            if blob.size <= _SMALL and blob.size <= room and blob.path not in self._ahead:
                chosen.add(blob.path)
                room -= blob.size
        if len(chosen) > 1:
            self._ahead |= self._inside.read(chosen)


class Held:
    """Entries for the cache, written together; none is held back for long, so a kill costs little work."""

    def __init__(self, cache: DigestCache) -> None:
        self._cache = cache
        self._entries: dict[str, bytes] = {}
        self._since = time.monotonic()

    def add(self, entries: Mapping[str, bytes]) -> None:
        """Keep `entries`, now or soon."""
        self._entries |= entries
        if time.monotonic() - self._since > _HOLD:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._entries:
            self._cache.put_many(self._entries)
        self._entries = {}
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
