"""Rows that nobody wrote on purpose, and more of them than memory holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_place import Expected, ExpectedColumn, GivenFiles, Place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.errors import Transient

CSV_PIECES = [
    b'"',
    b",",
    b"\n",
    b"\r\n",
    b"a",
    b"1",
    b"1e400",
    b"nan",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\0",
    b"-",
    b" ",
]
VERDICTS = (None, "Unreadable", "ExpectationFailed")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.lists(st.sampled_from(CSV_PIECES), max_size=40).map(b"".join) | st.binary(max_size=200))
def test_any_bytes_as_csv_have_a_verdict(place: Place, content: bytes) -> None:
    place.inside = GivenFiles({"x.csv": content})
    wanted = Expected(1, {"a": ExpectedColumn("double", 0, 1, 0.5)})
    found = place.look("x.csv", "csv", expect=wanted)
    assert found.reason in VERDICTS
    assert "cannot be read (" not in str(
        found.message
    )  # nothing had to be caught at the last line of defence
    assert (found.digest is None) == (found.reason is not None)
    assert place.look("x.csv", "csv", expect=wanted) == found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=100).map(lambda body: b"PAR1" + body + b"PAR1"))
def test_any_bytes_as_parquet_have_a_verdict(place: Place, content: bytes) -> None:
    place.inside = GivenFiles({"x.parquet": content})
    found = place.look("x.parquet", "parquet", expect=Expected(1))
    assert found.reason == "Unreadable"
    assert "cannot be read (" not in str(found.message)


def test_a_revision_that_cannot_be_read_stops_one_dataset_with_its_own_words(place: Place) -> None:
    class Moved(GivenFiles):
        def read(self, paths: object) -> dict[str, bytes]:
            raise Transient("x.csv changed since it was first read", fix="Try again.")

    place.inside = Moved({"x.csv": b"a\n1\n"})
    found = place.look("x.csv", "csv")
    assert found.reason == "Unreadable"
    assert str(found.message) == "x.csv: x.csv changed since it was first read. Try again."


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_many_rows_do_not_show_in_memory(place: Place, kind: str) -> None:
    path = place.base / f"x.{kind}"
    rows = 200_000
    if kind == "csv":
        row = b"12345.678,a-longer-word-that-takes-room-%07d,2012-01-01\n"
        with path.open("wb") as file:
            file.write(b"a,b,c\n")
            for i in range(0, rows * 20, 4):
                file.write((row * 4) % (i, i, i, i))
    else:
        schema = pa.schema({"a": pa.float64(), "b": pa.string()})
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
            words = pa.repeat("a-longer-word-that-takes-room-" * 2, rows)
            for part in range(20):
                values = pa.array(range(part * rows, (part + 1) * rows)).cast(pa.float64())
                writer.write_table(pa.table({"a": values, "b": words}), row_group_size=50_000)
    assert path.stat().st_size > 180 << 20
    code = (
        "import pathlib, resource, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from dataset_place import Expected, Place\n"
        "place = Place(pathlib.Path(sys.argv[2]))\n"
        "def look(name): return place.look(name, expect=Expected(1)).rows\n"
        "look(sys.argv[3])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = look(sys.argv[4])\n"
        "print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)\n"
    )
    small = f"small.{kind}"
    if kind == "csv":
        place.write(small, "a,b,c\n1.5,x,2012-01-01\n")
    else:
        pq.write_table(pa.table({"a": [1.5], "b": ["x"]}), place.base / small)
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(place.base), small, path.name]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(printed[0]) == rows * 20
    assert int(printed[1]) < 140  # MiB, of a file beyond 180
