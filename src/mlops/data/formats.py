"""Which format a dataset has, and which of its files hold rows."""

from __future__ import annotations

import bz2
import gzip
import io
from typing import BinaryIO, cast
from urllib.parse import unquote

from mlops.data.members import Blob, FileSet, Member, read_blobs
from mlops.data.request import Format

_COMPRESSED = (".gz", ".bz2")
_SUFFIXES: dict[Format, tuple[str, ...]] = {"csv": (".csv",), "parquet": (".parquet", ".pq")}
_EMPTY_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def told_format(name: str) -> Format | None:
    """The format that a file name tells (`.csv`, also with `.gz` or `.bz2`; `.parquet`, `.pq`), or None."""
    lower = name.lower()
    for suffix in _COMPRESSED:
        lower = lower.removesuffix(suffix)
    return next((f for f, suffixes in _SUFFIXES.items() if lower.endswith(suffixes)), None)


def format_of(files: FileSet, declared: Format | None) -> Format | None:
    """The declared format, or the only one that the names of the files tell."""
    if declared is not None:
        return declared
    names = [files.name] if files.single else [member.relative for member in files.members]
    told = {found for name in names if (found := told_format(name)) is not None}
    return told.pop() if len(told) == 1 else None


def tables_in(files: FileSet, file_format: Format) -> list[Blob | Member]:
    """The members that hold rows: those with the format's suffix, or all if none has it.

    Names with a leading underscore (`_metadata`) hold none, and neither do the empty CSV parts that Spark
    writes, unless there is nothing else.
    """
    if files.single:
        return list(files.members)
    visible = [m for m in files.members if not m.relative.rsplit("/", 1)[-1].startswith("_")]
    named = [m for m in visible if told_format(m.relative) == file_format] or visible or list(files.members)
    return [m for m in named if m.size > 0 or file_format != "csv"] or named[:1]


def partition_values(relative: str) -> dict[str, str | None]:
    """Columns that stand in the path (`year=2012/part.parquet`), as Hive, Spark and pandas write them."""
    folders = [part.partition("=") for part in relative.split("/")[:-1] if "=" in part]
    return {
        unquote(name): None if value == _EMPTY_PARTITION else unquote(value) for name, _, value in folders
    }


def open_member(member: Blob | Member) -> BinaryIO:
    """Open one file of a dataset, as its bytes are."""
    if isinstance(member, Blob):
        return io.BytesIO(next(content for _, content in read_blobs({0: member})))
    return member.open()


def unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """`stream`, decompressed as it is read if `name` ends in .gz or .bz2."""
    if name.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
    if name.lower().endswith(".bz2"):
        return cast(BinaryIO, bz2.BZ2File(stream, "rb"))
    return stream
