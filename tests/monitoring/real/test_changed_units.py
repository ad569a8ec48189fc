"""Columns that come in another unit, wholly or in part, and true changes that must not be taken for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets
from watching import INPUTS, ROOT, UPSTREAM, Seen, times, watched

from mlops.resources.dataset import Columns

FRANCS = 655.957
COLUMNS = Columns(timestamp="time")
Change = Callable[[pd.DataFrame, np.random.Generator], None]


def sales(seed: int, count: int, day: float, days: float = 1.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "time": times(random, count, day, days),
            "price": random.lognormal(4.5, 1.0, count),
            "temperature": random.normal(14, 8, count),
            "distance": random.gamma(2, 12, count),
            "country": random.choice(["CI", "DE", "ES"], count),
        }
    )


def after(folder: Path, change: Change) -> Seen:
    days = [sales(50 + day, 5_000, 100 + day) for day in range(4)]
    for number, day in enumerate(days):
        change(day, np.random.default_rng(number))
    return watched(folder, sales(1, 20_000, 0, 30), days, COLUMNS, checks=[UPSTREAM, INPUTS])


def in_francs(share: float) -> Change:
    def change(day: pd.DataFrame, random: np.random.Generator) -> None:
        day.loc[random.random(len(day)) < share, "price"] *= FRANCS

    return change


@pytest.mark.parametrize(
    ("share", "detector"), [(1.0, "unitRatio"), (0.1, "tailExceedance"), (0.02, "tailExceedance")]
)
def test_euros_that_turn_into_francs_are_an_upstream_change(
    tmp_path: Path, share: float, detector: str
) -> None:
    seen = after(tmp_path, in_francs(share))
    assert "upstream" in seen.fired
    for (found,) in seen.violations("upstream"):
        assert (found.column, found.detector) == ("price", detector)
        if (
            share >= 0.1
        ):  # a hundred rows in another unit do not tell francs for euros from francs for dollars
            assert "EUR to CFA franc" in (found.note or "")
        if share == 1:
            assert found.value == pytest.approx(FRANCS, rel=0.05)
    if share < 1:
        assert set(seen.verdicts("inputs")) == {"quiet"}


def fahrenheit(day: pd.DataFrame, _: np.random.Generator) -> None:
    day["temperature"] = day["temperature"] * 1.8 + 32


def miles(day: pd.DataFrame, _: np.random.Generator) -> None:
    day["distance"] /= 1.609344


@pytest.mark.parametrize(("change", "name"), [(fahrenheit, "°C to °F"), (miles, "km to miles")])
def test_other_units_are_named(tmp_path: Path, change: Change, name: str) -> None:
    found = after(tmp_path, change).violations("upstream")
    assert [name in (one.note or "") for window in found for one in window] == [True] * 3


def dearer(day: pd.DataFrame, _: np.random.Generator) -> None:
    day["price"] *= 1.3


def other_shape(day: pd.DataFrame, random: np.random.Generator) -> None:
    day["price"] = random.lognormal(4.5 + np.log(6), 1.6, len(day))


def longer_tail(day: pd.DataFrame, random: np.random.Generator) -> None:
    day["price"] = np.exp(4.5 + random.standard_t(3, len(day)))


@pytest.mark.parametrize("change", [dearer, other_shape, longer_tail])
def test_a_true_change_of_scale_and_shape_is_no_upstream_change(tmp_path: Path, change: Change) -> None:
    seen = after(tmp_path, change)
    assert set(seen.verdicts("upstream")) == {"quiet"}
    if change is other_shape:
        assert "inputs" in seen.fired


def cut_by(frame: pd.DataFrame, column: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Half of the rows with the smaller values of a column, and the others."""
    ordered = frame.sample(frac=1, random_state=0).sort_values(column, kind="stable")
    half = len(frame) // 2
    return ordered[:half], ordered[half:].sample(frac=1, random_state=1)


@pytest.mark.parametrize("column", ["flavanoids", "magnesium", "total_phenols"])
def test_other_wines_are_not_the_same_wines_in_miles_or_kelvin(tmp_path: Path, column: str) -> None:
    frame = datasets.load_wine(as_frame=True).frame.drop(columns="target")
    for number, (past, new) in enumerate((cut_by(frame, column), cut_by(frame, column)[::-1])):
        checks = [UPSTREAM, {**INPUTS, "numeric": "ks"}]
        seen = watched(tmp_path / str(number), past, new, window={"rows": 89, "minRows": 30}, checks=checks)
        assert seen.verdicts("inputs") == ["violated"]
        assert seen.violations("upstream") == [[]]


def test_growing_employment_is_not_kelvin(tmp_path: Path) -> None:
    frame = pd.read_csv(ROOT / "examples/mlflow-unchanged/data/us-employment.csv")
    frame = frame[["government", "wholesale_trade", "transportation_and_warehousing", "private"]]
    for number, (past, new) in enumerate((cut_by(frame, "private"), cut_by(frame, "private")[::-1])):
        seen = watched(
            tmp_path / str(number), past, new, window={"rows": 60, "minRows": 30}, checks=[UPSTREAM, INPUTS]
        )
        assert seen.verdicts("inputs") == ["violated"]
        assert seen.violations("upstream") == [[]]


def test_a_warmer_year_is_not_miles(tmp_path: Path) -> None:
    data = ROOT / "examples/seattle-weather/data"
    past, new = (
        pd.read_csv(data / name, parse_dates=["date"])[["date", "temp_max"]]
        for name in ("weather-2012-2014.csv", "weather-2015.csv")
    )
    new["temp_max"] += 10
    seen = watched(
        tmp_path,
        past,
        new,
        Columns(timestamp="date"),
        window={"size": "30d", "minRows": 10},
        reference={"season": "month"},
        checks=[UPSTREAM, INPUTS],
    )
    assert "inputs" in seen.fired
    assert set(seen.verdicts("upstream")) <= {"quiet", "insufficient"}
