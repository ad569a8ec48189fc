"""What can happen to a feature at its source, beside its unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from summed import beside, plan_of, summed

from mlops.monitoring.checks import UpstreamSettings, upstream_change
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict

SETTINGS = UpstreamSettings("upstream", min_rows=100)


def upstream(reference: Any, window: Any, settings: UpstreamSettings = SETTINGS) -> CheckVerdict:
    return upstream_change(settings, *beside(reference, window))


def violated(found: CheckVerdict) -> list[ColumnVerdict]:
    return [one for one in found.columns if one.verdict == "violated"]


def test_two_points_more_nulls_are_a_change_and_one_point_is_none() -> None:
    draw = np.random.default_rng(1)

    def with_nulls(rows: int, share: float) -> dict[str, Any]:
        values = draw.normal(size=rows)
        values[: int(share * rows)] = np.nan
        return {"x": values}

    (found,) = violated(upstream(with_nulls(5_000, 0.01), with_nulls(2_000, 0.04)))
    assert found.detector == "nullRate"
    assert found.value is not None
    assert abs(found.value - 0.03) < 1e-9
    assert upstream(with_nulls(5_000, 0.01), with_nulls(2_000, 0.02)).verdict == "quiet"


def test_a_column_all_null_or_full_of_text_is_emptied() -> None:
    numbers = {"x": np.random.default_rng(2).normal(size=1_000)}
    assert violated(upstream(numbers, {"x": np.full(500, np.nan)}))[0].value == 1.0
    plan = plan_of(numbers)
    words = summed(plan, {"x": pa.array(["n/a"] * 500)})
    found = upstream_change(SETTINGS, summed(plan, numbers), words)
    assert {one.detector for one in violated(found)} == {"nullRate", "schema"}


def test_a_new_category_from_half_a_per_cent_on_is_named() -> None:
    draw = np.random.default_rng(3)
    reference = {"x": draw.choice(["a", "b"], 5_000)}
    window = draw.choice(["a", "b"], 2_000).astype("<U9")
    window[:20] = "brand new"
    (found,) = violated(upstream(reference, {"x": window}))
    assert (found.detector, found.value) == ("newCategory", 0.01)
    assert found.note == "new: 'brand new' (1.0%)"
    window[5:] = "a"
    window[:5] = "rare"
    assert all(one.detector != "newCategory" for one in violated(upstream(reference, {"x": window})))


def test_a_heavy_new_category_is_found_among_a_hundred_thousand() -> None:
    draw = np.random.default_rng(4)
    reference = draw.integers(0, 100_000, 100_000).astype(str)
    window = draw.integers(0, 100_000, 20_000).astype(str).astype("<U9")
    assert violated(upstream({"x": reference}, {"x": window})) == []
    window[:400] = "default"
    (found,) = violated(upstream({"x": reference}, {"x": window}))
    assert found.note == "new: 'default' (2.0%)"


def test_a_column_that_stopped_moving_is_told_and_one_that_hardly_ever_moved_is_not() -> None:
    draw = np.random.default_rng(5)
    reference = {"x": draw.normal(size=5_000), "flag": (draw.random(5_000) < 0.0005).astype(float)}
    found = violated(upstream(reference, {"x": np.full(1_000, 0.3), "flag": np.zeros(1_000)}))
    assert {(one.column, one.detector) for one in found} == {("x", "constant")}
    words = draw.choice(["a", "b"], 5_000)
    assert [one.detector for one in violated(upstream({"x": words}, {"x": ["a"] * 500}))] == ["constant"]


def test_a_column_that_is_gone_is_a_change_and_a_new_one_is_none() -> None:
    draw = np.random.default_rng(6)
    found = upstream(
        {"x": draw.normal(size=500), "y": draw.normal(9, 1, 500)},
        {"x": draw.normal(size=500), "z": draw.gamma(2, 1, 500)},
    )
    (gone,) = violated(found)
    assert (gone.column, gone.detector, gone.note) == ("y", "schema", "the column is gone")
    assert [(one.verdict, one.note) for one in found.columns if one.column == "z"] == [
        ("quiet", "a new column")
    ]


def test_a_renamed_column_is_told_with_its_new_name() -> None:
    draw = np.random.default_rng(7)
    reference = {"price": np.exp(draw.normal(3, 1, 5_000)), "kind": draw.choice(["a", "b", "c"], 5_000)}
    window = {
        "age": draw.normal(40, 9, 1_000),
        "cost": np.exp(draw.normal(3, 1, 1_000)),
        "sort": draw.choice(["a", "b", "c"], 1_000),
    }
    found = {one.column: one.note or "" for one in violated(upstream(reference, window))}
    assert found.keys() == {"price", "kind"}
    assert "'cost' is new and has its distribution" in found["price"]
    assert "'sort' is new and has its distribution" in found["kind"]


def test_a_column_that_came_as_another_type_is_told_even_where_its_text_can_be_read() -> None:
    draw = np.random.default_rng(8)
    numbers = {"x": draw.normal(size=1_000)}
    plan = plan_of(numbers)
    as_text = summed(plan, {"x": pa.array([f"{value:.9f}" for value in draw.normal(size=500)])})
    (found,) = violated(upstream_change(SETTINGS, summed(plan, numbers), as_text))
    assert (found.detector, found.value) == ("schema", 1.0)
    assert found.note == "it came as string in 100.0% of the rows, as double before"
    as_integers = summed(plan, {"x": pa.array(np.zeros(500, np.int64))})
    assert all(
        one.detector != "schema"
        for one in violated(upstream_change(SETTINGS, summed(plan, numbers), as_integers))
    )


def test_what_the_dataset_expects_and_does_not_get_is_a_change() -> None:
    rows = {"x": np.arange(500.0)}
    found = upstream_change(
        SETTINGS, *beside(rows, rows), expectations=["column 'x': 3 values are below min 0"]
    )
    (one,) = violated(found)
    assert (one.detector, one.note) == ("expect", "column 'x': 3 values are below min 0")


def test_too_few_rows_are_insufficient_and_none_are_no_data() -> None:
    rows = {"x": np.arange(500.0)}
    assert upstream(rows, {"x": np.arange(50.0)}).verdict == "insufficient"
    assert upstream(rows, {"x": np.arange(1.0)}).verdict == "insufficient"
    assert upstream(rows, {"x": np.empty(0)}).verdict == "noData"


def test_a_change_in_one_slice_alone_is_told_with_the_slice() -> None:
    draw = np.random.default_rng(9)
    country = np.repeat(["FR", "SN"], [4_000, 1_000])
    reference = {"price": np.exp(draw.normal(4, 0.8, 5_000)), "country": country}
    price = np.exp(draw.normal(4, 0.8, 5_000))
    price[country == "SN"] *= 655.957
    found = violated(
        upstream_change(SETTINGS, *beside(reference, {"price": price, "country": country}, ["country"]))
    )
    assert ("country=SN", "unitRatio") in {(one.slice, one.detector) for one in found}
    assert all(one.slice != "country=FR" for one in found)


def test_values_of_every_kind_are_a_verdict_and_never_a_crash() -> None:
    draw = np.random.default_rng(10)
    columns: dict[str, Any] = {
        "normal": draw.normal(size=300),
        "constant": np.ones(300),
        "null": np.full(300, np.nan),
        "infinite": np.full(300, np.inf),
        "huge": np.full(300, 1.7e308) * draw.choice([-1, 1], 300),
        "tiny": draw.random(300) * 5e-324,
        "whole": draw.integers(2**62, 2**63 - 1, 300),
        "words": draw.choice(["a", "b"], 300),
        "nothing": pa.nulls(300, pa.string()),
        "two": draw.choice([0.0, 1.0], 300),
    }
    for left in columns:
        for right in columns:
            if columns[left] is columns["nothing"]:
                continue
            plan = plan_of({"x": columns[left]})
            reference, window = summed(plan, {"x": columns[left]}), summed(plan, {"x": columns[right]})
            assert upstream_change(SETTINGS, reference, window).verdict in ("quiet", "violated"), (
                left,
                right,
            )


def test_the_check_says_how_many_changes_there_are() -> None:
    draw = np.random.default_rng(11)
    reference = {"x": draw.normal(size=500), "y": draw.normal(size=500)}
    found = upstream(reference, {"x": np.full(500, np.nan), "y": np.full(500, np.nan)})
    assert (found.type, found.verdict, found.value, found.threshold) == (
        "upstreamChange",
        "violated",
        2.0,
        1.0,
    )


def test_only_the_parts_that_are_asked_for_look() -> None:
    draw = np.random.default_rng(30)
    prices = draw.lognormal(3, 1, 4_000)
    reference = {"price": prices, "kind": draw.choice(["a", "b"], 4_000), "gone": prices}
    window = {
        "price": np.where(np.arange(2_000) < 100, np.nan, prices[:2_000] * 655.957),
        "kind": ["new"] * 2_000,
    }
    everything = {one.detector for one in violated(upstream(reference, window))}
    assert everything == {"schema", "nullRate", "newCategory", "unitRatio", "constant"}
    for part in sorted(everything):
        only = UpstreamSettings("upstream", detectors=(part,), min_rows=100)
        assert {one.detector for one in upstream(reference, window, only).columns} == {part}
    told = upstream_change(
        UpstreamSettings("upstream", detectors=("constant",), min_rows=100),
        *beside(reference, window),
        expectations=["fewer rows than expected"],
    )
    assert {one.detector for one in told.columns} == {"constant"}


def test_thresholds_of_a_policy_take_the_place_of_the_parts_own() -> None:
    draw = np.random.default_rng(31)
    values = draw.lognormal(3, 0.5, 4_000)
    reference = {"x": values, "y": values, "kind": ["a"] * 4_000}
    window = {
        "x": np.where(np.arange(2_000) < 200, np.nan, values[:2_000]),
        "y": np.where(np.arange(2_000) < 100, values[:2_000] * 655.957, values[:2_000]),
        "kind": np.where(np.arange(2_000) < 60, "new", "a"),
    }
    assert {one.detector for one in violated(upstream(reference, window))} == {
        "nullRate",
        "newCategory",
        "tailExceedance",
    }
    wider = {"nullRate": 0.2, "newCategory": 0.05, "tailExceedance": 0.08}
    for part, threshold in wider.items():
        settings = UpstreamSettings("upstream", thresholds={part: threshold}, min_rows=100)
        found = upstream(reference, window, settings)
        assert part not in {one.detector for one in violated(found)}
        assert {one.threshold for one in found.columns if one.detector == part} == {threshold}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1.0, 1e-310, 1e307])
def test_numbers_as_large_and_as_small_as_there_are_make_no_noise(scale: float) -> None:
    draw, largest = np.random.default_rng(21), np.finfo(np.float64).max

    def far(values: Any) -> Any:
        return np.where(draw.random(len(values)) < 0.1, largest, values)

    columns = [draw.normal(size=1_000) * scale, draw.lognormal(size=1_000), far(draw.normal(size=1_000))]
    columns += [far(draw.lognormal(size=1_000)), np.where(draw.random(1_000) < 0.9, 0.0, columns[0])]
    for before in columns:
        for after in columns:
            found = upstream({"x": before}, {"x": after[::2]})
            assert found.verdict in ("quiet", "violated")
