"""Bytes of whole numbers, texts and arrays: the same for the same values everywhere, and checked when they are read."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_CHECK: Final = 16  # bytes of a BLAKE2b sum at the end
_DTYPES: Final = ("<u1", "<u2", "<u4", "<u8", "<f8")


class Damaged(ValueError):
    """Bytes that `Writer` did not make."""


class Writer:
    """Collects values; `done` gives their bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def whole(self, value: int) -> None:
        """A whole number of any size and sign, without the zeros at its low end."""
        shift = (value & -value).bit_length() - 1 if value else 0
        body = (value >> shift).to_bytes((value.bit_length() - shift) // 8 + 1, "little", signed=True)
        self._parts.append(struct.pack("<HH", shift, len(body)) + body)

    def number(self, value: float | None) -> None:
        """A double, or None."""
        self._parts.append(b"\0" if value is None else b"\1" + struct.pack("<d", value))

    def text(self, value: str) -> None:
        """Any text, lone surrogates included."""
        body = value.encode("utf-8", "surrogatepass")
        self._parts.append(struct.pack("<I", len(body)) + body)

    def texts(self, values: Sequence[str]) -> None:
        """A sequence of texts."""
        self.whole(len(values))
        for value in values:
            self.text(value)

    def array(self, values: npt.NDArray[Any]) -> None:
        """Doubles, or whole numbers that are not negative, in the fewest bytes each that hold the greatest."""
        if values.dtype == np.float64:
            code = 4
        else:
            most = int(values.max()) if len(values) else 0
            code = next(place for place in range(4) if most < 1 << (8 << place))
        body = values.astype(_DTYPES[code]).tobytes()
        self._parts.append(struct.pack("<BI", code, len(values)) + body)

    def done(self) -> bytes:
        """All of it, with a sum against damage at the end."""
        body = b"".join(self._parts)
        return body + hashlib.blake2b(body, digest_size=_CHECK).digest()


class Reader:
    """Gives back what a `Writer` was given, in the same order.

    Raises:
        Damaged: from the constructor and from every method, for other bytes.
    """

    def __init__(self, value: bytes) -> None:
        body, check = value[:-_CHECK], value[-_CHECK:]
        if hashlib.blake2b(body, digest_size=_CHECK).digest() != check:
            raise Damaged("the sum at the end does not fit")
        self._body = body
        self._at = 0

    def whole(self) -> int:
        """What `Writer.whole` put."""
        shift, size = struct.unpack("<HH", self._take(4))
        return int.from_bytes(self._take(size), "little", signed=True) << int(shift)

    def count(self) -> int:
        """A whole number that is no count below 0."""
        value = self.whole()
        if value < 0:
            raise Damaged("a count is negative")
        return value

    def number(self) -> float | None:
        """What `Writer.number` put."""
        if self._take(1) == b"\0":
            return None
        return float(struct.unpack("<d", self._take(8))[0])

    def text(self) -> str:
        """What `Writer.text` put."""
        (size,) = struct.unpack("<I", self._take(4))
        try:
            return self._take(size).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Damaged("a text is not UTF-8") from error

    def texts(self) -> tuple[str, ...]:
        """What `Writer.texts` put."""
        return tuple(self.text() for _ in range(self.count()))

    def array(self, dtype: type[np.generic]) -> npt.NDArray[Any]:
        """What `Writer.array` put, as `dtype`."""
        code, length = struct.unpack("<BI", self._take(5))
        if code >= len(_DTYPES) or (code == 4) is not (dtype is np.float64):
            raise Damaged("an array of another type")
        kind = np.dtype(_DTYPES[code])
        values = np.frombuffer(self._take(length * kind.itemsize), kind).astype(dtype)
        values.setflags(write=False)
        return values

    def end(self) -> None:
        """Say that nothing more is expected."""
        if self._at != len(self._body):
            raise Damaged("there is more than expected")

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._body):
            raise Damaged("it ends too early")
        taken = self._body[self._at : self._at + size]
        self._at += size
        return taken
