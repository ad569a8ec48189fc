"""Errors a person can act on: what is wrong, where, and what to do.

The three subclasses say what a reconciler does next, as in Flux: retry with backoff (`Transient`),
wait for a known thing (`Waiting`), or stop until a human changes something (`Stalled`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a file of the repository; `line` and `column` count from 1, 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class MlopsError(Exception):
    """What is wrong, where, and what to do about it; printed without a traceback."""

    def __init__(self, what: str, *, where: Location | str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        what = f"{self.where}: {self.what}" if self.where else self.what
        return f"{what.rstrip('.')}. {self.fix}" if self.fix else what


class Transient(MlopsError):
    """Goes away by itself: retried with backoff."""


class Waiting(MlopsError):
    """Waits for a known thing to happen."""


class Stalled(MlopsError):
    """Needs a human: not retried until the resource, its inputs or its base changes."""


class Defect(Stalled):
    """A fault of this program, not of what it was given; its cause is the error that nobody expected."""


def as_mlops_error(error: Exception, *, where: str | None = None) -> MlopsError:
    """`error` as people are told of it: what the system refuses goes by, what nobody expected is a defect."""
    if isinstance(error, MlopsError):
        return error
    if isinstance(error, OSError):
        what = f"{type(error).__name__}: {error.strerror or error}"
        return Transient(
            what, where=where, fix="See to the disk, its rights and its limits; then it can be tried again"
        )
    defect = Defect(f"{type(error).__name__}: {error}", where=where)
    defect.__cause__ = error
    return defect
