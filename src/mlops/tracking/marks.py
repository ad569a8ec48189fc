"""A mark for each object of a project, read from MLflow's database by plain SQL: equal marks, nothing moved.

MLflow needs a millisecond to read one object and a database a hundredth of that to run over it, so that whoever
has read everything once can ask what moved since, and read only that again by MLflow. The tables are MLflow's
own (mlflow/store/tracking/dbmodels and mlflow/store/model_registry/dbmodels); where they are not as expected
there are no marks, and everything has to be read.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

_NAMES: Final = 500  # parameters in one statement, below every database's limit
_SIZE: Final = 8  # bytes of a mark
_PATIENCE: Final = 5.0  # seconds to wait for whoever writes to the database

Rows = Callable[[str, Sequence[object]], Iterable[Sequence[Any]]]
"""Runs a query, with `?` for its parameters."""


class Unmarked(Exception):
    """There are no marks: the database cannot be read so, or is not as expected."""


UNSURE: Final = -1  # no object's mark: it is read again at the next look
K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of one project's objects."""

    experiments: Mapping[str, int] = field(default_factory=dict)  # by experiment id
    runs: Mapping[str, int] = field(default_factory=dict)  # by run id; without metrics
    metrics: Mapping[str, int] = field(default_factory=dict)  # by run id; of those that have any
    models: Mapping[str, int] = field(default_factory=dict)  # by registered name; with tags and aliases
    versions: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def settled(self, after: Marks) -> Marks:
        """These marks, without those that moved until `after`: what was read between may be newer than they are.

        Put back as it was, such an object has its old mark again, and nobody would read it a second time.
        """

        def kept(before: Mapping[K, int], later: Mapping[K, int]) -> Mapping[K, int]:
            moved = {key: UNSURE for key, mark in before.items() if later.get(key) != mark}
            return {**before, **moved} if moved else before

        return Marks(
            kept(self.experiments, after.experiments),
            kept(self.runs, after.runs),
            kept(self.metrics, after.metrics),
            kept(self.models, after.models),
            kept(self.versions, after.versions),
        )

    def to_json(self) -> list[Any]:
        """A JSON-able form, the inverse of `from_json`."""
        plain = [dict(one) for one in (self.experiments, self.runs, self.metrics, self.models)]
        return [*plain, [[*place, mark] for place, mark in self.versions.items()]]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Marks:
        """Read what `to_json` wrote."""
        experiments, runs, metrics, models, versions = data
        places = {(model, number): mark for model, number, mark in versions}
        return cls(experiments, runs, metrics, models, places)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What databases write differently: a value as text that no other has, texts of a group, a table's columns."""

    quote: str
    gather: str
    columns: str  # asks for the names of a table's columns


SQLITE: Final = Dialect(
    "quote({})", "group_concat({0}, '')", "SELECT name FROM pragma_table_info('model_versions')"
)
POSTGRESQL: Final = Dialect(
    "quote_nullable({})",
    "md5(string_agg({0}, '' ORDER BY {0}))",
    "SELECT column_name FROM information_schema.columns WHERE table_name = 'model_versions'",
)


def read_marks(
    rows: Rows,
    dialect: Dialect,
    project: str,
    models: Collection[str],
    runs: Collection[str],
    resting: Mapping[tuple[str, int], int] | None = None,
) -> Marks:
    """The marks of a project as `Observing.observe` bounds it.

    Args:
        rows: runs a query on MLflow's database.
        project: its experiments are `project` and `project/…`, its models are tagged `mlops.project`.
        models: registered names to look at whether or not they are tagged.
        runs: ids of runs to look at wherever they are.
        resting: the marks that archived versions had: as long as they are archived they keep them unlooked at, so
            that a long history costs next to nothing.

    Raises: Unmarked.
    """
    reading = _Reading(rows, dialect, resting or {})
    try:
        experiments = reading.experiments(project)
        logged, metrics = reading.runs(project, runs)
        registered, versions = reading.models(project, models)
    except UnicodeDecodeError as error:
        raise Unmarked("a name is no text") from error
    return Marks(experiments, logged, metrics, registered, versions)


@contextlib.contextmanager
def sqlite_rows(path: Path) -> Iterator[Rows]:
    """Queries on a SQLite file that is only read, and that no library but SQLite opens. Raises: Unmarked."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)
        ) as database:
            database.text_factory = bytes  # what is in there need not be text
            yield lambda sql, parameters: database.execute(sql, tuple(parameters))
    except sqlite3.Error as error:
        raise Unmarked(str(error)) from error


@contextlib.contextmanager
def server_rows(engine: Any) -> Iterator[Rows]:
    """Queries through SQLAlchemy's engine of a PostgreSQL server. Raises: Unmarked."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with engine.connect() as connection:
            yield lambda sql, parameters: connection.exec_driver_sql(
                sql.replace("?", "%s"), tuple(parameters)
            )
    except SQLAlchemyError as error:
        raise Unmarked(type(error).__name__) from error


class _Reading:
    def __init__(self, rows: Rows, dialect: Dialect, resting: Mapping[tuple[str, int], int]) -> None:
        self._rows = rows
        self._dialect = dialect
        self._resting = resting

    def experiments(self, project: str) -> dict[str, int]:
        prefix = f"{project}/"
        scope = "experiment_id IN (SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        scope += " AND (name = ? OR substr(name, 1, ?) = ?))"
        parameters = (project, len(prefix), prefix)
        found: dict[Any, int] = {}
        self._mark(found, "experiments", ("experiment_id",), ("name",), scope, parameters)
        self._gather(found, "experiment_tags", ("experiment_id",), ('"key"', "value"), scope, parameters)
        return {str(number): mark for number, mark in found.items()}

    def runs(self, project: str, named: Collection[str]) -> tuple[dict[str, int], dict[str, int]]:
        prefix, monitoring = f"{project}/", f"{project}/monitoring/"
        ours = (
            "experiment_id IN (SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
            " AND (name = ? OR substr(name, 1, ?) = ?) AND substr(name, 1, ?) <> ?)"
        )
        bounds: tuple[object, ...] = (project, len(prefix), prefix, len(monitoring), monitoring)
        logged: dict[Any, int] = {}
        metrics: dict[Any, int] = {}
        self._runs(logged, metrics, ours, bounds)
        for some in _chunks([run for run in named if run not in logged]):
            self._runs(logged, metrics, f"run_uuid IN ({_questions(some)})", some)
        return logged, metrics

    def _runs(
        self, logged: dict[Any, int], metrics: dict[Any, int], scope: str, parameters: Sequence[object]
    ) -> None:
        columns = ("experiment_id", "name", "status", "start_time", "end_time")
        scope = f"lifecycle_stage = 'active' AND {scope}"
        self._mark(logged, "runs", ("run_uuid",), columns, scope, parameters)
        within = f"run_uuid IN (SELECT run_uuid FROM runs WHERE {scope})"
        tags = f"{within} AND (substr(\"key\", 1, 6) = 'mlops.' OR \"key\" = 'mlflow.parentRunId')"
        pair = ('"key"', "value")
        self._gather(logged, "tags", ("run_uuid",), pair, tags, parameters)
        self._gather(logged, "params", ("run_uuid",), pair, within, parameters)
        self._gather(metrics, "latest_metrics", ("run_uuid",), (*pair, "is_nan"), within, parameters)

    def models(
        self, project: str, named: Collection[str]
    ) -> tuple[dict[str, int], dict[tuple[str, int], int]]:
        tagged = (
            "name IN (SELECT name FROM registered_model_tags WHERE \"key\" = 'mlops.project' AND value = ?)"
        )
        models: dict[Any, int] = {}
        versions: dict[Any, int] = {}
        self._models(models, versions, tagged, (project,))
        untagged = {name for name in named if name not in models}
        if untagged:  # no index leads with the name: only those that are there are worth a look
            there = (_key(list(row)) for row in self._rows("SELECT name FROM registered_models", ()))
            for some in _chunks(sorted(untagged.intersection(there))):
                self._models(models, versions, f"name IN ({_questions(some)})", some)
        return models, versions

    def _models(
        self, models: dict[Any, int], versions: dict[Any, int], scope: str, parameters: Sequence[object]
    ) -> None:
        pair = ('"key"', "value")
        self._mark(models, "registered_models", ("name",), ("description",), scope, parameters)
        self._gather(models, "registered_model_tags", ("name",), pair, scope, parameters)
        aliases = ("alias", "version")
        self._gather(models, "registered_model_aliases", ("name",), aliases, scope, parameters)
        space = self._space()
        there = f"{scope} AND current_stage <> 'Deleted_Internal'"
        columns = self._text(("description", "source", "run_id"))
        sql = f"SELECT name, version, {space}, {columns} FROM model_versions WHERE {there}"
        resting = self._archived(space) if self._resting else {}
        fresh = []
        for name, number, first, text in self._rows(sql, parameters):
            one = resting.get((name, number))
            if one is not None:
                versions[one] = self._resting[one]
            else:
                versions[_plain(name), number] = _mark(0, text)
                fresh.append((first, name, number))
        if len(fresh) < len(versions):
            for some in _chunks(fresh, _NAMES // 3):
                self._tags_of(versions, space, some)
        else:
            self._gather(versions, "model_version_tags", ("name", "version"), pair, scope, parameters, space)

    def _space(self) -> str:
        """What MLflow's indexes of models begin with: the workspace, where it knows of any."""
        known = {_key(list(row)) for row in self._rows(self._dialect.columns, ())}
        return "workspace" if "workspace" in known else "''"

    def _archived(self, space: str) -> dict[Any, tuple[str, int]]:
        """The places of archived versions that rest, by how the database writes them."""
        sql = (
            f"SELECT name, version FROM model_version_tags WHERE {space} IN (SELECT {space} FROM registered_models)"
            " AND \"key\" = 'mlops.archived'"
        )
        names: dict[Any, str] = {}
        places = {}
        for name, number in self._rows(sql, ()):
            one = (names.get(name) or names.setdefault(name, _plain(name)), number)
            if one in self._resting:
                places[name, number] = one
        return places

    def _tags_of(self, versions: dict[Any, int], space: str, places: Sequence[Sequence[Any]]) -> None:
        """Let the tags of these versions count for their marks, found by the index that leads to them."""
        wanted = ", ".join(["(?, ?, ?)"] * len(places))
        parameters = [_plain(part) for place in places for part in place]
        text = self._dialect.gather.format(self._text(('"key"', "value")))
        sql = (
            f"WITH wanted(first, model, number) AS (VALUES {wanted}) SELECT name, version, {text} FROM wanted"
            f" CROSS JOIN model_version_tags WHERE {space} = first AND name = model AND version = number"
            " GROUP BY name, version"
        )
        self._add(versions, self._rows(sql, parameters))

    def _mark(
        self,
        marks: dict[Any, int],
        table: str,
        keys: Sequence[str],
        columns: Sequence[str],
        scope: str,
        parameters: Sequence[object],
    ) -> None:
        """Mark the rows of a table of objects."""
        sql = f"SELECT {', '.join(keys)}, {self._text(columns)} FROM {table} WHERE {scope}"
        self._add(marks, self._rows(sql, parameters))

    def _gather(
        self,
        marks: dict[Any, int],
        table: str,
        keys: Sequence[str],
        columns: Sequence[str],
        scope: str,
        parameters: Sequence[object],
        first: str | None = None,
    ) -> None:
        """Let the rows that belong to an object count for its mark; `first` is what their index begins with."""
        by, text = ", ".join(keys), self._dialect.gather.format(self._text(columns))
        groups = by if first is None else f"{first}, {by}"
        sql = f"SELECT {by}, {text} FROM {table} WHERE {scope} GROUP BY {groups}"
        self._add(marks, self._rows(sql, parameters))

    @staticmethod
    def _add(marks: dict[Any, int], rows: Iterable[Sequence[Any]]) -> None:
        for *key, text in rows:
            one = _key(key)
            marks[one] = _mark(marks.get(one, 0), text)

    def _text(self, columns: Sequence[str]) -> str:
        return " || ',' || ".join(self._dialect.quote.format(column) for column in columns)


def _key(columns: list[Any]) -> Any:
    plain = [_plain(column) for column in columns]
    return plain[0] if len(plain) == 1 else tuple(plain)


def _plain(column: Any) -> Any:
    return column.decode() if isinstance(column, bytes) else column


def _mark(before: int, text: bytes | str) -> int:
    data = text if isinstance(text, bytes) else text.encode()
    salt = before.to_bytes(_SIZE, "big")
    return int.from_bytes(blake2b(data, digest_size=_SIZE, salt=salt).digest(), "big")


def _chunks(names: Sequence[T], most: int = _NAMES) -> Iterator[Sequence[T]]:
    for start in range(0, len(names), most):
        yield names[start : start + most]


def _questions(some: Sequence[str]) -> str:
    return ", ".join("?" * len(some))
