"""The plan that a reference makes: of its values alone, in bounded memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from loan_rows import TYPES, in_batches, loan_plan, loans, shuffled

from mlops.monitoring.summaries.plans import CategoricalPlan, NumericPlan, OpaquePlan, Plan
from mlops.monitoring.summaries.reference import NO_SPREAD, edges_of, plan_of, spread


def test_the_order_of_rows_batches_and_threads_changes_no_plan() -> None:
    reference = loans(4_000)
    digests = {
        plan_of(in_batches(table, size), TYPES, slices=["country"], threads=threads).digest
        for table in (reference, shuffled(reference, 1))
        for size, threads in ((77, 1), (4_000, 3))
    }
    assert len(digests) == 1


def test_each_column_is_planned_by_its_type_or_as_it_is_declared() -> None:
    plan = loan_plan()
    assert {name: type(column) for name, column in plan.columns.items()} == {
        "price": NumericPlan,
        "rooms": NumericPlan,
        "seen": NumericPlan,
        "country": CategoricalPlan,
        "sold": CategoricalPlan,
        "tags": OpaquePlan,
    }
    declared = plan_of(in_batches(loans(100), 50), TYPES, categorical=["rooms"])
    column = declared.columns["rooms"]
    assert isinstance(column, CategoricalPlan)
    assert set(column.categories) == {str(number) for number in range(-2, 9)}


def test_csv_whose_profile_tells_numbers_is_planned_as_numbers() -> None:
    typed = pa.table({"x": [1.5, 2.5, None, 4.0], "y": [1, 2, 3, 4], "c": ["a", "b", "a", None]})
    text = pa.table({name: typed.column(name).cast(pa.string()) for name in typed.column_names})
    types = {"x": "double", "y": "integer", "c": "string"}
    assert plan_of(in_batches(text, 3), types).digest == plan_of(in_batches(typed, 2), types).digest


def test_edges_stand_at_the_quantiles_and_enclose_every_value() -> None:
    values = np.random.default_rng(1).normal(size=100_000)
    edges = edges_of(spread(NO_SPREAD, values))
    ordered = np.sort(values)
    for part, whole in [
        *((i, 128) for i in range(128)),
        *((i, 20) for i in range(20)),
        (1, 1000),
        (999, 1000),
    ]:
        rank = np.min(np.abs(np.searchsorted(ordered, edges) - part * 100_000 / whole))
        assert rank <= 30  # 100,000 distinct values are more than there are counters
    assert (edges[0], edges[-1]) == (ordered[0], np.nextafter(ordered[-1], np.inf))
    assert len(edges) == 128 + 16 + 2 + 1


def test_few_values_have_a_bin_each() -> None:
    edges = edges_of(spread(NO_SPREAD, np.repeat([3.0, 5.0], 50)))
    assert edges.tolist() == [3.0, np.nextafter(3.0, 4), 5.0, np.nextafter(5.0, 6)]
    assert edges_of(spread(NO_SPREAD, np.array([2.0]))).tolist() == [2.0, np.nextafter(2.0, 3)]
    assert edges_of(NO_SPREAD).tolist() == []
    assert edges_of(spread(NO_SPREAD, np.array([1.7976931348623157e308]))).tolist() == [
        1.7976931348623157e308
    ]


def test_a_spread_is_bounded_and_does_not_depend_on_how_values_come() -> None:
    random = np.random.default_rng(2)
    values = random.permutation(
        np.concatenate((random.normal(size=9_000), 1e6 + random.random(500), [7.25] * 500))
    )
    whole = spread(NO_SPREAD, values, most=1_000)
    parts = NO_SPREAD
    for part in np.split(values[::-1], [10, 11, 4_000, 9_999]):
        parts = spread(parts, part, most=1_000)
    assert len(whole.keys) <= 1_000
    for name in ("shift", "keys", "counts", "least", "greatest"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert int(whole.counts.sum()) == len(values)
    place = int(np.searchsorted(whole.greatest, 7.25))
    assert (whole.least[place], whole.counts[place]) == (7.25, 500)


@pytest.mark.parametrize("atom", [0.0, -999.0, 42.0])
def test_a_frequent_value_among_very_many_gets_its_bin(atom: float) -> None:
    random = np.random.default_rng(3)
    values = np.where(random.random(200_000) < 0.1, atom, random.normal(0, 30, 200_000))
    plan: Plan = plan_of([pa.RecordBatch.from_pydict({"x": values})], {"x": "double"})
    column = plan.columns["x"]
    assert isinstance(column, NumericPlan)
    shares = np.diff(np.searchsorted(np.sort(values), column.edges)) / 200_000
    place = int(np.searchsorted(column.edges, atom, side="right")) - 1
    assert shares[place] == pytest.approx(0.1, abs=0.003)
    assert column.edges[place + 1] - column.edges[place] < 0.05
    assert np.delete(shares, place).max() <= 1 / 128 + 1e-3
