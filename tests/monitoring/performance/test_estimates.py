"""Estimated performance follows X, is blind to a change of P(Y given X), may violate, and never clears."""

import numpy as np
import pytest
from drawn import BINARY, chance, drawn, sums
from sklearn import metrics as sk

from mlops.errors import Stalled
from mlops.monitoring.performance.concept_drift import chunks_of, concept_drift, estimated_drift, meanwhile
from mlops.monitoring.performance.estimates import cbpe, dle
from mlops.monitoring.performance.measuring import measure
from mlops.monitoring.performance.metrics import METRICS
from mlops.monitoring.performance.rows import Joined, PredictionRows
from mlops.monitoring.performance.sums import Layout, Sums, merged, no_sums, summed
from mlops.monitoring.verdicts import CheckVerdict

VALUES = Layout("regression")
NUMERIC = np.array([False, False])


def calibration(rng: np.random.Generator) -> cbpe.Calibration:
    rows = drawn(rng, 20_000)
    found = cbpe.calibrated(BINARY, rows.rows.scores, rows.targets)
    assert found is not None
    return found


def expected(rows: PredictionRows, by: cbpe.Calibration) -> Sums:
    return cbpe.expected(by.layout, rows.predictions, rows.scores, by.chances(rows.scores))


def of_reference(rng: np.random.Generator) -> list[Sums]:
    rows = drawn(rng, 10_000)
    chances = cbpe.out_of_fold(BINARY, rows.rows.ids, rows.rows.scores, rows.targets)
    assert chances is not None
    found = []
    for part in np.array_split(np.arange(10_000), 10):
        one = rows.rows.take(part)
        found.append(cbpe.expected(BINARY, one.predictions, one.scores, chances[part]))
    return found


def estimate(window: Sums, before: list[Sums], detector: str = "cbpe", name: str = "rocAuc") -> CheckVerdict:
    return estimated_drift(
        "concept",
        "y",
        METRICS[name],
        detector,
        max_drop=0.03,
        min_rows=100,
        window={None: window},
        reference={None: before},
    )


@pytest.mark.parametrize("name", ["accuracy", "f1", "rocAuc", "averagePrecision", "logLoss", "brier"])
@pytest.mark.parametrize("centre", [0.0, 0.7, -1.0])
def test_cbpe_follows_a_shift_of_x_to_the_true_performance(name: str, centre: float) -> None:
    rng = np.random.default_rng(0)
    rows = drawn(rng, 20_000, centre=centre)
    told = measure(METRICS[name], expected(rows.rows, calibration(rng))).value
    true = measure(METRICS[name], sums(rows)).value
    assert told == pytest.approx(true, abs=0.02)


def test_cbpe_calibrates_a_model_that_is_far_too_sure_of_itself() -> None:
    rng = np.random.default_rng(1)

    def sure(rows: int, centre: float) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(centre, 1, rows)
        return chance(4 * x)[:, None], (rng.random(rows) < chance(0.5 * x)).astype(float)

    scores, targets = sure(20_000, 0.0)
    found = cbpe.calibrated(BINARY, scores, targets)
    assert found is not None
    scores, targets = sure(20_000, 0.5)
    told = cbpe.expected(BINARY, (scores[:, 0] >= 0.5).astype(float), scores, found.chances(scores))
    true = sk.accuracy_score(targets, scores[:, 0] >= 0.5)
    assert measure(METRICS["accuracy"], told).value == pytest.approx(true, abs=0.015)
    assert np.maximum(scores, 1 - scores).mean() > true + 0.15  # what it says of itself


def test_cbpe_of_several_classes_follows_the_true_performance() -> None:
    rng = np.random.default_rng(2)
    layout = Layout("multiclass", ("a", "b", "c"))

    def rows(count: int, weights: list[float]) -> tuple[np.ndarray, np.ndarray]:
        scores = rng.dirichlet(weights, count)
        return scores, (rng.random(count)[:, None] > scores.cumsum(axis=1)).sum(axis=1).clip(0, 2).astype(
            float
        )

    scores, targets = rows(20_000, [1, 1, 1])
    found = cbpe.calibrated(layout, scores, targets)
    assert found is not None
    scores, targets = rows(20_000, [2, 2, 1])
    predictions = scores.argmax(axis=1).astype(float)
    told = cbpe.expected(layout, predictions, scores, found.chances(scores))
    true = summed(layout, targets, predictions, scores)
    for name in ("accuracy", "f1", "rocAuc", "averagePrecision", "logLoss", "brier"):
        assert measure(METRICS[name], told).value == pytest.approx(
            measure(METRICS[name], true).value, abs=0.03
        ), name


def test_a_flipped_relation_is_caught_by_labels_and_not_by_the_estimate_which_clears_nothing() -> None:
    rng = np.random.default_rng(3)
    flipped = drawn(rng, 1000, truth=lambda x: chance(-x))
    blind = estimate(expected(flipped.rows, calibration(rng)), of_reference(rng))
    assert (blind.verdict, blind.estimate) == ("insufficient", True)
    assert blind.value is not None
    assert abs(blind.value) < 0.03
    assert "estimated, no labels yet; rocAuc" in str(blind.columns[0].note)
    settings = {
        "max_drop": 0.03,
        "min_rows": 100,
        "reference": {None: [sums(c) for c in chunks_of(drawn(rng, 9000), 900)]},
    }
    waiting = concept_drift(
        "concept",
        "y",
        METRICS["rocAuc"],
        window={None: no_sums(BINARY)},
        predicted=1000,
        due=False,
        **settings,  # type: ignore[arg-type]
    )
    told = meanwhile(waiting, blind)
    assert (told.verdict, told.estimate, len(told.columns)) == ("insufficient", True, 2)
    seen = concept_drift(
        "concept",
        "y",
        METRICS["rocAuc"],
        window={None: sums(flipped)},
        predicted=1000,
        due=True,
        **settings,  # type: ignore[arg-type]
    )
    assert seen.verdict == "violated"
    assert meanwhile(seen, blind) is seen


def test_an_estimate_that_says_much_worse_violates_before_labels_are_here() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(0, 0.3, 1000)  # all near where the model does not know
    scores = chance(x)[:, None]
    by = calibration(rng)
    window = cbpe.expected(BINARY, (scores[:, 0] >= 0.5).astype(float), scores, by.chances(scores))
    found = estimate(window, of_reference(rng))
    assert (found.verdict, found.estimate) == ("violated", True)


def test_estimates_of_quiet_windows_alarm_in_at_most_one_of_a_hundred() -> None:
    rng = np.random.default_rng(5)
    violated = 0
    for _ in range(8):
        by, before = calibration(rng), of_reference(rng)
        violated += sum(
            estimate(expected(drawn(rng, 1000).rows, by), before).verdict == "violated" for _ in range(30)
        )
    assert violated <= 2


def test_cbpe_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(6)
    rows = drawn(rng, 3000)
    order = rng.permutation(3000)
    chances = cbpe.out_of_fold(BINARY, rows.rows.ids, rows.rows.scores, rows.targets)
    other = rows.rows.take(order)
    again = cbpe.out_of_fold(BINARY, other.ids, other.scores, rows.targets[order])
    assert chances is not None
    assert again is not None
    assert np.array_equal(chances[order], again)
    one = cbpe.expected(BINARY, rows.rows.predictions, rows.rows.scores, chances)
    assert cbpe.expected(BINARY, other.predictions, other.scores, again).encode() == one.encode()
    halves = [
        cbpe.expected(BINARY, part.predictions, part.scores, chances[half])
        for half in (slice(None, 1000), slice(1000, None))
        for part in [rows.rows.take(np.arange(3000)[half])]
    ]
    assert merged(halves[::-1], BINARY).encode() == one.encode()


def test_what_cannot_be_estimated_is_insufficient_or_no_data() -> None:
    rng = np.random.default_rng(7)
    few = drawn(rng, 200)
    assert cbpe.calibrated(BINARY, few.rows.scores, few.targets) is None
    assert cbpe.out_of_fold(BINARY, few.rows.ids, few.rows.scores, few.targets) is None
    by, before = calibration(rng), of_reference(rng)
    nothing = expected(drawn(rng, 0).rows, by)
    assert estimate(nothing, before).verdict == "noData"
    for bad in (np.nan, np.inf):
        scores = np.full((500, 1), bad)
        found = cbpe.expected(BINARY, np.zeros(500), scores, by.chances(scores))
        verdict = estimate(found, before)
        assert verdict.verdict == "insufficient"
        assert "none of 500 rows has a usable score" in str(verdict.columns[0].note)
    one = estimate(expected(drawn(rng, 1).rows, by), before)
    assert (one.verdict, one.estimate) == ("insufficient", True)


def regression(rng: np.random.Generator, rows: int, low: float = 0.0, wrong: float = 1.0) -> Joined:
    """The error grows with the feature; `wrong` scales it, which no feature shows. The second feature says nothing."""
    x = rng.uniform(low, 1, rows)
    target = 10 + 3 * x + rng.normal(0, 0.2 + x, rows) * wrong
    found = PredictionRows(
        np.sort(rng.integers(0, 2**63, rows).astype(np.uint64)),
        np.zeros(rows, np.int64),
        np.arange(rows),
        10 + 3 * x,
        np.column_stack([x, rng.normal(size=rows)]),  # features, for want of a better place
        np.zeros((rows, 0), np.int32),
    )
    return Joined(found, target)


@pytest.mark.parametrize("name", ["mae", "rmse", "mape"])
def test_dle_follows_a_shift_of_x_to_the_true_performance_and_not_a_change_of_the_relation(name: str) -> None:
    rng = np.random.default_rng(8)
    metric = METRICS[name]
    past = regression(rng, 6000)
    parts = (past.rows.ids, past.rows.scores, NUMERIC, past.rows.predictions, past.targets)
    model = dle.fitted(metric, *parts)
    held_out = dle.out_of_fold(metric, *parts)
    assert model is not None
    assert held_out is not None
    before = [dle.of_losses(VALUES, model.loss, chunk) for chunk in np.array_split(held_out, 6)]

    def window(rows: Joined) -> tuple[CheckVerdict, float, float]:
        told = model.expected(VALUES, rows.rows.scores, rows.rows.predictions)
        true = measure(metric, summed(VALUES, rows.targets, rows.rows.predictions)).value
        value = measure(metric, told).value
        assert value is not None
        assert true is not None
        return estimate(told, before, "dle", name), value, true

    quiet, value, true = window(regression(rng, 3000))
    assert value == pytest.approx(true, rel=0.06)
    assert quiet.verdict == "insufficient"
    shifted, value, true = window(regression(rng, 3000, low=0.6))
    assert value == pytest.approx(true, rel=0.06)
    assert (shifted.verdict, shifted.estimate) == ("violated", True)
    blind, value, true = window(regression(rng, 3000, wrong=2.0))
    assert true > 1.7 * value
    assert blind.verdict == "insufficient"


def test_dle_survives_missing_features_many_categories_and_missing_predictions() -> None:
    rng = np.random.default_rng(9)
    past = regression(rng, 1000)
    features = np.column_stack(
        [
            np.full(1000, np.nan),
            rng.integers(-1, 5, 1000),
            rng.integers(0, 5000, 1000),
            past.rows.scores[:, 0],
        ]
    ).astype(float)
    features[3] = np.inf
    predictions = past.rows.predictions.copy()
    predictions[:10] = np.nan
    flags = np.array([True, True, True, False])
    model = dle.fitted(METRICS["mae"], past.rows.ids, features, flags, predictions, past.targets)
    assert model is not None
    assert measure(METRICS["mae"], model.expected(VALUES, features, predictions)).rows == 990
    assert model.expected(VALUES, features[:0], predictions[:0]).rows == 0
    few = dle.fitted(
        METRICS["mae"], past.rows.ids[:99], features[:99], flags, predictions[:99], past.targets[:99]
    )
    assert few is None


def test_dle_does_not_depend_on_the_order_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dle, "MOST_ROWS", 600)
    rng = np.random.default_rng(10)
    past = regression(rng, 1500)
    order = rng.permutation(1500)
    other = past.rows.take(order)
    one = dle.fitted(
        METRICS["mae"], past.rows.ids, past.rows.scores, NUMERIC, past.rows.predictions, past.targets
    )
    two = dle.fitted(METRICS["mae"], other.ids, other.scores, NUMERIC, other.predictions, past.targets[order])
    assert one is not None
    assert two is not None
    assert np.array_equal(
        one.losses(past.rows.scores, past.rows.predictions),
        two.losses(past.rows.scores, past.rows.predictions),
    )


def test_a_metric_that_is_no_mean_of_losses_is_refused_with_those_that_are() -> None:
    with pytest.raises(Stalled, match=r"r2 cannot be estimated.*mae, rmse, mape"):
        dle.loss_name(METRICS["r2"])


def test_the_reference_is_estimated_without_looking_at_the_label_of_the_row() -> None:
    rng = np.random.default_rng(11)
    rows = drawn(rng, 500)
    before = cbpe.out_of_fold(BINARY, rows.rows.ids, rows.rows.scores, rows.targets)
    assert before is not None
    for place in range(20):
        other = rows.targets.copy()
        other[place] = 1 - other[place]
        after = cbpe.out_of_fold(BINARY, rows.rows.ids, rows.rows.scores, other)
        assert after is not None
        assert np.array_equal(before[place], after[place])
