"""The data files of one version of a Delta table, as its log names them, and how each is opened.

A file never changes once the log names it, so its identity is what the log says of it, without a byte of it read; a
deletion vector takes rows out of a file and makes another one of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from mlops.data.delta import DeltaTableAt, opened
from mlops.data.formats import open_member
from mlops.data.local import local_file, not_found, reading
from mlops.data.members import canonical
from mlops.data.request import Problem, printable
from mlops.data.tallies import type_name

_MAPPING = "delta.columnMapping.mode"


@dataclass(frozen=True, slots=True)
class AddFile:
    """One data file of a table.

    Args:
        digest: the table's id with all that tells this file's rows from any other's.
        path: relative to the table.
        size: in bytes.
        added: when it was written, milliseconds since 1970 UTC, as the log says.
        constants: partition column → pyarrow scalar, its value in all rows.
        kept: None, or a pyarrow boolean array, true for the rows that are not deleted; of rows beyond it all are kept.
    """

    digest: str
    path: str
    size: int
    added: int
    constants: Mapping[str, Any] = field(compare=False)
    kept: Any = field(compare=False)


def add_files(table: DeltaTableAt) -> tuple[dict[str, str], tuple[AddFile, ...]]:
    """The types of a table's columns, and its data files, the oldest first.

    Raises:
        Problem: as `observe_delta`, and `Unreadable` for a table whose files cannot be read one by one.
    """
    import pyarrow as pa

    with opened(table, data=False) as opening:
        identity = opening.metadata()
        if identity.configuration.get(_MAPPING, "none") != "none":
            what = f"{table.shown} maps its columns to other names, so its files cannot be read one by one"
            fix = "Write it to a table without delta.columnMapping.mode, and watch that one."
            raise Problem("Unreadable", what, fix=fix)
        types = {column.name: type_name(column.type) for column in pa.schema(opening.schema().to_arrow())}
        actions = pa.table(opening.get_add_actions())
        deleted = _deleted(table, opening, actions.column("path").to_pylist())
    values = actions.column("partition") if "partition" in actions.column_names else [None] * len(actions)
    told = zip(
        *(actions.column(name).to_pylist() for name in ("path", "size_bytes", "modification_time")),
        values,
        strict=True,
    )
    files = []
    for path, size, added, partition in told:
        if "://" in path:
            what = f"{table.shown} is a shallow clone: its data lies in another table"
            raise Problem("Unreadable", what, fix="Declare the table that it was cloned from.")
        kept = deleted.get(path)
        marks = None if kept is None else hashlib.sha256(kept.to_numpy(zero_copy_only=False)).hexdigest()
        of = hashlib.sha256(canonical([path, size, added, marks])).hexdigest()
        constants = {} if partition is None else {name: partition[name] for name in partition}
        files.append(AddFile(f"delta:{identity.id}:{of}", unquote(path), size, added, constants, kept))
    return types, tuple(sorted(files, key=lambda file: (file.added, file.path)))


@contextmanager
def opened_file(table: DeltaTableAt, file: AddFile) -> Iterator[BinaryIO]:
    """Open a data file; leaving it after all was read raises Problem if it changed meanwhile.

    Raises:
        Problem: it is gone, is not what the log says, lies outside the table or changed.
    """
    shown = shown_file(table, file)
    if table.blobs:
        blob = next((blob for blob in table.blobs if blob.relative == file.path), None)
        if blob is None:
            raise not_found(shown)
        _check_size(shown, file.size, blob.size)
        with closing(open_member(blob)) as stream:
            yield stream
    elif table.log is not None:
        with reading(table.shown):
            fence = Path(table.uri).resolve(strict=True)
        found = local_file(fence / file.path, fence=fence, name=file.path, shown=shown)
        if found is None:
            raise not_found(shown)
        _check_size(shown, file.size, found.size)
        with closing(found.open()) as stream:
            yield stream
        found.check_unchanged()
    else:
        with _in_store(table, file, shown) as stream:
            yield stream


def shown_file(table: DeltaTableAt, file: AddFile) -> str:
    """A data file for messages."""
    return f"{table.shown}: {printable(file.path)}"


@contextmanager
def _in_store(table: DeltaTableAt, file: AddFile, shown: str) -> Iterator[BinaryIO]:
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import FileType, PyFileSystem

    store = PyFileSystem(DeltaStorageHandler(table.uri))
    found = store.get_file_info(file.path)
    if found.type != FileType.File:
        raise not_found(shown)
    _check_size(shown, file.size, found.size)
    with closing(store.open_input_file(file.path)) as stream:
        yield cast(BinaryIO, stream)


def _check_size(shown: str, told: int, found: int) -> None:
    if told != found:
        what = f"{shown} has {found} bytes, and {told} by the table's log"
        raise Problem("Unreadable", what, fix="Restore the file, or the table to a version before it.")


def _deleted(table: DeltaTableAt, opening: Any, paths: list[str]) -> dict[str, Any]:
    """Of files with deleted rows: their path as in the log → which rows are kept."""
    import pyarrow as pa

    if "deletionVectors" not in (opening.protocol().reader_features or ()):
        return {}
    known = set(paths)
    depths = {path.count("/") + 1 for path in paths}
    deleted = {}
    for batch in pa.RecordBatchReader.from_stream(opening.deletion_vectors()):
        for address, kept in zip(*batch.columns, strict=True):
            parts = address.as_py().split("/")  # that of the file, which begins with that of the table
            path = next((p for depth in depths if (p := "/".join(parts[-depth:])) in known), None)
            if path is None:
                what = f"{table.shown}: its log deletes rows of a file that is none of its own"
                raise Problem("Unreadable", what, fix="Restore the table's _delta_log.")
            deleted[path] = kept.values
    return deleted
