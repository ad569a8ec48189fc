"""The cache as a reader and a writer: planning is given the reader, and so cannot write by type.

Everything in here can be made again from git and MLflow. Keys are any text, also what is not valid
Unicode; values are bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

from mlops.errors import Transient
from mlops.state.database import Database, Row, Session
from mlops.state.events import Event
from mlops.state.holder import Holder

_DAY: Final = 86_400.0
_MOST_TEXT: Final = 8_192  # characters of an event's message
_MOST_REMEMBERED: Final = 200_000  # keys whose use is noted until the next prune
_REST_AFTER_FAILURE: Final = 30.0  # seconds

_EVENT_COLUMNS: Final = (
    "at, resource, reason, message, severity, revision, step, duration, cause, count, last_at"
)


class StateReader:
    """Reads the cache of one project. Raises `Transient` from every method while the database is locked."""

    def __init__(self, database: Database, *, now: Callable[[], float], project: str = "") -> None:
        self._database = database
        self._now = now
        self._project = _text(project)
        self._used: set[tuple[str, bytes]] = set()  # entries read again after a day or more

    def get(self, namespace: str, key: str) -> bytes | None:
        """The value of one key, or None."""
        return self.get_many(namespace, (key,)).get(key)

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those keys that are there."""
        wanted = [_key(key) for key in dict.fromkeys(keys)]
        if not wanted:
            return {}
        return self._values(
            namespace, self._database.read(lambda s: list(s.read_cache(self._project, namespace, wanted)))
        )

    def all(self, namespace: str) -> dict[str, bytes]:
        """Every key and value of a namespace, ordered by key."""
        sql = "SELECT key, value, used FROM mlops_cache WHERE project = ? AND namespace = ? ORDER BY key"
        return self._values(namespace, self._database.read(lambda s: s.rows(sql, self._project, namespace)))

    def events(self, resource: str | None = None, limit: int = 100) -> list[Event]:
        """The `limit` newest events, newest first, of one resource (`Kind/name`) or of all."""
        where, parameters = "project = ?", [self._project]
        if resource is not None:
            where, parameters = f"{where} AND resource = ?", [self._project, _text(resource)]
        sql = f"SELECT {_EVENT_COLUMNS} FROM mlops_event WHERE {where} ORDER BY position DESC LIMIT ?"
        return [Event(*row) for row in self._database.read(lambda s: s.rows(sql, *parameters, limit))]

    def lease_holder(self, project: str) -> Holder | None:
        """Who may write to the project now, or None. One that provably died on this host is nobody.

        A holder that died on another host is still named until somebody takes over.
        """
        sql = "SELECT holder FROM mlops_lease WHERE project = ? AND owner <> ''"
        rows = self._database.read(lambda s: s.rows(sql, _text(project)))
        holder = Holder.from_json(json.loads(rows[0][0])) if rows else None
        return None if holder is None or holder.provably_dead() else holder

    def lease_pulse(self, project: str) -> tuple[int, int] | None:
        """A value that the holder of the lease changes every few seconds, for as long as it lives."""
        sql = "SELECT token, counter FROM mlops_lease WHERE project = ?"
        rows = self._database.read(lambda s: s.rows(sql, _text(project)))
        return (rows[0][0], rows[0][1]) if rows else None

    def _values(self, namespace: str, rows: list[Row]) -> dict[str, bytes]:
        stale = self._now() - _DAY
        if len(self._used) < _MOST_REMEMBERED:
            self._used.update((namespace, key) for key, _, used in rows if used < stale)
        return {key.decode("utf-8", "surrogatepass"): value for key, value, _ in rows}


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much `State.prune` removed."""

    events: int
    entries: int


class State(StateReader):
    """Reads and writes the cache.

    Where an existing cache can only be read, `writable` is False and what is written is dropped: a cache may
    forget. `warnings` says so, and whatever else somebody should be told once. `database` is for the lease.
    """

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], float],
        project: str = "",
        warnings: list[str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(database, now=now, project=project)
        self.warnings = warnings if warnings is not None else []
        self._monotonic = monotonic
        self._failed_at: float | None = None

    @property
    def database(self) -> Database:
        return self._database

    @property
    def writable(self) -> bool:
        return self._database.writable

    @property
    def now(self) -> Callable[[], float]:
        return self._now

    def put_many(self, namespace: str, items: Mapping[str, bytes]) -> None:
        """Insert or overwrite entries, all or none."""
        self.write({namespace: items})

    def delete_many(self, namespace: str, keys: Iterable[str]) -> None:
        """Remove entries; those that are not there are passed over."""
        self.write({}, {namespace: keys})

    def replace(self, namespace: str, items: Mapping[str, bytes]) -> None:
        """Make a namespace hold exactly these entries; no reader ever sees a mixture."""
        rows = [(_key(key), value) for key, value in items.items()]

        def work(session: Session) -> None:
            session.run(
                "DELETE FROM mlops_cache WHERE project = ? AND namespace = ?", self._project, namespace
            )
            session.write_cache(self._project, namespace, rows, self._now())

        self._write(work)

    def write(
        self,
        puts: Mapping[str, Mapping[str, bytes]],
        deletes: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Insert or overwrite entries of several namespaces and remove others, all or none.

        Args:
            puts: namespace → key → value.
            deletes: namespace → keys, removed before anything is put; those that are not there are passed over.
        """
        put = {name: [(_key(key), value) for key, value in items.items()] for name, items in puts.items()}
        sql = "DELETE FROM mlops_cache WHERE project = ? AND namespace = ? AND key = ?"
        gone = [
            (self._project, name, _key(key))
            for name, keys in (deletes or {}).items()
            for key in dict.fromkeys(keys)
        ]

        def work(session: Session) -> None:
            if gone:
                session.run_many(sql, gone)
            for namespace, rows in put.items():
                if rows:
                    session.write_cache(self._project, namespace, rows, self._now())

        if gone or any(put.values()):
            self._write(work)

    def add_events(self, events: Iterable[Event]) -> None:
        """Record events in order; a repeated one adds to the count of the first, and becomes the newest."""
        recorded = [_bounded(event) for event in events]
        sql = (
            f"INSERT INTO mlops_event (identity, position, project, {_EVENT_COLUMNS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (identity) DO UPDATE SET"
            " position = excluded.position, count = mlops_event.count + excluded.count,"
            " last_at = excluded.last_at, severity = excluded.severity, step = excluded.step,"
            " duration = excluded.duration, cause = excluded.cause"
        )

        def work(session: Session) -> None:
            newest = session.rows(
                "SELECT coalesce(max(position), 0) FROM mlops_event WHERE project = ?", self._project
            )
            first = newest[0][0] + 1
            session.run_many(sql, [self._event_row(event, first + n) for n, event in enumerate(recorded)])

        if recorded:
            self._write(work)

    def prune(
        self,
        *,
        events_per_resource: int = 100,
        most_events: int = 100_000,
        events_for: float | None = 90 * _DAY,
        unused_for: float = 30 * _DAY,
        most_bytes: int = 512 * 2**20,
    ) -> Pruned:
        """Bound the history and the cache.

        Keeps the newest `events_per_resource` events of each resource and `most_events` of all, none that last
        happened more than `events_for` seconds ago (None: however old); drops entries not read or written for
        `unused_for` seconds (use is counted by the day), then the longest unused until keys and values take at
        most `most_bytes`.
        """
        if not self.writable:
            return Pruned(0, 0)
        project, now = self._project, self._now()
        used = [(now, project, namespace, key) for namespace, key in sorted(self._used)]

        def work(session: Session) -> Pruned:
            # A clock that once stood in the future must not keep entries for ever.
            session.run(
                "UPDATE mlops_cache SET used = ? WHERE project = ? AND used > ?", now, project, now + _DAY
            )
            session.run_many(
                "UPDATE mlops_cache SET used = ? WHERE project = ? AND namespace = ? AND key = ?", used
            )
            entries = session.run(
                "DELETE FROM mlops_cache WHERE project = ? AND used < ?", project, now - unused_for
            )
            entries += session.run(
                "DELETE FROM mlops_cache WHERE project = ? AND (namespace, key) IN"
                " (SELECT namespace, key FROM (SELECT namespace, key, sum(length(key) + length(value)) OVER"
                " (ORDER BY used DESC, namespace, key) AS total FROM mlops_cache WHERE project = ?) AS sized"
                " WHERE total > ?)",
                *(project, project, most_bytes),
            )
            events = 0
            if events_for is not None:
                session.run(
                    "UPDATE mlops_event SET last_at = ? WHERE project = ? AND last_at > ?",
                    *(now, project, now + _DAY),
                )
                events = session.run(
                    "DELETE FROM mlops_event WHERE project = ? AND last_at < ?", project, now - events_for
                )
            events += session.run(
                "DELETE FROM mlops_event WHERE identity IN (SELECT identity FROM (SELECT identity,"
                " row_number() OVER (PARTITION BY resource ORDER BY position DESC) AS of_resource,"
                " row_number() OVER (ORDER BY position DESC) AS of_all"
                " FROM mlops_event WHERE project = ?) AS ranked WHERE of_resource > ? OR of_all > ?)",
                *(project, events_per_resource, most_events),
            )
            return Pruned(events, entries)

        pruned = self._database.write(work)
        self._used.clear()
        self._database.shrink()
        return pruned

    def namespace(self, name: str) -> Namespace:
        """A view of one namespace for those that cache, and need no more than to get and to put."""
        return Namespace(self, name)

    def close(self) -> None:
        """Let go of the database; may be called twice."""
        self._database.close()

    def __enter__(self) -> State:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def warn(self, reason: str, message: str) -> None:
        """Keep a warning for whoever opened the state, and as an event."""
        self.warnings.append(message)
        self.add_events([Event(self._now(), "State/cache", reason, message, severity="warning")])

    def resting(self) -> bool:
        """Whether the database failed a moment ago, so that a mere cache should not wait for it again."""
        return self._failed_at is not None and self._monotonic() - self._failed_at < _REST_AFTER_FAILURE

    def rest(self, error: Transient) -> None:
        """Go on without the cache for a while."""
        if self._failed_at is None:
            self.warnings.append(f"the cache is not used: {error}")
        self._failed_at = self._monotonic()

    def _write(self, work: Callable[[Session], None]) -> None:
        if self.writable:
            self._database.write(work)

    def _event_row(self, event: Event, position: int) -> tuple[Any, ...]:
        same = [self._project, event.resource, event.reason, event.message, event.revision]
        identity = sha256(json.dumps(same).encode()).digest()[:16]
        columns = (getattr(event, name) for name in _EVENT_COLUMNS.split(", "))
        return (identity, position, self._project, *columns)


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace of the cache. A database that is locked or full makes it forget, not fail."""

    state: State
    name: str

    def get(self, key: str, /) -> bytes | None:
        """The value of a key, None where there is none."""
        return self.get_many((key,)).get(key)

    def put(self, key: str, value: bytes, /) -> None:
        """Insert or overwrite an entry."""
        self.put_many({key: value})

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those keys that are there."""
        if self.state.resting():
            return {}
        try:
            return self.state.get_many(self.name, keys)
        except Transient as error:
            self.state.rest(error)
            return {}

    def put_many(self, items: Mapping[str, bytes]) -> None:
        """Insert or overwrite entries."""
        if self.state.resting():
            return
        try:
            self.state.put_many(self.name, items)
        except Transient as error:
            self.state.rest(error)


def _key(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")  # names in git need not be UTF-8


def _text(text: str) -> str:
    """Text that both databases can hold: no NUL, no lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()


def _bounded(event: Event) -> Event:
    message = _text(event.message)
    if len(message) > _MOST_TEXT:
        message = f"{message[: _MOST_TEXT - 1]}…"
    return replace(
        event,
        message=message,
        resource=_text(event.resource),
        reason=_text(event.reason),
        revision=_text(event.revision),
        step=None if event.step is None else _text(event.step),
        cause=None if event.cause is None else _text(event.cause),
        last_at=event.at if event.last_at is None else event.last_at,
    )
