"""Broken, odd and hostile rows: a verdict or a clear error, never a crash, never a silent pass."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_place import Expected, ExpectedColumn, Place

from mlops.data import ColumnProfile, DatasetRequest, Problem, describe, profile
from mlops.resources.dataset import Expect

ONE_ROW = Expected(min_rows=1)
SECRET = "TOP-SECRET"


def columns_of(place: Place, uri: str = "x.csv") -> dict[str, ColumnProfile]:
    return {column.name: column for column in profile(DatasetRequest("d", uri), **place.around).columns}


def expecting(min_rows: int | None = None, **columns: dict[str, Any]) -> Expected:
    return Expected(min_rows, {name: ExpectedColumn(**wanted) for name, wanted in columns.items()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "has no header"),
        (b"a,b\n", "0 rows are fewer than minRows 1"),
        (b"a,b", "0 rows are fewer than minRows 1"),
        (b"\xef\xbb\xbfa,b\r\n\r\n", "0 rows are fewer than minRows 1"),
        (b"a,b\n1,2\n3\n", "data row 2 has 1 values where the header has 2"),
        (b"a,b\n1,2\n3,4,TOP-SECRET\n", "data row 2 has 3 values where the header has 2"),
        (b"a\nTOP-SECRET \xe9\n", "is not UTF-8"),
        (b"TOP-SECRET \xe9\n1\n", "is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16"),
        (b"a,b,a\n1,2,3\n", "columns 1 and 3 have the same name"),
        (b'a,b\n1,"TOP-SECRET\n2,3\n', "a quote that is opened and never closed"),
        (b'"a,b\n1,2\n', None),
        (b"a\n" + b"x" * (3 << 20) + b"\n", "row longer than 2 MiB"),
        (b"x" * (3 << 20), "row longer than 2 MiB"),
        (b"\x00\x01\x02\x03", "has a NUL in it"),
    ],
)
def test_a_broken_csv_is_a_clear_error(place: Place, content: bytes, message: str | None) -> None:
    place.write("x.csv", content)
    found = place.look("x.csv", "csv", expect=ONE_ROW)
    assert found.reason in ("Unreadable", "ExpectationFailed")
    assert found.digest is None
    assert message is None or message in str(found.message)
    assert "x.csv" in str(found.message)
    assert SECRET not in str(found.message)


@pytest.mark.parametrize("inside", [False, True])
def test_an_empty_table_is_not_a_dataset_even_where_nothing_is_expected(place: Place, inside: bool) -> None:
    place.write("x.csv", "")
    place.write("x.bin", "")
    if inside:
        place.commit()
    assert place.look("x.csv", "csv").reason == "Unreadable"
    assert place.look("x.bin").reason is None


@pytest.mark.parametrize(
    ("values", "told", "accepts"),
    [
        (["1", "-2", " 3"], "integer", {"integer", "double", "string"}),
        (["1", "2.5", "1e-3"], "double", {"double", "string"}),
        (["1", "99999999999999999999"], "double", {"double", "string"}),
        (["1", "0"], "integer", {"integer", "double", "boolean", "string"}),
        (["true", "False", ""], "boolean", {"boolean", "string"}),
        (["2012-01-31", "2013-02-28"], "date", {"date", "timestamp", "string"}),
        (["2012-01-31", "2012-01-31 10:00:00.123456789"], "timestamp", {"timestamp", "string"}),
        (["2012-01-31T10:00:00Z", "2012-01-31 10:00:00+02:00"], "timestamp", {"timestamp", "string"}),
        (["2012-01-31T10:00:00Z", "2012-01-31T10:00:00"], "string", {"string"}),
        (["1", "2", "x"], "string", {"string"}),
        (["0x1F", "0x2"], "string", {"string"}),
        (["", "NA", "NaN", "null"], "null", set()),
        (["1", "", "NA"], "integer", {"integer", "double", "boolean", "string"}),
        (["inf", "1", "-Infinity"], "double", {"double", "string"}),
    ],
)
def test_a_csv_column_has_the_type_that_all_its_values_have(
    place: Place, values: Sequence[str], told: str, accepts: set[str]
) -> None:
    place.write("x.csv", "v,w\n" + "".join(f"{value},1\n" for value in values))
    column = columns_of(place)["v"]
    assert (column.type, set(column.accepts)) == (told, accepts)


def test_a_word_in_the_last_of_many_rows_changes_the_type(place: Place) -> None:
    rows = "".join(f"{i},{i}\n" for i in range(900_000))  # beyond the first block of the reader
    place.write("x.csv", "a,b\n" + rows + "x,1\n")
    found = columns_of(place)
    assert (found["a"].type, found["b"].type) == ("string", "integer")
    assert found["b"].extremes["integer"] == (0, 899_999)


def test_bom_crlf_quoted_newlines_and_doubled_quotes_are_read(place: Place) -> None:
    text = '\ufeffid,"a ""quoted""\r\nname"\r\n1,"x,\r\ny"\r\n2,"say ""hi"""\r\n3,"ends so\n"'
    place.write("x.csv", text.encode())
    shape = describe(DatasetRequest("d", "x.csv"), **place.around)
    assert shape.rows == 3
    assert shape.columns == {"id": "integer", 'a "quoted"\r\nname': "string"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_any_line_end_gives_the_same_rows(place: Place, end: str, last: bool) -> None:
    place.write("x.csv", end.join(["", "a,b", "1,2", "", "3,4"]) + (end if last else ""))
    found = profile(DatasetRequest("d", "x.csv"), **place.around)
    assert found.rows == 2
    assert found.columns[1].extremes["integer"] == (2, 4)


@pytest.mark.parametrize("suffix", ["csv.gz", "csv.bz2"])
def test_compressed_csv_is_read_and_a_cut_one_reported(place: Place, suffix: str) -> None:
    pack = gzip.compress if suffix.endswith("gz") else bz2.compress
    packed = pack(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919) for i in range(1000)))
    place.write(f"x.{suffix}", packed)
    assert place.look(f"x.{suffix}", "csv", expect=ONE_ROW).rows == 1000
    place.write(f"x.{suffix}", packed[: len(packed) // 2])
    assert place.look(f"x.{suffix}", "csv", expect=ONE_ROW).reason == "Unreadable"
    place.write(f"x.{suffix}", b"a,b\n1,2\n")
    assert place.look(f"x.{suffix}", "csv", expect=ONE_ROW).reason == "Unreadable"


def test_nan_counts_as_missing_and_infinity_lies_outside_any_bound(place: Place) -> None:
    table = pa.table({"x": [1.0, float("nan"), None, float("inf")], "n": pa.array([None] * 4, pa.float64())})
    pq.write_table(table, place.base / "x.parquet")
    place.write("x.csv", "x,n\n1.0,\nNAN,\n,\ninf,\n")
    for uri in ("x.parquet", "x.csv"):
        column = columns_of(place, uri)["x"]
        assert (column.type, column.missing) == ("double", 2)
        for wanted in ({"max": 1e308}, {"max_null": 0.4}, {"type": "integer"}):
            assert place.look(uri, expect=expecting(x=wanted)).reason == "ExpectationFailed"
        assert (
            place.look(uri, expect=expecting(x={"type": "double", "min": 1, "max_null": 0.5})).reason is None
        )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_without_values_never_passes_a_check_of_values(place: Place, kind: str) -> None:
    if kind == "csv":
        place.write("x.csv", "n,id\n,1\nNA,2\n")
    else:
        table = pa.table({"n": pa.array([None, None], pa.float64()), "id": [1, 2]})
        pq.write_table(table, place.base / "x.parquet")
    for wanted in ({"type": "double"}, {"min": 0}, {"max": 0}, {"max_null": 0.99}):
        found = place.look(f"x.{kind}", expect=expecting(n=wanted))
        assert found.reason == "ExpectationFailed", wanted
    assert place.look(f"x.{kind}", expect=expecting(n={"max_null": 1.0})).reason is None


def test_every_broken_expectation_stands_in_one_message(place: Place) -> None:
    place.write("x.csv", "temp,season,day,id\n-5,spring,2012-01-01,1\n40,,2012-01-03,2\n")
    wanted = expecting(
        100,
        temp={"type": "double", "min": -1, "max": 30},
        season={"type": "string", "max_null": 0.01},
        day={"type": "date", "min": "2012-01-02", "max": "2012-01-02"},
        id={"type": "boolean"},
        humidity={"type": "double"},
    )
    found = place.look("x.csv", "csv", expect=wanted)
    assert (found.reason, found.digest, found.rows) == ("ExpectationFailed", None, 2)
    assert found.columns == {"temp": "integer", "season": "string", "day": "date", "id": "integer"}
    for part in (
        "2 rows are fewer than minRows 100",
        "column temp: its least value -5 is below min -1",
        "column temp: its greatest value 40 is above max 30",
        "column season: 0.5 of its values are missing, more than maxNull 0.01",
        "column day: its least value 2012-01-01 is below min 2012-01-02",
        "column day: its greatest value 2012-01-03 is above max 2012-01-02",
        "column id: its type is integer, not boolean",
        "column humidity is missing",
    ):
        assert part in str(found.message)


def test_expectations_that_hold_and_the_declared_model_fits(place: Place) -> None:
    place.write("x.csv", "temp,when,ok\n0.5,2012-01-01 10:00,true\n1,2012-01-02 11:00,false\n")
    declared = Expect.model_validate(
        {
            "minRows": 2,
            "columns": {
                "temp": {"type": "double", "min": 0.5, "max": 1, "maxNull": 0},
                "when": {"type": "timestamp"},
                "ok": {"type": "bool"},
            },
        }
    )
    found = place.look("x.csv", "csv", expect=declared)
    assert (found.reason, found.rows) == (None, 2)
    assert found.digest is not None


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({"type": "int64"}, True),
        ({"type": "double"}, False),
        ({"type": "float128"}, False),
        ({"type": "string"}, False),
        ({"min": "2012-01-01"}, False),
        ({"min": 0, "max": 3}, True),
        ({"min": 1.5}, False),
        ({"max": True}, False),
    ],
)
def test_a_typed_column_has_the_type_that_is_written(
    place: Place, wanted: dict[str, Any], holds: bool
) -> None:
    pq.write_table(pa.table({"x": [1, 2, 3]}), place.base / "x.parquet")
    found = place.look("x.parquet", expect=expecting(x=wanted))
    assert found.reason == (None if holds else "ExpectationFailed")


def test_bounds_on_words_are_said_to_make_no_sense(place: Place) -> None:
    place.write("x.csv", "x\nspring\n")
    found = place.look("x.csv", expect=expecting(x={"min": 1}))
    assert "min 1 cannot be compared with values of type string" in str(found.message)


def test_max_rows_and_an_allowed_emptiness(place: Place) -> None:
    place.write("x.csv", "a\n1\n2\n")
    assert "more than maxRows 1" in str(place.look("x.csv", expect=Expected(max_rows=1)).message)
    place.write("empty.csv", "a\n")
    strict = expecting(a={"type": "double"})
    assert place.look("empty.csv", expect=strict).reason == "ExpectationFailed"
    assert place.look("empty.csv", expect=expecting(0, a={"type": "double"})).reason is None


def test_arrow_types_have_our_names_and_exact_extremes(place: Place) -> None:
    import datetime
    import decimal

    table = pa.table(
        {
            "u": pa.array([2**64 - 1, 1], pa.uint64()),
            "f": pa.array([1.5, -2.0], pa.float16()),
            "d": pa.array([decimal.Decimal("1.25"), decimal.Decimal("-3.5")]),
            "t": pa.array([0, 10**18], pa.timestamp("ns", "UTC")),
            "s": pa.array([-(2**40), 2**40], pa.timestamp("s")),
            "day": pa.array([datetime.date(1969, 12, 31), datetime.date(2012, 1, 1)]),
            "c": pa.array(["a", "b"]).dictionary_encode(),
            "b": [True, False],
            "l": [[1], [2]],
            "r": [{"a": 1}, {"a": 2}],
            "raw": [b"1", b"2"],
            "nothing": pa.nulls(2),
            "clock": pa.array([1, 2], pa.time64("us")),
        }
    )
    pq.write_table(table, place.base / "x.parquet")
    found = columns_of(place, "x.parquet")
    assert {name: column.type for name, column in found.items()} == {
        **{"u": "integer", "f": "double", "d": "double", "t": "timestamp", "s": "timestamp", "day": "date"},
        **{"c": "string", "b": "boolean", "l": "list", "r": "struct", "raw": "binary", "nothing": "null"},
        "clock": "time",
    }
    assert found["u"].extremes["integer"] == (1, 2**64 - 1)
    assert found["d"].extremes["double"] == (-3.5, 1.25)
    assert found["t"].extremes["timestamp"] == (0, 10**15)
    assert found["day"].extremes["date"][0] == -86_400_000_000
    beyond = place.look("x.parquet", expect=expecting(s={"max": "2012-01-01"}))
    assert beyond.reason == "ExpectationFailed"  # a year that Python has no date for


def test_many_categories_are_just_strings(place: Place) -> None:
    place.write("x.csv", "c,n\n" + "".join(f"category-{i},{i}\n" for i in range(100_000)))
    found = place.look("x.csv", "csv", expect=expecting(100_000, c={"type": "string", "max_null": 0}))
    assert (found.reason, found.rows) == (None, 100_000)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"a,b\n1,2\n"])
def test_a_broken_parquet_is_a_clear_error(place: Place, content: bytes) -> None:
    place.write("x.parquet", content)
    found = place.look("x.parquet", "parquet", expect=ONE_ROW)
    assert found.reason == "Unreadable"
    assert "x.parquet" in str(found.message)


def test_a_parquet_cut_or_flipped_anywhere_never_crashes(place: Place, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": list(range(100)), "s": ["abc"] * 100}), tmp_path / "good.parquet")
    good = (tmp_path / "good.parquet").read_bytes()
    for at in range(0, len(good), 37):
        place.write("x.parquet", good[:at])
        assert place.look("x.parquet", "parquet", expect=ONE_ROW).reason == "Unreadable"
        place.write("x.parquet", good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        found = place.look("x.parquet", "parquet", expect=ONE_ROW)
        assert found.reason in (None, "Unreadable", "ExpectationFailed")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_folder_of_parts_is_one_table_with_the_columns_of_its_folder_names(
    place: Place, kind: str, inside: bool
) -> None:
    for year, values in ((2011, [1, 2]), (2012, [3])):
        folder = place.base / f"data/year={year}"
        folder.mkdir(parents=True)
        if kind == "csv":
            (folder / "part-0.csv").write_text("x\n" + "".join(f"{v}\n" for v in values))
            (folder / "part-1.csv").write_text("")
        else:
            pq.write_table(pa.table({"x": values}), folder / "part-0.parquet")
    place.write("data/_metadata", "no rows")
    place.write("data/README.md", "no rows either")
    if inside:
        place.commit()
    found = place.look("data", kind, expect=expecting(3, x={"max": 3}, year={"type": "integer", "min": 2011}))
    assert (found.reason, found.rows, found.columns) == (None, 3, {"x": "integer", "year": "integer"})
    shape = describe(DatasetRequest("d", f"data/**/*.{kind}"), **place.around)
    assert (shape.rows, shape.columns) == (3, {"x": "integer", "year": "integer"})


def test_parts_with_other_columns_or_types_are_reported(place: Place) -> None:
    place.write("a/1.csv", "x,y\n1,2\n")
    place.write("a/2.csv", "y,x\n2,1\n")
    assert place.look("a", "csv", expect=ONE_ROW).rows == 2
    place.write("a/3.csv", "x\n1\n")
    found = place.look("a", "csv", expect=ONE_ROW)
    assert (found.reason, "3.csv has other columns" in str(found.message)) == ("Unreadable", True)
    (place.base / "b").mkdir()
    pq.write_table(pa.table({"x": [1]}), place.base / "b/1.parquet")
    pq.write_table(pa.table({"x": pa.nulls(1)}), place.base / "b/2.parquet")
    assert place.look("b", "parquet", expect=ONE_ROW).rows == 2
    pq.write_table(pa.table({"x": ["a"]}), place.base / "b/3.parquet")
    found = place.look("b", "parquet", expect=ONE_ROW)
    assert (found.reason, "3.parquet has other types" in str(found.message)) == ("Unreadable", True)


def test_rows_of_an_unknown_format_are_said_to_be_unknown(place: Place) -> None:
    place.write("x.bin", "1")
    found = place.look("x.bin", expect=ONE_ROW)
    assert (found.reason, "format" in str(found.message)) == ("Unreadable", True)
    with pytest.raises(Problem, match="format"):
        describe(DatasetRequest("d", "x.bin"), **place.around)


def test_a_profile_is_read_once_for_each_content(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("x.csv", "a\n1\n2\n")
    first = place.look("x.csv", expect=ONE_ROW)
    place.write("elsewhere/y.csv", "a\n1\n2\n")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("mlops.data.profiles._open_table", never)
    assert place.look("x.csv", expect=ONE_ROW) == first
    again = place.look("elsewhere/y.csv", expect=Expected(min_rows=3))
    assert (again.rows, again.reason) == (2, "ExpectationFailed")
    assert describe(DatasetRequest("d", "x.csv"), **place.around).rows == 2


def test_a_file_that_changes_between_digest_and_profile_is_reported(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.write("x.csv", "a\n1\n2\n")
    from mlops.data import observing

    real = observing.profile_files

    def after_a_change(*arguments: Any) -> Any:
        path.write_text("a\n1\n3\n4\n")
        return real(*arguments)

    monkeypatch.setattr(observing, "profile_files", after_a_change)
    found = place.look("x.csv", expect=ONE_ROW)
    assert (found.reason, found.digest) == ("Unreadable", None)
    assert "changes while it is read" in str(found.message)


def test_two_looks_at_the_same_rows_are_equal_whatever_was_cached(place: Place) -> None:
    place.write("x.csv", "a,b\n1,x\n2.5,\n")
    first = place.look("x.csv", expect=ONE_ROW)
    assert place.look("x.csv", expect=ONE_ROW) == first
    place.cache.entries.clear()
    assert place.look("x.csv", expect=ONE_ROW) == first
    place.cache.entries = dict.fromkeys(place.cache.entries, b"{}")
    assert place.look("x.csv", expect=ONE_ROW) == first
