"""What a summary knows of numbers: exact counts and sums, quantiles, and the distance of two samples."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from mlops.monitoring.summaries.binning import Binning, scales
from mlops.monitoring.summaries.histogram import MOST_KEYS, SCALE_SHIFT, ordered
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import NumericPlan, Plan
from mlops.monitoring.summaries.reference import plan_of
from mlops.monitoring.summaries.summarising import summarise

QUANTILES = np.linspace(0.01, 0.99, 99)


def batch(values: object) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, pa.float64(), from_pandas=False)], ["x"])


def plan_by(reference: object) -> Plan:
    return plan_of([batch(reference)], {"x": "double"}, threads=1)


def summary(values: object, plan: Plan) -> NumericSummary:
    found = summarise([batch(values)], plan, threads=1).windows[0].columns["x"]
    assert isinstance(found, NumericSummary)
    return found


def ks(one: NumericSummary, other: NumericSummary) -> float:
    return float(np.max(np.abs(np.cumsum(one.bins) / one.finite - np.cumsum(other.bins) / other.finite)))


def exact_ks(one: np.ndarray, other: np.ndarray) -> float:
    both = np.concatenate((one, other))
    shares = [np.searchsorted(np.sort(each), both, side="right") / len(each) for each in (one, other)]
    return float(np.max(np.abs(shares[0] - shares[1])))


SHAPES = {
    "normal": lambda random, n: random.normal(size=n),
    "heavy": lambda random, n: random.standard_t(1, n) * 10.0 ** random.integers(-5, 5),
    "log-normal": lambda random, n: random.lognormal(3, 1, n),
    "tight": lambda random, n: random.normal(1e6, 1, n),
    "rounded": lambda random, n: np.round(random.normal(50, 10, n)),
    "zeros": lambda random, n: random.lognormal(3, 1, n) * (random.random(n) < 0.4),
    "sentinel": lambda random, n: np.where(random.random(n) < 0.2, -999.0, random.normal(size=n)),
    "two values": lambda random, n: (random.random(n) < 0.3) * 1.0,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 50, 3_000, 100_000])
def test_ks_on_the_bins_is_within_a_128th_of_the_exact_one(shape: str, rows: int) -> None:
    random = np.random.default_rng(rows)
    reference = SHAPES[shape](random, rows)
    plan = plan_by(reference)
    own = summary(reference, plan)
    for window in (
        SHAPES[shape](random, 2_000),
        SHAPES[shape](random, 2_000) * 1.1 + 0.01,
        random.normal(size=7),
    ):
        error = exact_ks(reference, window) - ks(own, summary(window, plan))
        assert -1e-12 <= error <= 1 / 128 + 1 / rows + 2e-4


@pytest.mark.parametrize("shape", ["heavy", "log-normal", "zeros"])
def test_quantiles_far_outside_the_edges_are_known_to_half_a_percent(shape: str) -> None:
    random = np.random.default_rng(5)
    plan = plan_by(SHAPES[shape](random, 20_000))
    window = SHAPES[shape](random, 20_000) * 655.957 * 1e6
    found = summary(window, plan)
    for share in QUANTILES:
        expected = np.quantile(window, share, method="inverted_cdf")
        neighbours = np.sort(np.quantile(window, [share - 2e-4, share + 2e-4], method="inverted_cdf"))
        value = found.quantile(float(share))
        assert value is not None
        assert neighbours[0] - 0.005 * abs(expected) <= value <= neighbours[1] + 0.005 * abs(expected)


def test_quantiles_of_a_tight_column_are_told_by_the_edges() -> None:
    random = np.random.default_rng(6)
    reference, window = random.normal(1e6, 1, 50_000), random.normal(1e6, 1, 50_000)
    found = summary(window, plan_by(reference))
    assert len(found.scale.keys) <= 2  # of no use here
    for share in QUANTILES[4:-4]:
        assert found.quantile(float(share)) == pytest.approx(np.quantile(window, share), abs=0.02)


def test_the_extremes_are_the_first_and_the_last_quantile() -> None:
    random = np.random.default_rng(7)
    window = random.normal(size=500)
    found = summary(window, plan_by(random.normal(size=500)))
    assert (found.quantile(0.0), found.quantile(1.0)) == (window.min(), window.max())


def test_counts_and_moments_are_exact() -> None:
    random = np.random.default_rng(8)
    values = np.concatenate(
        (random.normal(1e9, 1, 5_000), [0.0, -0.0, 0.0, np.nan, np.inf, np.inf, -np.inf, -3.5])
    )
    found = summary([None, *values.tolist()], plan_by(values))
    finite = [Fraction(value) for value in values.tolist() if math.isfinite(value)]
    mean = sum(finite) / len(finite)
    assert (found.rows, found.nulls, found.finite) == (5_009, 2, 5_004)
    assert (found.positive_infinities, found.negative_infinities) == (2, 1)
    assert (found.zeros, found.negatives, found.minimum, found.maximum) == (3, 1, -3.5, values[:5000].max())
    assert found.mean == float(mean)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in finite) / len(finite))
    assert found.deviation == pytest.approx(deviation, rel=1e-9)
    assert found.cells.tolist()[-2:] == [3, 2]


def test_a_constant_has_no_deviation_and_huge_values_an_infinite_one() -> None:
    assert summary([0.1] * 7, plan_by([0.1])).deviation == 0.0
    huge = summary([1.7e308, -1.7e308, 1.7e308], plan_by([1.0]))
    assert huge.deviation == math.inf
    assert huge.mean == pytest.approx(1.7e308 / 3)


def test_an_atom_has_a_bin_of_its_own() -> None:
    random = np.random.default_rng(9)
    values = np.where(random.random(10_000) < 0.3, 0.0, random.lognormal(0, 1, 10_000))
    plan = plan_by(values).columns["x"]
    assert isinstance(plan, NumericPlan)
    place = int(np.searchsorted(plan.edges, 0.0))
    assert plan.edges[place : place + 2].tolist() == [0.0, 5e-324]
    assert summary(values, plan_by(values)).bins[place + 1] == (values == 0.0).sum()


def test_a_column_of_all_sizes_keeps_to_its_bound_and_to_the_order_of_values() -> None:
    random = np.random.default_rng(10)
    values = random.choice([-1.0, 1.0], 60_000) * 10.0 ** random.uniform(-300, 300, 60_000)
    plan = plan_by(values[:100])
    found = summary(values, plan)
    assert len(found.scale.keys) <= MOST_KEYS
    assert found.scale.counts.sum() == 60_000
    assert np.all(np.diff(found.scale.lower) > 0)
    assert np.all(found.scale.lower <= found.scale.upper)
    median = found.quantile(0.5)
    assert median is not None
    assert abs(median) < 1e-280


@pytest.mark.parametrize("shape", SHAPES)
def test_bins_are_those_of_a_search_in_the_edges(shape: str) -> None:
    random = np.random.default_rng(11)
    plan = plan_by(SHAPES[shape](random, 20_000)).columns["x"]
    assert isinstance(plan, NumericPlan)
    edges = plan.edges
    near = np.concatenate((edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)))
    far = np.array([0.0, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 1e-300])
    values = np.concatenate((near, far, SHAPES[shape](random, 5_000) * 3, random.normal(0, 1e6, 500)))
    assert np.array_equal(Binning(plan).bins(values), np.searchsorted(edges, values, side="right"))


@pytest.mark.parametrize(
    "edges", [[], [0.0], [0.0, 5e-324], [-1.7e308, 1.7e308], [1.0, 1 + 2**-52, 1 + 2**-51]]
)
def test_bins_on_unusual_edges_are_those_of_a_search(edges: list[float]) -> None:
    plan = NumericPlan("x", "double", np.array(edges))
    values = np.array([0.0, -1.0, 1.0, 5e-324, 1 + 2**-52, 1 + 2**-51, 1.7e308, -1.7e308, 1.79e308, *edges])
    assert np.array_equal(Binning(plan).bins(values), np.searchsorted(plan.edges, values, side="right"))


def test_the_scale_counts_values_by_their_leading_bits_in_each_segment() -> None:
    random = np.random.default_rng(12)
    values = random.normal(size=3_000) * 10.0 ** random.integers(-3, 3, 3_000)
    values[random.random(3_000) < 0.1] = 0.0
    values[:3] = 5e-324, -5e-324, -1e308
    bounds = np.array([0, 1, 2, 2, 40, 3_000])
    for begin, end, found in zip(bounds[:-1], bounds[1:], scales(values + 0.0, bounds), strict=True):
        keys, counts = np.unique(
            ordered(values[begin:end] + 0.0) >> np.uint64(found.shift), return_counts=True
        )
        assert np.array_equal(found.keys, keys)
        assert np.array_equal(found.counts, counts)


def test_many_segments_of_many_sizes_are_counted_in_bounded_tables() -> None:
    random = np.random.default_rng(13)
    values = random.choice([-1.0, 1.0], 30_000) * 10.0 ** random.uniform(-300, 300, 30_000)
    bounds = np.arange(0, 30_001, 100)
    found = scales(values, bounds)
    for place in (0, 17, 299):
        keys = np.unique(ordered(values[bounds[place] : bounds[place + 1]]) >> np.uint64(SCALE_SHIFT))
        assert np.array_equal(found[place].keys, keys)
    assert len(found) == 300


def test_leading_bits_of_positive_values_are_counted_alike_beside_others() -> None:
    values = np.random.default_rng(3).lognormal(0, 200, 5_000)
    values[:3] = 1e-300, 2.5e-310, 1.7e308
    for positive in (values, values[values > 1e-290]):
        (alone,) = scales(positive, np.array([0, len(positive)]))
        beside = scales(np.append(positive, [0.0, -1.0]), np.array([0, len(positive), len(positive) + 2]))[0]
        assert alone.keys.tolist() == beside.keys.tolist()
        assert alone.counts.tolist() == beside.counts.tolist()
