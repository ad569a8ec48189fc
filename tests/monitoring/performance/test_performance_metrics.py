"""Metrics from sums are scikit-learn's, whatever the order of the rows and files that were summed."""

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlops.errors import Stalled
from mlops.monitoring.performance import curves, metrics
from mlops.monitoring.performance.curves import Grid, cells_of, precision_area, precision_bounds, roc_area
from mlops.monitoring.performance.measuring import Performance, measure
from mlops.monitoring.performance.metrics import METRICS, default_metric, metric_for
from mlops.monitoring.performance.sums import Layout, Sums, no_sums, summed

BINARY = Layout("binary", ("no", "yes"))
THREE = Layout("multiclass", ("a", "b", "c"))
VALUES = Layout("regression", centre=1e6)


def binary(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-rng.normal(-1, 1.5, rows)))
    targets = (rng.random(rows) < scores).astype(float)
    return targets, (scores >= 0.4).astype(float), scores[:, None]


def three(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet([2.0, 1.0, 0.7], rows)
    targets = (rng.random(rows)[:, None] > scores.cumsum(axis=1)).sum(axis=1).astype(float)
    return targets, scores.argmax(axis=1).astype(float), scores


def values(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = 1e6 + rng.normal(0, 1, rows)
    return targets, targets + rng.standard_t(5, rows) * 0.4 + 0.1


def value(name: str, sums: Sums) -> float:
    found = measure(METRICS[name], sums).value
    assert found is not None
    return found


def error(name: str, sums: Sums) -> float:
    found = measure(METRICS[name], sums).standard_error
    assert found is not None
    return found


def test_binary_metrics_are_scikit_learns() -> None:
    targets, predictions, scores = binary(5000)
    sums = summed(BINARY, targets, predictions, scores)
    assert value("accuracy", sums) == sk.accuracy_score(targets, predictions)
    assert value("f1", sums) == pytest.approx(sk.f1_score(targets, predictions), abs=1e-12)
    assert value("logLoss", sums) == pytest.approx(sk.log_loss(targets, scores[:, 0]), rel=1e-12)
    assert value("brier", sums) == pytest.approx(sk.brier_score_loss(targets, scores[:, 0]), rel=1e-12)
    roc, precision = roc_area(sums.grids[0]), precision_area(sums.grids[0])
    assert roc is not None
    assert precision is not None
    exact_roc = sk.roc_auc_score(targets, scores[:, 0])
    assert abs(roc.value - exact_roc) <= roc.half_width < 2e-4
    exact_precision = sk.average_precision_score(targets, scores[:, 0])
    assert abs(precision.value - exact_precision) <= precision.half_width < 1e-3
    low, high = precision_bounds(sums.grids[0])
    assert low <= exact_precision <= high


def test_metrics_of_several_classes_are_scikit_learns_macro_means() -> None:
    targets, predictions, scores = three(5000)
    sums = summed(THREE, targets, predictions, scores)
    assert value("accuracy", sums) == sk.accuracy_score(targets, predictions)
    assert value("f1", sums) == pytest.approx(sk.f1_score(targets, predictions, average="macro"), abs=1e-12)
    assert value("logLoss", sums) == pytest.approx(sk.log_loss(targets, scores), rel=1e-12)
    brier = ((scores - np.eye(3)[targets.astype(int)]) ** 2).sum(axis=1).mean()
    assert value("brier", sums) == pytest.approx(brier, rel=1e-12)
    roc = sk.roc_auc_score(targets, scores, multi_class="ovr", average="macro")
    assert value("rocAuc", sums) == pytest.approx(roc, abs=2e-4)
    precision = sk.average_precision_score(np.eye(3)[targets.astype(int)], scores, average="macro")
    assert value("averagePrecision", sums) == pytest.approx(precision, abs=1e-3)


def test_metrics_of_values_are_scikit_learns_though_the_target_is_large_and_tight() -> None:
    targets, predictions = values(5000)
    sums = summed(VALUES, targets, predictions)
    assert value("mae", sums) == pytest.approx(sk.mean_absolute_error(targets, predictions), rel=1e-12)
    assert value("rmse", sums) == pytest.approx(sk.root_mean_squared_error(targets, predictions), rel=1e-12)
    mape = sk.mean_absolute_percentage_error(targets, predictions)
    assert value("mape", sums) == pytest.approx(mape, rel=1e-12)
    assert value("r2", sums) == pytest.approx(sk.r2_score(targets, predictions), rel=1e-9)


@pytest.mark.parametrize("name", ["accuracy", "f1", "rocAuc", "averagePrecision", "logLoss", "brier"])
@pytest.mark.parametrize("make", [binary, three])
def test_standard_errors_of_classes_are_what_repetition_shows(name: str, make: object) -> None:
    layout = BINARY if make is binary else THREE
    repeated = [summed(layout, *make(800, seed)) for seed in range(150)]  # type: ignore[operator]
    seen = float(np.std([value(name, sums) for sums in repeated]))
    told = float(np.mean([error(name, sums) for sums in repeated]))
    # Of several classes' areas it is an upper bound; repetition itself is known to 6 %.
    assert 0.8 <= told / seen <= (2.5 if make is three and METRICS[name].macro else 1.35)


@pytest.mark.parametrize("name", ["rmse", "mae", "mape", "r2"])
def test_standard_errors_of_values_are_what_repetition_shows(name: str) -> None:
    repeated = [summed(VALUES, *values(800, seed)) for seed in range(150)]
    seen = float(np.std([value(name, sums) for sums in repeated]))
    told = float(np.mean([error(name, sums) for sums in repeated]))
    assert 0.8 <= told / seen <= 1.25


@pytest.mark.parametrize("layout", [BINARY, THREE, VALUES])
def test_rows_in_any_order_and_in_any_files_give_the_same_bytes(layout: Layout) -> None:
    rng = np.random.default_rng(4)
    match layout.task:
        case "regression":
            columns = values(3000)
        case task:
            columns = (binary if task == "binary" else three)(3000)  # type: ignore[assignment]
    whole = summed(layout, *columns)
    for _ in range(3):
        order = rng.permutation(3000)
        cuts = np.sort(rng.integers(0, 3000, 4))
        files = [
            summed(layout, *(np.asfortranarray(column[part]) for column in columns))
            for part in np.split(order, cuts)
        ]
        rng.shuffle(files)  # type: ignore[arg-type]
        assert reduce(Sums.merge, files).encode() == whole.encode()
    again = Sums.decode(whole.encode())
    assert again.encode() == whole.encode()
    for name in METRICS:
        if METRICS[name].regression == (layout.task == "regression"):
            assert measure(METRICS[name], again) == measure(METRICS[name], whole)


def test_bytes_that_are_no_sums_are_refused_without_their_content() -> None:
    packed = summed(BINARY, *binary(50)).encode()
    broken = [b"", packed[:-1], packed + b"x", b"secret" + packed, packed.replace(b'"binary"', b'"secret"')]
    broken += [packed[:8] + b"\xff\xff\xff\x7f" + packed[12:], packed.replace(b"<i8", b"|O8")]
    broken += [no_sums(VALUES).encode().replace(b'"regression"', b'"multiclass"')]
    for bad in broken:
        with pytest.raises(Stalled) as caught:
            Sums.decode(bad)
        assert "secret" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_cells_keep_the_order_of_scores(one: float, other: float) -> None:
    low, high = sorted([one, other])
    first, second = cells_of(np.array([low, high]))
    assert first <= second


def test_cells_tell_apart_what_is_near_either_end() -> None:
    near_zero = np.array([1e-9, 2e-9, 1e-4, 2e-4, 0.5 - 1e-3, 0.5, 0.5 + 1e-3])
    assert len(set(cells_of(near_zero))) == 7
    assert len(set(cells_of(1 - near_zero))) == 7
    assert len(set(cells_of(np.array([-5.0, -0.5, -1e-5, 0.0, 1.0, 1.5, 7.0])))) == 7
    assert cells_of(np.array([-0.0]))[0] == cells_of(np.array([0.0]))[0]


def test_an_area_on_a_grid_is_within_the_bound_told_even_where_scores_lie_close_together() -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random(2000) < 0.3).astype(np.int64)
    scores = 0.3 + 1e-4 * (rng.normal(0, 1, 2000) + targets)  # a few cells wide
    grid = Grid.of(scores, targets, 1 - targets)
    roc, precision = roc_area(grid), precision_area(grid)
    assert roc is not None
    assert precision is not None
    assert abs(roc.value - sk.roc_auc_score(targets, scores)) <= roc.half_width
    assert abs(precision.value - sk.average_precision_score(targets, scores)) <= precision.half_width
    sums = summed(BINARY, targets.astype(float), None, scores[:, None])
    assert "close together" in str(measure(METRICS["rocAuc"], sums).note)


def test_the_placement_variance_is_delongs() -> None:
    targets, _, scores = binary(300, 3)
    grid = Grid.of(scores[:, 0], targets.astype(np.int64), (1 - targets).astype(np.int64))
    area = roc_area(grid)
    assert area is not None
    cells = cells_of(scores[:, 0])
    up, down = cells[targets == 1], cells[targets == 0]
    above = (up[:, None] > down[None, :]) + 0.5 * (up[:, None] == down[None, :])
    variance = above.mean(axis=1).var(ddof=1) / len(up) + above.mean(axis=0).var(ddof=1) / len(down)
    assert area.standard_error == pytest.approx(math.sqrt(variance), rel=1e-12)


@pytest.mark.parametrize("name", list(METRICS))
def test_what_cannot_be_measured_is_said_and_never_raises(name: str) -> None:
    metric = METRICS[name]
    layout = VALUES if metric.regression else BINARY
    nothing = np.zeros(0)
    columns = 1 if not metric.regression else 0
    empty = measure(metric, summed(layout, nothing, nothing, np.zeros((0, columns))))
    assert (empty.value, empty.note) == (None, "no labelled rows")
    bad = np.array([np.nan, np.inf, -np.inf])
    unusable = measure(metric, summed(layout, np.ones(3), bad, np.repeat(bad[:, None], columns, axis=1)))
    assert unusable.value is None
    assert "none of 3 rows has a usable" in str(unusable.note)
    unlabelled = measure(metric, summed(layout, np.full(3, np.nan), np.ones(3), np.full((3, columns), 0.5)))
    assert unlabelled.note == "no labelled rows"
    one = measure(metric, summed(layout, np.ones(1), np.ones(1), np.full((1, columns), 0.5)))
    assert isinstance(one, Performance)
    if name in ("rocAuc", "r2"):
        assert one.value is None
        assert one.note


def test_one_class_only_has_no_area_and_says_so() -> None:
    scores = np.linspace(0, 1, 50)[:, None]
    for label in (0.0, 1.0):
        found = measure(METRICS["rocAuc"], summed(BINARY, np.full(50, label), None, scores))
        assert found.value is None
        assert found.note == "rocAuc is not defined: the labels are of one class only"


def test_a_class_that_does_not_occur_is_left_out_of_the_mean_and_named_by_number() -> None:
    targets, predictions, scores = three(2000)
    two = targets < 2
    predictions = np.minimum(predictions, 1)
    found = measure(METRICS["f1"], summed(THREE, targets[two], predictions[two], scores[two]))
    assert found.value == pytest.approx(sk.f1_score(targets[two], predictions[two], average="macro"))
    assert found.note == "1 of 3 classes do not occur and are left out"


def test_unusable_predictions_are_counted_and_unknown_classes_are_mistakes() -> None:
    targets = np.array([1.0, 1, 0, 0, -1])
    sums = summed(BINARY, targets, np.array([1.0, np.nan, 0, -1, 1]))
    found = measure(METRICS["accuracy"], sums)
    assert found.value == 0.5
    assert found.note == "1 of 5 rows have no usable prediction or class"


def test_scores_that_are_no_probabilities_have_an_area_and_no_log_loss() -> None:
    targets, _, scores = binary(1000)
    margins = np.log(scores / (1 - scores))
    sums = summed(BINARY, targets, None, margins)
    assert value("rocAuc", sums) == pytest.approx(sk.roc_auc_score(targets, scores[:, 0]), abs=2e-3)
    for name in ("logLoss", "brier"):
        found = measure(METRICS[name], sums)
        assert found.value is None
        assert "no probabilities" in str(found.note)


def test_worsening_is_relative_and_in_the_metrics_own_direction() -> None:
    assert METRICS["rocAuc"].worsening(0.8, 0.76) == pytest.approx(0.05)
    assert METRICS["rocAuc"].worsening(0.8, 0.84) == pytest.approx(-0.05)
    assert METRICS["logLoss"].worsening(0.5, 0.55) == pytest.approx(0.1)
    assert METRICS["r2"].worsening(-0.5, -0.6) == pytest.approx(0.2)
    assert METRICS["mae"].worsening(0.0, 0.1) == math.inf
    assert METRICS["mae"].worsening(0.0, 0.0) == 0


def test_a_metric_that_does_not_fit_the_task_is_named_with_those_that_do() -> None:
    with pytest.raises(Stalled, match=r"no metric rocAuc for regression.*rmse, mae, mape, r2"):
        metric_for("rocAuc", "regression")
    assert [
        metric_for(default_metric(task), task).name for task in ("binary", "multiclass", "regression")
    ] == [
        "rocAuc",
        "accuracy",
        "rmse",
    ]


@pytest.mark.parametrize("module", [curves, metrics])
def test_examples_in_docstrings_run(module: object) -> None:
    import doctest

    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
