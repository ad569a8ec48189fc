"""The forms in which a secret value is repeated by programs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

SHORTEST: Final = 6  # bytes
WINDOW: Final = 8_192  # bytes: a longer value is searched for in pieces of this size

_SHORTEST_PIECE: Final = 16  # characters of a part of a value that is not itself named a secret
_LARGEST_PARSED: Final = 65_536  # characters of a value that is looked into
_SECRET_FIELD: Final = re.compile(
    r"key|secret|passw|pwd|passphrase|token|credential|^sig$|signature", re.IGNORECASE
)
# In these the path names a place; in others, as in a webhook, it is often the secret.
_PLACES: Final = frozenset(
    ("sqlite", "file", "s3", "gs", "gcs", "az", "abfs", "abfss", "dbfs", "hdfs", "runs")
)


def parts(value: str) -> Iterator[str]:
    """A secret value and those parts of it that are secrets by themselves."""
    yield value.strip()
    if len(value) > _LARGEST_PARSED:
        return
    lines = value.split("\n")
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= _SHORTEST_PIECE)
    if "://" in value:
        yield from _url_parts(value.strip())
    if "=" in value and ";" in value:
        fields = (field.strip().partition("=") for field in value.split(";"))
        yield from (text for name, _, text in fields if _SECRET_FIELD.search(name))
    if value.lstrip().startswith(("{", "[")):
        try:
            yield from _json_parts(json.loads(value), named_secret=False)
        except (ValueError, RecursionError):
            return  # it only looks like JSON, and is masked as a whole


def _url_parts(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query)
    except ValueError:
        return  # not a URL, and masked as a whole
    userinfo, at, _ = parts.netloc.rpartition("@")
    if at:
        user, colon, password = userinfo.partition(":")
        yield from (password, unquote(password)) if colon else (user, unquote(user))
    yield from (text for name, text in query if _SECRET_FIELD.search(name) or len(text) >= _SHORTEST_PIECE)
    if parts.scheme not in _PLACES:
        for segment in parts.path.split("/"):
            if (
                len(segment) >= _SHORTEST_PIECE
                and re.search(r"\d", segment)
                and re.search(r"[A-Za-z]", segment)
            ):
                yield segment


def _json_parts(data: Any, *, named_secret: bool) -> Iterator[str]:
    match data:
        case dict():
            for name, inner in data.items():
                yield from _json_parts(inner, named_secret=_SECRET_FIELD.search(name) is not None)
        case list():
            for inner in data:
                yield from _json_parts(inner, named_secret=named_secret)
        case str() if named_secret:
            yield data
            yield from (line for line in data.split("\n") if len(line) >= _SHORTEST_PIECE)


def plain_forms(value: str) -> Iterator[bytes]:
    """A value as it is and as programs write it."""
    quoted = {quote(value, safe="", errors="replace"), quote(value, errors="replace")}
    quoted |= {quote_plus(value, errors="replace"), quote(quote(value, safe="", errors="replace"), safe="")}
    quoted |= {re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), form) for form in quoted}
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    escaped |= {json.dumps(form)[1:-1] for form in escaped}  # JSON in JSON
    html = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped |= {
        html,
        html.replace('"', "&quot;").replace("'", "&#x27;"),
        html.replace('"', "&#34;").replace("'", "&#39;"),
    }
    escaped |= {value.replace("'", "''"), value.replace("'", "'\"'\"'"), value.replace("\n", "\r\n")}
    yield from (encoded(form) for form in {value, *quoted, *escaped})
    yield repr(encoded(value))[2:-1].encode()


def base64_forms(value: str) -> Iterator[bytes]:
    """What base64 of any text that holds the value has in common: one form for each alignment."""
    data = encoded(value)
    if len(data) < SHORTEST:
        return
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data)
        # Characters that also depend on the neighbours are left out.
        core = whole[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        yield core
        yield core.translate(bytes.maketrans(b"+/", b"-_"))


def in_pieces(form: bytes) -> tuple[bytes, ...]:
    """A form in pieces that fit the window of a stream; nothing for one too short to be searched for."""
    if len(form) < SHORTEST or not form.strip(b"*"):
        return ()
    pieces = [form[at : at + WINDOW] for at in range(0, len(form), WINDOW)]
    if len(pieces[-1]) < SHORTEST:
        pieces[-2:] = [b"".join(pieces[-2:])]
    return tuple(pieces)


def encoded(text: str) -> bytes:
    """UTF-8, also of text that holds the halves of a surrogate pair."""
    return text.encode("utf-8", "surrogatepass")
