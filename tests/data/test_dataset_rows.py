"""The files of a dataset, read one by one: what is true of one stays true when others come, change or break."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_place import Place, git
from fsspec.implementations.memory import MemoryFileSystem

from mlops.data import DatasetRequest, Problem, RowFile, RowFiles, describe, row_files
from mlops.data.local import Signature
from mlops.observation.datasets import rows_of
from mlops.resources import Dataset
from mlops.source.repository import Repository
from mlops.source.snapshot import GitSnapshot


def rows(place: Place, uri: str, format: Any = None, **asked: Any) -> RowFiles:
    return row_files(DatasetRequest("d", uri, format), **place.around, **asked)


def read(file: RowFile, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [row for batch in file.batches(columns) for row in batch.to_pylist()]


def by_name(found: RowFiles) -> dict[str, RowFile]:
    return {file.name: file for file in found.files}


def parquet(place: Place, path: str, **columns: Any) -> Path:
    target = place.write(path, "")
    pq.write_table(pa.table(columns), target)
    return target


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def test_a_folder_of_csv_is_read_file_by_file_as_text(place: Place) -> None:
    place.write("d/a.csv", "x,y,z\n1,u,\n2,v,7\n")
    place.write("d/b.csv", "x,y\n3.5,w\n")
    place.write("d/_SUCCESS", "")
    place.write("d/readme.txt", "not a table")
    found = rows(place, "d", "csv")
    assert (found.digest, found.text) == (place.look("d", "csv").digest, True)
    assert found.types == {"x": "double", "y": "string", "z": "integer"}
    a, b = found.files
    assert (a.name, b.name, a.size) == ("a.csv", "b.csv", 17)
    assert read(a) == [{"x": "1", "y": "u", "z": None}, {"x": "2", "y": "v", "z": "7"}]
    assert read(a, ["y", "x"]) == [{"y": "u", "x": "1"}, {"y": "v", "x": "2"}]
    assert read(b, ["z", "x"]) == [{"x": "3.5"}]  # what it lacks is not there
    assert [batch.num_rows for batch in a.batches([])] == [2]
    assert [batch.num_rows for batch in b.batches(["z"])] == [1]
    assert read(a) == read(a)  # as often as one likes


def test_compressed_csv_and_a_single_file(place: Place) -> None:
    place.write("x.csv.gz", gzip.compress(b"a,b\n1,2\n"))
    found = rows(place, "x.csv.gz")
    assert found.files[0].digest == found.digest
    assert (read(found.files[0], ["b"]), found.types) == ([{"b": "2"}], {"a": "integer", "b": "integer"})


def test_parquet_keeps_its_types_and_reads_only_what_is_asked_for(place: Place) -> None:
    parquet(
        place, "d/a.parquet", x=[1, 2], **{"x.y": ["p", "q"]}, when=pa.array([0, None], pa.timestamp("us"))
    )
    parquet(place, "d/b.parquet", x=[1.5], extra=[True])
    found = rows(place, "d")
    assert found.types == {"x": "double", "x.y": "string", "when": "timestamp", "extra": "boolean"}
    assert not found.text
    a, b = found.files
    assert read(a, ["x"]) == [{"x": 1}, {"x": 2}]
    assert read(b, ["when", "extra"]) == [{"extra": True}]
    assert [batch.num_rows for batch in b.batches(["when"])] == [1]
    assert next(a.batches(None)).schema.field("when").type == pa.timestamp("us")


def test_a_large_parquet_file_comes_in_parts(place: Place) -> None:
    pq.write_table(pa.table({"x": range(100_000)}), place.write("x.parquet", ""))
    counts = [batch.num_rows for batch in rows(place, "x.parquet").files[0].batches(["x"])]
    assert sum(counts) == 100_000
    assert max(counts) <= 32_768


def test_columns_in_the_path_are_columns_and_make_the_same_bytes_other_rows(place: Place) -> None:
    empty = "__HIVE_DEFAULT_PARTITION__"
    for year in ("2011", "2012", empty):
        parquet(place, f"p/year={year}/part.parquet", x=[1])
        place.write(f"c/year={year}/part.csv", "x,year2\n1,5\n")
    found = rows(place, "p")
    assert len({file.digest for file in found.files}) == 3
    assert found.types == {"x": "integer", "year": "integer"}
    files = by_name(found)
    assert read(files["year=2012/part.parquet"]) == [{"x": 1, "year": 2012}]
    assert read(files["year=2012/part.parquet"], ["year"]) == [{"year": 2012}]
    assert read(files[f"year={empty}/part.parquet"]) == [{"x": 1, "year": None}]
    text = by_name(rows(place, "c"))["year=2011/part.csv"]
    assert read(text, ["year", "x"]) == [{"year": "2011", "x": "1"}]
    # without a column in its path the digest is that of the bytes, wherever they lie
    place.write("c/a.csv", "x\n1\n")
    place.write("alone.csv", "x\n1\n")
    assert by_name(rows(place, "c"))["a.csv"].digest == rows(place, "alone.csv").digest


def test_a_column_of_the_file_counts_before_one_of_the_path(place: Place) -> None:
    parquet(place, "p/year=2011/part.parquet", x=[1], year=[7])
    assert read(rows(place, "p").files[0]) == [{"x": 1, "year": 7}]


def test_what_comes_of_a_file_does_not_depend_on_the_others(place: Place) -> None:
    parquet(place, "p/k=1/a.parquet", x=[1])
    place.write("c/a.csv", "x\n1\n")
    before = [(file.digest, read(file)) for uri in ("p", "c") for file in rows(place, uri).files]
    parquet(place, "p/k=word/b.parquet", x=["u"])
    place.write("c/b.csv", "x\nword\n")
    assert rows(place, "p").types == {"x": "string", "k": "string"}
    assert rows(place, "c").types == {"x": "string"}
    after = [(file.digest, read(file)) for uri in ("p", "c") for file in rows(place, uri).files[:1]]
    assert after == before


def test_types_of_files_together_are_those_of_their_rows_together(place: Place) -> None:
    columns = {
        "flag": ("0", "true"),
        "when": ("2011-01-01", "2011-01-01 10:00:00"),
        "empty": ("", ""),
        "late": ("", "5"),
        "number": ("1", "1e3"),
        "mixed": ("1", "a"),
    }
    for at, name in enumerate("ab"):
        line = ",".join(values[at] for values in columns.values())
        place.write(f"d/{name}.csv", f"{','.join(columns)}\n{line}\n")
    told = describe(DatasetRequest("d", "d", "csv"), **place.around).columns
    assert rows(place, "d", "csv").types == told


def test_nothing_is_opened_until_it_is_asked_for_and_types_are_looked_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        place.write(f"c/{name}.csv", "x\n1\n")
        parquet(place, f"p/{name}.parquet", x=[1])
    looked: list[str] = []
    real = os.open

    def watching(path: Any, *arguments: Any, **options: Any) -> int:
        looked.append(Path(path).name)
        return real(path, *arguments, **options)

    monkeypatch.setattr("mlops.data.local.os.open", watching)
    first = [rows(place, "c"), rows(place, "p")]
    assert set(looked) == {f"{name}.{kind}" for name in "abc" for kind in ("csv", "parquet")}
    looked.clear()
    assert [rows(place, "c"), rows(place, "p")] == first
    assert looked == []
    place.write("c/new.csv", "x\n2\n")
    found = rows(place, "c")
    assert set(looked) == {"new.csv"}
    assert [file.digest for file in found.files[:3]] == [file.digest for file in first[0].files]


@pytest.mark.parametrize(
    "poison",
    [
        b"x,y\n1,2\n3\n",
        b"x,y\n1,\xff\n",
        b"x,y\n1,a\0b\n",
        b"x\0,y\n1,2\n",
        b'x,y\n1,"' + b"a" * (5 << 20) + b'"\n',
        b'x,y\n1,"never closed\n',
        b"x,x\n1,2\n",
    ],
    ids=["ragged", "utf-8", "nul", "nul in the header", "huge", "open quote", "two of a name"],
)
def test_a_poisoned_file_is_named_and_the_others_are_read(place: Place, poison: bytes) -> None:
    place.write("d/a.csv", "x,y\n1,2\n")
    place.write("d/bad.csv", poison)
    place.write("d/c.csv", "x,y\n5,6\n")
    found = rows(place, "d", "csv")
    assert found.types == {"x": "integer", "y": "integer"}
    a, bad, c = found.files
    with pytest.raises(Problem, match=r"d: bad\.csv"):
        read(bad)
    assert read(a) + read(c) == [{"x": "1", "y": "2"}, {"x": "5", "y": "6"}]


def test_a_file_that_is_no_parquet_is_named_and_the_others_are_read(place: Place) -> None:
    good = parquet(place, "d/a.parquet", x=[1])
    place.write("d/cut.parquet", good.read_bytes()[:-20])
    place.write("d/empty.parquet", "")
    found = rows(place, "d")
    assert found.types == {"x": "integer"}
    for bad in found.files[1:]:
        with pytest.raises(Problem, match=bad.name):
            read(bad)
    assert read(found.files[0]) == [{"x": 1}]


def open_files() -> set[str]:
    return {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_file_is_closed_at_its_end_at_an_early_stop_and_at_an_error(place: Place) -> None:
    good = place.write("d/a.csv", "x\n" + "1\n" * 2_000_000)
    bad = place.write("d/b.csv", "x\n1,2\n")
    table = parquet(place, "p/a.parquet", x=range(100_000))
    files = [*rows(place, "d").files, *rows(place, "p").files]
    for path, file in zip((good, bad, table), files, strict=True):
        reading = file.batches(["x"])
        if path == bad:
            with pytest.raises(Problem):
                list(reading)
        else:
            next(reading)
            assert str(path) in open_files()
            reading.close()
            assert str(path) not in open_files()
            assert sum(batch.num_rows for batch in file.batches(["x"])) in (2_000_000, 100_000)
        assert str(path) not in open_files()


@pytest.mark.parametrize("settled", [True, False], ids=["known for long", "just written"])
def test_a_file_that_changes_after_it_was_found_or_while_it_is_read_does_not_count(
    place: Place, settled: bool
) -> None:
    path = place.write("x.csv", "x\n" + "1\n" * 2_000_000)
    if not settled:
        place.seconds -= 60
    file = rows(place, "x.csv").files[0]
    reading = file.batches(None)
    next(reading)
    path.write_text("x\n" + "2\n" * 2_000_000)
    with pytest.raises(Problem, match="changes while it is read"):
        list(reading)
    with pytest.raises(Problem, match="changes while it is read"):
        read(file)
    path.unlink()
    with pytest.raises(Problem, match=r"x\.csv"):
        read(file)


def test_an_equal_change_that_times_do_not_show_is_found_by_the_bytes(place: Place) -> None:
    """A file written in the same tick as it was hashed in: its size and times stay what they were."""
    path = place.write("x.csv", "x\n1\n")
    place.seconds -= 60
    file = rows(place, "x.csv").files[0]
    signature = Signature.of(path.stat())
    path.write_text("x\n2\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Signature, "of", lambda _: signature)
        with pytest.raises(Problem, match="changes while it is read"):
            read(file)


def test_the_files_of_a_commit_are_read_from_git(place: Place) -> None:
    place.write("d/year=2011/a.csv", "x\n1\n")
    parquet(place, "p/a.parquet", x=[1, 2])
    place.commit()
    place.write("d/year=2011/a.csv", "x\n9\n")
    (place.base / "p/a.parquet").unlink()
    found = rows(place, "d")
    assert found.digest == place.look("d").digest
    assert read(found.files[0]) == [{"x": "1", "year": "2011"}]
    assert read(rows(place, "p").files[0]) == [{"x": 1}, {"x": 2}]


def test_the_files_of_a_store_have_the_digests_that_they_have_on_disk(
    place: Place, store: MemoryFileSystem
) -> None:
    for path in ("d/k=1/a.csv", "d/k=2/a.csv", "d/b.csv"):
        place.write(path, "x\n1\n2\n")
        store.pipe(f"/{path}", b"x\n1\n2\n")
    path = parquet(place, "p/a.parquet", x=[1, 2])
    store.pipe("/p/a.parquet", path.read_bytes())
    for uri in ("d", "p"):
        local, remote = rows(place, uri), rows(place, f"memory://{uri}")
        assert remote == local
        assert [read(file) for file in remote.files] == [read(file) for file in local.files]


def test_an_object_that_changes_does_not_count_though_its_store_gives_no_validator(
    place: Place, store: MemoryFileSystem
) -> None:
    store.pipe("/x.csv", b"x\n1\n")
    file = rows(place, "memory://x.csv").files[0]
    assert read(file) == [{"x": "1"}]
    store.pipe("/x.csv", b"x\n2\n")
    with pytest.raises(Problem, match="changes while it is read"):
        read(file)


def test_a_store_that_fails_is_a_problem_of_that_file(
    place: Place, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(Exception):
        pass

    def refuse(*_: Any, **__: Any) -> None:
        raise Refused("token=TOP-SECRET")

    store.pipe("/x.csv", b"x\n1\n")
    file = rows(place, "memory://x.csv").files[0]
    monkeypatch.setattr(MemoryFileSystem, "open", refuse)
    with pytest.raises(Problem, match=r"x\.csv") as caught:
        read(file)
    assert "TOP-SECRET" not in str(caught.value)


def test_what_observing_refuses_is_refused_here(place: Place) -> None:
    place.write("d/x.txt", "words")
    place.write("empty.csv", "")
    for uri, reason in (("nowhere", "NotFound"), ("empty.csv", "Unreadable"), ("../up", "Invalid")):
        with pytest.raises(Problem) as caught:
            rows(place, uri)
        assert caught.value.reason == reason
    with pytest.raises(Problem, match=r"spec\.format"):
        rows(place, "d")


def test_a_digest_that_was_asked_for_is_the_one_that_is_given(place: Place) -> None:
    path = place.write("x.csv", "x\n1\n")
    digest = place.look("x.csv").digest
    assert rows(place, "x.csv", digest=digest).digest == digest
    path.write_text("x\n2\n3\n")
    with pytest.raises(Problem, match="no longer what it was") as caught:
        rows(place, "x.csv", digest=digest)
    assert caught.value.reason == "DigestMismatch"


def test_a_declared_dataset_is_read_at_its_revision(place: Place) -> None:
    place.write("data/x.csv", "x\n1\n")
    place.commit()
    repository = Repository.discover(place.base)
    snapshot = GitSnapshot(repository, git(place.base, "rev-parse", "HEAD").decode().strip())
    declared = {"apiVersion": "mlops/v1", "kind": "Dataset", "metadata": {"name": "d"}}
    dataset = Dataset.model_validate({**declared, "spec": {"uri": "data/x.csv"}})
    found = rows_of(dataset, snapshot, root=place.base, substitute=str, cache=place.cache, now=place.now)
    assert [read(file) for file in found.files] == [[{"x": "1"}]]
