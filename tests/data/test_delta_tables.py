"""Delta tables: the digest is the table and its version, and any version can be read again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dataset_place import Expected, ExpectedColumn, Place
from deltalake import DeltaTable, write_deltalake

from mlops.data import DatasetRequest, Problem, describe, materialise
from mlops.errors import Transient


def write(folder: Path, values: list[int], mode: Any = "append", **options: Any) -> None:
    write_deltalake(folder, pa.table({"x": values, "p": [v % 2 for v in values]}), mode=mode, **options)


@pytest.fixture
def table(place: Place) -> Path:
    folder = place.base / "lake/bikes"
    folder.parent.mkdir()
    for values in ([1, 2, 3], [4, 5], [6]):
        write(folder, values, partition_by=["p"])
    return folder


def test_the_digest_names_the_table_and_its_version(place: Place, table: Path) -> None:
    identity = DeltaTable(table).metadata().id
    latest = place.look("lake/bikes", "delta")
    assert (latest.digest, latest.outside, latest.pinned) == (f"delta:{identity}:2", True, False)
    assert latest.size is not None
    assert latest.size > 0
    old = place.look("lake/bikes", "delta", version=0)
    assert (old.digest, old.pinned) == (f"delta:{identity}:0", True)
    assert place.look(f"file://{table}").digest == latest.digest  # told by its _delta_log
    write(table, [7])
    assert place.look("lake/bikes", "delta").digest == f"delta:{identity}:3"
    assert place.look("lake/bikes", "delta", version=0).digest == old.digest


def test_each_version_has_its_own_rows(place: Place, table: Path) -> None:
    rows = [
        describe(DatasetRequest("d", "lake/bikes", "delta", version), **place.around).rows
        for version in (0, 1, 2)
    ]
    assert rows == [3, 5, 6]
    wanted = Expected(5, {"x": ExpectedColumn("integer", 1, 5), "p": ExpectedColumn("integer", 0, 1, 0.0)})
    assert place.look("lake/bikes", "delta", version=1, expect=wanted).reason is None
    latest = place.look("lake/bikes", "delta", expect=wanted)
    assert latest.reason == "ExpectationFailed"
    assert "greatest value 6 is above max 5" in str(latest.message)
    assert latest.columns == {"x": "integer", "p": "integer"}


def test_deleted_rows_do_not_count(place: Place, table: Path) -> None:
    DeltaTable(table).delete("x >= 5")
    assert describe(DatasetRequest("d", "lake/bikes", "delta"), **place.around).rows == 4


def test_a_pin_of_a_table_is_its_digest(place: Place, table: Path) -> None:
    digest = place.look("lake/bikes", "delta").digest
    assert place.look("lake/bikes", "delta", pin=digest).reason is None
    write(table, [7])
    assert place.look("lake/bikes", "delta", pin=digest).reason == "DigestMismatch"


def test_a_table_that_did_not_move_is_not_opened_again(
    place: Place, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.look("lake/bikes", "delta")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("opened again")

    with monkeypatch.context() as patched:
        patched.setattr("mlops.data.delta._open", never)
        assert place.look("lake/bikes", "delta") == first
    shutil.rmtree(table)
    write(table, [1, 2, 3])
    replaced = place.look("lake/bikes", "delta")
    assert replaced.digest is not None
    assert replaced.digest.rpartition(":")[0] != str(first.digest).rpartition(":")[0]


def test_a_table_that_has_just_moved_is_not_remembered(place: Place, table: Path) -> None:
    place.seconds = time.time()
    place.look("lake/bikes", "delta")
    assert place.cache.entries == {}


def test_what_is_no_table_or_no_version_is_said(place: Place, table: Path) -> None:
    missing = place.look("lake/bikes", "delta", version=9)
    assert (missing.reason, "The latest is 2" in str(missing.message)) == ("NotFound", True)
    place.write("plain/x.parquet", "x")
    assert place.look("plain", "delta").reason == "NotFound"
    assert place.look("plain/x.parquet", "delta").reason == "Unreadable"
    assert place.look("nowhere", "delta").reason == "NotFound"
    assert place.look("plain/x.parquet", "parquet", version=1).reason == "Invalid"


def test_a_broken_log_is_reported_without_its_text(place: Place, table: Path) -> None:
    (table / "_delta_log/00000000000000000001.json").write_text('{"metaData": "TOP-SECRET"')
    found = place.look("lake/bikes", "delta")
    assert found.reason in ("Unreadable", "NotFound")
    assert "TOP-SECRET" not in str(found.message)


def test_vacuumed_files_are_found_missing_before_a_training_needs_them(place: Place, table: Path) -> None:
    write(table, [9], mode="overwrite")
    assert place.look("lake/bikes", "delta", version=2).reason is None
    DeltaTable(table).vacuum(0, dry_run=False, enforce_retention_duration=False)
    gone = place.look("lake/bikes", "delta", version=2)
    assert (gone.reason, "vacuumed" in str(gone.message)) == ("NotFound", True)
    assert place.look("lake/bikes", "delta").reason is None


def test_a_job_is_given_the_planned_version_though_the_table_went_on(
    place: Place, table: Path, tmp_path: Path
) -> None:
    request = DatasetRequest("d", "lake/bikes", "delta")
    digest = str(place.look("lake/bikes", "delta").digest)
    write(table, [7])
    given = materialise(request, digest, cache_dir=tmp_path / "cache", **place.around)
    assert (given.path_or_uri, given.variables) == (str(table), {"VERSION": "2"})
    assert DeltaTable(given.path_or_uri, version=int(given.variables["VERSION"])).count() == 6
    shutil.rmtree(table)
    write(table, [1])
    with pytest.raises((Transient, Problem)):
        materialise(request, digest, cache_dir=tmp_path / "cache", **place.around)


def test_a_table_in_git_is_the_revision_s(place: Place, table: Path, tmp_path: Path) -> None:
    outside = place.look("lake/bikes", "delta")
    place.commit()
    write(table, [7])
    wanted = Expected(6, {"x": ExpectedColumn("integer", 1, 6)})
    inside = place.look("lake/bikes", "delta", expect=wanted)
    assert (inside.digest, inside.outside, inside.rows, inside.reason) == (outside.digest, False, 6, None)
    assert place.look("lake/bikes", "delta", version=0).digest == str(outside.digest)[:-1] + "0"
    shutil.rmtree(table)
    request = DatasetRequest("d", "lake/bikes", "delta")
    given = materialise(request, str(inside.digest), cache_dir=tmp_path / "cache", **place.around)
    assert given.variables == {"VERSION": "2"}
    assert Path(given.path_or_uri).is_relative_to(tmp_path / "cache")
    assert DeltaTable(given.path_or_uri, version=2).count() == 6
    again = materialise(request, str(inside.digest), cache_dir=tmp_path / "cache", **place.around)
    assert again == given


def test_without_the_library_the_extra_is_named(place: Place, table: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "sys.modules['deltalake'] = None\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from dataset_place import Place\n"
        "found = Place(pathlib.Path(sys.argv[1])).look('lake/bikes', 'delta')\n"
        "print(found.reason, found.message)\n"
    )
    command = [sys.executable, "-c", code, str(place.base), str(Path(__file__).parent)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.startswith("MissingExtra")
    assert 'pip install "mlops-controller[delta]"' in printed
