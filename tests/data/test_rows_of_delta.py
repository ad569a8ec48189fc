"""The data files of a Delta table, read one by one at a version."""

from __future__ import annotations

import base64
import json
import shutil
import struct
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_place import Place
from deltalake import DeltaTable, write_deltalake

from mlops.data import DatasetRequest, Problem, RowFile, RowFiles, row_files
from mlops.data.delta import DeltaTableAt
from mlops.data.rows import _of_table

B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def rows(place: Place, **asked: Any) -> RowFiles:
    return row_files(DatasetRequest("d", "lake/t", "delta"), **place.around, **asked)


def read(file: RowFile, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [row for batch in file.batches(columns) for row in batch.to_pylist()]


def values(found: RowFiles) -> list[int]:
    return sorted(row["x"] for file in found.files for row in read(file, ["x"]))


@pytest.fixture
def table(place: Place) -> Path:
    folder = place.base / "lake/t"
    folder.parent.mkdir()
    append(folder, [1, 2, 3])
    return folder


def append(folder: Path, numbers: list[int]) -> None:
    write_deltalake(folder, pa.table({"x": numbers}), mode="append")


def deletion_vector(deleted: list[int]) -> dict[str, Any]:
    """An inline deletion vector, as the Delta protocol writes it: a roaring bitmap of row numbers, in Z85."""
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(deleted) - 1, 16)
    data = struct.pack("<IQI", 1681511377, 1, 0) + bitmap + b"".join(struct.pack("<H", n) for n in deleted)
    text = base64.b85encode(data + bytes(-len(data) % 4)).decode().translate(str.maketrans(B85, Z85))
    return {
        "storageType": "i",
        "pathOrInlineDv": text,
        "sizeInBytes": len(data),
        "cardinality": len(deleted),
    }


def rewrite(folder: Path, configuration: dict[str, str], feature: str, changed: dict[str, Any]) -> None:
    """Commit version 1: the table's only file once more, with `changed` in its action."""
    first = (folder / "_delta_log/00000000000000000000.json").read_text().splitlines()
    actions = {name: value for line in first for name, value in json.loads(line).items()}
    features = {"readerFeatures": [feature], "writerFeatures": [feature]}
    written = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        {"metaData": {**actions["metaData"], "configuration": configuration}},
        {"remove": {"path": actions["add"]["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": {**actions["add"], **changed}},
    ]
    text = "\n".join(json.dumps(action) for action in written) + "\n"
    (folder / "_delta_log/00000000000000000001.json").write_text(text)


def test_a_new_version_with_one_more_file_gives_exactly_one_new_file(place: Place, table: Path) -> None:
    first = rows(place)
    append(table, [4, 5])
    second = rows(place)
    assert (second.digest, second.text) == (place.look("lake/t", "delta").digest, False)
    assert second.types == {"x": "integer"}
    assert second.files[:1] == first.files
    assert len(second.files) == 2
    assert read(second.files[1]) == [{"x": 4}, {"x": 5}]
    assert len({file.digest for file in second.files}) == 2


def test_what_optimize_wrote_are_new_files_with_the_same_rows(place: Place, table: Path) -> None:
    append(table, [4, 5])
    before = rows(place)
    DeltaTable(table).optimize.compact()
    after = rows(place)
    assert not {file.digest for file in after.files} & {file.digest for file in before.files}
    assert values(after) == values(before) == [1, 2, 3, 4, 5]
    DeltaTable(table).restore(1)
    assert rows(place).files == before.files  # the same files again, so nothing of them is read again


def test_an_old_digest_gives_the_files_of_its_version(place: Place, table: Path) -> None:
    digest = rows(place).digest
    append(table, [4])
    old = rows(place, digest=digest)
    assert (old.digest, values(old)) == (digest, [1, 2, 3])
    with pytest.raises(Problem, match="no longer what it was"):
        rows(place, digest=f"delta:{'0' * 8}:0")


def test_partition_columns_have_the_types_of_the_table(place: Place, table: Path) -> None:
    shutil.rmtree(table)
    days = [date(2012, 1, 1), date(2012, 1, 2), None]
    names = ["a b/c%", "é=1", None]
    columns = {"x": [1, 2, 3], "day": pa.array(days, pa.date32()), "of": pa.array(names, pa.string())}
    write_deltalake(table, pa.table(columns), partition_by=["day", "of"])
    found = rows(place)
    assert found.types == {"x": "integer", "day": "date", "of": "string"}
    told = sorted((row for file in found.files for row in read(file)), key=lambda row: row["x"])
    assert told == [{"x": n, "day": day, "of": of} for n, day, of in zip((1, 2, 3), days, names, strict=True)]
    assert [read(file, ["of", "x"])[0].keys() for file in found.files] == [{"of", "x"}] * 3


def test_deleted_rows_do_not_count_and_make_another_file(place: Place, table: Path) -> None:
    before = rows(place)
    marks = {"deletionVector": deletion_vector([0, 2])}
    rewrite(table, {"delta.enableDeletionVectors": "true"}, "deletionVectors", marks)
    after = rows(place)
    assert values(after) == [2]
    assert [batch.num_rows for batch in after.files[0].batches([])] == [1]
    assert after.files[0].digest != before.files[0].digest
    assert after.files[0].name == before.files[0].name


def test_deleted_rows_of_a_large_file_are_found_in_every_part(place: Place, table: Path) -> None:
    shutil.rmtree(table)
    append(table, list(range(70_000)))
    deleted = [0, 32_767, 32_768, 65_000]
    marks = {"deletionVector": deletion_vector(deleted)}
    rewrite(table, {"delta.enableDeletionVectors": "true"}, "deletionVectors", marks)
    assert values(rows(place)) == sorted(set(range(70_000)) - set(deleted))


def test_mapped_columns_and_shallow_clones_are_refused_with_a_reason(place: Place, table: Path) -> None:
    rewrite(table, {"delta.columnMapping.mode": "name"}, "columnMapping", {})
    with pytest.raises(Problem) as caught:
        rows(place)
    assert caught.value.reason == "Unreadable"
    rewrite(table, {}, "deletionVectors", {"path": f"file://{table}/other.parquet"})
    with pytest.raises(Problem, match="shallow clone"):
        rows(place)


@pytest.mark.parametrize("outside", ["../outside.parquet", "%2e%2e/outside.parquet", "link.parquet"])
def test_a_log_cannot_name_files_outside_its_table(place: Place, table: Path, outside: str) -> None:
    pq.write_table(pa.table({"x": [42]}), table.parent / "outside.parquet")
    (table / "link.parquet").symlink_to(table.parent / "outside.parquet")
    size = (table.parent / "outside.parquet").stat().st_size
    rewrite(table, {}, "deletionVectors", {"path": outside, "size": size})
    with pytest.raises(Problem):
        values(rows(place))


def test_a_data_file_that_is_gone_or_not_what_the_log_says_is_named(place: Place, table: Path) -> None:
    append(table, [4])
    found = rows(place)
    target = table / found.files[0].name
    content = target.read_bytes()
    target.write_bytes(content + b" ")
    with pytest.raises(Problem, match=r"bytes, and \d+ by the table's log"):
        read(found.files[0])
    target.write_bytes(b"PAR1" + bytes(len(content) - 8) + b"PAR1")
    with pytest.raises(Problem, match=r"not readable as Parquet"):
        read(found.files[0])
    target.unlink()
    with pytest.raises(Problem, match=found.files[0].name):
        read(found.files[0])
    assert read(found.files[1]) == [{"x": 4}]


def test_a_data_file_that_changes_while_it_is_read_does_not_count(place: Place, table: Path) -> None:
    shutil.rmtree(table)
    append(table, list(range(200_000)))
    found = rows(place)
    reading = found.files[0].batches(None)
    next(reading)
    path = table / found.files[0].name
    path.write_bytes(path.read_bytes())
    with pytest.raises(Problem, match="changes while it is read"):
        list(reading)


def test_a_table_in_git_is_read_from_git(place: Place, table: Path) -> None:
    append(table, [4])
    outside = rows(place)
    place.commit()
    shutil.rmtree(table)
    inside = rows(place)
    assert inside == outside
    assert values(inside) == [1, 2, 3, 4]


def test_a_table_in_a_store_is_read_through_its_library(place: Place, table: Path) -> None:
    shutil.rmtree(table)
    write_deltalake(table, pa.table({"x": [1, 2], "of": ["a b/c", "d"]}), partition_by=["of"])
    on_disk = rows(place)
    in_store = _of_table(DeltaTableAt(str(table), "t", "s3://lake/t", None), on_disk.digest)
    assert in_store == on_disk
    assert [read(file) for file in in_store.files] == [read(file) for file in on_disk.files]
    (table / on_disk.files[0].name).unlink()
    with pytest.raises(Problem, match="s3://lake/t"):
        read(in_store.files[0])
