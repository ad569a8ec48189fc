"""The redactor of a process, for text and for streams."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from mlops.redaction.forms import SHORTEST, WINDOW, base64_forms, encoded, in_pieces, parts, plain_forms
from mlops.redaction.shapes import LONGEST_KEY, shapes_in, unfinished_key
from mlops.redaction.spans import MASK, Span, finds, masked

_LONGEST_LINE: Final = 65_536  # bytes of a stream that are held until their line ends
_CHUNK: Final = 65_536
_SECRET_NAME: Final = re.compile(
    r"TOKEN|PASSW(OR)?D|PASSPHRASE|^PGPASS|PWD$|SECRET|KEY|CREDENTIAL|CONN(ECTION)?_?STR|DATABASE_URL|DSN$"
    r"|^AWS_|^AZURE_|^ARM_|AUTHORIZATION|WEBHOOK|SIGNATURE|_SAS$|_PAT$|COOKIE"
)
_PUBLIC_NAME: Final = re.compile(
    r"_(FILE|PATH|DIR|HOME|SOCK|TTL)$|^(OLD)?PWD$|^GIT_CONFIG_KEY_\d+$|KEYBOARD"
    r"|^AWS_((DEFAULT_)?(REGION|PROFILE|OUTPUT)|PAGER|EXECUTION_ENV|RETRY_MODE|MAX_ATTEMPTS|EC2_METADATA\w*)$"
    r"|^AZURE_(CLOUD_NAME|AUTHORITY_HOST|CORE_\w+|EXTENSION_\w+|LOCATION|REGION)$|^ARM_ENVIRONMENT$"
)
# What such variables also hold, and what would take half of the output away.
_PUBLIC_VALUES: Final = frozenset(
    ("default", "enabled", "disabled", "required", "optional", "localhost", "production")
)
_BASE64_TAIL: Final = re.compile(rb"[A-Za-z0-9+/_-]?={0,2}")


class Readable(Protocol):
    """A binary file, as far as it is needed here."""

    def read(self, size: int, /) -> bytes: ...


class Redactor:
    """Masks secrets in text and in streams. Holds secrets itself: never print or store it.

    `values` are the secrets; those shorter than `SHORTEST` bytes are not searched for.
    """

    __slots__ = ("_in_base64", "_needles", "too_short")

    def __init__(self, values: Iterable[str] = (), *, too_short: Iterable[str] = ()) -> None:
        needles: set[bytes] = set()
        in_base64: set[bytes] = set()
        for value in dict.fromkeys(values):
            for part in parts(value):
                for form in plain_forms(part):
                    needles.update(in_pieces(form))
                for form in base64_forms(part):
                    in_base64.update(in_pieces(form))
        self._needles = tuple(sorted(needles))
        self._in_base64 = tuple(sorted(in_base64 - needles))
        self.too_short: tuple[str, ...] = tuple(too_short)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], variables: Iterable[str] = ()) -> Redactor:
        """The redactor of a process.

        `variables` are names whose values never appear (`Project.spec.variables`); of all others, those whose
        name says secret: `*TOKEN*`, `*PASSWORD*`, `*SECRET*`, `*KEY*`, `*CREDENTIAL*`, `AWS_*`, `AZURE_*` and
        the like, but not regions, profiles and paths.
        """
        named = set(variables)
        secret = {
            name: value
            for name, value in environ.items()
            if value and (name in named or (_secret_name(name) and value.lower() not in _PUBLIC_VALUES))
        }
        short = sorted(
            name for name in named & secret.keys() if len(encoded(secret[name].strip())) < SHORTEST
        )
        return cls(secret.values(), too_short=short)

    def __repr__(self) -> str:
        return f"Redactor({len(self._needles) + len(self._in_base64)} forms)"

    def __reduce__(self) -> Any:
        raise TypeError("a Redactor holds secrets and is not pickled")

    def redact(self, text: str) -> str:
        """`text` with every secret replaced by `***`."""
        data = encoded(text)
        spans = self._find(data)
        return masked(data, spans).decode("utf-8", "surrogatepass") if spans else text

    def redact_bytes(self, stream: Iterable[bytes] | Readable) -> Iterator[bytes]:
        """The chunks of `stream` without secrets, also those split over chunks, in bounded memory."""
        redacting = self.stream()
        for chunk in _chunks(stream):
            if clean := redacting.feed(chunk):
                yield clean
        if clean := redacting.flush():
            yield clean

    def stream(self) -> RedactingStream:
        """A redactor for bytes that come piece by piece, as a child's output does."""
        return RedactingStream(self)

    def _find(self, data: bytes) -> list[Span]:
        """What to mask, sorted."""
        found: list[Span] = []
        for needle in self._needles:
            found.extend(Span(at, at + len(needle), at) for at in finds(data, needle))
        for needle in self._in_base64:
            for at in finds(data, needle):
                tail = _BASE64_TAIL.match(data, at + len(needle))
                found.append(Span(at, tail.end() if tail else at + len(needle), at))
        found.extend(shapes_in(data))
        return sorted(found)


class RedactingStream:
    """Takes bytes, gives them back without secrets; holds back the line that has not ended."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = bytearray()
        self._in_key = False  # what is held begins with a private key whose end has not come
        self._dropping = False  # inside a masked value that is longer than what may be held
        # A value of several lines may have begun with the last line that is complete.
        self._beginnings = tuple(
            {n[: at + 1] for n in redactor._needles for at, byte in enumerate(n[:-1]) if byte in b"\r\n"}
        )

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; what can be given out by now."""
        if self._dropping:
            chunk = self._rest_of_line(chunk)
        self._held += chunk
        if self._in_key and b"-----END " not in self._held and len(self._held) < LONGEST_KEY:
            return b""
        ready = max(self._held.rfind(b"\n"), self._held.rfind(b"\r")) + 1
        if not ready and len(self._held) < _LONGEST_LINE:
            return b""
        return self._give(ready)

    def flush(self) -> bytes:
        """The rest, when nothing more comes."""
        data = bytes(self._held)
        self._held.clear()
        self._in_key = self._dropping = False
        return masked(data, self._redactor._find(data))

    def _give(self, ready: int) -> bytes:
        data = bytes(self._held)
        spans = self._redactor._find(data)
        cut = ready or len(data) - 2 * WINDOW
        self._in_key = False
        if (key := unfinished_key(data)) is not None and key < cut:
            cut, self._in_key = key, True
        for beginning in self._beginnings:
            if data.endswith(beginning, 0, cut) and len(data) - cut < _LONGEST_LINE:
                cut = min(cut, cut - len(beginning))
        while crossing := [span.head for span in spans if span.head < cut < span.end]:
            cut = min(crossing)
        if cut <= 0 and len(data) >= _LONGEST_LINE and not self._in_key:
            return self._drop(data, spans)
        del self._held[:cut]
        return masked(data[:cut], [span for span in spans if span.end <= cut])

    def _drop(self, data: bytes, spans: list[Span]) -> bytes:
        """Mask a value that is longer than what may be held, up to the end of its line."""
        self._held.clear()
        self._dropping = True
        return data[: spans[0].start] + MASK.encode() if spans else MASK.encode()

    def _rest_of_line(self, chunk: bytes) -> bytes:
        end = chunk.find(b"\n")
        self._dropping = end < 0
        return chunk[end:] if end >= 0 else b""


def _secret_name(name: str) -> bool:
    upper = name.upper()
    return _SECRET_NAME.search(upper) is not None and _PUBLIC_NAME.search(upper) is None


def _chunks(stream: Iterable[bytes] | Readable) -> Iterator[bytes]:
    if isinstance(stream, Iterable) and not hasattr(stream, "read"):
        yield from stream
        return
    # Of a pipe, what is there; not until a chunk is full.
    read = getattr(stream, "read1", None) or stream.read
    while chunk := read(_CHUNK):
        yield chunk
