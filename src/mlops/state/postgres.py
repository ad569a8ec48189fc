"""The state in PostgreSQL, through psycopg 3 (extra `postgres`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from mlops.errors import MlopsError, Stalled, Transient
from mlops.state.database import MIGRATIONS, Row, T, newer_schema

_MIGRATION_LOCK: Final = 0x6D6C6F7073  # any number that all releases agree on
_WHERE: Final = "Project.spec.state.uri"

# A dead network must be noticed well before a lease runs out.
_NETWORK: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "8000",
    "application_name": "mlops",
}


class PostgresSession:
    """One transaction on one connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, sql: str, *parameters: Any) -> int:
        return int(self._connection.execute(sql.replace("?", "%s"), parameters).rowcount)

    def run_many(self, sql: str, rows: Sequence[Row]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(sql.replace("?", "%s"), rows)

    def rows(self, sql: str, *parameters: Any) -> list[Row]:
        found: list[Row] = self._connection.execute(
            sql.replace("?", "%s"), parameters, binary=True
        ).fetchall()
        return found

    def read_cache(self, project: str, namespace: str, keys: Sequence[bytes]) -> list[Row]:
        found: list[Row] = self._connection.execute(
            "SELECT key, value, used FROM mlops_cache"
            " WHERE project = %s AND namespace = %s AND key = ANY(%b::bytea[])",
            (project, namespace, list(keys)),
            binary=True,
        ).fetchall()
        return found

    def write_cache(
        self, project: str, namespace: str, items: Sequence[tuple[bytes, bytes]], used: float
    ) -> None:
        self._connection.execute(
            "INSERT INTO mlops_cache (project, namespace, key, value, used)"
            " SELECT %s, %s, item.key, item.value, %s"
            # In one order, so that two writers of the same keys do not wait for each other.
            " FROM unnest(%b::bytea[], %b::bytea[]) AS item (key, value) ORDER BY item.key"
            " ON CONFLICT (project, namespace, key)"
            " DO UPDATE SET value = excluded.value, used = excluded.used",
            (project, namespace, used, [key for key, _ in items], [value for _, value in items]),
        )


class PostgresDatabase:
    """A PostgreSQL database; its tables start with `mlops_` and stand in the connection's search path.

    `timeout` is how long, in seconds, a statement may wait for a lock, and half of how long it may run. A
    connection that broke is opened again by the next call. Safe to use from several threads, one at a time.

    Raises: MlopsError without psycopg, for a malformed URI or a newer schema; Stalled for credentials that
    are refused or a database that does not exist; Transient while the server cannot be reached.
    """

    writable = True
    durable = True

    def __init__(self, uri: str, *, timeout: float) -> None:
        self._uri, self.place = uri, _checked(uri)
        self._timeout = timeout
        self._mutex = threading.RLock()
        self._psycopg = _psycopg()
        self._connection: Any = None
        with self._mutex:
            self._guarded(self._open)

    def read(self, work: Callable[[PostgresSession], T]) -> T:
        return self._transaction("BEGIN READ ONLY", work)

    def write(self, work: Callable[[PostgresSession], T]) -> T:
        return self._transaction("BEGIN", work)

    def another(self) -> PostgresDatabase:
        return PostgresDatabase(self._uri, timeout=self._timeout)

    def unmoved(self) -> bool:
        return True

    def shrink(self) -> None:
        """Nothing to do: the server vacuums by itself."""

    def close(self) -> None:
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _transaction(self, begin: str, work: Callable[[PostgresSession], T]) -> T:
        with self._mutex:
            # An idle connection may have died with a restart of the server.
            if self._connection is None or self._connection.closed or not self._alive():
                self.close()
                self._guarded(self._open)
            return self._guarded(lambda: self._attempt(begin, work))

    def _alive(self) -> bool:
        """Whether the server has not closed the idle connection; looks at the socket only."""
        import select

        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)  # an idle session has nothing to say but goodbye

    def _attempt(self, begin: str, work: Callable[[PostgresSession], T]) -> T:
        connection = self._connection
        milliseconds = int(self._timeout * 1000)
        # In the transaction and in one message: also right behind a pooler, and no further round trip.
        connection.execute(
            f"{begin}; SET LOCAL lock_timeout = {milliseconds};"
            f" SET LOCAL statement_timeout = {2 * milliseconds}"
        )
        try:
            result = work(PostgresSession(connection))
            connection.execute("COMMIT")
        except BaseException:
            try:
                connection.execute("ROLLBACK")
            except self._psycopg.Error:
                connection.close()  # the server rolls back what it has lost
            raise
        return result

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._psycopg.Error as error:
            # The server's own words may repeat parts of a password, so that only their kind is shown.
            raise self._translated(error) from None

    def _open(self) -> None:
        self._connection = self._psycopg.connect(
            self._uri, autocommit=True, prepare_threshold=None, **self._network()
        )
        try:
            if self._schema() != len(MIGRATIONS):
                self._attempt("BEGIN", lambda session: self._migrate())
        except BaseException:
            self.close()
            raise

    def _network(self) -> dict[str, str]:
        given = self._psycopg.conninfo.conninfo_to_dict(self._uri)
        return {name: value for name, value in _NETWORK.items() if name not in given}

    def _schema(self) -> int:
        """The schema's version, 0 where there is none yet."""
        if self._connection.execute("SELECT to_regclass('mlops_schema') IS NULL").fetchone()[0]:
            return 0
        version = int(self._connection.execute("SELECT max(version) FROM mlops_schema").fetchone()[0] or 0)
        if version > len(MIGRATIONS):
            raise newer_schema(self.place, version)
        return version

    def _migrate(self) -> None:
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        # First this: it also makes the session forget that, before it had the lock, there was no such table.
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS mlops_schema (version BIGINT NOT NULL PRIMARY KEY)"
        )
        version = self._schema()
        if version == len(MIGRATIONS):
            return
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                self._connection.execute(statement.format(blob="BYTEA", real="DOUBLE PRECISION"))
        self._connection.execute("INSERT INTO mlops_schema (version) VALUES (%s)", (len(MIGRATIONS),))

    def _translated(self, error: Any) -> MlopsError:
        errors = self._psycopg.errors
        said = str(error)
        refused = isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification) or any(
            words in said
            for words in ("authentication failed", "no password supplied", "no pg_hba.conf entry")
        )
        if refused:
            return Stalled(
                "the state database refuses these credentials",
                where=self.place,
                fix=f"Check user and password in {_WHERE}",
            )
        if isinstance(error, errors.InvalidCatalogName) or ("database" in said and "does not exist" in said):
            return Stalled(
                "the state database does not exist on its server",
                where=self.place,
                fix="Create it with createdb",
            )
        if isinstance(error, errors.InsufficientPrivilege):
            return Stalled(
                "the state database's user may not create or use its tables",
                where=self.place,
                fix="GRANT CREATE, USAGE on the schema to that user",
            )
        if isinstance(error, errors.DiskFull):
            return Transient(
                "the disk of the state database's server is full",
                where=self.place,
                fix="Free space; nothing was lost",
            )
        if isinstance(error, errors.LockNotAvailable | errors.QueryCanceled):
            return Transient(
                "the state database is locked or too slow",
                where=self.place,
                fix="It is tried again; see pg_stat_activity",
            )
        if isinstance(error, self._psycopg.OperationalError | self._psycopg.InterfaceError):
            return Transient(
                "the state database cannot be reached",
                where=self.place,
                fix="Check that the server runs and accepts connections",
            )
        return MlopsError(
            f"the state database refused a statement ({error.__class__.__name__})",
            where=self.place,
            fix="Use one release of mlops with it; or drop the tables mlops_*: they are only a cache",
        )


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MlopsError(
            "PostgreSQL needs psycopg, which is not installed",
            where=_WHERE,
            fix='Run: pip install "mlops-controller[postgres]"',
        ) from error
    return psycopg


def _checked(uri: str) -> str:
    """The URI without user, password and options; refuses one that libpq reads otherwise than was meant."""
    malformed = MlopsError(
        "the URI of the state database is malformed",
        where=_WHERE,
        fix="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE; percent-encode @ : / ? # in the password",
    )
    psycopg = _psycopg()
    authority = uri.partition("://")[2].partition("/")[0]
    outside = uri.partition("?")[0].count("@") - authority.count("@")
    if authority.count("@") > 1 or outside or "#" in uri:
        raise malformed
    try:
        given = psycopg.conninfo.conninfo_to_dict(uri)
    except psycopg.ProgrammingError:
        raise malformed from None
    host, port = given.get("host", ""), str(given.get("port", ""))
    if not all(number.isdigit() for number in port.split(",") if number):
        raise malformed
    return f"postgresql://{host}{f':{port}' if port else ''}/{given.get('dbname', '')}"
