"""The same rows give the same bytes: in any order, in any batches and files, with any number of threads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loan_rows import MONDAY, in_batches, loan_plan, loans, shuffled

from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.reference import plan_of
from mlops.monitoring.summaries.storing import encode
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import WindowSummary, merge
from mlops.monitoring.windows import EventWindows, RowWindows, Season

DAY = EventWindows(size=86_400)


def encoded(table: pa.Table, plan: Plan, *, size: int = 700, threads: int = 1) -> dict[int, bytes]:
    found = summarise(in_batches(table, size), plan, DAY, timestamp="at", threads=threads)
    return {key: encode(window) for key, window in found.windows.items()}


@pytest.mark.parametrize("season", ["none", "dayOfWeek", "hourOfWeek"])
def test_the_order_of_rows_batches_and_threads_changes_no_byte(season: Season) -> None:
    plan = loan_plan(season=season)
    table = loans(3_000, scale=655.957, new=True)
    expected = encoded(table, plan, size=3_000)
    assert sorted(expected) == [MONDAY, MONDAY + 86_400, MONDAY + 2 * 86_400]
    assert encoded(shuffled(table, 1), plan, size=3_000) == expected
    assert encoded(shuffled(table, 2), plan, size=101) == expected
    assert encoded(table, plan, size=250, threads=3) == expected


@pytest.mark.parametrize("season", ["none", "dayOfWeek"])
def test_files_merge_into_what_their_rows_give_together_in_any_grouping(season: Season) -> None:
    plan = loan_plan(season=season)
    table = shuffled(loans(2_000, new=True), 3)
    whole = encoded(table, plan)
    files = [
        summarise(in_batches(part, 300), plan, DAY, timestamp="at").windows
        for part in (table.slice(0, 900), table.slice(900, 1), table.slice(901, 1_099))
    ]
    for key, expected in whole.items():
        parts = [windows[key] for windows in files if key in windows]
        assert encode(merge(parts)) == expected
        assert encode(merge(parts[::-1])) == expected
        assert encode(merge([parts[0], merge(parts[1:])])) == expected
        assert encode(merge([merge(parts[:-1]), parts[-1]])) == expected


_VALUES = st.one_of(
    st.none(),
    st.floats(),
    st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, -1e200, 1e-200, 0.1, 1 / 3]),
)


@given(
    st.lists(st.lists(_VALUES, max_size=12), min_size=1, max_size=5),
    st.lists(_VALUES, max_size=30),
    st.randoms(),
)
@settings(max_examples=60, deadline=None)
def test_any_doubles_add_up_to_the_same_bytes_in_any_order(
    parts: list[list[float | None]], reference: list[float | None], random: object
) -> None:
    plan = plan_of([_column(reference)], {"x": "double"}, threads=1)
    everything = [value for part in parts for value in part]
    together = summary_of(everything, plan)
    assert encode(merge([summary_of(part, plan) for part in parts])) == encode(together)
    random.shuffle(everything)  # type: ignore[attr-defined]
    assert encode(summary_of(everything, plan)) == encode(together)


@given(st.lists(st.lists(st.text(max_size=12) | st.none(), max_size=8), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_texts_add_up_to_the_same_bytes_in_any_order(parts: list[list[str | None]]) -> None:
    plan = plan_of([_column(parts[0], pa.string())], {"x": "string"}, threads=1)
    everything = [value for part in parts for value in part]
    merged = merge([summary_of(part, plan, pa.string()) for part in parts])
    assert encode(merged) == encode(summary_of(everything[::-1], plan, pa.string()))


def test_row_windows_count_from_the_number_of_a_files_first_row() -> None:
    plan = loan_plan()
    table = loans(1_000)
    together = summarise(in_batches(table, 130), plan, RowWindows(300), timestamp="at").windows
    first = summarise(in_batches(table.slice(0, 450), 100), plan, RowWindows(300), timestamp="at").windows
    second = summarise(
        in_batches(table.slice(450), 100), plan, RowWindows(300), timestamp="at", first_row=450
    ).windows
    assert [window.rows for window in together.values()] == [300, 300, 300, 100]
    assert list(first) == [0, 300]
    assert list(second) == [300, 600, 900]
    merged = {**first, **second, 300: merge([first[300], second[300]])}
    assert {key: encode(merged[key]) for key in merged} == {key: encode(together[key]) for key in together}


def test_slices_and_seasons_add_up_to_the_whole() -> None:
    plan = loan_plan(season="dayOfWeek")
    window = summarise(in_batches(loans(4_000, new=True), 900), plan, timestamp="at").windows[0]
    assert {key.label for key in window.slices} == {
        "country=",
        "country=CI",
        "country=Côte d'Ivoire",
        "country=FR",
        "country=SN",
        "country (others)",
    }
    assert sum(group.rows for group in window.slices.values()) == 4_000
    assert {season for season, _ in window.seasons} == {0, 1, 2}
    for name in ("price", "rooms", "country", "sold"):
        cells = window.columns[name].cells  # type: ignore[union-attr]
        by_season = [each.cells[name] for (_, part), each in window.seasons.items() if part is None]
        by_slice = [group.columns[name].cells for group in window.slices.values()]  # type: ignore[union-attr]
        assert np.array_equal(sum(by_season), cells)
        assert np.array_equal(sum(by_slice), cells)
        by_both = [each.cells[name] for (_, part), each in window.seasons.items() if part is not None]
        assert np.array_equal(sum(by_both), cells)


def test_summaries_by_different_plans_do_not_add_up() -> None:
    one, other = (summarise([], plan).windows[0] for plan in (loan_plan(), loan_plan(rows=4_000)))
    with pytest.raises(ValueError, match="different plans"):
        merge([one, other])


def summary_of(
    values: list[float | None] | list[str | None], plan: Plan, kind: object = None
) -> WindowSummary:
    return summarise([_column(values, kind)], plan, threads=1).windows[0]


def _column(values: list[float | None] | list[str | None], kind: object = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, kind or pa.float64(), from_pandas=False)], ["x"])
