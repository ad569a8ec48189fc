"""Row samples: the same rows give the same sample, and a sample looks like its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.data.tallies import type_name
from mlops.monitoring import samples
from mlops.monitoring.samples import Layout, RowSample, Sampler, Sketch
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.reference import plan_of
from mlops.monitoring.windows import EventWindows, RowWindows, Season

DAY = 86_400


def rows(count: int, seed: int = 1) -> Any:
    draw = np.random.default_rng(seed)
    amount = np.where(draw.random(count) < 0.1, np.nan, draw.lognormal(size=count))
    return pa.record_batch(
        {
            "id": pa.array(np.arange(count) + seed * 1_000_000),
            "at": pa.array((np.arange(count) * 20 * 1_000_000).astype("datetime64[us]")),
            "amount": pa.array(amount, from_pandas=True),
            "country": pa.array(draw.choice(["FR", "DE", "LU", None], count, p=[0.6, 0.2, 0.1, 0.1])),
            "tags": pa.array([[1]] * count),
        }
    )


def planned(batch: Any, season: Season = "none") -> Plan:
    types = {field.name: type_name(field.type) for field in batch.schema}
    return plan_of([batch], types, season=season, threads=1)


def layout(batch: Any, most: int = 200, season: Season = "none") -> Layout:
    return Layout.of(planned(batch, season), ["amount", "country", "tags", "gone"], ["id"], most)


def sketch(of: Layout, *batches: Any) -> Sketch:
    sampler = Sampler(of, timestamp="at")
    assert len(list(sampler.through(batches))) == len(batches)
    return sampler.sketches()[0]


def cut(batch: Any, size: int) -> Iterator[Any]:
    for begin in range(0, batch.num_rows, size):
        yield batch.slice(begin, size)


def shuffled(batch: Any, seed: int) -> Any:
    order = np.random.default_rng(seed).permutation(batch.num_rows)
    return pa.record_batch([column.take(pa.array(order)) for column in batch.columns], schema=batch.schema)


def test_batches_files_and_order_do_not_change_a_sample() -> None:
    batch = rows(5_000)
    of = layout(batch)
    whole = samples.encode(sketch(of, batch))
    assert samples.encode(sketch(of, *cut(shuffled(batch, 3), 37))) == whole
    files = [sketch(of, *cut(part, 100)) for part in cut(shuffled(batch, 4), 700)]
    assert samples.encode(samples.merge(files[::-1])) == whole
    pairs = samples.merge([samples.merge(files[:3]), samples.merge(files[3:])])
    assert samples.encode(pairs) == whole


def test_a_text_of_numbers_and_a_column_of_them_are_the_same_rows() -> None:
    batch = pa.record_batch({"x": pa.array([1.5, None, -0.0, 2.0])})
    texts = pa.record_batch({"x": pa.array(["1.5", None, "0", "2"])})
    of = Layout.of(planned(batch), ["x"])
    found = [Sampler(of), Sampler(of)]
    found[0].add(batch)
    found[1].add(texts)
    assert samples.encode(found[0].sketches()[0]) == samples.encode(found[1].sketches()[0])


def test_a_sample_is_bounded_and_looks_like_its_rows() -> None:
    batch = rows(40_000)
    found = sketch(layout(batch, most=2_000), batch)
    values, _ = found.drawn()
    assert (found.rows, values.shape) == (40_000, (2_000, 2))
    logs = np.log(values[:, 0][~np.isnan(values[:, 0])])
    assert abs(logs.mean()) < 0.1
    assert abs(logs.std() - 1) < 0.1
    assert np.isnan(values[:, 0]).mean() == pytest.approx(0.1, abs=0.03)
    assert (values[:, 1] == 0).mean() == pytest.approx(0.6, abs=0.04)
    assert np.isnan(values[:, 1]).mean() == pytest.approx(0.1, abs=0.03)


def test_rows_that_are_alike_count_as_often_as_they_come() -> None:
    draw = np.random.default_rng(2)
    values = np.where(draw.random(20_000) < 0.3, 7.0, draw.normal(size=20_000))
    batch = pa.record_batch({"x": pa.array(values)})
    of = Layout.of(planned(batch), ["x"], most=1_000)
    parts = []
    for part in cut(batch, 2_000):
        sampler = Sampler(of)
        sampler.add(part)
        parts.append(sampler.sketches()[0])
    drawn, _ = samples.merge(parts).drawn()
    assert len(drawn) == 1_000
    assert (drawn == 7.0).mean() == pytest.approx(0.3, abs=0.05)


def test_few_different_rows_are_counted_exactly_however_they_were_cut() -> None:
    draw = np.random.default_rng(3)
    batch = pa.record_batch({"x": pa.array(draw.integers(0, 90, 30_000).astype(float))})
    of = Layout.of(planned(batch), ["x"], most=100)
    whole = Sampler(of)
    whole.add(batch)
    parts = Sampler(of)
    for part in cut(batch, 999):
        parts.add(part)
    assert samples.encode(whole.sketches()[0]) == samples.encode(parts.sketches()[0])
    assert whole.sketches()[0].copies.sum() == 30_000


def test_categories_that_the_reference_lacks_have_a_code_of_their_own() -> None:
    reference = pa.record_batch({"c": pa.array(["a"] * 5 + ["b"])})
    of = Layout.of(planned(reference), ["c"])
    sampler = Sampler(of)
    sampler.add(pa.record_batch({"c": pa.array(["b", "a", "new", "newer", None])}))
    values, _ = sampler.sketches()[0].drawn()
    assert sorted(np.nan_to_num(values[:, 0], nan=-1).tolist()) == [-1, 0, 1, 3, 3]


def test_a_column_that_is_gone_is_null_and_one_of_lists_is_left_out() -> None:
    batch = rows(100)
    of = layout(batch)
    assert of.columns == ("amount", "country")
    values, _ = sketch(of, batch.select(["id", "at", "country"])).drawn()
    assert np.isnan(values[:, 0]).all()
    assert not np.isnan(values[:, 1]).all()


def test_each_window_has_its_sample_and_undated_rows_are_in_none() -> None:
    batch = rows(10_000)  # a row each 20 seconds: two days and a part
    of = layout(batch)
    undated = batch.set_column(1, "at", pa.nulls(batch.num_rows, pa.timestamp("us")))
    sampler = Sampler(of, EventWindows(DAY), timestamp="at")
    for part in (*cut(batch, 3_000), undated):
        sampler.add(part)
    assert {key: found.rows for key, found in sampler.sketches().items()} == {
        0: 4_320,
        DAY: 4_320,
        2 * DAY: 1_360,
    }
    counted = Sampler(of, RowWindows(4_000), first_row=2_000)
    counted.add(batch)
    assert {key: found.rows for key, found in counted.sketches().items()} == {
        0: 2_000,
        4_000: 4_000,
        8_000: 4_000,
    }


def test_a_sample_beside_another_season_has_the_windows_months_only() -> None:
    days = np.arange(np.datetime64("2020-01-01"), np.datetime64("2022-01-01"))
    months = days.astype("datetime64[M]").astype(int) % 12
    batch = pa.record_batch({"month": pa.array(months.astype(float)), "at": pa.array(days)})
    of = Layout.of(planned(batch, "month"), ["month"], most=1_000)
    autumn = batch.filter(
        pa.array((months >= 8) & (days >= np.datetime64("2021-01-01")) & (days.astype(int) % 2 == 0))
    )
    beside = RowSample.of(sketch(of, batch), sketch(of, autumn), seed=1)
    assert set(beside.reference[:, 0]) == {8.0, 9.0, 10.0, 11.0}
    shares = [
        np.mean(beside.reference == month) - np.mean(beside.window == month) for month in (8, 9, 10, 11)
    ]
    assert max(np.abs(shares)) < 0.02
    alone = RowSample.of(sketch(of, batch.filter(pa.array(months == 0))), sketch(of, autumn), seed=1)
    assert (len(alone.reference), len(alone.window)) == (0, 0)


def test_bytes_are_read_back_and_other_bytes_are_none() -> None:
    batch = rows(3_000)
    of = layout(batch, season="month")
    found = sketch(of, batch)
    packed = samples.encode(found)
    again = samples.decode(packed, of)
    assert again is not None
    assert samples.encode(again) == packed
    np.testing.assert_array_equal(again.drawn()[0], found.drawn()[0])
    for broken in (None, b"", packed[:-1], packed[:20], b"x" + packed):
        assert samples.decode(broken, of) is None
    assert samples.decode(packed, layout(batch, most=100, season="month")) is None


def test_samples_of_different_columns_do_not_add_up() -> None:
    batch = rows(100)
    one, other = layout(batch), Layout.of(planned(batch), ["amount"])
    with pytest.raises(ValueError, match="different columns"):
        samples.merge([sketch(one, batch), sketch(other, batch)])


def test_no_rows_have_an_empty_sample() -> None:
    of = layout(rows(10))
    found = sketch(of)
    assert (found.rows, found.drawn()[0].shape) == (0, (0, 2))
    assert samples.decode(samples.encode(found), of) is not None


def test_times_are_needed_for_windows_of_time_and_for_seasons() -> None:
    batch = rows(10)
    with pytest.raises(ValueError, match="timestamp"):
        Sampler(layout(batch), EventWindows(DAY))
    with pytest.raises(ValueError, match="timestamp"):
        Sampler(layout(batch, season="month"))


def test_a_sample_can_be_looked_at_by_some_of_its_columns() -> None:
    batch = rows(300)
    whole = sketch(layout(batch), batch)
    both = RowSample.of(whole, whole, seed=4)
    one = both.only(["country", "gone"])
    assert (one.columns, one.categorical.tolist(), one.seed) == (("country",), [True], 4)
    np.testing.assert_array_equal(one.window[:, 0], both.window[:, 1])
