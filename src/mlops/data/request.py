"""What is asked about a dataset, and what the answer needs from outside this package.

The protocols are structural: the state cache, the git revision and the declared expectations are written
elsewhere and only have to look like this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from mlops.errors import Stalled

Format = Literal["csv", "parquet", "delta"]
Clock = Callable[[], float]  # seconds since the epoch

Reason = Literal[
    "NotFound",  # nothing is there
    "DigestMismatch",  # the pin names other content
    "ExpectationFailed",  # the content breaks `expect`
    "Unreadable",  # there, but cannot be read as what it is declared to be
    "Unreachable",  # the store of a URI did not answer, or refused
    "MissingExtra",  # a library that the URI or the format needs is not installed
    "Invalid",  # the declaration itself cannot be followed
]


class DigestCache(Protocol):
    """Remembers digests and profiles between passes; losing it costs time and nothing else."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those keys that are known."""

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        """Remember each entry, replacing what was there."""


class Inside(Protocol):
    """The regular files that git tracks at the revision; links are resolved or left out by its maker."""

    @property
    def files(self) -> Mapping[str, tuple[str, int]]:
        """Path relative to the project root (posix) → (blob id, size in bytes)."""

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of each of those paths at the revision."""


Bound = int | float | str | date | datetime


class ColumnExpectation(Protocol):
    """What one column must hold; None leaves a side open."""

    @property
    def type(self) -> str | None: ...

    @property
    def min(self) -> Bound | None: ...

    @property
    def max(self) -> Bound | None: ...

    @property
    def max_null(self) -> float | None: ...


class Expectation(Protocol):
    """What a dataset must hold; an attribute `max_rows` is honoured where there is one."""

    @property
    def min_rows(self) -> int | None: ...

    @property
    def columns(self) -> Mapping[str, ColumnExpectation]: ...


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """One declared dataset.

    Args:
        name: of the resource.
        uri: with every `${VAR}` replaced.
        format: None is told from the file names; a folder with a `_delta_log` is a Delta table.
        version: of a Delta table; None is the latest.
        pin: the declared digest; None accepts whatever is found.
        expect: checked against the content, which costs one read of it for each digest.
        shown: the URI as declared, for messages; the replaced values of `${VAR}` are never shown.
    """

    name: str
    uri: str
    format: Format | None = None
    version: int | None = None
    pin: str | None = None
    expect: Expectation | None = None
    shown: str | None = None

    @property
    def display(self) -> str:
        """The URI for messages: without credentials, query and control characters."""
        return printable(_without_secrets(self.shown if self.shown is not None else self.uri))


class Problem(Stalled):
    """Why a dataset cannot be used, with the reason its status shows."""

    def __init__(self, reason: Reason, what: str, *, fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.reason: Reason = reason


def printable(text: str) -> str:
    """`text` on one line, with control characters and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _without_secrets(uri: str) -> str:
    # abfss://container@account is an address; before any other @, and behind a colon, may stand a secret
    uri = re.sub(r"^(?!abfss://[^/:@]*@)([^/]*)://[^/]*@", r"\1://…@", uri)
    return re.sub(r"\?[^/?]*=.*$", "?…", uri)
