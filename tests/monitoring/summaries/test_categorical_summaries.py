"""What a summary knows of categories, however many there are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from loan_rows import in_batches, shuffled

from mlops.monitoring.summaries.categorical import BUCKETS, MOST_UNSEEN, CategoricalSummary, bucket_of
from mlops.monitoring.summaries.hashing import hashes_of
from mlops.monitoring.summaries.plans import CategoricalPlan, Plan
from mlops.monitoring.summaries.reference import MOST_CATEGORIES, MOST_KNOWN, plan_of
from mlops.monitoring.summaries.storing import encode
from mlops.monitoring.summaries.summarising import summarise


def table(values: object, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"x": pa.array(values, kind)})


def plan_by(reference: pa.Table, told: str = "string") -> Plan:
    return plan_of(in_batches(reference, 30_000), {"x": told}, categorical=["x"], threads=1)


def summary(window: pa.Table, plan: Plan) -> CategoricalSummary:
    found = summarise(in_batches(window, 30_000), plan, threads=1).windows[0].columns["x"]
    assert isinstance(found, CategoricalSummary)
    return found


def test_known_categories_are_counted_one_by_one_the_most_frequent_first() -> None:
    plan = plan_by(table(["b", "a", "c", "a", "b", None]))
    found = summary(table(["c", "c", "a", "new", None, "new", "newer"]), plan)
    assert found.plan.categories == ("a", "b", "c")
    assert found.top.tolist() == [1, 0, 2]
    assert (found.rows, found.nulls, found.values, found.other_known) == (7, 1, 6, 0)
    assert found.unseen.heavy(1) == [("new", 2), ("newer", 1)]
    assert found.cells.tolist() == [1, 0, 2, 0, 3, 1]


def test_the_rest_of_the_known_categories_is_counted_together() -> None:
    names = [f"c{number:05}" for number in range(MOST_CATEGORIES + 500)]
    plan = plan_by(table([*names, *names[:7]]))
    column = plan.columns["x"]
    assert isinstance(column, CategoricalPlan)
    assert column.complete
    assert column.categories == tuple(names[:MOST_CATEGORIES])
    found = summary(table([*names, "new"]), plan)
    assert (int(found.top.sum()), found.other_known, found.unseen.rows) == (MOST_CATEGORIES, 500, 1)


def test_a_hundred_thousand_new_categories_stay_within_bounds_and_hide_no_frequent_one() -> None:
    random = np.random.default_rng(1)
    names = np.array([f"customer {number}" for number in range(100_000)])
    heavy = {"heavy kept": 900, "heavy spilled": 1_100}
    rows = np.concatenate((names, *(np.repeat(name, count) for name, count in heavy.items())))
    window = table(random.permutation(rows))
    plan = plan_by(table(["known"]))
    found = summary(window, plan)
    assert len(found.unseen.names) == len(found.unseen.hashes) == MOST_UNSEEN
    assert found.unseen.rows == len(rows)
    assert found.unseen.distinct == pytest.approx(100_002, rel=0.05)
    told = dict(found.unseen.heavy(0.005 * len(rows)))
    for name, count in heavy.items():
        (key,) = hashes_of(pa.array([name]))
        kept = key <= found.unseen.hashes[-1]
        place = int(bucket_of(np.array([key]))[0])
        assert found.unseen.spilled is not None
        assert told.get(name) == count if kept else found.unseen.spilled[place] >= count
        assert name in told or None in told
    assert len(told) <= 2
    assert encode(summarise(in_batches(shuffled(window, 2), 7_000), plan).windows[0]) == encode(
        summarise(in_batches(window, 50_000), plan).windows[0]
    )


def test_more_categories_than_can_be_known_are_said_to_be_incomplete() -> None:
    reference = table([f"id {number}" for number in range(MOST_KNOWN + 20_000)])
    plan = plan_by(reference)
    column = plan.columns["x"]
    assert isinstance(column, CategoricalPlan)
    assert not column.complete
    assert len(column.known) == MOST_KNOWN
    found = summary(reference, plan)
    assert (found.unseen.rows, int(found.top.sum()) + found.other_known) == (20_000, MOST_KNOWN)
    assert plan_by(shuffled(reference, 1)).digest == plan.digest


@pytest.mark.parametrize(
    "window",
    [
        table([1, 0, None, 1]),
        table([1.0, 0.0, float("nan"), 1.0]),
        table(["1", " 0 ", None, "1.0"]),
        table([True, False, None, True]),
        table(pa.array(["1", "0", None, "1"]).dictionary_encode()),
    ],
)
def test_a_class_is_the_same_whatever_type_it_comes_as(window: pa.Table) -> None:
    if window.column(0).type == pa.bool_():
        found = summary(window, plan_by(table([True, False, True]), "boolean"))
        assert found.plan.categories == ("true", "false")
    else:
        found = summary(window, plan_by(table([1, 0, 1], pa.int8()), "integer"))
        assert found.plan.categories == ("1", "0")
    assert found.top.tolist() == [2, 1]
    assert (found.nulls, found.unseen.rows) == (1, 0)


def test_the_hash_is_fixed_spreads_evenly_and_sees_every_byte() -> None:
    texts = ["", "a", "abcdefgh", "abcdefghi", "abcdefgh\0", "x" * 256, "x" * 257, "é", "a\0", "b" * 5_000]
    hashes = hashes_of(pa.array(texts))
    assert len(set(hashes.tolist())) == len(texts)
    assert hashes_of(pa.array(["a", "abcdefghi"])).tolist() == [1925238059014401293, 9980543511491038976]
    for position in (0, 1, 4, 9):
        assert hashes_of(pa.array(texts).slice(position, 1))[0] == hashes[position]
    many = hashes_of(pa.array([f"category-{number}" for number in range(40_960)]))
    assert len(np.unique(many)) == 40_960
    buckets = np.bincount(bucket_of(many), minlength=BUCKETS)
    assert buckets.max() < 35  # 10 each; Poisson
    assert np.histogram(many / 2.0**64, 16, (0, 1))[0].min() > 2_300  # 2,560 each
