"""The files of a dataset, to be read one by one: what was read of one stays true when others come.

Nothing is opened until a file's rows are asked for, except by the first look at a file for the types of its columns,
which the cache keeps by the file's content. What the batches of a file are depends on that file alone, never on the
others: text (CSV) stays text, since what one file's words mean would change with the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from mlops.data.batching import Held
from mlops.data.csv_rows import CsvRows
from mlops.data.delta import DeltaTableAt, version_in
from mlops.data.delta_rows import add_files, opened_file, shown_file
from mlops.data.formats import open_member, partition_values, tables_in, unpacked
from mlops.data.members import Blob, FileSet, Hashed, canonical
from mlops.data.observing import as_of, find, format_told
from mlops.data.parquet_rows import ParquetRows
from mlops.data.profiles import (
    decode_profile,
    encode_profile,
    profile_files,
    profile_key,
    shape_files,
    shape_key,
)
from mlops.data.request import Clock, DatasetRequest, DigestCache, Format, Inside, Problem
from mlops.data.tallies import TEMPORAL, ColumnProfile, type_name, typed
from mlops.errors import MlopsError

Batches = Callable[[Sequence[str] | None], Iterator[Any]]
_Opening = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class RowFile:
    """One file of a dataset, or one data file of a Delta table.

    Args:
        digest: of its bytes and of the columns that stand in its path; of a Delta table's file, what the log says of
            it. Equal digests are equal rows.
        name: its path relative to the dataset.
        size: in bytes.
        batches: reads it in order as `pyarrow.RecordBatch`, only the columns asked for and without those that it
            lacks (None: all), in bounded memory. The file is open from the first batch to the last, or until the
            iterator is closed or dropped. Raises MlopsError that names the file where it cannot be read, or where it
            changed, which is known only after the last batch: before that, nothing of it may count.
    """

    digest: str
    name: str
    size: int
    batches: Batches = field(compare=False)


@dataclass(frozen=True, slots=True)
class RowFiles:
    """The files of a dataset at a digest.

    Args:
        digest: of the dataset, the one that is observed.
        types: column → name of its type, as `tallies` names them, told from all files that can be read.
        files: those that hold rows: by name, of a Delta table the oldest first.
        text: whether all values come as strings since the format (CSV) knows no types.
    """

    digest: str
    types: Mapping[str, str]
    files: tuple[RowFile, ...]
    text: bool


def row_files(
    request: DatasetRequest,
    *,
    base: Path,
    inside: Inside | None,
    cache: DigestCache,
    now: Clock,
    digest: str | None = None,
) -> RowFiles:
    """The files of a dataset whose rows can be read. One that is broken is among them: reading it raises.

    Args:
        request: what is declared; `expect` is not looked at.
        base: the project root.
        inside: the files that git tracks at the revision.
        cache: of digests, and of the types of each file's columns.
        now: seconds since the epoch.
        digest: None takes the dataset as it is; else it must be this one (a Delta table is taken at that version).
    Raises:
        Problem: why the dataset as a whole cannot be used.
    """
    wanted = request if digest is None else as_of(request, digest)
    found = find(wanted, base=base, inside=inside, cache=cache, now=now)
    if digest is not None and found.digest != digest:
        raise Problem(
            "DigestMismatch",
            f"{request.display} is no longer what it was: it was {digest} and is {found.digest}",
            fix="Restore that content, or name another dataset.",
        )
    if isinstance(found.located, DeltaTableAt):
        return _of_table(replace(found.located, version=version_in(found.digest)), found.digest)
    told = format_told(wanted, found)
    tables = {id(member) for member in tables_in(found.located, told)}
    hashed = [one for one in found.hashed if id(one.member) in tables]
    folders = [{} if found.located.single else partition_values(one.member.relative) for one in hashed]
    constants = [_constants(values, told) for values in folders]
    files = tuple(
        RowFile(
            _identity(one.sha256, values),
            one.member.relative,
            one.member.size,
            partial(_batches, partial(_hashed_file, one, now), one.member.shown, told, fixed, None),
        )
        for one, values, fixed in zip(hashed, folders, constants, strict=True)
    )
    return RowFiles(found.digest, _types(hashed, constants, told, cache), files, told == "csv")


def _of_table(table: DeltaTableAt, digest: str) -> RowFiles:
    with _naming(table.shown):
        types, added = add_files(table)
    files = (
        RowFile(
            file.digest,
            file.path,
            file.size,
            partial(
                _batches,
                partial(opened_file, table, file),
                shown_file(table, file),
                "parquet",
                file.constants,
                file.kept,
            ),
        )
        for file in added
    )
    return RowFiles(digest, types, tuple(files), text=False)


def _identity(sha256: str, values: Mapping[str, str | None]) -> str:
    # the same bytes in year=2011/ and in year=2012/ are different rows
    return f"sha256:{hashlib.sha256(canonical([sha256, values])).hexdigest() if values else sha256}"


def _constants(values: Mapping[str, str | None], told: Format) -> dict[str, Any]:
    """Columns that stand in the path, as pyarrow scalars: of text as text, else as what the value looks like."""
    if not values:
        return {}
    import pyarrow as pa

    arrays = {name: pa.array([value], pa.string()) for name, value in values.items()}
    return {name: (one if told == "csv" else typed(one))[0] for name, one in arrays.items()}


@contextmanager
def _hashed_file(one: Hashed, now: Clock) -> Iterator[BinaryIO]:
    """Open a file that was hashed; leaving it after all was read raises Problem if it was not that content."""
    member = one.member
    with closing(open_member(member)) as stream:
        yield stream
    if isinstance(member, Blob):
        return
    member.check_unchanged()
    # where neither the time of the file nor the store would tell a change of equal size, its bytes do
    if (not one.settled or member.key is None) and member.hash(now).sha256 != one.sha256:
        what = f"{member.shown} changes while it is read"
        raise Problem(
            "Unreadable", what, fix="Write it under another name and rename it when it is complete."
        )


def _batches(
    opening: _Opening,
    shown: str,
    told: Format,
    constants: Mapping[str, Any],
    kept: Any,
    columns: Sequence[str] | None = None,
) -> Iterator[Any]:
    with _naming(shown), opening() as stream:
        rows = CsvRows(unpacked(stream, shown), shown) if told == "csv" else ParquetRows(stream, shown)
        fixed = {name: value for name, value in constants.items() if name not in rows.names}
        every = [*rows.names, *fixed]
        wanted = every if columns is None else [name for name in columns if name in every]
        start = 0
        for batch in rows.batches([name for name in wanted if name not in fixed]):
            count = batch.num_rows
            for name in wanted:
                if name in fixed:
                    batch = batch.append_column(name, _repeated(fixed[name], count))
            batch = _without_deleted(batch.select(wanted), kept, start)
            start += count
            if batch.num_rows:
                yield batch


def _repeated(value: Any, rows: int) -> Any:
    import pyarrow as pa

    return pa.repeat(value, rows) if value.is_valid else pa.nulls(rows, value.type)


def _without_deleted(batch: Any, kept: Any, start: int) -> Any:
    if kept is None or start >= len(kept):
        return batch
    import pyarrow as pa

    mask = kept.slice(start, batch.num_rows)
    if (beyond := batch.num_rows - len(mask)) > 0:
        mask = pa.concat_arrays([mask, pa.repeat(True, beyond)])
    return batch.filter(mask)


@contextmanager
def _naming(shown: str) -> Iterator[None]:
    """Whatever a library raises becomes a Problem that names the file and quotes nothing of it."""
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:  # each store's library has exceptions of its own, without a base in common
        what = f"{shown} cannot be read ({type(error).__name__})"
        raise Problem("Unreadable", what, fix="Check the data and the store that holds it.") from error


def _types(
    hashed: Sequence[Hashed], constants: Sequence[Mapping[str, Any]], told: Format, cache: DigestCache
) -> dict[str, str]:
    """Column → type, of all files together; each file is looked at once and never again."""
    keys = {f"sha256:{one.sha256}" for one in hashed}
    known = cache.get_many([key(digest, told) for digest in sorted(keys) for key in (profile_key, shape_key)])
    columns: dict[str, list[ColumnProfile]] = {}
    with Held(cache) as held:
        for one, fixed in zip(hashed, constants, strict=True):
            found = _columns(one, told, known, held)
            for column in found:
                columns.setdefault(column.name, []).append(column)
            own = {column.name for column in found}
            for name, value in fixed.items():
                kind = type_name(value.type)
                if name not in own:
                    columns.setdefault(name, []).append(ColumnProfile(name, kind, (kind,), 0))
    return {name: _common(of_files) for name, of_files in columns.items()}


def _columns(one: Hashed, told: Format, known: Mapping[str, bytes], held: Held) -> tuple[ColumnProfile, ...]:
    digest = f"sha256:{one.sha256}"
    for key in (profile_key, shape_key):
        if (remembered := decode_profile(known.get(key(digest, told)))) is not None:
            return remembered.columns
    alone = FileSet(one.member.relative, (one.member,), single=True, outside=True)
    try:
        with _naming(one.member.shown):
            read = profile_files(alone, told) if told == "csv" else shape_files(alone, told)
    except MlopsError:  # it has no say in types; whoever reads its rows is told why it cannot be read
        return ()
    if one.settled and one.member.key is not None:
        held.add({(profile_key if told == "csv" else shape_key)(digest, told): encode_profile(read)})
    return read.columns


def _common(columns: Iterable[ColumnProfile]) -> str:
    """The type of a column by what it is in each file; one without a value has no say."""
    told = [column for column in columns if column.type != "null"]
    if not told:
        return "null"
    shared = [kind for kind in told[0].accepts if all(kind in column.accepts for column in told)]
    if shared:
        return shared[0]
    kinds = {column.type for column in told}
    if kinds == {"integer", "double"}:
        return "double"
    return "timestamp" if kinds == {*TEMPORAL} else "string"
