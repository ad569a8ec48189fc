"""Where the secrets are in some bytes, and the bytes without them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MASK: Final = "***"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Bytes to mask, `start` to `end`; `head` is where that begins by which they were recognised."""

    start: int
    end: int
    head: int


def masked(data: bytes, spans: list[Span]) -> bytes:
    """`data` with sorted `spans` masked; those that touch become one mask."""
    pieces: list[bytes] = []
    done = 0
    for span in spans:
        if not pieces or span.start > done:
            pieces += [data[done : span.start], MASK.encode()]
        done = max(done, span.end)
    return b"".join([*pieces, data[done:]])


def finds(data: bytes, needle: bytes) -> Iterator[int]:
    """Every place of `needle` in `data`, without overlaps."""
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + len(needle))
