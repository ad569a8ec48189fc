"""Each detector against its definition, scipy, or scikit-learn; and what few rows and many rows do to it."""

from __future__ import annotations

import doctest
import importlib
import math
import pkgutil

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

import mlops.monitoring.detectors as room
from mlops.monitoring.detectors.binned import Binned
from mlops.monitoring.detectors.chi_square import chi_square
from mlops.monitoring.detectors.domain_classifier import domain_classifier
from mlops.monitoring.detectors.homogeneity import homogeneity
from mlops.monitoring.detectors.jensen_shannon import jensen_shannon
from mlops.monitoring.detectors.ks import ks
from mlops.monitoring.detectors.psi import psi
from mlops.monitoring.detectors.total_variation import total_variation
from mlops.monitoring.detectors.wasserstein import wasserstein

MODULES = [name for _, name, _ in pkgutil.iter_modules(room.__path__)]


def binned(reference: np.ndarray, window: np.ndarray, bins: int = 128) -> Binned:
    """Counted on quantile bins of the reference, with one more bin below and above it."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)))
    edges[-1] = np.nextafter(edges[-1], np.inf)
    low = min(reference.min(), window.min(), edges[0]) - 1e-9
    high = max(reference.max(), window.max(), edges[-1]) + 1e-9
    bounds = np.concatenate([[low], edges, [high]])
    counts = [np.histogram(values, bounds)[0] for values in (reference, window)]
    return Binned.of(*counts, bounds=bounds, scale=float(reference.std()))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"{room.__name__}.{name}")).failed == 0


def test_psi_is_kullbacks_sum_less_what_chance_gives() -> None:
    draw = np.random.default_rng(1)
    pair = binned(draw.normal(size=20_000), draw.normal(0.5, 1, 5_000))
    edges = np.quantile(draw.normal(size=200_000), np.linspace(0, 1, 21)[1:-1])
    p = np.full(20, 0.05)
    q = np.diff(
        np.concatenate([[0], np.searchsorted(np.sort(draw.normal(0.5, 1, 200_000)), edges) / 2e5, [1]])
    )
    assert psi(pair).effect == pytest.approx(float(np.sum((q - p) * np.log(q / p))), rel=0.1)


def test_psi_of_a_small_window_without_drift_stays_small_where_the_plain_index_does_not() -> None:
    draw = np.random.default_rng(2)
    reference = draw.normal(size=10_000)
    effects, plain = [], []
    for _ in range(200):
        pair = binned(reference, draw.normal(size=150)).coarse()
        p, q = pair.shares()
        p, q = p + 1e-9, q + 1e-9
        plain.append(float(np.sum((q - p) * np.log(q / p))))
        effects.append(psi(binned(reference, draw.normal(size=150))).effect)
    assert np.mean(plain) > 0.08
    assert np.mean(effects) < 0.04


def test_jensen_shannon_is_scipys() -> None:
    p, q = [400.0, 300.0, 200.0, 100.0], [100.0, 200.0, 300.0, 400.0]
    assert jensen_shannon(Binned.of(p, q)).effect == pytest.approx(jensenshannon(p, q, 2))


def test_total_variation_is_half_the_sum_of_differences() -> None:
    assert total_variation(Binned.of([700, 300], [300, 700])).effect == pytest.approx(0.4)


def test_chi_square_has_the_p_value_of_scipy() -> None:
    table = [[500, 300, 200], [260, 150, 140]]
    expected = chi2_contingency(table, correction=False)
    assert chi_square(Binned.of(*table)).p_value == pytest.approx(expected.pvalue)


def test_ks_from_bins_is_the_exact_one_to_a_bin() -> None:
    draw = np.random.default_rng(3)
    for shift in (0.0, 0.1, 0.5):
        reference, window = draw.normal(size=4_000), draw.normal(shift, 1, 1_500)
        exact, measured = ks_2samp(reference, window, method="asymp"), ks(binned(reference, window))
        assert exact.statistic - 1 / 128 <= measured.effect <= exact.statistic + 1e-12
        if shift == 0.5:
            assert measured.p_value is not None
            assert measured.p_value < 1e-30


def test_the_p_value_of_ks_is_scipys_exact_one_within_a_tenth() -> None:
    reference, window = np.arange(40.0), np.arange(30.0) + 8.3
    exact = ks_2samp(reference, window, method="exact")
    own = ks(binned(reference, window, bins=1_000))
    assert own.effect == pytest.approx(exact.statistic)
    assert own.p_value == pytest.approx(exact.pvalue, rel=0.15)


def test_wasserstein_is_scipys_in_standard_deviations() -> None:
    draw = np.random.default_rng(4)
    reference, window = draw.normal(10, 3, 5_000), draw.normal(11, 4, 3_000)
    expected = wasserstein_distance(reference, window) / reference.std()
    assert wasserstein(binned(reference, window)).effect == pytest.approx(expected, rel=0.05)


def test_wasserstein_knows_how_far_the_window_moved_out_of_the_reference() -> None:
    draw = np.random.default_rng(5)
    reference = draw.normal(size=5_000)
    assert wasserstein(binned(reference, reference + 10.0)).effect == pytest.approx(10.0, rel=0.25)


def test_wasserstein_without_a_spread_to_measure_in_says_so() -> None:
    measured = wasserstein(Binned.of([0, 9, 0], [3, 3, 3], bounds=[0, 1, 2, 3], scale=0.0))
    assert math.isnan(measured.effect)
    assert measured.note


def test_a_tiny_shift_in_many_rows_is_significant_and_small() -> None:
    draw = np.random.default_rng(6)
    pair = binned(draw.normal(size=1_000_000), draw.normal(0.02, 1, 1_000_000))
    for measure, threshold in (
        (psi, 0.2),
        (jensen_shannon, 0.1),
        (ks, 0.1),
        (wasserstein, 0.1),
        (total_variation, 0.1),
    ):
        measured = measure(pair)
        assert measured.p_value is not None
        assert measured.p_value < 1e-4
        assert measured.effect < threshold / 2


@pytest.mark.parametrize("measure", [psi, jensen_shannon, ks, wasserstein, total_variation, chi_square])
@pytest.mark.parametrize("rows", [60, 1_000])
def test_p_values_without_drift_are_as_often_below_a_level_as_it_says(measure: object, rows: int) -> None:
    assert callable(measure)
    draw = np.random.default_rng(7)
    p_values = []
    for _ in range(400):
        counts = draw.multinomial(rows, np.full(128, 1 / 128), 2)
        pair = Binned.of(counts[0], counts[1], bounds=np.arange(129.0), scale=37.0)
        p_values.append(measure(pair).p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    if measure is not wasserstein:  # whose p-value is a bound: never too small
        assert np.mean(np.array(p_values) <= 0.5) >= 0.3


def test_a_hundred_thousand_categories_seen_once_each_are_no_drift() -> None:
    draw = np.random.default_rng(8)
    reference = np.bincount(draw.integers(0, 100_000, 100_000), minlength=100_000)
    window = np.bincount(draw.integers(0, 100_000, 5_000), minlength=100_000)
    measured = jensen_shannon(Binned.of(reference, window))
    assert measured.effect < 0.1
    assert measured.p_value is not None
    assert measured.p_value > 0.01


def test_a_constant_column_has_no_drift_and_a_value_beside_it_is_one() -> None:
    assert psi(Binned.of([0, 500, 0], [0, 400, 0], bounds=[0, 1, 2, 3])).effect == 0.0
    moved = psi(Binned.of([0, 500, 0], [0, 200, 200], bounds=[0, 1, 2, 3]))
    assert moved.effect > 0.2
    assert moved.p_value is not None
    assert moved.p_value < 1e-9


def test_effective_sizes_make_the_same_counts_less_significant() -> None:
    counts = ([600, 400], [450, 550])
    sure, unsure = homogeneity(Binned.of(*counts)), homogeneity(Binned.of(*counts, sizes=(100, 50)))
    assert sure < 1e-9
    assert unsure > 0.05


@pytest.mark.parametrize(
    ("reference", "window"), [([1, 2], [1]), ([0, 0], [1, 1]), ([-1, 2], [1, 1]), ([math.nan, 1], [1, 1])]
)
def test_counts_that_are_none_are_refused(reference: list[float], window: list[float]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message names one of four reasons
        Binned.of(reference, window)


def test_the_domain_classifier_sees_a_changed_correlation_that_no_column_shows() -> None:
    draw = np.random.default_rng(9)
    plain = draw.normal(size=(800, 2))
    related = draw.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 800)
    numeric = np.array([False, False])
    found = domain_classifier(plain, related, numeric, seed=1)
    assert found.effect > 0.2
    assert found.p_value is not None
    assert found.p_value < 1e-6
    assert found == domain_classifier(plain, related, numeric, seed=1)


def test_the_domain_classifier_is_quiet_without_drift_whatever_the_values_are() -> None:
    draw = np.random.default_rng(10)

    def rows() -> np.ndarray:
        values = np.column_stack([draw.normal(size=500), draw.integers(0, 1_000, 500), np.full(500, np.nan)])
        values[::50, 0] = np.nan
        values[7, 0] = np.inf
        return values

    quiet = domain_classifier(rows(), rows(), np.array([False, True, False]), seed=1)
    assert quiet.effect < 0.2
    assert quiet.p_value is not None
    assert quiet.p_value > 0.001


def test_the_domain_classifier_without_drift_is_as_often_below_a_level_as_it_says() -> None:
    draw = np.random.default_rng(11)
    numeric = np.zeros(3, bool)
    found = [
        domain_classifier(draw.normal(size=(200, 3)), draw.normal(size=(200, 3)), numeric, seed).p_value
        for seed in range(40)
    ]
    assert sum(p_value is not None and p_value <= 0.05 for p_value in found) <= 5
    assert min(p_value for p_value in found if p_value is not None) > 0.001


def test_the_domain_classifier_says_when_there_are_too_few_rows() -> None:
    measured = domain_classifier(np.ones((10, 1)), np.ones((400, 1)), np.array([False]), seed=1)
    assert math.isnan(measured.effect)
    assert measured.note
