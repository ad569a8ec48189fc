"""P(Y given X) is turned around, X and the rate of Y stay: only labels can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from watching import INPUTS, TARGET, UPSTREAM, Seen, times, watched

from mlops.resources.dataset import Columns

BINARY = Columns(target="y", prediction="prediction", probability="score", timestamp="time", id="id")
VALUES = Columns(target="y", prediction="prediction", timestamp="time", id="id")
FIRST = 5  # the day of the flip


def rows(seed: int, count: int, day: float, days: float = 1.0, *, task: str, flipped: bool) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, count))
    said = 1.5 * a + 0.6 * b
    true = said - 3 * a if flipped else said  # a counts the other way; both are as likely
    frame: dict[str, Any] = {
        "id": np.arange(count) + seed * 1_000_000,
        "time": times(random, count, day, days),
        "a": a,
        "b": b,
        "c": random.choice(["x", "y", "z"], count),
    }
    if task == "binary":
        frame["score"] = 1 / (1 + np.exp(-said))
        frame["prediction"] = (said >= 0).astype(np.int64)
        frame["y"] = (random.random(count) < 1 / (1 + np.exp(-true))).astype(np.int64)
    else:
        frame["prediction"] = said
        frame["y"] = true + random.normal(0, 0.7, count)
    return pd.DataFrame(frame)


def flip(folder: Path, task: str, metric: str, *, labelled: bool) -> Seen:
    columns = BINARY if task == "binary" else VALUES
    days = [rows(50 + day, 1_000, 100 + day, task=task, flipped=day >= FIRST) for day in range(10)]
    concept = {"name": "concept", "type": "conceptDrift", "metric": metric, "estimate": True}
    return watched(
        folder,
        rows(1, 10_000, 0, 30, task=task, flipped=False),
        days if labelled else [day.drop(columns="y") for day in days],
        columns if labelled else columns.model_copy(update={"target": None}),
        learnt=columns,
        features=("a", "b", "c"),
        task=task,
        checks=[UPSTREAM, INPUTS, TARGET, concept],
    )


@pytest.mark.parametrize(("task", "metric"), [("binary", "rocAuc"), ("regression", "rmse")])
def test_a_flip_is_caught_by_labels_and_by_nothing_else(tmp_path: Path, task: str, metric: str) -> None:
    seen = flip(tmp_path, task, metric, labelled=True)
    assert seen.verdicts("concept") == ["quiet"] * FIRST + ["violated"] * 4
    for other in ("upstream", "inputs", "target"):
        assert set(seen.verdicts(other)) == {"quiet"}
    assert seen.fired == {"concept"}


@pytest.mark.parametrize(("task", "metric"), [("binary", "rocAuc"), ("regression", "rmse")])
def test_an_estimate_does_not_see_a_flip_and_does_not_say_quiet(
    tmp_path: Path, task: str, metric: str
) -> None:
    seen = flip(tmp_path, task, metric, labelled=False)
    assert set(seen.verdicts("concept")) == {"insufficient"}
    assert all(
        one.estimate for each in seen.assessed.evaluations for one in each.checks if one.name == "concept"
    )
    assert seen.fired == set()
    assert seen.decision.state.verdict != "Degraded"


def test_estimates_after_a_flip_clear_nothing(tmp_path: Path) -> None:
    days = [rows(50 + day, 1_000, 100 + day, task="binary", flipped=day >= 2) for day in range(12)]
    for day in days[5:]:
        day["y"] = day["y"].astype(float).mask(day["y"] >= 0)  # no labels any more
    concept = {"name": "concept", "type": "conceptDrift", "metric": "rocAuc", "estimate": True}
    reference = rows(1, 10_000, 0, 30, task="binary", flipped=False)
    seen = watched(
        tmp_path, reference, days, BINARY, features=("a", "b", "c"), task="binary", checks=[concept]
    )
    assert seen.verdicts("concept") == ["quiet"] * 2 + ["violated"] * 3 + ["insufficient"] * 6
    (check,) = seen.decision.state.checks
    assert check.fired
    assert [one.turn for one in seen.decision.transitions if one.turn == "cleared"] == []
