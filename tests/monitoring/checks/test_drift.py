"""Data drift by effect and significance together, whatever the columns hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.csv import read_csv
from summed import beside, plan_of, summed

from mlops.monitoring.checks import DriftSettings, calibrate, data_drift, target_drift
from mlops.monitoring.samples import RowSample
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict

SETTINGS = DriftSettings("inputs", min_rows=100)


def drift(reference: Any, window: Any, settings: DriftSettings = SETTINGS) -> CheckVerdict:
    return data_drift(settings, *beside(reference, window))


def column(verdict: CheckVerdict, name: str = "x", part: str | None = None) -> ColumnVerdict:
    return next(one for one in verdict.columns if (one.column, one.slice) == (name, part))


def test_a_large_shift_is_drift_with_its_effect_threshold_and_p_values() -> None:
    draw = np.random.default_rng(1)
    found = drift({"x": draw.normal(size=5_000)}, {"x": draw.normal(0.8, 1, 2_000)})
    assert (found.type, found.verdict) == ("dataDrift", "violated")
    one = column(found)
    assert (one.detector, one.threshold, one.verdict) == ("psi", 0.2, "violated")
    assert one.value is not None
    assert one.value > 0.5
    assert one.p_adjusted is not None
    assert one.p_adjusted < 1e-9


def test_a_tiny_shift_in_many_rows_is_significant_and_quiet() -> None:
    draw = np.random.default_rng(2)
    found = drift({"x": draw.normal(size=400_000)}, {"x": draw.normal(0.03, 1, 400_000)})
    one = column(found)
    assert found.verdict == "quiet"
    assert one.p_value is not None
    assert one.p_value < 1e-9
    assert one.value is not None


def test_few_rows_give_a_large_distance_by_chance_and_are_quiet() -> None:
    draw = np.random.default_rng(3)
    settings = DriftSettings("inputs", numeric="jensenShannon", min_rows=50)
    quiet = 0
    for _ in range(50):
        found = drift({"x": draw.normal(size=5_000)}, {"x": draw.normal(size=60)}, settings)
        one = column(found)
        assert one.value is not None
        assert one.value > 0.1 or one.verdict == "quiet"
        quiet += found.verdict == "quiet"
    assert quiet >= 46


def test_both_numbers_are_recorded_even_when_quiet() -> None:
    draw = np.random.default_rng(4)
    found = drift({"x": draw.normal(size=2_000)}, {"x": draw.normal(size=2_000)})
    one = column(found)
    assert one.verdict == "quiet"
    assert None not in (one.value, one.threshold, one.p_value, one.p_adjusted)


def test_p_values_are_corrected_over_columns() -> None:
    draw = np.random.default_rng(5)
    names = [f"x{place}" for place in range(40)]
    settings = DriftSettings("inputs", thresholds={"psi": 0.0}, min_rows=100)
    alone = corrected = 0
    for _ in range(15):
        found = drift(
            {name: draw.normal(size=1_000) for name in names},
            {name: draw.normal(size=1_000) for name in names},
            settings,
        )
        alone += any(one.p_value is not None and one.p_value <= 0.05 for one in found.columns)
        corrected += any(one.verdict == "violated" for one in found.columns)
    assert alone >= 10
    assert corrected <= 3


def test_fifty_columns_over_thirty_windows_without_drift_raise_no_alarm() -> None:
    draw = np.random.default_rng(6)
    names = [f"x{place}" for place in range(50)]
    reference = {name: draw.normal(size=5_000) for name in names}
    plan = plan_of(reference)
    base = summed(plan, reference)
    for numeric in ("psi", "ks"):
        settings = DriftSettings("inputs", numeric=numeric, min_rows=100)
        for _ in range(15):
            window = summed(plan, {name: draw.normal(size=1_000) for name in names})
            assert data_drift(settings, base, window).verdict == "quiet"


def test_by_default_one_drifted_column_is_enough_and_with_a_share_it_is_not() -> None:
    draw = np.random.default_rng(7)
    reference = {name: draw.normal(size=2_000) for name in "abcd"}
    window = {name: draw.normal(2.0 if name == "a" else 0.0, 1, 2_000) for name in "abcd"}
    alone = drift(reference, window)
    assert alone.verdict == "violated"
    assert alone.value is not None
    assert alone.value > 5
    shared = drift(reference, window, DriftSettings("inputs", share=0.5, min_rows=100))
    assert (shared.verdict, shared.value, shared.threshold) == ("quiet", 0.25, 0.5)
    assert drift(reference, window, DriftSettings("inputs", share=0.25, min_rows=100)).verdict == "violated"


def test_too_few_rows_are_insufficient_and_none_are_no_data() -> None:
    rows = {"x": np.arange(1_000.0)}
    assert drift(rows, {"x": np.arange(99.0)}).verdict == "insufficient"
    assert drift(rows, {"x": np.arange(1.0)}).verdict == "insufficient"
    assert drift(rows, {"x": np.empty(0)}).verdict == "noData"


def test_columns_that_cannot_be_judged_are_marked_and_the_rest_is_judged() -> None:
    draw = np.random.default_rng(8)
    normal = draw.normal(size=1_000)
    some = np.where(np.arange(1_000) < 990, np.nan, normal)
    reference = {"good": normal, "empty": normal, "few": normal, "constant": np.ones(1_000), "gone": normal}
    window = {"good": normal + 3, "empty": np.full(1_000, np.nan), "few": some, "constant": np.ones(1_000)}
    found = drift(reference, window)
    assert found.verdict == "violated"
    assert {one.column: (one.verdict, one.note) for one in found.columns} == {
        "good": ("violated", None),
        "empty": ("insufficient", "all null"),
        "few": ("insufficient", "10 values, fewer than 20"),
        "constant": ("quiet", None),
        "gone": ("insufficient", "gone"),
    }


def test_a_window_of_which_nothing_can_be_judged_is_insufficient_and_never_quiet() -> None:
    found = drift({"x": np.arange(500.0)}, {"x": np.full(500, np.nan)})
    assert found.verdict == "insufficient"


def test_nulls_and_infinities_are_no_part_of_a_distribution() -> None:
    draw = np.random.default_rng(9)
    window = draw.normal(size=2_000)
    window[:400] = np.nan
    window[400:500] = np.inf
    assert drift({"x": draw.normal(size=2_000)}, {"x": window}).verdict == "quiet"


def test_categories_are_compared_by_jensen_shannon_and_unseen_ones_count() -> None:
    draw = np.random.default_rng(10)
    reference = draw.choice(["a", "b", "c"], 2_000, p=[0.6, 0.3, 0.1])
    assert (
        drift({"x": reference}, {"x": draw.choice(["a", "b", "c"], 2_000, p=[0.6, 0.3, 0.1])}).verdict
        == "quiet"
    )
    moved = drift({"x": reference}, {"x": draw.choice(["a", "b", "c"], 2_000, p=[0.3, 0.3, 0.4])})
    assert (moved.verdict, column(moved).detector) == ("violated", "jensenShannon")
    assert drift({"x": reference}, {"x": draw.choice(["a", "b", "new"], 2_000)}).verdict == "violated"


def test_a_hundred_thousand_categories_are_judged() -> None:
    draw = np.random.default_rng(11)
    shares = 1 / np.arange(1, 100_001)
    names = np.array([f"c{place}" for place in range(100_000)])

    def rows(size: int) -> np.ndarray:
        return draw.choice(names, size, p=shares / shares.sum())

    reference = rows(100_000)
    assert column(drift({"x": reference}, {"x": rows(5_000)})).verdict == "quiet"
    written_otherwise = np.char.upper(rows(5_000))
    assert column(drift({"x": reference}, {"x": written_otherwise})).verdict == "violated"


def test_rare_categories_that_turn_up_now_and_then_are_no_drift() -> None:
    draw = np.random.default_rng(20)
    shares = 1 / np.arange(1, 2_001)
    for rows in (2_000, 20_000):
        for _ in range(5):
            reference, window = (
                draw.choice(2_000, size, p=shares / shares.sum()).astype(str) for size in (rows, 2_000)
            )
            assert drift({"x": reference}, {"x": window}).verdict == "quiet"


def test_slices_are_judged_apart_and_small_ones_are_marked() -> None:
    draw = np.random.default_rng(12)
    country = np.repeat(["FR", "DE", "LU"], [1_000, 1_000, 20])
    reference = {"x": draw.normal(size=2_020), "country": country}
    window = {"x": draw.normal(size=2_020) + np.where(country == "DE", 1.0, 0.0), "country": country}
    found = data_drift(SETTINGS, *beside(reference, window, ["country"]), ["x"])
    assert column(found, part="country=FR").verdict == "quiet"
    assert column(found, part="country=DE").verdict == "violated"
    assert column(found, "*", "country=LU").note == "20 rows, fewer than 100"
    assert found.verdict == "violated"


def test_the_same_season_is_quiet_and_another_drifts() -> None:
    draw = np.random.default_rng(13)
    days = np.arange(np.datetime64("2020-01-01"), np.datetime64("2024-01-01"))
    months = days.astype("datetime64[M]").astype(int) % 12

    def weather(chosen: np.ndarray) -> dict[str, Any]:
        return {
            "t": draw.normal(10 - 10 * np.cos(months[chosen] / 6 * np.pi), 3),
            "at": pa.array(days[chosen]),
        }

    everything = np.ones(len(days), bool)
    july = months == 6
    rows = weather(everything)
    settings = DriftSettings("inputs", min_rows=60)
    plan = plan_of({"t": rows["t"]}, season="month")
    base, window = summed(plan, rows, "at"), summed(plan, weather(july), "at")
    assert data_drift(settings, base, window, ["t"]).verdict == "quiet"
    warmer = weather(july)
    warmer["t"] = warmer["t"] + 4
    assert data_drift(settings, base, summed(plan, warmer, "at"), ["t"]).verdict == "violated"
    unseasonal = plan_of({"t": rows["t"]})
    naive = data_drift(settings, summed(unseasonal, rows), summed(unseasonal, weather(july)), ["t"])
    assert naive.verdict == "violated"


def test_a_season_that_the_reference_lacks_is_insufficient_with_the_reason() -> None:
    def rows(month: str) -> dict[str, Any]:
        days = np.repeat(np.datetime64(f"2020-{month}-05", "us"), 200)
        return {"x": np.arange(200.0), "at": pa.array(days)}

    plan = plan_of({"x": np.arange(200.0)}, season="month")
    found = data_drift(SETTINGS, summed(plan, rows("01"), "at"), summed(plan, rows("02"), "at"), ["x"])
    assert found.verdict == "insufficient"
    assert column(found).note == "the reference has no rows of this season"


def test_calibrated_thresholds_are_quiet_on_data_with_memory_and_still_see_a_change() -> None:
    draw = np.random.default_rng(14)

    def series(rows: int, shift: float = 0.0) -> np.ndarray:
        level = np.repeat(draw.normal(size=rows // 50), 50)  # 50 neighbours share most of what they are
        return shift + 0.8 * level + 0.6 * draw.normal(size=rows)

    own = [{"x": series(500)} for _ in range(30)]
    plan = plan_of({"x": np.concatenate([one["x"] for one in own])})
    parts = [summed(plan, one) for one in own]
    base = summed(plan, {"x": np.concatenate([one["x"] for one in own])})
    calibrations = calibrate(SETTINGS, parts)
    windows = [summed(plan, {"x": series(500)}) for _ in range(40)]
    fixed = [data_drift(SETTINGS, base, one).verdict for one in windows]
    own_words = [data_drift(SETTINGS, base, one, calibrations=calibrations).verdict for one in windows]
    assert fixed.count("violated") > 5
    assert own_words.count("violated") <= 1
    moved = data_drift(SETTINGS, base, summed(plan, {"x": series(500, 2.5)}), calibrations=calibrations)
    assert moved.verdict == "violated"
    assert column(moved).threshold is not None


@pytest.mark.parametrize(("month", "opposite"), [("2015-01", "2015-07"), ("2015-07", "2015-01")])
def test_seattles_months_are_as_they_were_and_half_a_year_later_is_drift(month: str, opposite: str) -> None:
    table = read_csv(Path(__file__).parents[3] / "examples/seattle-weather/data/seattle-weather.csv")
    days = np.array(
        [np.datetime64(str(day).replace("/", "-")[:10]) for day in table.column("date").to_pylist()]
    )
    months = days.astype("datetime64[M]")
    features = ["temp_max", "temp_min", "precipitation", "wind"]

    def rows(chosen: np.ndarray, at: str | None = None) -> dict[str, Any]:
        when = np.repeat(np.datetime64(f"{at}-10"), chosen.sum()) if at else days[chosen]
        values = {name: table.column(name).to_numpy()[chosen] for name in features}
        return {**values, "at": pa.array(when.astype("datetime64[us]"))}

    before = days < np.datetime64("2015-01-01")
    plan = plan_of({name: rows(before)[name] for name in features}, season="month")
    settings = DriftSettings("inputs", numeric="ks", min_rows=20)
    base = summed(plan, rows(before), "at")
    own = [summed(plan, rows(months == one), "at") for one in np.unique(months[before])]
    calibrations = calibrate(settings, own, features)
    for shown, verdict in ((month, "quiet"), (opposite, "violated")):
        window = summed(plan, rows(months == np.datetime64(shown), at=month), "at")
        assert data_drift(settings, base, window, features, calibrations=calibrations).verdict == verdict


def test_too_few_windows_to_calibrate_on_are_said() -> None:
    plan = plan_of({"x": np.arange(500.0)})
    part = summed(plan, {"x": np.arange(500.0)})
    found = data_drift(SETTINGS, part, part, calibrations=calibrate(SETTINGS, [part] * 3))
    assert found.verdict == "insufficient"
    assert column(found).note == "too few windows of the reference to calibrate on"


def test_a_detector_that_is_not_there_is_an_error_of_its_columns_alone() -> None:
    draw = np.random.default_rng(15)
    reference = {"x": draw.normal(size=500), "c": draw.choice(["a", "b"], 500)}
    found = drift(reference, reference, DriftSettings("inputs", numeric="nobody/knows", min_rows=100))
    assert found.verdict == "error"
    assert column(found).verdict == "error"
    assert column(found, "c").verdict == "quiet"


def test_all_columns_at_once_see_what_none_shows() -> None:
    draw = np.random.default_rng(16)
    plain = draw.normal(size=(400, 2))
    related = draw.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], 400)
    summaries = beside({"a": plain[:, 0], "b": plain[:, 1]}, {"a": related[:, 0], "b": related[:, 1]})
    settings = DriftSettings("inputs", multivariate="domainClassifier", min_rows=100, share=0.5)
    rows = RowSample(("a", "b"), plain, related, np.array([False, False]), seed=1)
    found = data_drift(settings, *summaries, rows=rows)
    assert [one.verdict for one in found.columns] == ["quiet", "quiet", "violated"]
    assert found.verdict == "violated"
    assert column(data_drift(settings, *summaries), "*").note == "there are no rows to compare"


def test_target_drift_looks_at_the_columns_it_is_given() -> None:
    draw = np.random.default_rng(17)
    reference = {"x": draw.normal(size=1_000), "label": draw.choice(["no", "yes"], 1_000, p=[0.9, 0.1])}
    window = {"x": draw.normal(5, 1, 1_000), "label": draw.choice(["no", "yes"], 1_000, p=[0.6, 0.4])}
    found = target_drift(DriftSettings("target", min_rows=100), *beside(reference, window), ["label"])
    assert (found.type, found.verdict) == ("targetDrift", "violated")
    assert [one.column for one in found.columns] == ["label"]


@pytest.mark.parametrize(
    "numeric", ["psi", "jensenShannon", "ks", "wasserstein", "chiSquare", "totalVariation"]
)
def test_every_detector_gives_the_same_verdict_bytes_twice(numeric: str) -> None:
    draw = np.random.default_rng(18)
    reference, window = {"x": draw.normal(size=800)}, {"x": draw.normal(1, 1, 800)}
    settings = DriftSettings("inputs", numeric=numeric, min_rows=100)
    first, second = drift(reference, window, settings), drift(reference, window, settings)
    assert first == second
    assert first.verdict == "violated"


@pytest.mark.parametrize(
    ("numeric", "verdict"), [("psi", "insufficient"), ("ks", "quiet"), ("wasserstein", "quiet")]
)
def test_a_calibrated_threshold_out_of_reach_is_no_power_and_not_quiet(numeric: str, verdict: str) -> None:
    draw = np.random.default_rng(19)
    reference = draw.normal(size=300)
    plan = plan_of({"x": reference})
    settings = DriftSettings("inputs", numeric=numeric, min_rows=30)
    calibrations = calibrate(settings, [summed(plan, {"x": part}) for part in np.split(reference, 10)])
    base = summed(plan, {"x": reference})
    for values in (draw.normal(size=30), draw.normal(40, 1, 30)):
        found = data_drift(settings, base, summed(plan, {"x": values}), calibrations=calibrations)
        one = column(found)
        expected = "violated" if verdict == "quiet" and values.mean() > 20 else verdict
        assert (found.verdict, one.verdict) == (expected, expected)
        if verdict == "insufficient":
            assert one.note is not None
            assert one.note.startswith("no power")
            assert "wasserstein or ks" in one.note
