"""What the cache and the lease ask of a database; SQLite and PostgreSQL each answer it.

Statements are written once, in the SQL both understand, with `?` for parameters. Work is handed over as
a function so that a driver can run it again when the database was deleted, restarted or replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from mlops.errors import MlopsError

T = TypeVar("T")
Row = tuple[Any, ...]

# One entry a schema version; the last one's number is the version this code writes. {blob} and {real}
# are the dialect's type names. The lease must survive every migration: its token may never go back.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE mlops_cache (
            project TEXT NOT NULL, namespace TEXT NOT NULL, key {blob} NOT NULL,
            value {blob} NOT NULL, used {real} NOT NULL, PRIMARY KEY (project, namespace, key))""",
        """CREATE TABLE mlops_event (
            identity {blob} NOT NULL PRIMARY KEY, position BIGINT NOT NULL, project TEXT NOT NULL,
            at {real} NOT NULL, resource TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
            severity TEXT NOT NULL, revision TEXT NOT NULL, step TEXT, duration {real}, cause TEXT,
            count BIGINT NOT NULL, last_at {real} NOT NULL)""",
        "CREATE INDEX mlops_event_by_resource ON mlops_event (project, resource, position)",
        "CREATE INDEX mlops_event_by_position ON mlops_event (project, position)",
        """CREATE TABLE mlops_lease (
            project TEXT NOT NULL PRIMARY KEY, token BIGINT NOT NULL, owner TEXT NOT NULL,
            counter BIGINT NOT NULL, ttl {real} NOT NULL, holder TEXT NOT NULL)""",
    ),
)


class Session(Protocol):
    """One transaction."""

    def run(self, sql: str, *parameters: Any) -> int:
        """Run one statement; the number of rows it changed."""

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        """Run one statement for each row of parameters."""

    def rows(self, sql: str, *parameters: Any) -> list[Row]:
        """All rows of a query."""

    def read_cache(self, project: str, namespace: str, keys: Sequence[bytes]) -> Iterable[Row]:
        """`(key, value, used)` of those keys that are there."""

    def write_cache(
        self, project: str, namespace: str, items: Sequence[tuple[bytes, bytes]], used: float
    ) -> None:
        """Insert or overwrite entries."""


class Database(Protocol):
    """A place for tables. Every method raises `Transient` when the database cannot answer just now."""

    place: str  # for messages: a path, or a URI without its password
    writable: bool
    durable: bool  # other processes see what is written here

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a reading transaction."""

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in a writing transaction: all of it happens, or nothing."""

    def another(self) -> Database:
        """A second connection to the same database, for a thread that may not wait for this one."""

    def unmoved(self) -> bool:
        """Whether this is still the database that others would open. Microseconds: no network."""

    def shrink(self) -> None:
        """Give the space of deleted rows back, where that does not happen by itself."""

    def close(self) -> None:
        """Let go of it; may be called twice."""


def newer_schema(place: str, found: int) -> MlopsError:
    """The error for a database that a later release of this project has written."""
    return MlopsError(
        f"the state database has schema {found}, this mlops knows up to {len(MIGRATIONS)}",
        where=place,
        fix="Upgrade mlops-controller; or, as it is only a cache, stop the newer one and delete the database",
    )
