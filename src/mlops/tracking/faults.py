"""What MLflow raises, as errors a person and a reconciler can act on.

MLflow reports a fault by an error code, by a wrapped database error or by a plain network error. The
codes come from mlflow/protos/databricks.proto. Messages are cut to one line and lose SQL and credentials.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mlops.errors import MlopsError, Stalled, Transient

_PASSING = frozenset(
    {
        "TEMPORARILY_UNAVAILABLE",
        "INTERNAL_ERROR",
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "ABORTED",
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "IO_ERROR",
    }
)
_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "ENDPOINT_NOT_FOUND"})
_REFUSED = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"})
_OF_THE_DISK = ("readonly database", "unable to open database", "is full")  # goes by without a change in git
_SETTLED_BY_HAND = ("no such table", "malformed", "not a database")
_CONFLICT = re.compile(r"\(\w[\w.]*\.(IntegrityError|UniqueViolation)\)")  # as a server passes it on
_CHECK_FILE = "Check the database's file, its rights and the disk."
_RETRY = "See that it is up and can be reached from here, then run this again."
_URL_SECRET = re.compile(r"(\w[\w+.-]*://)[^/\s@]+@")


class Raced(Transient):
    """A database rolled the call back because another one wrote at the same time: it can be made again."""


@contextmanager
def reported(doing: str, where: str) -> Iterator[None]:
    """Turn what MLflow raises while `doing` something with the store at `where` into an `MlopsError`.

    Raises:
        Transient: unreachable, timed out, locked, overloaded.
        Stalled: not found, refused, invalid.
    """
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:
        fault = translated(error, doing, where)
        if fault is None:
            raise
        raise fault from error


def translated(error: Exception, doing: str, where: str) -> MlopsError | None:
    """The error to show for one that MLflow raised; None for one that MLflow is not to blame for."""
    database = _database_error(error)
    if database is not None:
        return _of_database(database, doing, where)
    if isinstance(error, TimeoutError | ConnectionError) or _named(
        error, "requests.exceptions", "RequestException"
    ):
        return Transient(f"{doing}: the store cannot be reached", where=where, fix=_RETRY)
    if _named(error, "mlflow.exceptions", "MlflowException"):
        return _of_mlflow(error, doing, where)
    if isinstance(error, OSError):
        return _of_system(error, doing, where)
    if isinstance(error, ModuleNotFoundError):
        return Stalled(
            f"{doing}: the module {error.name!r}, which this kind of store needs, is not installed",
            where=where,
            fix="Install it beside mlops: the extra `postgres` for PostgreSQL, else the database's own driver.",
        )
    return None


def code(error: BaseException) -> str | None:
    """MLflow's error code, such as RESOURCE_DOES_NOT_EXIST; None where it is not MLflow's error."""
    return (
        str(getattr(error, "error_code", ""))
        if _named(error, "mlflow.exceptions", "MlflowException")
        else None
    )


def missing(error: BaseException) -> bool:
    """Whether MLflow says that the thing does not exist."""
    return code(error) in _MISSING


def _of_mlflow(error: Exception, doing: str, where: str) -> MlopsError:
    why = code(error) or "INTERNAL_ERROR"
    said = f"{doing}: {_line(error)}"
    if "out-of-date database schema" in str(error):
        return Stalled(
            f"{doing}: the store was made by an older MLflow",
            where=where,
            fix="Back it up, then run `mlflow db upgrade` with its URI.",
        )
    if why in _MISSING:
        return Stalled(said, where=where, fix="It may have been deleted or renamed in MLflow.")
    if why in _REFUSED:
        return Stalled(said, where=where, fix="Check the credentials and their rights in MLflow.")
    if why in _PASSING:
        if "API request to" in str(error):
            return Transient(f"{doing}: the store cannot be reached", where=where, fix=_RETRY)
        return Transient(said, where=where, fix=_RETRY)
    if _CONFLICT.search(str(error)):
        return Raced(f"{doing}: another client wrote the same at once", where=where, fix=_RETRY)
    return Stalled(said, where=where, fix="Correct what MLflow refuses, then apply again.")


def _of_database(error: BaseException, doing: str, where: str) -> MlopsError:
    original = getattr(error, "orig", None) or error
    said = _line(original)
    if any(words in said for words in _SETTLED_BY_HAND):
        return Stalled(f"{doing}: {said}", where=where, fix=_CHECK_FILE)
    if any(words in said for words in _OF_THE_DISK):
        return Transient(f"{doing}: {said}", where=where, fix=_CHECK_FILE)
    if isinstance(original, sqlite3.IntegrityError) or type(error).__name__ == "IntegrityError":
        return Raced(f"{doing}: another process wrote the same at once", where=where, fix=_RETRY)
    kind = Raced if "database is locked" in said else Transient
    return kind(f"{doing}: {said}", where=where, fix=_RETRY)


def _of_system(error: OSError, doing: str, where: str) -> MlopsError:
    reason = error.strerror or type(error).__name__
    if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError | IsADirectoryError):
        place = str(error.filename or where)
        return Stalled(
            f"{doing}: {reason}", where=place, fix="Check that the path exists and may be written."
        )
    return Transient(f"{doing}: {reason}", where=where, fix="Check the disk, then run this again.")


def _database_error(error: BaseException | None) -> BaseException | None:
    while error is not None:
        if isinstance(error, sqlite3.Error) or _named(error, "sqlalchemy.exc", "SQLAlchemyError"):
            return error
        inner = getattr(error, "message", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return None


def _named(error: BaseException, module: str, name: str) -> bool:
    """isinstance, without importing the module for it: an error of a module not imported cannot occur."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(error, kind)


def _line(error: BaseException) -> str:
    """The first line of a message, without credentials in URLs, at most 300 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _URL_SECRET.sub(r"\1***@", lines[0].partition("[SQL:")[0].strip())[:300]
