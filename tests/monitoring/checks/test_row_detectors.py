"""Detectors that need rows, asked for by a policy's check: of a column, of all at once, in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp
from summed import plan_of, summed

from mlops.errors import MlopsError, Stalled
from mlops.monitoring.alibi.requests import Request
from mlops.monitoring.checks import DriftSettings, calibrate, data_drift, target_drift
from mlops.monitoring.checks.row_measures import Measure
from mlops.monitoring.detectors import Measured
from mlops.monitoring.samples import Layout, RowSample, Sampler
from mlops.monitoring.verdicts import CheckVerdict

Columns = Mapping[str, Any]


def rows(seed: int, shift: float = 0.0, size: int = 1_000) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "x": draw.normal(shift, 1, size),
        "y": draw.normal(size=size),
        "c": draw.choice(["a", "b", "c"], size),
    }


def judged(
    settings: DriftSettings,
    reference: Columns,
    window: Columns,
    measure: Measure | None,
    slices: Sequence[str] = (),
) -> CheckVerdict:
    plan = plan_of(reference, slices)
    sketches = []
    for side in (reference, window):
        sampler = Sampler(Layout.of(plan, plan.columns))
        sampler.add(pa.record_batch({name: pa.array(values) for name, values in side.items()}))
        sketches.append(sampler.sketches()[0])
    sample = RowSample.of(sketches[0], sketches[1], 1)
    return data_drift(settings, summed(plan, reference), summed(plan, window), rows=sample, alibi=measure)


class Answering:
    """In the place of the child: KS of the first column, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, requests: Sequence[Request]) -> list[Measured | MlopsError]:
        self.asked.append([request.detector.name for request in requests])
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Measured | MlopsError:
        if request.detector.own_name == "chiSquare":
            return Stalled("alibi/chiSquare needs alibi-detect", fix="Install it")
        found = ks_2samp(request.reference[:, 0], request.window[:, 0])
        return request.measured([found.statistic], [found.pvalue])


def test_columns_and_all_columns_are_asked_for_at_once_and_judged_like_any_other() -> None:
    answering = Answering()
    settings = DriftSettings("inputs", numeric="alibi/ks", multivariate="alibi/classifier", min_rows=100)
    found = judged(settings, rows(1), rows(2, 0.6), answering)
    assert answering.asked == [["alibi/ks", "alibi/ks", "alibi/classifier"]]
    assert found.verdict == "violated"
    by_column = {one.column: one for one in found.columns}
    assert (by_column["x"].detector, by_column["x"].threshold, by_column["x"].verdict) == (
        "alibi/ks",
        0.1,
        "violated",
    )
    assert by_column["x"].value == pytest.approx(0.24, abs=0.04)
    assert by_column["y"].verdict == "quiet"
    assert by_column["*"].detector == "alibi/classifier"
    assert by_column["y"].p_adjusted is not None
    assert by_column["c"].detector == "jensenShannon"


def test_thresholds_hold_for_them() -> None:
    settings = DriftSettings("inputs", numeric="alibi/ks", thresholds={"alibi/ks": 0.5}, min_rows=100)
    assert judged(settings, rows(1), rows(2, 0.6), Answering()).verdict == "quiet"


def test_one_that_is_not_installed_is_an_error_of_its_columns_and_the_rest_is_judged() -> None:
    settings = DriftSettings("inputs", categorical="alibi/chiSquare", min_rows=100)
    found = judged(settings, rows(1), rows(2), Answering())
    by_column = {one.column: one for one in found.columns}
    assert (by_column["c"].verdict, by_column["c"].note) == (
        "error",
        "alibi/chiSquare needs alibi-detect. Install it",
    )
    assert (by_column["x"].verdict, found.verdict) == ("quiet", "error")


def test_a_detector_in_the_wrong_place_says_so() -> None:
    one = judged(DriftSettings("i", numeric="alibi/mmd", min_rows=100), rows(1), rows(2), Answering())
    notes = {each.column: each.note for each in one.columns}
    assert notes["x"] == "this detector compares all columns at once"
    other = judged(DriftSettings("i", multivariate="alibi/ks", min_rows=100), rows(1), rows(2), Answering())
    assert {each.column: each.note for each in other.columns}["*"] == "it compares one column"


def test_without_rows_they_are_insufficient_and_never_quiet() -> None:
    settings = DriftSettings("inputs", numeric="alibi/ks", categorical="alibi/chiSquare", min_rows=100)
    found = judged(settings, rows(1), rows(2), None)
    assert found.verdict == "insufficient"
    assert {one.note for one in found.columns} == {"there are no rows to compare"}


def test_an_empty_column_is_not_asked_for() -> None:
    answering = Answering()
    window = rows(2) | {"x": np.full(1_000, np.nan)}
    found = judged(DriftSettings("inputs", numeric="alibi/ks", min_rows=100), rows(1), window, answering)
    assert answering.asked == [["alibi/ks"]]
    assert {one.column: one.note for one in found.columns}["x"] == "all null"


def test_slices_are_left_to_detectors_on_counts() -> None:
    settings = DriftSettings("inputs", numeric="alibi/ks", min_rows=100)
    found = judged(settings, rows(1), rows(2), Answering(), ["c"])
    assert {one.slice for one in found.columns if one.detector == "alibi/ks"} == {None}
    assert len({one.slice for one in found.columns}) == 4


def test_calibrated_thresholds_are_not_for_them() -> None:
    settings = DriftSettings("target", numeric="alibi/ks", min_rows=100)
    plan = plan_of(rows(1))
    parts = [summed(plan, rows(seed)) for seed in range(10)]
    found = target_drift(settings, parts[0], parts[1], ["x"], calibrations=calibrate(settings, parts))
    assert (found.verdict, found.columns[0].note) == ("insufficient", "thresholds of it are not calibrated")
