"""Other units at the source: of all rows, of a part of them, and what is none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.csv import read_csv
from summed import beside, plan_of, summed

from mlops.monitoring.checks import DriftSettings, UpstreamSettings, calibrate, upstream_change
from mlops.monitoring.checks.known_units import AFFINE, FACTORS, of_ratio
from mlops.monitoring.verdicts import ColumnVerdict
from mlops.monitoring.windows import Season

SETTINGS = UpstreamSettings("upstream", min_rows=100)
CFA = 655.957


def changes(
    reference: np.ndarray, window: np.ndarray, settings: UpstreamSettings = SETTINGS
) -> list[ColumnVerdict]:
    """What is violated of a column `price`."""
    found = upstream_change(settings, *beside({"price": reference}, {"price": window}))
    return [one for one in found.columns if one.verdict == "violated"]


def prices(draw: np.random.Generator, rows: int, sigma: float = 0.8) -> np.ndarray:
    return np.exp(draw.normal(4.0, sigma, rows))


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.2])
@pytest.mark.parametrize("rows", [1_000, 5_000])
def test_euros_that_become_cfa_francs_are_told_with_ratio_and_names(sigma: float, rows: int) -> None:
    draw = np.random.default_rng(1)
    (found,) = changes(prices(draw, 20_000, sigma), CFA * prices(draw, rows, sigma))
    assert found.detector == "unitRatio"
    assert found.value == pytest.approx(CFA, rel=0.1)
    assert found.note is not None
    assert "EUR to CFA franc (XOF, XAF)" in found.note


@pytest.mark.parametrize("share", [0.1, 0.02])
@pytest.mark.parametrize("rows", [1_000, 5_000])
def test_euros_that_become_cfa_francs_in_a_part_of_the_rows_are_an_upstream_change(
    share: float, rows: int
) -> None:
    draw = np.random.default_rng(2)
    reference = prices(draw, 20_000)
    plan = plan_of({"price": reference})
    base = summed(plan, {"price": reference})
    found = []
    for _ in range(20):
        window = prices(draw, rows)
        window[: int(share * rows)] *= CFA
        verdict = upstream_change(SETTINGS, base, summed(plan, {"price": draw.permutation(window)}))
        found += [one for one in verdict.columns if one.verdict == "violated"]
    assert len(found) >= 18
    assert {one.detector for one in found} == {"tailExceedance"}
    assert np.mean([one.value for one in found]) == pytest.approx(share, rel=0.1)
    named = [one.note is not None and "EUR to CFA franc (XOF, XAF)" in one.note for one in found]
    assert sum(named) >= (
        18 if share * rows >= 500 else 12 if share * rows >= 100 else 0
    )  # few rows, rough ratio


def test_a_tenth_of_the_rows_in_a_far_smaller_unit_is_one_too() -> None:
    draw = np.random.default_rng(3)
    window = prices(draw, 2_000)
    window[:200] /= 1_000.0
    (found,) = changes(prices(draw, 20_000), window)
    assert found.note is not None
    assert "below the reference" in found.note
    assert "ones to thousands" in found.note


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("°C to °F", lambda t: 1.8 * t + 32),
        ("°C to K", lambda t: t + 273.15),
        ("°F to °C", lambda t: (t - 32) / 1.8),
    ],
)
@pytest.mark.parametrize("mean", [12.0, 36.6])
def test_temperatures_in_another_scale_are_told(name: str, convert: object, mean: float) -> None:
    assert callable(convert)
    draw = np.random.default_rng(4)
    deviation = 8.0 if mean < 20 else 0.5  # of the air, of a body
    before, after = draw.normal(mean, deviation, 10_000), draw.normal(mean, deviation, 1_000)
    if name == "°F to °C":
        before, after = 1.8 * before + 32, 1.8 * after + 32
    (found,) = changes(before, convert(after))
    assert found.note is not None
    assert name in found.note


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("km to miles", 1 / 1.609344),
        ("metres to feet", 1 / 0.3048),
        ("inches to cm", 2.54),
        ("kg to pounds", 2.20462),
        ("litres to US gallons", 1 / 3.785411784),
        ("cents", 100.0),
        ("thousands to ones", 1000.0),
        ("EUR to yen", 163.85),
    ],
)
def test_other_measures_are_told(name: str, factor: float) -> None:
    draw = np.random.default_rng(5)
    (found,) = changes(prices(draw, 20_000, 0.5), factor * prices(draw, 2_000, 0.5))
    assert found.value == pytest.approx(factor, rel=0.05)
    assert found.note is not None
    assert name in found.note


def test_a_factor_that_nobody_knows_is_a_change_of_unit_when_it_is_far_from_one() -> None:
    draw = np.random.default_rng(6)
    (found,) = changes(prices(draw, 20_000, 0.5), 37.0 * prices(draw, 2_000, 0.5))
    assert found.note is not None
    assert "no known conversion" in found.note


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5])
def test_prices_that_rose_by_a_third_or_changed_their_shape_are_none(sigma: float) -> None:
    draw = np.random.default_rng(7)
    reference = prices(draw, 20_000, sigma)
    for rows in (1_000, 5_000):
        assert changes(reference, 1.3 * prices(draw, rows, sigma)) == []
        assert changes(reference, prices(draw, rows, 1.3 * sigma)) == []
        assert changes(reference, 30 * prices(draw, rows, 1.7 * sigma)) == []
        assert changes(reference, 30 * draw.gamma(2.0, 50.0, rows)) == [] or sigma == 0.8
        assert changes(reference, draw.gamma(2.0, 30.0, rows)) == []


def test_a_wider_or_heavier_tail_is_none() -> None:
    draw = np.random.default_rng(8)
    reference = draw.normal(0.0, 1.0, 20_000)
    plan = plan_of({"price": reference})
    base = summed(plan, {"price": reference})
    for window in (
        lambda: draw.normal(0.0, 1.3, 1_000),
        lambda: draw.standard_t(3, 1_000),
        lambda: draw.laplace(0.0, 0.75, 1_000),
        lambda: draw.normal(1.5, 1.0, 1_000),
    ):
        found = [
            upstream_change(SETTINGS, base, summed(plan, {"price": window()})).verdict for _ in range(25)
        ]
        assert found.count("violated") <= 2


def test_without_a_change_there_is_none_in_two_hundred_columns() -> None:
    draw = np.random.default_rng(9)
    kinds = [
        lambda size: draw.normal(3.0, 5.0, size),
        lambda size: np.exp(draw.normal(0.0, 1.0, size)),
        lambda size: draw.gamma(0.5, 2.0, size),
        lambda size: np.where(draw.random(size) < 0.4, 0.0, draw.exponential(3.0, size)),
        lambda size: draw.poisson(3.0, size).astype(float),
        lambda size: draw.pareto(1.5, size),
        lambda size: draw.beta(0.5, 0.5, size),
        lambda size: np.round(draw.normal(50.0, 10.0, size)),
    ]
    names = {f"{place}-{copy}": kind for place, kind in enumerate(kinds) for copy in range(25)}
    reference = {name: kind(3_000) for name, kind in names.items()}
    window = {name: kind(1_000) for name, kind in names.items()}
    found = upstream_change(SETTINGS, *beside(reference, window))
    assert [one for one in found.columns if one.verdict == "violated"] == []
    assert found.verdict == "quiet"


def test_money_that_may_be_negative_is_judged_by_its_quartiles() -> None:
    draw = np.random.default_rng(10)
    (found,) = changes(draw.normal(0, 100, 20_000), CFA * draw.normal(0, 100, 2_000))
    assert found.note is not None
    assert "EUR to CFA franc" in found.note
    assert changes(draw.normal(0, 100, 20_000), 1.3 * draw.normal(0, 100, 2_000)) == []


@pytest.mark.parametrize(("mean", "deviation"), [(1e6, 1.0), (1.7e9, 3e5), (1013.0, 9.0)])
def test_a_column_far_tighter_than_its_values_are_large_is_judged_too(mean: float, deviation: float) -> None:
    draw = np.random.default_rng(13)
    reference = draw.normal(mean, deviation, 20_000)
    (found,) = changes(reference, 1000 * draw.normal(mean, deviation, 1_000))
    assert found.value == pytest.approx(1000.0, rel=1e-3)
    assert changes(reference, draw.normal(6 * mean, deviation, 1_000)) == []
    assert changes(reference, draw.normal(mean + deviation, deviation, 1_000)) == []


def test_rain_with_many_dry_days_is_judged_by_its_quartiles() -> None:
    draw = np.random.default_rng(11)

    def rain(rows: int) -> np.ndarray:
        return np.where(draw.random(rows) < 0.4, 0.0, draw.gamma(0.9, 6.0, rows))

    (found,) = changes(rain(20_000), rain(2_000) / 25.4)
    assert found.note is not None
    assert "mm to inches" in found.note


def test_the_declared_unit_narrows_the_names() -> None:
    draw = np.random.default_rng(12)
    settings = UpstreamSettings("upstream", units={"price": "CHF"}, min_rows=100)
    (found,) = changes(prices(draw, 20_000, 0.3), CFA * 1.04 * prices(draw, 2_000, 0.3), settings)
    assert found.note is not None
    assert "CHF to CFA franc" in found.note
    assert "EUR" not in found.note


def test_an_offset_that_is_nothing_to_the_values_explains_nothing() -> None:
    draw = np.random.default_rng(14)
    reference = draw.gamma(4.0, 10_000.0, 20_000)
    for _ in range(10):
        assert changes(reference, draw.gamma(4.0, 10_500.0, 5_000)) == []


def test_a_price_that_rose_by_four_fifths_is_no_temperature() -> None:
    draw = np.random.default_rng(15)
    assert changes(draw.normal(1_000, 200, 20_000), 1.8 * draw.normal(1_000, 200, 2_000)) == []


def test_a_small_window_says_nothing_of_a_factor_near_one() -> None:
    draw = np.random.default_rng(16)
    reference = draw.normal(15.0, 7.0, 1_000)
    assert changes(reference, draw.normal(9.0, 3.0, 100)) == []
    assert changes(reference, draw.normal(24.0, 5.0, 100)) == []


@pytest.mark.parametrize("season", ["none", "month"])
def test_seattles_thermometer_in_fahrenheit_is_told_in_any_month_and_a_warm_year_is_not(
    season: Season,
) -> None:
    table = read_csv(Path(__file__).parents[3] / "examples/seattle-weather/data/seattle-weather.csv")
    days = np.array(
        [np.datetime64(str(day).replace("/", "-")[:10]) for day in table.column("date").to_pylist()]
    )
    months = days.astype("datetime64[M]")

    def rows(chosen: np.ndarray, slope: float = 1.0, offset: float = 0.0) -> dict[str, object]:
        celsius = table.column("temp_max").to_numpy()[chosen]
        return {"temp_max": slope * celsius + offset, "at": pa.array(days[chosen].astype("datetime64[us]"))}

    before = days < np.datetime64("2015-01-01")
    plan = plan_of({"temp_max": rows(before)["temp_max"]}, season=season)
    base = summed(plan, rows(before), "at")
    own = [summed(plan, rows(months == month), "at") for month in np.unique(months[before])]
    calibrations = calibrate(DriftSettings("own", numeric="ks", min_rows=100), own, ["temp_max"])
    settings = UpstreamSettings("upstream", min_rows=20)
    told = 0
    for month in np.arange("2015-01", "2016-01", dtype="datetime64[M]"):
        chosen = months == month
        as_before = upstream_change(
            settings, base, summed(plan, rows(chosen), "at"), calibrations=calibrations
        )
        assert as_before.verdict == "quiet"
        window = summed(plan, rows(chosen, 1.8, 32.0), "at")
        other = upstream_change(settings, base, window, ["temp_max"], calibrations=calibrations)
        told += any(one.note is not None and "°C to °F" in one.note for one in other.columns)
    assert told >= (10 if season == "month" else 6)


def test_every_conversion_has_its_way_back() -> None:
    for one in (*FACTORS, *AFFINE):
        back = one.inverse
        assert back.slope * (one.slope * 12.5 + one.offset) + back.offset == pytest.approx(12.5)
    assert of_ratio(1.3, math.log(1.05)) == []
    assert of_ratio(1.0, math.log(1.05)) == []
