"""CSV as a stream of record batches: comma, double quotes, a header, UTF-8 (a BOM is fine), any line end.

Every value comes as a string and types are told from all rows afterwards: Arrow's own inference looks at the
first block only, so that a word in the last row would be an error instead of a type.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from mlops.data.members import CHUNK
from mlops.data.request import Problem

# What pandas reads as missing, so that a profile counts what training code will see.
NULLS = [
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]
_LONGEST_ROW = 2 << 20  # bytes; also that of one batch, of which Arrow reads up to 32 ahead
_QUOTE_OR_END = re.compile(rb'["\r\n]')
# Of Arrow's message only the numbers: the row's own text follows them. Arrow's handler of invalid rows is no
# way to them, since it decodes the row first and cannot raise where that fails.
_RAGGED = re.compile(r"Row #(\d+): Expected \d+ columns, got (\d+)")
_BOM = b"\xef\xbb\xbf"


class CsvRows:
    """An opened CSV file: `names` of its columns, then its batches, once.

    Args:
        stream: positioned at the start, decompressed.
        shown: for messages.
    Raises:
        Problem: from the constructor and from `batches`, for what is not such a file.
    """

    def __init__(self, stream: BinaryIO, shown: str) -> None:
        self._shown = shown
        with decoding(shown, "CSV"):
            header, rest = self._split_header(stream)
            self.names = self._parse_header(header)
        self._lines = _Lines(rest, stream, shown)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The rows as `pyarrow.RecordBatch` with string columns, in order; of some columns (all there) or of all."""
        from pyarrow import csv as arrow_csv

        if not self._lines.has_rows():
            return
        wanted = self.names if columns is None else list(columns)
        read = wanted if self.names[-1] in wanted else [*wanted, self.names[-1]]  # for an open quote
        end = read.index(self.names[-1])
        last = None
        with decoding(self._shown, "CSV"):
            try:
                reader = arrow_csv.open_csv(
                    self._lines,
                    # one thread: with more, Arrow does not know the number of a bad row
                    read_options=arrow_csv.ReadOptions(
                        use_threads=False, block_size=_LONGEST_ROW, column_names=self.names
                    ),
                    parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                    convert_options=arrow_csv.ConvertOptions(
                        include_columns=read,
                        column_types=dict.fromkeys(self.names, "string"),
                        null_values=NULLS,
                        strings_can_be_null=True,
                    ),
                )
                for batch in reader:
                    if batch.num_rows:
                        last = batch.column(end)
                    yield batch if read == wanted else batch.select(wanted)
            except ValueError as error:
                if (ragged := _RAGGED.search(str(error))) is not None:
                    raise self._ragged(*ragged.groups()) from error
                raise
        self._refuse_open_quote(last)

    def _split_header(self, stream: BinaryIO) -> tuple[bytes, bytes]:
        """The first line that is not blank (quoted newlines are part of it), and what was read past it."""
        buffer = stream.read(CHUNK) or b""
        if not buffer:
            fix = "Write at least a header, or leave the file out until there is data."
            raise Problem("Unreadable", f"{self._shown} is empty: it has not even a header", fix=fix)
        if buffer.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Problem("Unreadable", f"{self._shown} is UTF-16", fix="Write the file again in UTF-8.")
        buffer = buffer.removeprefix(_BOM).lstrip(b"\r\n")
        while (end := _first_line_end(buffer)) is None:
            more = stream.read(CHUNK)
            if not more:
                return buffer, b""
            buffer = (buffer + more).lstrip(b"\r\n")
            if len(buffer) > _LONGEST_ROW:
                raise ValueError("straddling")
        return buffer[:end], buffer[end:]

    def _parse_header(self, header: bytes) -> list[str]:
        if b"\0" in header:
            raise _binary(self._shown)
        try:
            names = next(csv.reader([header.decode("utf-8")]), [])
        except csv.Error as error:
            raise ValueError("header") from error
        if not names:
            raise Problem(
                "Unreadable", f"{self._shown} has no header", fix="Name the columns in the first line."
            )
        first: dict[str, int] = {}
        for position, name in enumerate(names, start=1):
            if first.setdefault(name, position) != position:
                what = f"{self._shown}: columns {first[name]} and {position} have the same name"
                raise Problem("Unreadable", what, fix="Give each column its own name.")
        return names

    def _ragged(self, number: str, found: str) -> Problem:
        return Problem(
            "Unreadable",
            f"{self._shown}: data row {number} has {found} values where the header has {len(self.names)}",
            fix="Quote values that contain a comma, and write every row completely.",
        )

    def _refuse_open_quote(self, last: Any) -> None:
        if last is None or self._lines.quotes % 2 == 0:
            return
        value = last[-1].as_py()
        if value is not None and value.endswith("\n"):  # it swallowed the line end that `_Lines` adds
            what = f"{self._shown} has a quote that is opened and never closed"
            raise Problem("Unreadable", what, fix="Close it; a quote within quotes is written twice.")


class _Lines:
    """What follows the header, with a line end after the last row; it counts the quotes that go by."""

    closed = False

    def __init__(self, start: bytes, stream: BinaryIO, shown: str) -> None:
        self._shown = shown
        self._start = start
        self._stream = stream
        self._ended = False
        self.quotes = 0

    def has_rows(self) -> bool:
        """Whether anything but line ends follows."""
        self._start = self._start.lstrip(b"\r\n")
        while not self._start and (more := self._stream.read(CHUNK)):
            self._start = more.lstrip(b"\r\n")
        return bool(self._start)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end."""
        chunk = self._start[:size] if self._start else self._stream.read(size)
        self._start = self._start[len(chunk) :]
        if not chunk and not self._ended:
            self._ended = True
            return b"\n"
        if b"\0" in chunk:
            raise _binary(self._shown)
        self.quotes += chunk.count(b'"')
        return chunk

    def readable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Whoever opened the stream closes it."""


@contextmanager
def decoding(shown: str, called: str) -> Iterator[None]:
    """Turn what Arrow and decompressors raise into a Problem without their text, which quotes the data."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, OSError, EOFError, OverflowError, zlib.error) as error:
        text = str(error)
        if isinstance(error, UnicodeError) or "UTF8" in text or "UTF-8" in text:
            raise Problem(
                "Unreadable", f"{shown} is not UTF-8", fix="Write the file again in UTF-8."
            ) from error
        if "straddling" in text:
            what = f"{shown} has a row longer than {_LONGEST_ROW >> 20} MiB, or a quote that is never closed"
            raise Problem("Unreadable", what, fix="Mend or split that row.") from error
        what = f"{shown} is not readable as {called}"
        raise Problem("Unreadable", what, fix="Write it again completely, or mend spec.format.") from error


def _binary(shown: str) -> Problem:
    # also UTF-16 without a mark; and no store of text takes a category with one in it
    return Problem(
        "Unreadable", f"{shown} has a NUL in it: it is no text", fix="Write the file again in UTF-8."
    )


def _first_line_end(buffer: bytes) -> int | None:
    quoted = False
    for found in _QUOTE_OR_END.finditer(buffer):
        if found[0] == b'"':
            quoted = not quoted
        elif not quoted:
            return found.start()
    return None
