"""Parquet as a stream of record batches: only the columns asked for, a part of a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from mlops.data.csv_rows import decoding
from mlops.data.request import Problem

_BATCH_ROWS = 32_768


class ParquetRows:
    """An opened Parquet file: `names` of its columns, its `schema` and how many `rows`, then its batches.

    Args:
        stream: seekable.
        shown: for messages.
    Raises:
        Problem: from the constructor and from `batches`, for what is not such a file.
    """

    def __init__(self, stream: BinaryIO, shown: str) -> None:
        import pyarrow.parquet as pq

        self._shown = shown
        with decoding(shown, "Parquet"):
            # read as it goes: pre-buffering would hold whole row groups in memory
            self._file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
            self.schema = self._file.schema_arrow
            self.names: list[str] = self.schema.names
            self.rows: int = self._file.metadata.num_rows
        if len(set(self.names)) != len(self.names):
            raise Problem("Unreadable", f"{shown}: two columns have the same name", fix="Rename one of them.")

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The rows as `pyarrow.RecordBatch` in order, of some columns (all there) or of all."""
        wanted = None if columns is None else list(columns)
        with decoding(self._shown, "Parquet"):
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
                # to Arrow, the name of a column is also the beginning of those that have a point behind it
                yield batch if wanted is None else batch.select(wanted)
