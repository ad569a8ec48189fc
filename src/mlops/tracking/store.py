"""Where MLflow's store is, what can be known of it without MLflow, and which secrets belong to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_HEADER = 100  # bytes of a SQLite database header; the change counter is at 24 to 27
_WAL_INDEX_HEADER = 96  # bytes of both copies of the wal-index header; behind them stand the readers' marks
_WAL_HEADER = 32

DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mssql"})

_SERVER_SECRETS = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_WORKSPACE",
)
_ARTIFACT_SECRETS = {
    "s3": ("AWS_", "MLFLOW_S3_"),
    "r2": ("AWS_", "MLFLOW_S3_"),
    "gs": ("GOOGLE_", "MLFLOW_GCS_"),
    "abfss": ("AZURE_",),
    "abfs": ("AZURE_",),
    "az": ("AZURE_",),
    "wasbs": ("AZURE_",),
    "wasb": ("AZURE_",),
    "b2": ("B2_", "MLFLOW_S3_"),
    "dbfs": ("DATABRICKS_",),
}


@dataclass(frozen=True, slots=True)
class Store:
    """An MLflow tracking URI, read but not opened; `named` is what messages call it, if not by itself."""

    uri: str
    named: str | None = None

    @property
    def scheme(self) -> str:
        """`sqlite`, `postgresql`, `http`, `https`, `databricks`, `file`, …; a driver is left out."""
        if "://" not in self.uri and not self.uri.startswith("file:"):
            head = self.uri.partition(":")[0]
            return "databricks" if head.startswith("databricks") else "file"
        return self.uri.partition(":")[0].partition("+")[0].lower()

    @property
    def database(self) -> bool:
        """Whether this process opens the database itself."""
        return self.scheme in DATABASES

    @property
    def sqlite_path(self) -> Path | None:
        """The database file of a SQLite store; None for other stores and for one in memory."""
        if self.scheme != "sqlite":
            return None
        path = self.uri.partition("://")[2].removeprefix("/").partition("?")[0]
        return Path(path).absolute() if path and path != ":memory:" else None

    @property
    def shown(self) -> str:
        """The URI without user, password and query: fit for messages."""
        if self.named is not None:
            return self.named
        head, separator, rest = self.uri.partition("://")
        if not separator:
            return self.uri.partition("?")[0]
        authority, slash, path = rest.partition("?")[0].partition("/")
        return f"{head}://{authority.rpartition('@')[2]}{slash}{path}"

    def exists(self) -> bool:
        """False where a SQLite file is missing or empty: nothing is in it and reading must not create it."""
        path = self.sqlite_path
        if path is None:
            return True
        try:
            return path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def token(self) -> str | None:
        """A value that differs after every committed change of a SQLite store; None for stores without one.

        In rollback mode every commit raises the header's change counter; in WAL mode every commit
        changes the wal-index header (and the WAL's size or salts). A rollback journal that is present
        is part of the value, so that a value read in the middle of a commit is never seen again.
        Source: https://www.sqlite.org/fileformat2.html, sections 1.3.7 and 4.
        """
        path = self.sqlite_path
        if path is None:
            return None
        parts = [_stamp(path, _HEADER, slice(24, 28))]
        parts.append(_stamp(path.with_name(path.name + "-journal"), 0))
        parts.append(_stamp(path.with_name(path.name + "-wal"), _WAL_HEADER))
        parts.append(_stamp(path.with_name(path.name + "-shm"), _WAL_INDEX_HEADER, times=False))
        return "sqlite:" + "|".join(parts)


def _stamp(path: Path, length: int, part: slice = slice(None), *, times: bool = True) -> str:
    try:
        if path.name.endswith(("-journal", "-wal")):  # on these SQLite holds no locks
            with path.open("rb") as file:
                head, info = file.read(length), os.fstat(file.fileno())
        else:
            head, info = _opened.read(path, length)
    except FileNotFoundError:
        return "-"
    when = f":{info.st_size}:{info.st_mtime_ns}" if times else ""
    return f"{info.st_dev:x}.{info.st_ino:x}{when}:{head[part].hex()}"


class _Opened:
    """Files that SQLite holds locks on, kept open: closing one takes all locks of this process on it away.

    So a look at a database, opened and closed, in the middle of a transaction of another thread would let other
    processes write into it. Source: https://www.sqlite.org/howtocorrupt.html, section 2.2.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._handles: dict[Path, int] = {}  # the one asked for last at the end

    def read(self, path: Path, length: int) -> tuple[bytes, os.stat_result]:
        """The file's beginning, and what `stat` says of it. Raises FileNotFoundError."""
        with self._lock:
            there = path.stat()
            handle = self._handles.pop(path, None)
            if handle is not None and not os.path.samestat(os.fstat(handle), there):
                os.close(handle)  # of a file that was replaced: nobody writes to it any more
                handle = None
            if handle is None:
                handle = os.open(path, os.O_RDONLY)
            self._handles[path] = handle
            if len(self._handles) > self._most:  # one that nobody has asked for in a long time
                os.close(self._handles.pop(next(iter(self._handles))))
            return os.pread(handle, length, 0), os.fstat(handle)


_opened = _Opened(most=64)


def local_path(uri: str) -> Path | None:
    """The path that a `file:` URI or a plain path names; None for anything remote."""
    if uri.startswith("file:"):
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            return None
        return Path(unquote(parts.path))
    return None if "://" in uri or uri.startswith(("mlflow-artifacts:", "dbfs:")) else Path(uri)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` among the processes of this machine; waits for it."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def bound_elsewhere(store: Store, environ: Mapping[str, str]) -> str | None:
    """The host that the environment's credentials are for, when that is not the store's own.

    Credentials stand beside `MLFLOW_TRACKING_URI`; a repository that names another server must not get them.
    """
    if store.scheme not in ("http", "https"):
        return None
    if not any(environ.get(name) for name in _SERVER_SECRETS[:3]):
        return None
    theirs = environ.get("MLFLOW_TRACKING_URI", "")
    if not theirs.startswith(("http://", "https://")):
        return None
    host = urlsplit(theirs).netloc.rpartition("@")[2]
    return host if host != urlsplit(store.uri).netloc.rpartition("@")[2] else None


def credentials(store: Store, artifacts: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables a training process needs to log to the store and its artifact location, no more."""
    prefixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    if store.scheme in ("http", "https"):
        names = _SERVER_SECRETS
    elif store.scheme == "databricks":
        prefixes = ("DATABRICKS_",)
    if artifacts is not None:
        prefixes += _ARTIFACT_SECRETS.get(artifacts.partition(":")[0].lower(), ())
    return {k: v for k, v in environ.items() if k in names or (prefixes and k.startswith(prefixes))}
