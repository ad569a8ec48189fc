"""Rows, columns and what the values of each column are like, read once for each digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from mlops.data.csv_rows import CsvRows, decoding
from mlops.data.delta import DeltaTableAt, opened
from mlops.data.formats import open_member, partition_values, tables_in, unpacked
from mlops.data.members import Blob, FileSet, Member, decode, encode
from mlops.data.parquet_rows import ParquetRows
from mlops.data.request import Format, Problem
from mlops.data.tallies import ColumnProfile, TextTally, TypedTally, type_name

_VERSION = 1  # part of the cache key: raise it when a profile would come out differently


@dataclass(frozen=True, slots=True)
class Profile:
    """A dataset's rows and columns, in the order of the file (then those that stand in folder names)."""

    rows: int
    columns: tuple[ColumnProfile, ...]

    @property
    def types(self) -> dict[str, str]:
        """Column name → type name."""
        return {column.name: column.type for column in self.columns}


def profile_key(digest: str, file_format: Format) -> str:
    """The cache key of a profile: the content and how it is read, nothing else."""
    return f"profile:{_VERSION}:{file_format}:{digest}"


def shape_key(digest: str, file_format: Format) -> str:
    """The cache key of rows and columns without the extremes."""
    return f"shape:{_VERSION}:{file_format}:{digest}"


def encode_profile(profile: Profile) -> bytes:
    """The form in the cache."""
    columns = [
        [c.name, c.type, list(c.accepts), c.missing, {k: list(v) for k, v in c.extremes.items()}]
        for c in profile.columns
    ]
    return encode({"rows": profile.rows, "columns": columns})


def decode_profile(value: bytes | None) -> Profile | None:
    """Read what `encode_profile` wrote; None for anything else."""
    entry = decode(value)
    if entry is None:
        return None
    try:
        columns = tuple(
            ColumnProfile(name, kind, tuple(accepts), missing, {k: (v[0], v[1]) for k, v in extremes.items()})
            for name, kind, accepts, missing, extremes in entry["columns"]
        )
        return Profile(int(entry["rows"]), columns)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None  # written by another version: read the data again


def profile_files(files: FileSet, file_format: Format) -> Profile:
    """Read all rows of a CSV or Parquet dataset in bounded memory.

    Raises:
        Problem: not readable as the format, files with different columns, or a file that changed meanwhile.
    """
    return _combine(files, file_format, full=True)


def shape_files(files: FileSet, file_format: Format) -> Profile:
    """Rows and types only: of Parquet from the footers, of CSV from all rows."""
    return _combine(files, file_format, full=file_format == "csv")


def profile_delta(table: DeltaTableAt, *, full: bool = True) -> Profile:
    """Read a version of a Delta table; with `full` False only one column of it, to count the rows."""
    import pyarrow as pa

    with opened(table) as opening, decoding(table.shown, "Delta"):
        fields = pa.schema(opening.schema().to_arrow())
        names = [field.name for field in fields]
        wanted = names if full else names[:1]
        tallies = {name: TypedTally() for name in wanted}
        rows = 0
        try:
            for batch in pa.RecordBatchReader.from_stream(opening.scan(columns=wanted)):
                rows += batch.num_rows
                for name, values in zip(wanted, batch.columns, strict=True):
                    tallies[name].add(values)
        except Exception as error:  # deltalake's and arro3's errors have no base in common and quote paths
            what = f"{table.shown}: the data of version {opening.version()} cannot be read"
            fix = "Restore the files that the version names, or choose another version."
            raise Problem("Unreadable", f"{what} ({type(error).__name__})", fix=fix) from error
    found = {name: tally.profile(name) for name, tally in tallies.items()}
    columns = []
    for field in fields:
        kind = type_name(field.type)
        known = found.get(field.name) if full else None
        missing, extremes = (known.missing, known.extremes) if known else (0, {})
        columns.append(ColumnProfile(field.name, kind, (kind,), missing, extremes))
    return Profile(rows, tuple(columns))


def _combine(files: FileSet, file_format: Format, *, full: bool) -> Profile:
    rows = 0
    tallies: dict[str, TextTally | TypedTally] = {}
    members = tables_in(files, file_format)
    for member in members:
        constants = {} if files.single else partition_values(member.relative)
        with closing(open_member(member)) as stream:
            table = _open_table(stream, member, file_format, full=full)
            constants = {name: value for name, value in constants.items() if name not in table.names}
            if not tallies:
                tallies = {name: table.tally() for name in table.names} | {n: TextTally() for n in constants}
            elif sorted([*table.names, *constants]) != sorted(tallies):
                what = f"{member.shown} has other columns than the first file, {members[0].relative}"
                raise Problem("Unreadable", what, fix="Give all files of the dataset the same columns.")
            before = rows
            for count, arrays in table.batches():
                rows += count
                for name, values in zip(table.names, arrays, strict=True):
                    if not tallies[name].takes(values.type):
                        what = f"{member.shown} has other types than the files before it"
                        raise Problem("Unreadable", what, fix="Give all files of the dataset the same types.")
                    tallies[name].add(values)
        for name, value in constants.items() if rows > before else ():
            tallies[name].add(_one(value), rows - before)
        if not isinstance(member, Blob):
            member.check_unchanged()
    return Profile(rows, tuple(tally.profile(name) for name, tally in tallies.items()))


def _one(value: str | None) -> Any:
    import pyarrow as pa

    return pa.array([value], pa.string())


def _open_table(stream: BinaryIO, member: Blob | Member, file_format: Format, *, full: bool) -> _Table:
    if file_format == "csv":
        # the dataset's own name stands at the end of `shown`, also where the suffix says how it is compressed
        return _CsvTable(CsvRows(unpacked(stream, member.shown), member.shown))
    return _ParquetTable(ParquetRows(stream, member.shown), full=full)


class _Table(Protocol):
    """One opened file: `names` of its columns, and its batches as (rows, arrays in the order of names)."""

    @property
    def names(self) -> Sequence[str]: ...

    def tally(self) -> TextTally | TypedTally: ...

    def batches(self) -> Iterator[tuple[int, Sequence[Any]]]: ...


class _CsvTable:
    def __init__(self, rows: CsvRows) -> None:
        self.names: Sequence[str] = rows.names
        self._rows = rows

    def tally(self) -> TextTally:
        return TextTally()

    def batches(self) -> Iterator[tuple[int, Sequence[Any]]]:
        for batch in self._rows.batches():
            yield batch.num_rows, batch.columns


class _ParquetTable:
    def __init__(self, rows: ParquetRows, *, full: bool) -> None:
        self.names: Sequence[str] = rows.names
        self._rows, self._full = rows, full

    def tally(self) -> TypedTally:
        return TypedTally()

    def batches(self) -> Iterator[tuple[int, Sequence[Any]]]:
        import pyarrow as pa

        nothing = [pa.nulls(0, field.type) for field in self._rows.schema]
        yield 0, nothing  # types, even of no rows
        if not self._full:
            yield self._rows.rows, nothing
            return
        for batch in self._rows.batches():
            yield batch.num_rows, batch.columns
