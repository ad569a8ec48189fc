"""Public data as it is: drift where something changed, quiet where nothing did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets
from watching import INPUTS, ROOT, TARGET, UPSTREAM, Seen, watched

from mlops.resources.dataset import Columns

WEATHER = ROOT / "examples/seattle-weather/data"
LOANS = Path(__file__).parents[1] / "evaluating/car_loans"
DAYS = Columns(target="temp_max_tomorrow", timestamp="date", categorical=("weather",))


def weather_of_2015(folder: Path, add: float = 0.0, numeric: str = "psi", **policy: Any) -> Seen:
    past, new = (
        pd.read_csv(WEATHER / name, parse_dates=["date"])
        for name in ("weather-2012-2014.csv", "weather-2015.csv")
    )
    new["temp_max"] += add
    calibrated = {"thresholds": "calibrated"} if policy.pop("calibrated", False) else {}
    checks = [UPSTREAM, {**INPUTS, "numeric": numeric, **calibrated}, {**TARGET, **calibrated}]
    features = ("precipitation", "temp_max", "temp_min", "wind", "weather")
    return watched(
        folder,
        past,
        new,
        DAYS,
        features=features,
        window={"size": "30d", "minRows": 10},
        checks=checks,
        **policy,
    )


def test_a_year_of_weather_alarms_without_its_seasons(tmp_path: Path) -> None:
    seen = weather_of_2015(tmp_path)
    assert seen.fired == {"inputs", "target"}
    assert seen.verdicts("inputs").count("violated") == 11


def test_a_year_of_weather_is_quiet_beside_its_seasons(tmp_path: Path) -> None:
    seen = weather_of_2015(tmp_path, numeric="ks", calibrated=True, reference={"season": "month"})
    for check in ("upstream", "inputs"):
        assert seen.verdicts(check) == ["insufficient"] + ["quiet"] * 11  # of 2014 there are four days


def test_psi_on_windows_of_thirty_rows_says_that_it_has_no_power(tmp_path: Path) -> None:
    seen = weather_of_2015(tmp_path, calibrated=True, reference={"season": "month"})
    assert seen.fired == set()
    assert seen.verdicts("target") == ["insufficient"] * 12
    assert "insufficient" in seen.verdicts("inputs")[1:]


def test_ten_degrees_too_warm_are_found_beside_the_seasons(tmp_path: Path) -> None:
    policy: dict[str, Any] = {"numeric": "wasserstein", "calibrated": True, "reference": {"season": "month"}}
    assert weather_of_2015(tmp_path / "as-it-was", 0.0, **policy).fired == set()
    seen = weather_of_2015(tmp_path / "warmer", 10.0, **policy)
    assert seen.fired == {"inputs"}
    assert {one.column for window in seen.violations("inputs") for one in window} == {"temp_max"}


def test_car_loans_that_lose_values_and_gain_a_category_are_an_upstream_change(tmp_path: Path) -> None:
    past, new = (pd.read_parquet(LOANS / f"{name}.parquet") for name in ("reference", "analysis"))
    random, half = np.random.default_rng(1), len(new) // 2
    later = np.arange(len(new)) >= half
    new.loc[later & (random.random(len(new)) < 0.12), "salary_range"] = None
    new.loc[later & (random.random(len(new)) < 0.02), "size_of_downpayment"] = "100%"
    new.loc[later & (random.random(len(new)) < 0.12), "driver_tenure"] = None
    columns = Columns(target="repaid", prediction="y_pred", probability="y_pred_proba", timestamp="timestamp")
    seen = watched(
        tmp_path,
        past.drop(columns="id"),
        new.drop(columns="id"),
        columns.model_copy(update={"target": None}),
        learnt=columns,
        window={"rows": 1_000},
        checks=[UPSTREAM, INPUTS],
    )
    assert seen.verdicts("upstream") == ["quiet"] * 5 + ["violated"] * 5
    for window in seen.violations("upstream")[5:]:
        assert {(one.column, one.detector) for one in window} == {
            ("salary_range", "nullRate"),
            ("driver_tenure", "nullRate"),
            ("size_of_downpayment", "newCategory"),
        }
    assert seen.verdicts("inputs") == ["quiet"] * 5 + ["violated"] * 5


def sets() -> Iterator[tuple[str, pd.DataFrame]]:
    """Tables that come with scikit-learn and with the examples, without their times."""
    yield "diabetes", datasets.load_diabetes(as_frame=True).frame
    yield "breast cancer", datasets.load_breast_cancer(as_frame=True).frame
    yield "wine", datasets.load_wine(as_frame=True).frame.drop(columns="target")
    yield "weather", pd.read_csv(WEATHER / "seattle-weather.csv").drop(columns="date")


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "iris", "digits"])
def test_other_classes_drift(tmp_path: Path, name: str) -> None:
    """A reference of some classes, and windows of the others: benign and malignant, other growers, species, digits."""
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame.sample(frac=1, random_state=1)
    first = frame["target"] < frame["target"].median()
    before, after = (part.drop(columns="target") for part in (frame[first], frame[~first]))
    half = len(before) // 2
    size = min(100, half, len(after))
    policy = {"window": {"rows": size, "minRows": 25}, "checks": [INPUTS]}
    same = watched(tmp_path / "same", before[:-half], before[-half:], **policy)
    assert set(same.verdicts("inputs")) == {"quiet"}
    others = watched(tmp_path / "others", before[:-half], after, **policy)
    assert set(others.verdicts("inputs")) == {"violated"}


@pytest.mark.parametrize(("name", "frame"), list(sets()))
def test_rows_in_the_order_of_a_column_drift(tmp_path: Path, name: str, frame: pd.DataFrame) -> None:
    ordered = frame.sort_values(frame.select_dtypes("number").columns[0], kind="stable")
    half = len(frame) // 2
    size = min(100, len(frame) - half)
    seen = watched(
        tmp_path, ordered[:half], ordered[half:], window={"rows": size, "minRows": 30}, checks=[INPUTS]
    )
    assert set(seen.verdicts("inputs")) == {"violated"}


def test_shuffled_rows_hardly_ever_do(tmp_path: Path) -> None:
    """Of 200 windows none makes a check fire, and no more violate alone than the one in twenty that q leaves to chance.

    In windows of a hundred rows chance passes every threshold: there the test and k of n are all that is quiet.
    """
    windows, violated, fired = 0, {"upstream": 0, "inputs": 0}, set()
    for name, frame in sets():
        half = len(frame) // 2
        size = min(100, len(frame) - half)
        for seed in range(17):
            mixed = frame.sample(frac=1, random_state=seed)
            policy = {"window": {"rows": size, "minRows": 30}, "checks": [UPSTREAM, INPUTS]}
            seen = watched(tmp_path / f"{name}-{seed}", mixed[:half], mixed[half:], **policy)
            windows += len(seen.assessed.evaluations)
            fired |= seen.fired
            for check in violated:
                violated[check] += seen.verdicts(check).count("violated")
    assert windows >= 200
    assert fired == set()
    assert max(violated.values()) <= windows / 20
