"""What is wrong with a document: where it is, what it is, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlops.errors import Location

FieldPath = tuple[str | int, ...]

_SHOWABLE = re.compile(r"[A-Za-z0-9_.@/+:*<>=~-]{1,80}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in one document; `str()` gives `file:line:column: Kind/name: field: what. fix`."""

    location: Location
    resource: str | None  # "Kind/name", where the document says so
    field: str | None  # such as spec.sweep.parameters.depth[1]
    what: str
    fix: str

    def __str__(self) -> str:
        parts = [str(self.location), self.resource, self.field, f"{self.what.rstrip('.')}. {self.fix}"]
        return ": ".join(printable(part) for part in parts if part)

    @property
    def place(self) -> tuple[str, int, int, str, str]:
        """What problems are sorted by."""
        location = self.location
        return (location.file, location.line, location.column, self.field or "", self.what)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem whose place is still a field path, not yet a line and a column."""

    path: FieldPath
    what: str
    fix: str
    on_key: bool = False  # the name of the field is wrong, not its value


def field_name(path: Iterable[str | int]) -> str:
    """A field path as people write it: `("spec", "gates", 0, "soak")` is `spec.gates[0].soak`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return printable(text if len(text) <= 200 else f"{text[:199]}…")


def shown(value: object, otherwise: str = "this value") -> str:
    """A value in quotes if it is short and plain as names are; what looks otherwise is not repeated."""
    return f'"{value}"' if isinstance(value, str) and _SHOWABLE.fullmatch(value) else otherwise


def printable(text: str) -> str:
    """Text with nothing in it that could steer a terminal or break a line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
