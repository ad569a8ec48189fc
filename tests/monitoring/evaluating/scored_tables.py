"""Real CSV and Parquet files as an assessment is given them, and the policies that watch them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlops.data.csv_rows import CsvRows, decoding
from mlops.data.tallies import type_name
from mlops.monitoring.evaluating import Assessed, DataFile, Stored, Subject, Table, assess
from mlops.resources.dataset import Columns
from mlops.resources.monitoring_policy import MonitoringPolicySpec

DAY = 86_400
NOW = 400.0 * DAY
COLUMNS = Columns(target="default", prediction="prediction", probability="score", timestamp="time", id="id")


class Memory:
    """Summaries in a dictionary; `reads` and `writes` count keys."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.reads: list[str] = []

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = list(keys)
        self.reads += wanted
        return {key: self.entries[key] for key in wanted if key in self.entries}

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        self.entries |= entries


class Opened:
    """Names of files in the order in which they were opened."""

    def __init__(self) -> None:
        self.names: list[str] = []


def data_file(path: Path, position: int = 0, opened: Opened | None = None) -> DataFile:
    def batches(columns: Sequence[str] | None) -> Iterator[Any]:
        if opened is not None:
            opened.names.append(path.name)
        if path.suffix == ".csv":
            with path.open("rb") as stream:
                for batch in CsvRows(stream, path.name).batches():
                    yield _chosen(batch, columns)
        else:
            with decoding(path.name, "Parquet"):
                for batch in pq.ParquetFile(path).iter_batches(batch_size=3_000):
                    yield _chosen(batch, columns)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return DataFile(digest, path.name, position, batches)


def _chosen(batch: Any, columns: Sequence[str] | None) -> Any:
    return (
        batch if columns is None else batch.select([name for name in columns if name in batch.schema.names])
    )


def written(folder: Path, name: str, rows: Mapping[str, Any]) -> Path:
    """A file of these columns, CSV or Parquet by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    table = pa.table(rows)
    if path.suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


def table(
    name: str,
    paths: Sequence[Path],
    types: Mapping[str, str] | None = None,
    columns: Columns = COLUMNS,
    opened: Opened | None = None,
    **rest: Any,
) -> Table:
    files = tuple(data_file(path, 0, opened) for path in paths)
    if types is None and paths and paths[0].suffix == ".parquet":
        types = {field.name: type_name(field.type) for field in pq.read_schema(paths[-1])}
    digest = hashlib.sha256("".join(file.digest for file in files).encode()).hexdigest()
    text = bool(paths) and paths[0].suffix == ".csv"
    return Table(name, digest, types or {}, files, columns, text, **rest)


def spec(**fields: Any) -> MonitoringPolicySpec:
    document: dict[str, Any] = {
        "model": "loan",
        "stage": "production",
        "data": {"predictions": "scored"},
        "window": {"size": "1d"},
        "checks": [{"name": "inputs", "type": "dataDrift"}],
    }
    return MonitoringPolicySpec.model_validate({**document, **fields})


def subject(
    policy: MonitoringPolicySpec, reference: Table | None, predictions: Table, **rest: Any
) -> Subject:
    return Subject(policy, "loan-production", "3", predictions, reference=reference, **rest)


def known(found: Assessed, before: Mapping[Any, Stored] | None = None) -> dict[Any, Stored]:
    """What is stored after an assessment."""
    new = {one.start: Stored(one.key, one.revision, found.records[one.start]) for one in found.evaluations}
    return {**(before or {}), **new}


def assessed(watched: Subject, memory: Memory | None = None, **rest: Any) -> Assessed:
    return assess(
        watched, memory or Memory(), rest.pop("stored", {}), now=rest.pop("now", NOW), threads=1, **rest
    )
