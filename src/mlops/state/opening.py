"""Opens the state that `Project.spec.state.uri` names."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mlops.errors import MlopsError
from mlops.state.database import Database
from mlops.state.sqlite import SqliteDatabase
from mlops.state.store import State

_WHERE: Final = "Project.spec.state.uri"


def open_state(
    uri: str,
    *,
    base: Path,
    now: Callable[[], float] = time.time,
    project: str = "",
    timeout: float = 5.0,
) -> State:
    """Open the cache and bring its schema up to date; make it where there is none.

    `uri` is `sqlite:///relative/to/base`, `sqlite:////absolute` or `postgresql://…`. `project` keeps the
    entries and events of projects that share a database apart. `timeout` is in seconds, for another
    process's lock.

    Where nothing can be written, an existing file is only read, and without one the state is in memory;
    `State.warnings` says so. A damaged file is set aside, with a warning event.

    Raises: MlopsError for a URI that is not understood, a newer schema, another program's file or a missing
    driver; Transient while the database is locked or cannot be reached, or its disk is full.
    """
    scheme, separator, rest = uri.partition("://")
    if separator and scheme in ("postgresql", "postgres"):
        from mlops.state.postgres import PostgresDatabase

        return State(PostgresDatabase(uri, timeout=timeout), now=now, project=project)
    if separator and scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return _open_sqlite(_path(rest[1:], base), now=now, project=project, timeout=timeout)
    raise MlopsError(
        f"the state's URI scheme {scheme!r} is not supported"
        if separator and re.fullmatch(r"[a-z][a-z0-9+.-]{0,30}", scheme) and scheme != "sqlite"
        else "the state's URI is malformed",
        where=_WHERE,
        fix="Use sqlite:///PATH (relative to the project), sqlite:////ABSOLUTE/PATH or postgresql://…",
    )


def _path(text: str, base: Path) -> Path:
    if "\0" in text or "?" in text or "#" in text:
        raise MlopsError(
            "the state's path holds a character that a URI gives another meaning",
            where=_WHERE,
            fix="Leave out ? and #",
        )
    path = Path(os.path.normpath(base.absolute() / text))
    if not text.startswith("/") and not path.is_relative_to(os.path.normpath(base.absolute())):
        raise MlopsError(
            "the state's path leaves the project",
            where=_WHERE,
            fix="Name a file inside it, or write an absolute path",
        )
    return path


def _open_sqlite(path: Path, *, now: Callable[[], float], project: str, timeout: float) -> State:
    warnings: list[str] = []
    damage: list[str] = []
    database = _database(path, now=now, timeout=timeout, warnings=warnings, on_damage=damage.append)
    state = State(database, now=now, project=project, warnings=warnings)

    def report(message: str) -> None:
        state.warn("StateDamaged", message)

    for message in damage:
        report(message)
    if isinstance(database, SqliteDatabase):
        database.on_damage = report
    return state


def _database(
    path: Path,
    *,
    now: Callable[[], float],
    timeout: float,
    warnings: list[str],
    on_damage: Callable[[str], None],
) -> Database:
    if _may_write(path):
        return SqliteDatabase(path, timeout=timeout, now=now, on_damage=on_damage)
    try:
        database = SqliteDatabase(path, timeout=timeout, now=now, writable=False)
    except MlopsError:
        warnings.append(f"{path} cannot be written: what is learnt in this call is not remembered")
        return SqliteDatabase(None, timeout=timeout, now=now)
    warnings.append(f"{path} can be read but not written: what is learnt in this call is not remembered")
    return database


def _may_write(path: Path) -> bool:
    """Whether file and folder can be written, or the folder be made."""
    try:
        if path.exists() and not os.access(path, os.W_OK):
            return False
        folder = next(parent for parent in path.parents if parent.exists())
    except PermissionError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
