"""A log that cannot fill the disk: its beginning and its end are kept, and a line says what is left out."""

from __future__ import annotations

import os


class CappedLog:
    """Writes at most about `limit` bytes to `handle`, however much it is given, and never blocks the giver.

    The first `limit - tail` bytes are written as they come. Later ones pass through a ring of the last
    `tail` bytes in memory, which `close` appends. A write that fails (disk full) is remembered in `error`,
    and what was not written goes through the ring as well.
    """

    def __init__(self, handle: int, limit: int, tail: int) -> None:
        self.error: str | None = None
        self.left_out = 0
        self._handle = handle
        self._room = max(0, limit - tail)
        self._tail = max(1, tail)
        self._ring: bytearray | None = None
        self._past = 0  # bytes that went to the ring so far

    def write(self, data: bytes) -> None:
        """Take the next bytes of the output."""
        if self._room and not self._past:
            head = data[: self._room]
            written = self._put(head)
            self._room = self._room - written if written == len(head) else 0
            data = data[written:]
        if data:
            self._keep(data)

    def close(self) -> None:
        """Append what the ring holds, after a line that says how many bytes are missing before it."""
        if self._ring is not None:
            at = self._past % self._tail
            whole = self._past <= self._tail
            last = bytes(self._ring[:at]) if whole and at else bytes(self._ring[at:] + self._ring[:at])
            self.left_out = max(0, self._past - self._tail)
            if self.left_out:
                marker = f"\n[mlops: {self.left_out} bytes of output left out here]\n".encode()
                last = marker + last
            written = self._put(last)
            self.left_out += len(last) - written
        os.close(self._handle)

    def _put(self, data: bytes) -> int:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._handle, data[written:])
        except OSError as error:
            self.error = error.strerror
        return written

    def _keep(self, data: bytes) -> None:
        if self._ring is None:
            self._ring = bytearray(self._tail)
        self._past += len(data)
        last = memoryview(data)[-self._tail :]
        at = (self._past - len(last)) % self._tail
        first = min(len(last), self._tail - at)
        self._ring[at : at + first] = last[:first]
        self._ring[: len(last) - first] = last[first:]
