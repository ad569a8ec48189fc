"""Rows that depend on their neighbours: what is usual for them is no fault of their source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sim_monitoring
from scored_tables import DAY, Memory, assessed, spec, subject, table, written

from mlops.monitoring.detectors.binned import Binned
from mlops.monitoring.detectors.dependence import design_effect
from mlops.resources.dataset import Columns

WEATHER = Columns(timestamp="time")
UPSTREAM = [{"name": "upstream", "type": "upstreamChange", "detectors": ["constant"]}]


def weather(seed: int, first: int, days: int, *, dry: slice | None = None, frozen: bool = False) -> Any:
    """A row a day: whether it rains as a chain that stays as it is with 0.85, and a temperature."""
    draw = np.random.default_rng(seed)
    wet = np.cumsum(draw.random(days) > 0.85) % 2
    if dry is not None:
        wet[dry] = 0
    at = pa.array(((first + np.arange(days)) * DAY * 1_000_000).astype("datetime64[us]"))
    rain = np.where(wet == 1, draw.gamma(1.0, 4.0, days), 0.0)
    kind = np.array(["dry", "rain"])[wet]
    return {
        "time": at,
        "rain": rain,
        "kind": kind,
        "temp": np.full(days, 8.3) if frozen else draw.normal(10, 4, days),
    }


def columns_of(folder: Path, scored: Any, memory: Memory | None = None) -> dict[str, str]:
    train = table("train", [written(folder, "t.parquet", weather(1, 15 * 10, 15 * 52))], columns=WEATHER)
    window = table("scored", [written(folder, "s.parquet", scored)], columns=WEATHER)
    policy = spec(checks=UPSTREAM, window={"size": "15d", "minRows": 15})
    (first, *_) = assessed(subject(policy, train, window), memory, now=2_000.0 * DAY).evaluations
    return {f"{one.column} {one.detector}": one.verdict for one in first.checks[0].columns}


def test_a_dry_fortnight_is_no_frozen_gauge(tmp_path: Path) -> None:
    found = columns_of(tmp_path, weather(2, 15 * 80, 31, dry=slice(0, 15)))
    assert found == {"rain constant": "quiet", "kind constant": "quiet"}


def test_a_thermometer_that_stopped_is_found_in_the_same_fortnight(tmp_path: Path) -> None:
    found = columns_of(tmp_path, weather(2, 15 * 80, 31, dry=slice(0, 15), frozen=True))
    assert found == {"rain constant": "quiet", "kind constant": "quiet", "temp constant": "violated"}


@pytest.mark.parametrize(("memory", "least", "most"), [(0.0, 1.0, 1.6), (0.7, 3.0, 8.0)])
def test_the_design_effect_is_that_of_an_autoregression(
    memory: float, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of means it is (1+φ)/(1−φ) = 5.7 for φ = 0.7; of shares somewhat less, and it is an upper bound."""
    monkeypatch.setattr(sim_monitoring, "MEMORY", memory)
    draw = np.random.default_rng(3)
    counts = [sim_monitoring.with_memory(draw, 1_000, 0.0) for _ in range(30)]
    bounds = np.arange(sim_monitoring.BINS + 1.0)
    found = [
        design_effect(
            [
                Binned.of(one[column] + three[column], two[column], bounds=bounds)
                for one, two, three in zip(counts, counts[1:], counts[2:], strict=False)
            ]
        )
        for column in range(50)
    ]
    assert least <= float(np.median([one or 0.0 for one in found])) <= most


def test_of_few_windows_nothing_is_known() -> None:
    assert design_effect([Binned.of([50, 50], [15, 35])] * 3) is None


@pytest.mark.parametrize("window", [{"size": "1d"}, {"rows": 20}])
def test_of_many_windows_of_a_reference_some_are_kept_and_each_is_whole(
    tmp_path: Path, window: dict[str, Any]
) -> None:
    def hours(first: int, days: int) -> dict[str, Any]:
        at = (first * DAY + np.arange(days * 24) * 3_600) * 1_000_000
        return {"time": at.astype("datetime64[us]"), "x": np.random.default_rng(first).normal(size=days * 24)}

    memory = Memory()
    train = table("train", [written(tmp_path, "t.parquet", hours(10, 300))], columns=WEATHER)
    scored = table("scored", [written(tmp_path, "s.parquet", hours(900, 3))], columns=WEATHER)
    check = {"name": "inputs", "type": "dataDrift", "numeric": "ks", "thresholds": "calibrated"}
    policy = spec(checks=[check], window={**window, "minRows": 20})
    found = assessed(subject(policy, train, scored), memory, now=2_000.0 * DAY)
    assert [one.verdict for one in found.evaluations][:2] == ["quiet", "quiet"]
    kept = [key for key in memory.entries if key.startswith("own:") and key.count(":") == 2]
    assert len(kept) == 200


def test_of_a_wide_reference_fewer_windows_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.monitoring.evaluating.referencing._OWN_CELLS", 60)
    found = columns_of(tmp_path, weather(2, 15 * 80, 31, frozen=True), memory := Memory())
    assert found["temp constant"] == "violated"
    kept = [key for key in memory.entries if key.startswith("own:") and key.count(":") == 2]
    starts = sorted(int(key.rsplit(":", 1)[1]) // (15 * DAY) for key in kept)
    assert len(starts) == 60 // 3  # rain, kind, temp
    runs = [starts[at : at + 5] for at in range(0, 20, 5)]
    assert all(run == list(range(run[0], run[0] + 5)) for run in runs)  # neighbours are what is compared
    assert (starts[0], starts[-1]) == (10, 61)
