"""Whatever comes is counted as what it is: never a crash, never left out in silence."""

from __future__ import annotations

import datetime
import decimal
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loan_rows import MONDAY, TYPES, loans
from pyarrow import csv

from mlops.data.csv_rows import CsvRows
from mlops.errors import Stalled
from mlops.monitoring.summaries.categorical import CategoricalSummary
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import NumericPlan, OpaquePlan, Plan
from mlops.monitoring.summaries.reference import plan_of
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.tally import OpaqueSummary
from mlops.monitoring.summaries.windowed import ColumnSummary, WindowSummary, merge
from mlops.monitoring.windows import EventWindows, RowWindows


def batch(**columns: object) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def plan_by(told: str, values: object) -> Plan:
    return plan_of([batch(x=values)], {"x": told}, threads=1)


def window(plan: Plan, *batches: pa.RecordBatch) -> WindowSummary:
    return summarise(batches, plan, threads=1).windows[0]


def number(plan: Plan, values: object) -> NumericSummary:
    found = window(plan, batch(x=values)).columns["x"]
    assert isinstance(found, NumericSummary)
    return found


NUMBERS = plan_by("double", [1.0, 2.0, 3.0, 4.0])


def test_no_rows_at_all_are_an_empty_window() -> None:
    for batches in ([], [batch(x=pa.array([], pa.float64()))]):
        found = summarise(batches, NUMBERS)
        assert (found.rows, found.undated, found.windows[0].rows, dict(found.windows[0].columns)) == (
            0,
            0,
            0,
            {},
        )
    assert not summarise([], NUMBERS, EventWindows(60), timestamp="at").windows


def test_a_reference_without_values_still_counts_what_comes() -> None:
    for values in (pa.array([], pa.float64()), pa.nulls(3, pa.float64()), pa.array([math.nan, math.inf])):
        plan = plan_by("double", values)
        column = plan.columns["x"]
        assert isinstance(column, NumericPlan)
        assert not len(column.edges)
        found = number(plan, [5.0, 7.0, None])
        assert (found.finite, found.nulls, found.mean) == (2, 1, 6.0)
        assert found.quantile(0.5) == pytest.approx(5, rel=0.004)


@pytest.mark.parametrize(
    ("values", "nulls", "finite"),
    [
        (pa.nulls(4, pa.float64()), 4, 0),
        (pa.nulls(4), 4, 0),
        (pa.array([math.nan] * 4), 4, 0),
        (pa.array([math.inf, -math.inf, math.inf, None]), 1, 0),
        (pa.array([2.5] * 4), 0, 4),
        (pa.array([2.5]), 0, 1),
        (pa.array([2.5, None], pa.float16()), 1, 1),
        (pa.array([True, False]), 0, 2),
        (pa.array([3, None], pa.uint64()).dictionary_encode(), 1, 1),
        (pa.array([decimal.Decimal("2.50"), None]), 1, 1),
        (pa.array([datetime.date(2020, 1, 1), None]), 1, 1),
    ],
)
def test_values_of_any_type_are_counted(values: pa.Array, nulls: int, finite: int) -> None:
    found = number(NUMBERS, values)
    assert (found.rows, found.nulls, found.finite, found.unparsable) == (len(values), nulls, finite, 0)
    if not finite:
        assert (found.mean, found.deviation, found.quantile(0.5), found.minimum) == (None, None, None, None)


def test_numbers_that_come_as_text_are_read_where_they_can_be() -> None:
    found = number(NUMBERS, ["1", " 2.5 ", "-1e3", "many", "0x1F", "", None, "1_000", "inf", "NaN", "1,5"])
    assert (found.rows, found.finite, found.nulls, found.unparsable) == (11, 3, 2, 5)
    assert (found.minimum, found.maximum, found.positive_infinities) == (-1000.0, 2.5, 1)
    assert found.types == {"string": 11}


def test_a_text_is_read_the_same_beside_good_and_beside_bad_ones() -> None:
    numbers = [
        "1",
        "+1",
        ".5",
        "1.",
        "1e5",
        "1e",
        "nan(7)",
        "Infinity",
        "-iNf",
        "nAn",
        "1 2",
        "١",
        "1e999",
        "--1",
        "0b1",
    ]
    times = [
        "2020-01-01T10",
        "2020-01-01T10Z",
        "2020-01-01T10:11:12.123456789+01:00",
        "2020-01-01 10:11:12.123456789",
    ]
    times += [
        "20200101",
        "2020-1-1",
        "2020-01-01T25:00",
        "2020-01-01T10:11:60",
        "0000-01-01",
        "99999-01-01",
        "10:11",
    ]
    for told, texts, bad in (("double", numbers, "x"), ("timestamp", times, "soon")):
        plan = plan_by(told, pa.nulls(1, pa.float64()))
        for text in texts:
            alone, beside = number(plan, [text]), number(plan, [text, bad])
            assert (alone.unparsable, alone.total, alone.nulls) == (
                beside.unparsable - 1,
                beside.total,
                beside.nulls,
            ), text


def test_lists_where_numbers_were_are_counted_as_unreadable() -> None:
    found = number(NUMBERS, pa.array([[1.0], None]))
    assert (found.unparsable, found.nulls, found.finite, found.types) == (1, 1, 0, {"list": 2})


def test_a_column_may_come_as_numbers_and_as_text_in_one_window() -> None:
    found = window(NUMBERS, batch(x=[1.5, 2.5]), batch(x=["3.5", "x"])).columns["x"]
    assert isinstance(found, NumericSummary)
    assert (found.finite, found.unparsable, found.types) == (3, 1, {"double": 2, "string": 2})


def test_integers_near_the_end_of_64_bits_are_the_nearest_doubles() -> None:
    plan = plan_by("integer", pa.array([2**63 - 1, -(2**63), 0]))
    found = number(plan, pa.array([2**63 - 1, 2**63 - 2, -(2**63)]))
    assert (found.maximum, found.minimum, found.finite) == (2.0**63, -(2.0**63), 3)
    assert found.mean == 2.0**63 / 3
    assert number(plan, pa.array([2**64 - 1], pa.uint64())).bins[-1] == 1


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_a_time_is_the_same_second_in_every_unit_and_zone(unit: str, zone: str | None) -> None:
    plan = plan_by("timestamp", pa.array([0, 10**9], pa.timestamp("s")))
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    found = number(
        plan, pa.array([1_577_836_800 * per_second, -1 * per_second, None], pa.timestamp(unit, zone))
    )
    assert (found.maximum, found.minimum, found.nulls) == (1_577_836_800.0, -1.0, 1)


def test_times_that_come_as_text_are_read_with_and_without_zone() -> None:
    texts = [
        "2020-01-01",
        "2020-01-01T01:00:00+01:00",
        "2020-01-01 00:00:00",
        "2020-01-01T00:00:00Z",
        "2020-02-30",
    ]
    found = number(plan_by("timestamp", texts[:1]), [*texts, "soon", None])
    assert (found.finite, found.unparsable, found.nulls) == (4, 2, 1)
    assert found.minimum == found.maximum == 1_577_836_800.0


def test_event_times_that_cannot_be_are_told_and_in_no_window() -> None:
    days = EventWindows(86_400)
    at = ["2020-01-01T12:00:00", "yesterday", None, "2020-01-02", "9999-12-31T23:59:59"]
    found = summarise([batch(x=[1.0] * 5, at=at)], NUMBERS, days, timestamp="at")
    assert {key: each.rows for key, each in found.windows.items()} == {
        1_577_836_800: 1,
        1_577_923_200: 1,
        253_402_214_400: 1,
    }
    assert (found.rows, found.undated) == (5, 2)
    for unreadable in (pa.nulls(2), pa.array([math.nan, 1e300]), pa.array(["x", "y"]), pa.array([[1], [2]])):
        found = summarise([batch(x=[1.0, 2.0], at=unreadable)], NUMBERS, days, timestamp="at")
        assert (dict(found.windows), found.undated) == ({}, 2)
    found = summarise([batch(x=[1.0, 2.0])], NUMBERS, days, timestamp="at")
    assert (dict(found.windows), found.undated) == ({}, 2)


def test_a_far_time_in_seconds_is_no_overflow() -> None:
    at = pa.array([2**62, 60, -(2**62)], pa.timestamp("s"))
    found = summarise([batch(x=[1.0] * 3, at=at)], NUMBERS, EventWindows(60), timestamp="at")
    assert (list(found.windows), found.undated) == ([60], 2)


def test_a_column_that_is_gone_counts_fewer_rows_than_the_window() -> None:
    plan = plan_of([batch(x=[1.0, 2.0], y=["a", "b"])], {"x": "double", "y": "string"})
    found = window(plan, batch(x=[1.0, 2.0, 3.0]), batch(x=[1.0], y=["a"]))
    assert (found.rows, found.columns["x"].rows, found.columns["y"].rows) == (4, 4, 1)
    assert "y" not in window(plan, batch(x=[1.0])).columns


def test_a_new_column_is_summed_up_without_edges_unless_it_is_excluded() -> None:
    plan = plan_of([batch(x=[1.0], id=["a"])], {"x": "double", "id": "string"}, excluded=["id"])
    found = window(
        plan, batch(x=[1.0, 2.0], id=["a", "b"], fresh=[7, None], word=["u", "v"], nested=[[1], None])
    )
    fresh, word, nested = (found.columns[name] for name in ("fresh", "word", "nested"))
    assert set(found.columns) == {"x", "fresh", "word", "nested"}
    assert isinstance(fresh, NumericSummary)
    assert isinstance(word, CategoricalSummary)
    assert isinstance(nested, OpaqueSummary)
    assert (fresh.finite, fresh.nulls, fresh.bins.tolist()) == (1, 1, [1])
    assert fresh.quantile(0.5) == 7.0
    assert word.unseen.heavy(1) == [("u", 1), ("v", 1)]
    assert (nested.rows, nested.nulls, nested.types) == (2, 1, {"list": 2})


def test_a_new_column_of_several_kinds_keeps_what_they_have_in_common_in_any_order() -> None:
    parts = [
        window(NUMBERS, batch(fresh=values))
        for values in (pa.array([1, None]), pa.array(["a"]), pa.nulls(3), pa.array([1.5]))
    ]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        left = merge([merge([parts[order[0]], parts[order[1]]]), merge([parts[order[2]], parts[order[3]]])])
        found = left.columns["fresh"]
        assert isinstance(found, OpaqueSummary)
        assert (found.rows, found.nulls) == (7, 4)
        assert found.types == {"double": 1, "integer": 2, "null": 3, "string": 1}
    numbers: ColumnSummary = merge([parts[2], parts[0], parts[3]]).columns["fresh"]
    assert isinstance(numbers, NumericSummary)
    assert (numbers.finite, numbers.nulls) == (2, 4)


def test_a_column_that_the_reference_has_no_value_of_keeps_its_types() -> None:
    plan = plan_of([batch(x=pa.nulls(2))], {"x": "null"})
    assert isinstance(plan.columns["x"], OpaquePlan)
    assert window(plan, batch(x=[1.5])).columns["x"].types == {"double": 1}


def test_a_long_text_is_kept_short() -> None:
    found = window(plan_by("string", ["a"]), batch(x=["z" * 100_000, "z" * 100_001])).columns["x"]
    assert isinstance(found, CategoricalSummary)
    assert found.unseen.names == ("z" * 200, "z" * 200)


def test_a_slice_column_that_is_gone_or_null_makes_others() -> None:
    plan = plan_of([batch(x=[1.0, 2.0], c=["a", "b"])], {"x": "double", "c": "string"}, slices=["c"])
    assert plan.slices == {"c": ("a", "b")}
    assert not window(plan, batch(x=[1.0])).slices
    found = window(plan, batch(x=[1.0, 2.0, 3.0], c=["a", None, "new"]))
    assert {key.label: group.rows for key, group in found.slices.items()} == {"c=a": 1, "c (others)": 2}
    assert np.array_equal([group.columns["x"].rows for group in found.slices.values()], [1, 2])


def test_more_windows_than_fit_into_memory_are_refused_in_plain_words() -> None:
    at = pa.array(np.arange(250_000) * 60 * 10**6, pa.timestamp("us"))
    with pytest.raises(Stalled, match="250000 windows of 1 columns, with slices and seasons, are too many"):
        summarise([batch(x=np.ones(250_000), at=at)], NUMBERS, EventWindows(60), timestamp="at", threads=1)


def test_csv_and_parquet_files_of_the_same_rows_are_counted_the_same(tmp_path: Path) -> None:
    table = loans(500).drop_columns(["tags"])
    pq.write_table(table, tmp_path / "loans.parquet")
    csv.write_csv(table, tmp_path / "loans.csv")
    types = {name: kind for name, kind in TYPES.items() if name != "tags"}
    with open(tmp_path / "loans.csv", "rb") as stream:
        texts = list(CsvRows(stream, "loans.csv").batches())
    typed = list(pq.ParquetFile(tmp_path / "loans.parquet").iter_batches(100))
    days = EventWindows(86_400)
    plan = plan_of(typed, types, excluded=["at"])
    one, other = (summarise(batches, plan, days, timestamp="at").windows for batches in (typed, texts))
    assert list(one) == list(other)
    for key, seen in one.items():
        assert (seen.earliest, seen.latest) == (other[key].earliest, other[key].latest)
        for name in ("price", "rooms", "seen", "sold"):
            assert seen.columns[name].cells.tolist() == other[key].columns[name].cells.tolist()


def test_rows_without_an_event_time_are_in_no_season() -> None:
    plan = plan_of([batch(x=[1.0, 2.0])], {"x": "double"}, season="dayOfWeek")
    at = pa.array([None, MONDAY, MONDAY + 86_400, None], pa.timestamp("s"))
    found = summarise([batch(x=[1.0, 2.0, 3.0, 4.0], at=at)], plan, timestamp="at")
    seen = found.windows[0]
    assert (seen.rows, found.undated, seen.earliest, seen.latest) == (
        4,
        2,
        MONDAY * 10**6,
        (MONDAY + 86_400) * 10**6,
    )
    assert {key: group.rows for key, group in seen.seasons.items()} == {(0, None): 1, (1, None): 1}
    found = summarise([batch(x=[1.0, 2.0], at=pa.nulls(2))], plan, RowWindows(1), timestamp="at")
    assert [(each.rows, each.earliest, dict(each.seasons)) for each in found.windows.values()] == [
        (1, None, {})
    ] * 2
