"""The state in an SQLite file.

The journal is a rollback journal, not WAL, on purpose: in that mode SQLite itself refuses to write to a
file that was deleted or replaced under it, so that a cache somebody removed cannot damage the next one;
it also works on network file systems and in folders where only reading is allowed.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from mlops.errors import MlopsError, Transient
from mlops.state.database import MIGRATIONS, Row, T, newer_schema

_APPLICATION_ID: Final = 0x6D6C6F70  # "mlop": tells our file from another program's
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DELETED: Final = sqlite3.SQLITE_READONLY_DBMOVED
_KEPT_DAMAGED_FILES: Final = 3
_KEYS_A_QUERY: Final = 900  # below the least limit on parameters of any SQLite

Identity = tuple[int, int]


class SqliteSession:
    """One transaction on one connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, *parameters: Any) -> int:
        return self._connection.execute(sql, parameters).rowcount

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        self._connection.executemany(sql, rows)

    def rows(self, sql: str, *parameters: Any) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def read_cache(self, project: str, namespace: str, keys: Sequence[bytes]) -> Iterator[Row]:
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            yield from self._connection.execute(
                "SELECT key, value, used FROM mlops_cache"
                f" WHERE project = ? AND namespace = ? AND key IN ({marks})",
                (project, namespace, *some),
            )

    def write_cache(
        self, project: str, namespace: str, items: Sequence[tuple[bytes, bytes]], used: float
    ) -> None:
        self._connection.executemany(
            "INSERT INTO mlops_cache (project, namespace, key, value, used) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (project, namespace, key)"
            " DO UPDATE SET value = excluded.value, used = excluded.used",
            ((project, namespace, key, value, used) for key, value in items),
        )


class SqliteDatabase:
    """An SQLite file, or a private database in memory when `path` is None.

    `timeout` is how long, in seconds, a statement waits for another process's lock. `on_damage` is called
    with a sentence after a damaged file was set aside and a new one made. Threads may share it in turns.

    Raises: MlopsError for a file of another program or of a newer release; Transient when it is locked
    for longer than `timeout`, or the disk is full.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        timeout: float,
        now: Callable[[], float] = time.time,
        on_damage: Callable[[str], None] = lambda message: None,
        writable: bool = True,
    ) -> None:
        self.place = str(path) if path else "memory"
        self.writable = writable
        self.durable = path is not None and writable
        self._path = path
        self._timeout = timeout
        self._now = now
        self.on_damage = on_damage
        self._mutex = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._open()

    def read(self, work: Callable[[SqliteSession], T]) -> T:
        return self._transaction("BEGIN", work)

    def write(self, work: Callable[[SqliteSession], T]) -> T:
        return self._transaction("BEGIN IMMEDIATE", work)

    def another(self) -> SqliteDatabase:
        if self._path is None:
            return self
        return SqliteDatabase(
            self._path, timeout=self._timeout, now=self._now, on_damage=self.on_damage, writable=self.writable
        )

    def unmoved(self) -> bool:
        return self._path is None or self._identity == _identity(self._path)

    def shrink(self) -> None:
        """Give free pages back to the disk."""
        with self._mutex:
            if self._connection is not None and self.writable:
                try:
                    self._connection.execute("PRAGMA incremental_vacuum").fetchall()
                except sqlite3.Error as error:
                    raise _translated(error, self.place) from error

    def close(self) -> None:
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _transaction(self, begin: str, work: Callable[[SqliteSession], T]) -> T:
        with self._mutex:
            for last_try in (False, True):
                if self._connection is None or not self.unmoved():
                    self._open()
                try:
                    return self._attempt(begin, work)
                except sqlite3.Error as error:
                    if last_try or not self._mended(error):
                        raise _translated(error, self.place) from error
        raise AssertionError("unreachable")

    def _attempt(self, begin: str, work: Callable[[SqliteSession], T]) -> T:
        connection = self._connection
        assert connection is not None
        connection.execute(begin)
        try:
            result = work(SqliteSession(connection))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has already rolled it back
                connection.execute("ROLLBACK")
            raise
        return result

    def _mended(self, error: sqlite3.Error) -> bool:
        """Whether trying again can help, after opening what should be there instead."""
        if self._path is None:
            return False
        if _code(error) == _DELETED:
            self._open()
            return True
        if _code(error) & 0xFF in _DAMAGED and self.writable:
            message = self._set_aside()
            self._open()
            if message:
                self.on_damage(message)
            return True
        return False

    def _open(self) -> None:
        self.close()
        message = None
        for last_try in (False, False, True):
            try:
                self._connect()
                break
            except sqlite3.Error as error:
                self.close()
                if last_try or _code(error) & 0xFF not in _DAMAGED or self._path is None or not self.writable:
                    raise _translated(error, self.place) from error
                message = self._set_aside()
            except BaseException:
                self.close()
                raise
        if message:
            self.on_damage(message)

    def _connect(self) -> None:
        if self._path is None:
            target = ":memory:"
        else:
            if self.writable:
                _make_folder(self._path.parent)
            target = f"{self._path.as_uri()}?mode={'rwc' if self.writable else 'ro'}"
        connection = sqlite3.connect(
            target, timeout=self._timeout, isolation_level=None, check_same_thread=False, uri=True
        )
        self._connection = connection
        self._identity = _identity(self._path) if self._path else None
        connection.execute("PRAGMA trusted_schema = OFF")  # the file may have come with a clone
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection, self.place)

    def _set_aside(self) -> str | None:
        """Rename the damaged file and say so; None where another process has done it already."""
        path, damaged = self._path, self._identity
        assert path is not None
        self.close()
        with _folder_locked(path.parent):
            if damaged is None or _identity(path) != damaged:
                return None
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._now()))
            names = (f"{path.name}.corrupt-{stamp}{f'-{n}' if n else ''}" for n in itertools.count())
            aside = next(free for name in names if not (free := path.with_name(name)).exists())
            with suppress(
                FileNotFoundError
            ):  # its journal belongs to it, and would be played into the new file
                path.with_name(f"{path.name}-journal").rename(f"{aside}-journal")
            path.rename(aside)
            copies = [
                p for p in path.parent.glob(f"{path.name}.corrupt-*") if not p.name.endswith("-journal")
            ]
            for old in sorted(copies, key=lambda p: p.stat().st_mtime)[:-_KEPT_DAMAGED_FILES]:
                old.unlink(missing_ok=True)
                old.with_name(f"{old.name}-journal").unlink(missing_ok=True)
        return f"{path} was damaged; it is kept as {aside.name} and a new one was made. Nothing is lost"


def _migrate(connection: sqlite3.Connection, place: str) -> None:
    connection.execute("BEGIN")  # one picture of it: another process may be making it right now
    try:
        made = _schema(connection, place) == len(MIGRATIONS)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if made:
        return
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only possible before the first table
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[_schema(connection, place) :]:
            for statement in statements:
                connection.execute(statement.format(blob="BLOB", real="REAL"))
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _schema(connection: sqlite3.Connection, place: str) -> int:
    """The schema's version, 0 for an empty file."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == _APPLICATION_ID and version <= len(MIGRATIONS):
        return version
    if application == _APPLICATION_ID:
        raise newer_schema(place, version)
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] or application or version:
        raise MlopsError(
            "the state database is another program's file",
            where=place,
            fix="Give Project.spec.state.uri a file of its own",
        )
    return 0


def _identity(path: Path) -> Identity | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - in front of every statement, and much cheaper
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Transient(
            f"the folder of the state database cannot be made: {os.strerror(error.errno or 0)}",
            where=str(folder),
            fix="Make it writable, or free space on its disk",
        ) from error


@contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # NFS cannot lock a folder; then a race costs no more than a second cache
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR


def _translated(error: sqlite3.Error, place: str) -> MlopsError:
    match _code(error) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            what, fix = (
                "the state database is locked by another process",
                "It is tried again; if that lasts, see what holds the file",
            )
        case sqlite3.SQLITE_FULL:
            what, fix = "the disk that holds the state database is full", "Free space; nothing was lost"
        case sqlite3.SQLITE_IOERR:
            what = "the state database could not be read or written: its disk or quota is full, or it fails"
            fix = "Free space or mend the disk; nothing was lost"
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            what, fix = (
                "the state database cannot be opened for writing",
                "Make the file and its folder writable",
            )
        case code if code in _DAMAGED:
            what, fix = "the state database is damaged", "Delete it: it is only a cache"
        case _:
            return MlopsError(
                f"the state database refused a statement ({error.__class__.__name__} {_code(error)})",
                where=place,
                fix="Use one release of mlops with it; or delete it: it is only a cache",
            )
    return Transient(what, where=place, fix=fix)
