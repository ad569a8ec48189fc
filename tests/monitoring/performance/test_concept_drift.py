"""Concept drift is seen on labels, by effect and significance, and not where nothing changed."""

import math

import numpy as np
import pytest
from drawn import BINARY, chance, drawn, reference, sums

from mlops.monitoring.performance.concept_drift import chunks_of, concept_drift, sums_of
from mlops.monitoring.performance.judging import Baseline, p_value
from mlops.monitoring.performance.measuring import Performance, measure
from mlops.monitoring.performance.metrics import METRICS
from mlops.monitoring.performance.sums import Layout, Sums, merged, no_sums, summed
from mlops.monitoring.verdicts import CheckVerdict


def check(
    window: Sums | dict[str | None, Sums], before: list[Sums], name: str = "rocAuc", **more: object
) -> CheckVerdict:
    slices = window if isinstance(window, dict) else {None: window}
    settings: dict[str, object] = {
        "max_drop": 0.03,
        "min_rows": 100,
        "due": True,
        "predicted": slices[None].rows,
    }
    chunks = more.pop("reference", {None: before})
    return concept_drift(
        "concept",
        "y",
        METRICS[name],
        window=slices,
        reference=chunks,
        **(settings | more),  # type: ignore[arg-type]
    )


def test_a_flipped_relation_with_unchanged_x_and_rate_of_y_is_caught() -> None:
    rng = np.random.default_rng(0)
    before = reference(rng, 10_000, 1000)
    flipped = drawn(rng, 1000, truth=lambda x: chance(-x))
    assert abs(flipped.targets.mean() - 0.5) < 0.05  # Y alone shows nothing
    for name in ("rocAuc", "accuracy", "f1", "averagePrecision", "logLoss", "brier"):
        found = check(sums(flipped), before, name)
        assert found.verdict == "violated", name
        assert found.value is not None
        assert found.value >= 0.3
        assert found.threshold == 0.03
        assert not found.estimate
        assert found.columns[0].p_adjusted is not None
        assert found.columns[0].p_adjusted < 1e-6


def test_quiet_windows_are_quiet_in_99_of_100() -> None:
    """200 policies of 30 windows of 300 rows, where chance alone takes rocAuc further than `maxDrop` in a third."""
    rng = np.random.default_rng(1)
    violated = {"rocAuc": 0, "accuracy": 0, "logLoss": 0}
    fired = dict.fromkeys(violated, 0)
    for _ in range(200):
        before = [sums(drawn(rng, 300)) for _ in range(10)]
        windows = [sums(drawn(rng, 300)) for _ in range(30)]
        for name in violated:
            whole = measure(METRICS[name], merged(before, BINARY))
            baseline = Baseline(whole, tuple(measure(METRICS[name], chunk) for chunk in before))
            row = [_violated(name, measure(METRICS[name], one), baseline) for one in windows]
            violated[name] += sum(row)
            fired[name] += any(row[k] and sum(row[max(0, k - 2) : k + 1]) >= 2 for k in range(30))
    assert max(violated.values()) <= 0.01 * 200 * 30, violated
    assert max(fired.values()) <= 4, fired  # 2 of 3 and the newest


def _violated(name: str, current: Performance, baseline: Baseline) -> bool:
    assert current.value is not None
    assert baseline.whole.value is not None
    p = p_value(current, baseline)
    assert p is not None
    return p <= 0.01 and METRICS[name].worsening(baseline.whole.value, current.value) >= 0.01


def test_a_tiny_drop_of_many_rows_is_significant_and_quiet() -> None:
    rng = np.random.default_rng(2)
    weaker = drawn(rng, 60_000, truth=lambda x: chance(0.93 * x))
    found = check(sums(weaker), reference(rng, 60_000, 60_000), max_drop=0.03)
    assert found.columns[0].p_adjusted is not None
    assert found.columns[0].p_adjusted < 0.01
    assert found.verdict == "quiet"


def test_a_large_drop_of_few_rows_is_chance_and_quiet() -> None:
    rng = np.random.default_rng(3)
    before = reference(rng, 5000, 100)
    drops = [check(sums(drawn(rng, 100)), before, min_rows=50) for _ in range(40)]
    large = [found for found in drops if (found.value or 0) >= 0.03]
    assert len(large) >= 5
    assert sum(found.verdict == "violated" for found in large) <= 1


def test_what_goes_up_and_down_in_the_reference_is_no_drift_in_a_window() -> None:
    rng = np.random.default_rng(4)

    def day() -> Sums:
        steepness = 1.4 ** rng.normal()
        return sums(drawn(rng, 2000, truth=lambda x: chance(steepness * x)))

    before, windows = [day() for _ in range(20)], [day() for _ in range(40)]
    assert sum(check(window, before).verdict == "violated" for window in windows) <= 1
    # Chance alone, as one chunk would have it, takes the same days for drift.
    one = [merged(before, BINARY)]
    assert sum(check(window, one).verdict == "violated" for window in windows) >= 5


def test_a_better_metric_is_noted_and_no_violation() -> None:
    rng = np.random.default_rng(5)
    found = check(sums(drawn(rng, 2000, truth=lambda x: chance(3 * x))), reference(rng, 20_000, 2000))
    assert found.verdict == "quiet"
    assert found.value is not None
    assert found.value < 0
    assert "better than the reference" in str(found.columns[0].note)


def test_a_slice_that_flips_is_found_and_named_among_slices_that_do_not() -> None:
    rng = np.random.default_rng(6)
    names = [dict(enumerate("abcdefgh"))]
    rows = drawn(rng, 16_000, codes=8)
    before = [sums_of(BINARY, chunk, names) for chunk in chunks_of(rows, 4000)]
    chunks = {called: [part[called] for part in before] for called in before[0]}
    window = sums_of(BINARY, drawn(rng, 4000, codes=8), names)
    quiet = check(window, [], reference=chunks, max_drop=0.05)
    assert [found.slice for found in quiet.columns] == [None, *"abcdefgh"]
    assert quiet.verdict == "quiet"
    flipped = drawn(rng, 4000, codes=8, truth=lambda x: chance(-x))
    found = check(window | {"c": sums_of(BINARY, flipped, names)["c"]}, [], reference=chunks, max_drop=0.05)
    assert found.verdict == "violated"
    assert [column.slice for column in found.columns if column.verdict == "violated"] == ["c"]
    new = check(window | {"z": window["a"]}, [], reference=chunks, max_drop=0.05)
    assert new.columns[-1].verdict == "insufficient"
    assert new.columns[-1].note == "reference: no labelled rows"


def test_until_labels_are_due_a_window_is_insufficient_and_says_how_many_there_are() -> None:
    rng = np.random.default_rng(7)
    few = sums(drawn(rng, 300))
    found = check(few, reference(rng, 5000, 1000), predicted=1000, due=False)
    assert (found.verdict, found.value) == ("insufficient", None)
    assert found.columns[0].note == "labels of 300 of 1000 rows are here: more are waited for"
    assert check(no_sums(BINARY), [], predicted=0).verdict == "noData"
    assert check(no_sums(BINARY), [], predicted=10).verdict == "insufficient"


@pytest.mark.parametrize("rows", [0, 1, 2, 99])
@pytest.mark.parametrize("name", ["rocAuc", "accuracy", "logLoss"])
def test_too_few_rows_are_insufficient_and_never_a_crash(rows: int, name: str) -> None:
    rng = np.random.default_rng(8)
    before = reference(rng, 5000, 1000)
    found = check(sums(drawn(rng, rows, truth=lambda x: chance(-x))), before, name, predicted=100)
    assert found.verdict == "insufficient"
    assert found.columns[0].note


def test_one_class_only_is_insufficient_with_a_note() -> None:
    rng = np.random.default_rng(9)
    always = drawn(rng, 500, truth=np.ones_like)
    found = check(sums(always), reference(rng, 5000, 1000))
    assert found.verdict == "insufficient"
    assert found.columns[0].note == "rocAuc is not defined: the labels are of one class only"


def test_wholly_wrong_rows_of_no_spread_are_not_certain_beyond_what_the_reference_allows() -> None:
    rng = np.random.default_rng(10)
    before = measure(METRICS["accuracy"], merged(reference(rng, 5000, 1000), BINARY))
    wrong = measure(METRICS["accuracy"], summed(BINARY, np.ones(1), np.zeros(1)))
    assert (wrong.value, wrong.standard_error) == (0, 0)
    p = p_value(wrong, Baseline(before))
    assert p is not None
    assert p > 0.01


def test_a_model_without_any_loss_before_has_an_infinite_worsening_that_is_violated() -> None:
    values = Layout("regression")
    target = np.arange(200.0)
    found = check(
        summed(values, target, target + np.sin(target)), [summed(values, target, target)], "mae", max_drop=0.1
    )
    assert (found.verdict, found.value) == ("violated", None)


def test_errors_of_a_regression_that_grow_are_caught_and_that_shrink_are_not() -> None:
    rng = np.random.default_rng(11)
    values = Layout("regression", centre=50)

    def days(noise: float) -> Sums:
        target = rng.normal(50, 10, 1000)
        return summed(values, target, target + rng.normal(0, noise, 1000))

    before = [days(2.0) for _ in range(8)]
    for name in ("rmse", "mae", "mape", "r2"):
        assert check(days(2.4), before, name, max_drop=0.001).verdict == "violated", name
        assert check(days(1.8), before, name, max_drop=0.001).verdict == "quiet", name


def test_files_in_any_order_give_the_same_verdict_to_the_byte() -> None:
    rng = np.random.default_rng(12)
    before = reference(rng, 6000, 1000)
    parts = [sums(drawn(rng, 200)) for _ in range(6)]
    one = check(merged(parts, BINARY), before)
    other = check(merged(parts[::-1], BINARY), before)
    assert one == other
    assert math.isfinite(one.value or 0.0)


def test_a_class_that_a_window_does_not_have_is_left_out_of_the_reference_as_well() -> None:
    """Class c is the easy one: the mean over a and b alone is a tenth lower, and nothing has changed."""
    rng = np.random.default_rng(13)
    layout = Layout("multiclass", ("a", "b", "c"))

    def some(rows: int, classes: int) -> Sums:
        targets = rng.integers(0, classes, rows).astype(float)
        scores = rng.normal(size=(rows, 3))
        scores[np.arange(rows), targets.astype(int)] += np.array([1.0, 1.0, 3.0])[targets.astype(int)]
        return summed(layout, targets, None, scores)

    before = [some(2000, 3) for _ in range(8)]
    window = some(2000, 2)
    whole = measure(METRICS["rocAuc"], merged(before, layout)).value
    value = measure(METRICS["rocAuc"], window).value
    assert value is not None
    assert whole is not None
    assert METRICS["rocAuc"].worsening(whole, value) > 0.05
    found = check(window, before)
    assert found.verdict == "quiet"
    assert "1 of 3 classes do not occur and are left out" in str(found.columns[0].note)
