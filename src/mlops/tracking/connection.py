"""One opened MLflow store: made once under a lock, opened late, shared by threads."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import importlib.util
import os
import random
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlops.errors import Stalled
from mlops.tracking import loading
from mlops.tracking.faults import Raced, reported
from mlops.tracking.store import Store, bound_elsewhere, local_path, locked

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

T = TypeVar("T")

_REVISION = re.compile(r"""^(down_)?revision\s*=\s*["'](\w+)["']""", re.MULTILINE)

# MLflow retries an unreachable server for four minutes; here the caller retries, and says so meanwhile.
# MLflow's calls nest sessions, two connections each: with its pool of 15, eight threads can wait for each other.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "200",
}

# MLflow's registry asks for a logged model through the process-wide tracking URI, so that is set meanwhile.
_global_uri = threading.RLock()


_DELAYS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds before a call that a database rolled back is made again


class Connection:
    """The store behind a `Tracker`; making one costs nothing and touches nothing.

    Args:
        uri: an MLflow tracking URI, absolute where it is a path.
        artifacts: where a store opened by this process keeps artifacts: a folder or a URI. A server
            decides for itself unless this is remote.
        environ: the reconciler's environment, for credentials.
        now: seconds since the epoch.
        named: what messages call the store, where its URI comes from a variable and is not shown.
    """

    def __init__(
        self,
        uri: str,
        artifacts: str | None,
        *,
        environ: Mapping[str, str],
        now: Callable[[], float],
        named: str | None = None,
    ) -> None:
        self.store = Store(uri, named)
        self.on_call: Callable[[str, float, bool], None] = lambda doing, seconds, failed: None
        """Is told of each call to the store, by the thread that made it: what was done, for how long, and whether
        it failed. The first word of what was done is one of few; the rest names the object."""
        self._environ = environ
        self._now = now
        self._artifacts = _root(self.store, artifacts)
        self._opening = threading.RLock()
        self._opened: MlflowClient | None = None
        self._locations: dict[str, str] = {}  # experiment id → artifact location
        self._empty: set[str] = set()  # models made here that have no version yet

    def token(self) -> str | None:
        """A value that differs after every committed change, read without MLflow; None if it has none."""
        with self._reported("reading the change counter"):
            return self.store.token()

    def versions(self) -> dict[str, str]:
        """The versions to show: MLflow's own, and the kind of store."""
        return {"mlflow": importlib.metadata.version("mlflow"), "store": self.store.scheme}

    def prepare(self) -> None:
        """Make or migrate the store and its folders, one process at a time, before anything else uses it.

        Raises:
            Stalled: a database server holds an older schema, or the folder may not be written.
            Transient: the store cannot be reached.
        """
        with self._reported("preparing the store"):
            folder = local_path(self._artifacts) if self._artifacts else None
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            path = self.store.sqlite_path
            if path is None:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            if _current(path):
                return
            with locked(path.with_name(path.name + ".lock")):
                if not _current(path):
                    loading.load(database=True)
                    self._migrate(path)

    def _migrate(self, path: Path) -> None:
        _configure()
        from mlflow.store.db import utils
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        # Made here and not by the client: only so does the default experiment get this artifact root.
        if not self.store.exists():
            partial = path.with_name(path.name + ".partial")
            for suffix in (
                "",
                "-journal",
                "-wal",
                "-shm",
            ):  # of one killed here: no migration goes on with it
                partial.with_name(partial.name + suffix).unlink(missing_ok=True)
            SqlAlchemyStore(f"sqlite:///{partial}", self._artifacts).engine.dispose()
            partial.replace(path)
            return
        engine = utils.create_sqlalchemy_engine_with_retry(self.store.uri)
        before = str(utils._get_schema_version(engine))
        if before not in ("None", str(utils._get_latest_schema_revision())):
            _back_up(path, path.with_name(f"{path.name}.before-{before}"))
            utils._upgrade_db(engine)
        engine.dispose()
        SqlAlchemyStore(self.store.uri, self._artifacts)

    def open(self) -> None:
        """Import MLflow and open the store, unless there is none yet: else the first call takes seconds longer.

        Raises: as any call does.
        """
        if self._opened is None and self.store.exists():
            self._client()

    def _client(self) -> MlflowClient:
        client = self._opened
        if client is not None:
            return client
        with self._opening:
            if self._opened is None:
                with self._reported("opening the store"):
                    self._opened = self._open()
            return self._opened

    def _open(self) -> MlflowClient:
        other = bound_elsewhere(self.store, self._environ)
        if other is not None:
            raise Stalled(
                f"the credentials in the environment are for {other}, not for this server",
                where=self.store.shown,
                fix="Set MLFLOW_TRACKING_URI to this server beside its credentials, if it may have them.",
            )
        if not self.store.exists():
            raise Stalled("the store does not exist yet", where=self.store.shown, fix="Run `mlops apply`.")
        loading.load(database=self.store.database)
        from mlflow.tracking.client import MlflowClient

        _configure()
        from mlflow.tracking._tracking_service import utils

        # Where MLflow looks when it is not told, as older ones do for artifacts on a server.
        utils._tracking_uri = self.store.uri
        client = MlflowClient(tracking_uri=self.store.uri, registry_uri=self.store.uri)
        if self.store.database:
            # The same database: opened now, and not by two threads at once.
            stores = (client._tracking_client.store, client._get_registry_client().store)
            if self.store.scheme == "sqlite":
                for store in stores:
                    _keep_journal_file(store)
        return client

    def _call(self, doing: str, work: Callable[[MlflowClient], T]) -> T:
        """Run `work` with the client; what it raises becomes an error that says what was being done."""
        client = self._client()
        began, failed = time.perf_counter(), True
        try:
            result = self._patiently(client, doing, work)
            failed = False
        finally:
            self.on_call(doing, time.perf_counter() - began, failed)
        return result

    def _patiently(self, client: MlflowClient, doing: str, work: Callable[[MlflowClient], T]) -> T:
        for delay in _DELAYS:
            try:
                with self._reported(doing):
                    return work(client)
            except Raced:
                time.sleep(delay * random.uniform(0.5, 1.5))
        with self._reported(doing):
            return work(client)

    def _reported(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return reported(doing, self.store.shown)

    @contextmanager
    def _one_transaction(self, client: MlflowClient) -> Iterator[Any]:
        """A registry store whose calls share one transaction where it is a database; else the plain one.

        Every call of MLflow's store opens a session of its own, which on SQLite is a flush to disk each. Reads
        in the transaction do not see its writes.
        """
        registry = client._get_registry_client().store
        make_session = getattr(registry, "ManagedSessionMaker", None)
        if not self.store.database or make_session is None:
            yield registry
            return
        try:
            opened = make_session(read_only=False)
        except TypeError:
            opened = make_session()  # before MLflow knew read replicas
        with opened as session:
            shared = copy.copy(registry)
            shared.ManagedSessionMaker = lambda *_, **__: contextlib.nullcontext(session)
            with session.no_autoflush:  # one flush for all writes, not one before each of their reads
                yield shared

    @contextmanager
    def _as_global(self) -> Iterator[None]:
        """Make this store the process-wide one for a call of MLflow's that looks there."""
        if not self.store.database:
            yield
            return
        from mlflow.tracking._tracking_service import utils

        with _global_uri:
            before = utils._tracking_uri
            utils._tracking_uri = self.store.uri
            try:
                yield
            finally:
                utils._tracking_uri = before


def _keep_journal_file(store: Any) -> None:
    """Let commits empty SQLite's journal file instead of deleting it, which is as safe and far quicker.

    It holds for connections of this process alone; a database in WAL mode stays in it.
    Source: https://www.sqlite.org/pragma.html#pragma_journal_mode
    """
    engine = getattr(store, "engine", None)
    if engine is None:
        return
    from sqlalchemy import event

    def connected(connection: Any, record: Any) -> None:
        if connection.execute("PRAGMA journal_mode").fetchone() == ("delete",):
            connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()

    event.listen(engine, "connect", connected)
    engine.dispose()  # connections made before go without it


def _configure() -> None:
    """MLflow reads its settings from the environment, and those of a database once, when it is first opened."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def _root(store: Store, artifacts: str | None) -> str | None:
    """The artifact root to ask for: a local one only where this process, not a server, opens the store."""
    if artifacts is None:
        path = store.sqlite_path
        return (path.parent / "artifacts").as_uri() if path else None
    folder = local_path(artifacts)
    if folder is None:
        return artifacts.rstrip("/")
    return folder.absolute().as_uri() if store.database or store.scheme == "file" else None


def _current(path: Path) -> bool:
    """Whether the database has the schema of the MLflow installed here, found out without importing it."""
    head = _schema_head()
    if head is None or not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT version_num FROM alembic_version").fetchall()
            made = database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone()
    except sqlite3.OperationalError:  # no such table yet, or being made by another process
        return False
    return rows == [(head,)] and made is not None


def _schema_head() -> str | None:
    """The revision of MLflow's last migration script; None where the scripts are not as expected."""
    spec = importlib.util.find_spec("mlflow")
    places = spec.submodule_search_locations if spec else None
    if not places:
        return None
    revisions: set[str] = set()
    before: set[str] = set()
    for script in (Path(places[0]) / "store" / "db_migrations" / "versions").glob("*.py"):
        for kind, revision in _REVISION.findall(script.read_text(encoding="utf-8")):
            (before if kind else revisions).add(revision)
    heads = revisions - before
    return heads.pop() if len(heads) == 1 else None


def _back_up(path: Path, copy_path: Path) -> None:
    """A consistent copy of a database in use, whole or not there at all."""
    partial = copy_path.with_name(copy_path.name + ".partial")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(partial)) as to,
    ):
        source.backup(to)
    shutil.move(partial, copy_path)
