"""Secrets known by what stands around them, whatever the environment holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mlops.redaction.spans import Span

LONGEST_KEY: Final = 65_536  # bytes between the first and the last line of a private key
_WORD: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@dataclass(frozen=True, slots=True)
class _Shape:
    """A secret known by what stands around it.

    Where one of the lower-case literals `anchors` stands, `head` is matched from its start, and what `body`
    matches behind the head is masked. With `whole_word`, the anchor begins a word.
    """

    anchors: tuple[bytes, ...]
    head: re.Pattern[bytes]
    body: re.Pattern[bytes]
    whole_word: bool


def _shape(anchors: str, head: str, body: str, *, whole_word: bool = False) -> _Shape:
    literals = tuple(anchor.encode() for anchor in anchors.split())
    return _Shape(literals, re.compile(head.encode(), re.IGNORECASE), re.compile(body.encode()), whole_word)


_FIELD: Final = r"""(=|\\*["'][ \t]*[:=,][ \t]*\\*["'])"""
_SHAPES: Final = (
    _shape("://", r"://", r"""[^\s/?#"'<>`\\]*(?=@)"""),
    _shape(
        "authorization",
        r"""authorization(\\*["'][ \t]*[:=,]|[ \t]*[:=])[ \t]*(b?\\*["'])?""",
        r"""[^\r\n"'\\]+""",
    ),
    _shape("bearer", r"bearer[ \t]+(?=[\w.~+/=-]{16})", r"[\w.~+/=-]+"),
    _shape(
        "password passwd passphrase secret secret_key apikey api_key api-key access_key access_token"
        " auth_token refresh_token id_token security_token accountkey sharedaccesskey private_key",
        rf"[a-z0-9_-]{{1,60}}{_FIELD}",
        r"""[^&\s"'<>;#\\]+""",
    ),
    _shape(
        "?sig= &sig= ;sig= u0026sig= ?token= &token= u0026token= ?key= &key= u0026key= ?code= &code= ;pwd="
        " -signature= -credential= -security-token=",
        r"[^=]{1,20}=",
        r"""[^&\s"'<>;#\\]+""",
    ),
    _shape(
        "ghp_ gho_ ghu_ ghs_ ghr_ glpat- xoxa- xoxb- xoxe- xoxp- xoxr- xoxs-",
        "",
        r"[\w-]{20,}",
        whole_word=True,
    ),
    _shape("github_pat_", "", r"\w{30,}", whole_word=True),
    _shape("dapi", "", r"dapi[0-9a-f]{32}[\w-]*", whole_word=True),
    _shape("akia asia", "", r"A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])", whole_word=True),
    _shape("eyj", "", r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*", whole_word=True),
)
_KEY_BEGIN: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,60}-----")
_KEY_END: Final = re.compile(rb"-----END [A-Z0-9 ]{0,60}-----")
_KEY_PUBLIC: Final = re.compile(rb"PUBLIC KEY|CERTIFICATE|SIGNATURE|MESSAGE")
_KEY_TEXT: Final = re.compile(
    rb"([A-Za-z0-9+/=\s]|\\+[nr]|(Proc-Type|DEK-Info|Comment|Version): ?[^\r\n\\]*)*+"
)


def shapes_in(data: bytes) -> Iterator[Span]:
    """Every secret that its surroundings give away; in no order."""
    lower = data.lower()
    for shape in _SHAPES:
        for anchor in shape.anchors:
            yield from _shaped(data, lower, shape, anchor)
    yield from _private_keys(data)


def _shaped(data: bytes, lower: bytes, shape: _Shape, anchor: bytes) -> Iterator[Span]:
    at = lower.find(anchor)
    while at >= 0:
        after = at + len(anchor)
        if not (shape.whole_word and at and data[at - 1] in _WORD):
            head = shape.head.match(data, at)
            body = shape.body.match(data, head.end()) if head else None
            if body and body.end() > body.start():
                yield Span(body.start(), body.end(), at)
                after = body.end()  # never scans a byte twice for one anchor
        at = lower.find(anchor, after)


def _private_keys(data: bytes) -> Iterator[Span]:
    if b"-----BEGIN " not in data:
        return
    ends = [match.start() for match in _KEY_END.finditer(data)]
    past = 0
    for begin in _KEY_BEGIN.finditer(data):
        if _KEY_PUBLIC.search(begin[0]):
            continue
        while past < len(ends) and ends[past] < begin.end():
            past += 1
        if past < len(ends) and ends[past] - begin.end() <= LONGEST_KEY:
            end = ends[past]
        else:  # cut off, or only a mention: what looks like a key
            text = _KEY_TEXT.match(data, begin.end())
            end = text.end() if text else begin.end()
        if end > begin.end():
            yield Span(begin.end(), end, begin.start())


def unfinished_key(data: bytes) -> int | None:
    """Where a private key begins whose end may still come."""
    ended = max((match.end() for match in _KEY_END.finditer(data)), default=0)
    begins = (m for m in _KEY_BEGIN.finditer(data, ended) if not _KEY_PUBLIC.search(m[0]))
    return next((m.start() for m in begins if len(data) - m.end() < LONGEST_KEY), None)
