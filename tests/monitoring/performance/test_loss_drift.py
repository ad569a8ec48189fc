"""ADWIN and Page's test along the loss find where within a window the model went wrong; river's, as published."""

import sys

import numpy as np
import pytest
from drawn import BINARY, chance, drawn

from mlops.errors import Stalled
from mlops.monitoring.performance import loss_drift as module
from mlops.monitoring.performance.loss_drift import LossDetector, beside, loss_drift, losses
from mlops.monitoring.performance.rows import Joined
from mlops.monitoring.performance.sums import Layout
from mlops.monitoring.verdicts import CheckVerdict

BOTH: list[LossDetector] = ["adwin", "pageHinkley"]


def check(detector: LossDetector, window: np.ndarray, reference: np.ndarray, **more: float) -> CheckVerdict:
    settings = {"max_drop": 0.1, "min_rows": 100} | more
    return loss_drift("concept", "y", detector, window=window, reference=reference, **settings)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _river() -> None:
    pytest.importorskip("river", reason="an extra")


@pytest.mark.parametrize("detector", BOTH)
def test_a_relation_that_flips_late_in_a_window_is_found_and_put_where_it_was(detector: LossDetector) -> None:
    rng = np.random.default_rng(0)
    reference = losses(BINARY, drawn(rng, 5000))
    window = np.concatenate(
        [losses(BINARY, drawn(rng, 3000)), losses(BINARY, drawn(rng, 400, truth=lambda x: chance(-x)))]
    )
    found = check(detector, window, reference)
    assert found.verdict == "violated"
    assert found.value is not None
    assert found.value > 1
    note = str(found.columns[0].note)
    place = int(note.split("labelled row ")[1].split(" ")[0])
    assert abs(place - 3000) <= 60
    assert "of 3400 on" in note


@pytest.mark.parametrize("detector", BOTH)
def test_a_window_that_is_worse_from_its_first_row_is_found(detector: LossDetector) -> None:
    rng = np.random.default_rng(1)
    window = losses(BINARY, drawn(rng, 2000, truth=lambda x: chance(-x)))
    assert check(detector, window, losses(BINARY, drawn(rng, 5000))).verdict == "violated"


@pytest.mark.parametrize("detector", BOTH)
@pytest.mark.parametrize("kind", ["classes", "values"])
def test_quiet_windows_are_quiet_in_99_of_100(detector: LossDetector, kind: str) -> None:
    rng = np.random.default_rng(2)

    def some(rows: int) -> np.ndarray:
        return losses(BINARY, drawn(rng, rows)) if kind == "classes" else np.abs(rng.standard_t(4, rows))

    violated = 0
    for _ in range(5):
        reference = some(5000)
        violated += sum(check(detector, some(1000), reference).verdict == "violated" for _ in range(30))
    assert violated <= 1


@pytest.mark.parametrize("detector", BOTH)
def test_a_loss_that_falls_or_rises_by_less_than_counts_is_quiet(detector: LossDetector) -> None:
    rng = np.random.default_rng(3)
    reference = np.abs(rng.normal(0, 1, 5000))
    better = check(detector, np.abs(rng.normal(0, 0.5, 5000)), reference)
    assert better.verdict == "quiet"
    little = check(detector, np.abs(rng.normal(0, 1.3, 9000)), reference, max_drop=0.5)
    assert little.verdict == "quiet"
    assert little.value == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("detector", BOTH)
def test_long_windows_go_by_means_of_neighbours_and_say_the_same(
    detector: LossDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STEPS", 500)
    rng = np.random.default_rng(4)
    reference = np.abs(rng.normal(0, 1, 20_000))
    steps = np.concatenate([np.abs(rng.normal(0, 1, 7000)), np.abs(rng.normal(0, 1.5, 3000))])
    assert check(detector, steps[:7000], reference).verdict == "quiet"
    found = check(detector, steps, reference)
    assert found.verdict == "violated"
    assert found.value == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("detector", BOTH)
def test_what_cannot_be_judged_is_said(detector: LossDetector) -> None:
    many = np.random.default_rng(5).random(5000)
    none = check(detector, many[:0], many)
    assert (none.verdict, none.columns[0].note) == ("insufficient", "no labelled rows")
    assert check(detector, many[:99], many).columns[0].note == "99 labelled rows, 100 are needed"
    assert check(detector, many, many[:10]).verdict == "insufficient"
    constant = np.full(500, 0.25)
    assert check(detector, constant, constant).verdict == "quiet"
    assert check(detector, constant, np.zeros(500)).verdict == "violated"  # from no loss to some


def test_losses_are_in_the_order_of_event_time_and_without_what_has_none() -> None:
    rng = np.random.default_rng(6)
    rows = drawn(rng, 300)
    order = rng.permutation(300)
    again = Joined(rows.rows.take(order), rows.targets[order])
    assert np.array_equal(losses(BINARY, again), losses(BINARY, rows))
    expected = (rows.targets - rows.rows.scores[:, 0]) ** 2
    assert losses(BINARY, rows) == pytest.approx(expected)
    rows.targets[:5] = np.nan
    rows.targets[5] = -1  # a class that is not known
    rows.rows.scores[6:8] = np.nan
    assert losses(BINARY, rows) == pytest.approx(expected[8:])


def test_losses_of_values_are_errors_and_without_scores_mistakes() -> None:
    rng = np.random.default_rng(7)
    rows = drawn(rng, 100)
    regression = losses(Layout("regression"), rows)
    assert regression == pytest.approx(np.abs(rows.targets - rows.rows.predictions))
    three = Layout("multiclass", ("a", "b", "c"))
    assert losses(three, rows) == pytest.approx((rows.targets != rows.rows.predictions).astype(float))


def test_a_check_of_both_is_violated_where_either_is() -> None:
    rng = np.random.default_rng(8)
    reference = losses(BINARY, drawn(rng, 5000))
    bad = check("pageHinkley", losses(BINARY, drawn(rng, 1000, truth=lambda x: chance(-x))), reference)
    good = check("adwin", losses(BINARY, drawn(rng, 1000)), reference)
    for found in (beside(good, bad), beside(bad, good)):
        assert (found.verdict, found.value) == ("violated", bad.value)
        assert len(found.columns) == 2
    assert beside(good, good).verdict == "quiet"


def test_without_river_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    many = np.random.default_rng(9).random(5000)
    with pytest.raises(Stalled, match=r"adwin needs river.*mlops-controller\[river\]"):
        check("adwin", many, many)


@pytest.mark.parametrize("detector", BOTH)
def test_a_loss_that_falls_first_does_not_hide_that_it_rises_later(detector: LossDetector) -> None:
    rng = np.random.default_rng(10)
    reference = np.abs(rng.normal(0, 1, 5000))
    window = np.concatenate([np.abs(rng.normal(0, 0.4, 3000)), np.abs(rng.normal(0, 2, 400))])
    assert window.mean() < reference.mean()
    assert check(detector, window, reference).verdict == "violated"
