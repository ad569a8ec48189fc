"""Delta tables: a version of a table is its content, so the digest names the table and the version.

`delta:<table id>:<version>` is found from the transaction log alone. For a table on disk the listing of its
log (names, sizes, times, inodes) is what the cache knows, so that a table that did not move costs no read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mlops.data.local import Signature, not_found, reading
from mlops.data.members import Blob, canonical, decode, encode, write_blobs
from mlops.data.remote import missing_extra
from mlops.data.request import Clock, Problem

LOG = "_delta_log"
_DELETIONS = ".bin"  # files that say which rows of others are deleted


@dataclass(frozen=True, slots=True)
class DeltaTableAt:
    """A Delta table: on disk or in a store (`uri`), or in the revision (`blobs`, relative to it)."""

    uri: str
    name: str
    shown: str
    version: int | None
    blobs: tuple[Blob, ...] = ()
    log: tuple[tuple[str, Signature], ...] | None = None  # of a table on disk

    @property
    def outside(self) -> bool:
        """Whether its bytes are not in the revision."""
        return not self.blobs

    @property
    def key(self) -> str | None:
        """What identifies the state of its log without reading it; None for a store."""
        listing: list[list[str]]
        if self.blobs:
            listing = [[blob.relative, blob.blob] for blob in self.blobs]
        elif self.log is not None:
            listing = [[name, str(signature)] for name, signature in self.log] + [[self.uri, ""]]
        else:
            return None
        return f"delta:{hashlib.sha256(canonical(listing)).hexdigest()}:{self.version}"


@dataclass(frozen=True, slots=True)
class DeltaState:
    """One version of a table; `size` is that of its data files, in bytes; `entry` what to remember."""

    table_id: str
    version: int
    size: int
    entry: bytes | None = None

    @property
    def digest(self) -> str:
        """The dataset's digest."""
        return f"delta:{self.table_id}:{self.version}"


def version_in(digest: str) -> int:
    """The version that a Delta digest names."""
    return int(digest.rpartition(":")[2])


def table_on_disk(folder: Path, *, shown: str, version: int | None) -> DeltaTableAt:
    """The table at an absolute path, with the listing of its log."""
    with reading(shown):
        if not stat.S_ISDIR((folder / LOG).stat().st_mode):
            raise not_found(f"{shown}/{LOG}")
        with os.scandir(folder / LOG) as entries:
            listing = sorted((entry.name, Signature.of(entry.stat())) for entry in entries if entry.is_file())
    return DeltaTableAt(str(folder), folder.name, shown, version, log=tuple(listing))


def observe_delta(table: DeltaTableAt, known: Mapping[str, bytes], now: Clock) -> DeltaState:
    """Find the table's id and version.

    Raises:
        Problem: `MissingExtra`, `NotFound` (no table, no such version, vacuumed files) or `Unreadable`.
    """
    key = table.key
    entry = decode(known.get(key)) if key is not None else None
    if entry is not None and _trusted(table, entry):
        return DeltaState(str(entry["id"]), int(entry["version"]), int(entry["size"]))
    at = int(now() * 1e9)
    with opened(table, data=False) as opening:
        actions = opening.get_add_actions()
        if table.outside and table.log is not None:
            _refuse_vacuumed(table, actions.column("path").to_pylist())
        size = sum(actions.column("size_bytes").to_pylist())
        found = {"id": str(opening.metadata().id), "version": opening.version(), "size": size, "at": at}
    remembered = encode(found) if key is not None and _trusted(table, found) else None
    return DeltaState(found["id"], found["version"], size, remembered)


@contextmanager
def opened(table: DeltaTableAt, *, data: bool = True) -> Iterator[Any]:
    """Open it as a `deltalake.DeltaTable`; a table of the revision is written to a temporary folder first.

    Args:
        table: which.
        data: False if only the log will be read, or which rows are deleted.
    Raises:
        Problem: as `observe_delta`.
    """
    if not table.blobs:
        with _opening(table):
            opening = _open(table, table.uri)
        yield opening
        return
    with tempfile.TemporaryDirectory(prefix="mlops-delta-") as scratch:
        log = f"{LOG}/"
        wanted = {
            index: blob
            for index, blob in enumerate(table.blobs)
            if data or blob.relative.startswith(log) or blob.relative.endswith(_DELETIONS)
        }
        write_blobs(wanted, Path(scratch))
        with _opening(table):
            opening = _open(table, scratch)
        yield opening


def _open(table: DeltaTableAt, uri: str) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return DeltaTable(uri, version=table.version)
    except TableNotFoundError as error:
        raise Problem(
            "NotFound", f"{table.shown} is not a Delta table", fix="Mend spec.uri or format."
        ) from error
    except DeltaError as error:
        if table.version is None:
            raise
        latest = DeltaTable(uri).version()
        fix = f"The latest is {latest}; a version whose log was cleaned up cannot be read again."
        raise Problem("NotFound", f"{table.shown} has no version {table.version}", fix=fix) from error


@contextmanager
def _opening(table: DeltaTableAt) -> Iterator[None]:
    try:
        yield
    except Problem:
        raise
    except ImportError as error:
        raise missing_extra("delta", f"{table.shown}: format delta needs a library") from error
    except BaseException as error:  # its Rust core panics with an exception that is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        remote = not table.blobs and table.log is None
        raise Problem(
            "Unreachable" if remote else "Unreadable",
            f"{table.shown}: its Delta log cannot be read ({type(error).__name__})",
            fix="Check the store and the credentials." if remote else "Restore the table's _delta_log.",
        ) from error


def _trusted(table: DeltaTableAt, entry: Mapping[str, Any]) -> bool:
    if not {"id", "version", "size", "at"} <= entry.keys():
        return False
    return all(signature.settled_before(int(entry["at"])) for _, signature in table.log or ())


def _refuse_vacuumed(table: DeltaTableAt, paths: list[str]) -> None:
    relative = [path for path in paths if "://" not in path]
    gone = sum(1 for path in relative if not Path(table.uri, unquote(path)).exists())
    if gone:
        which = "the latest version" if table.version is None else f"version {table.version}"
        raise Problem(
            "NotFound",
            f"{table.shown}: {gone} data files of {which} are gone",
            fix="They were vacuumed or deleted: choose a later version, or restore the table.",
        )
