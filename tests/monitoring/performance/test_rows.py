"""Labels that come late, twice, in any order, differently or not at all meet their predictions."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.errors import Stalled
from mlops.monitoring.performance.rows import (
    Joined,
    LabelRows,
    PredictionRows,
    hash_ids,
    joined,
    labels_are_due,
    latest_labels,
)

DAY = 86_400_000_000


def predictions(ids: list[int], window: int = 0, value: float = 0.0) -> PredictionRows:
    rows = len(ids)
    return PredictionRows(
        np.array(ids, np.uint64),
        np.full(rows, window),
        np.arange(rows) * 1000,
        np.full(rows, value),
        np.zeros((rows, 1)),
        np.zeros((rows, 0), np.int32),
    )


def labels(**targets: float) -> LabelRows:
    """labels(_3=1.0): id 3 is 1.0."""
    return LabelRows(
        np.array([int(name[1:]) for name in targets], np.uint64), np.array(list(targets.values()), float)
    )


def seen(found: Joined) -> dict[int, float]:
    return dict(zip(found.rows.ids.tolist(), found.targets.tolist(), strict=True))


def test_labels_meet_predictions_by_id_and_missing_ones_are_none() -> None:
    found = joined([(0, predictions([5, 3, 9]))], latest_labels([(0, labels(_9=1, _3=0, _77=1))]), 0)
    assert found.rows.ids.tolist() == [3, 5, 9]
    assert np.array_equal(found.targets, [0, np.nan, 1], equal_nan=True)
    assert found.labelled == 2


def test_the_label_of_the_last_file_counts_whatever_the_order_they_are_read_in() -> None:
    files = [(0, labels(_1=0, _2=0)), (1, labels(_1=1)), (2, labels(_2=np.nan, _3=1))]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        found = latest_labels([files[k] for k in order])
        assert dict(zip(found.ids.tolist(), found.targets.tolist(), strict=True)) == {1: 1, 2: 0, 3: 1}
        assert found.encode() == latest_labels(files).encode()


def test_of_a_label_given_twice_in_a_file_the_last_row_counts() -> None:
    twice = LabelRows(np.array([4, 4, 4], np.uint64), np.array([0.0, 1.0, np.nan]))
    assert latest_labels([(0, twice)]).targets.tolist() == [1.0]


def test_a_prediction_given_twice_counts_once_in_a_window_and_in_each_of_its_windows() -> None:
    files = [
        (1, predictions([1, 2], value=1.0)),
        (0, predictions([1], value=0.0)),
        (2, predictions([1], window=7)),
    ]
    label = latest_labels([(0, labels(_1=1))])
    first = joined(files, label, 0)
    assert first.rows.predictions.tolist() == [1.0, 1.0]
    assert seen(joined(files, label, 7)) == {1: 1.0}
    assert seen(joined(list(reversed(files)), label, 7)) == {1: 1.0}
    assert joined(list(reversed(files)), label, 0).rows.encode() == first.rows.encode()


def test_files_split_anyhow_join_to_the_same_bytes() -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(500).tolist()
    marks = LabelRows(np.array(rng.permutation(700), np.uint64), rng.random(700))
    whole = joined([(0, predictions(ids))], latest_labels([(0, marks)]), 0)
    parts = [(k, predictions(ids)) for k in range(3)]
    cut = [(k, LabelRows(marks.ids[k::5], marks.targets[k::5])) for k in rng.permutation(5).tolist()]
    again = joined(parts, latest_labels(cut), 0)
    assert (again.rows.encode(), again.targets.tobytes()) == (whole.rows.encode(), whole.targets.tobytes())


def test_no_files_and_no_labels_join_to_nothing_known() -> None:
    assert joined([], latest_labels([]), 0).labelled == 0
    assert joined([(0, predictions([1]))], latest_labels([]), 0).labelled == 0
    assert len(joined([(0, predictions([1]))], latest_labels([]), 5).targets) == 0


def test_one_id_is_one_hash_as_number_text_or_dictionary() -> None:
    of_numbers, present = hash_ids(pa.array([17, None, -3, 2**63 - 1]))
    assert present.tolist() == [True, False, True, True]
    assert np.array_equal(of_numbers, hash_ids(pa.array(["17", "-3", str(2**63 - 1)]))[0])
    assert np.array_equal(of_numbers[:2], hash_ids(pa.array([17.0, float("nan"), -3.0, None]))[0])
    assert np.array_equal(of_numbers[:1], hash_ids(pa.array(["17", None]).dictionary_encode())[0])
    assert np.array_equal(hash_ids(pa.array([1234567.0]))[0], hash_ids(pa.array(["1234567"]))[0])
    assert len(set(hash_ids(pa.array([0.5, 0.25, float("inf")]))[0].tolist())) == 3
    assert len(hash_ids(pa.array([], pa.string()))[0]) == len(hash_ids(pa.nulls(3))[0]) == 0
    many = hash_ids(pa.array([f"loan-{k:07d}" for k in range(200_000)]))[0]
    assert len(np.unique(many)) == 200_000


@pytest.mark.parametrize(
    "ids", [pa.array([b"\xff\xfe secret"]), pa.array([{"secret": 1}]), pa.array([["secret"]])]
)
def test_ids_that_cannot_be_joined_on_are_refused_without_their_content(ids: pa.Array) -> None:
    with pytest.raises(Stalled, match="cannot be joined on") as caught:
        hash_ids(ids)
    assert "\xff" not in str(caught.value)


def test_rows_are_read_back_from_their_bytes_and_other_bytes_are_refused() -> None:
    rows, label = predictions([1, 2], 3, np.nan), labels(_1=0.5)
    assert PredictionRows.decode(rows.encode()).encode() == rows.encode()
    assert LabelRows.decode(label.encode()).encode() == label.encode()
    for decode, bad in [
        (PredictionRows.decode, label.encode()),
        (LabelRows.decode, rows.encode()),
        (LabelRows.decode, label.encode()[:-3]),
        (LabelRows.decode, LabelRows(label.ids, np.zeros(2)).encode()),
        (LabelRows.decode, b"{}"),
    ]:
        with pytest.raises(Stalled, match="cannot be read"):
            decode(bad)


def test_labels_are_waited_for_until_nearly_all_are_there_or_event_time_says_no_more_will_come() -> None:
    late = {"end": 10.0, "max_delay": 30.0}
    assert not labels_are_due(1000, 899, watermark=39.9, **late)
    assert labels_are_due(1000, 900, watermark=None, **late)
    assert labels_are_due(1000, 0, watermark=40.0, **late)
    assert not labels_are_due(0, 0, watermark=None, **late)


def test_rows_in_order_of_event_time_do_not_depend_on_how_they_came() -> None:
    rows = predictions([5, 3, 9, 1])
    tied = PredictionRows(
        rows.ids, rows.windows, np.array([2, 1, 1, 0]), rows.predictions, rows.scores, rows.slices
    )
    found = joined([(0, tied)], latest_labels([]), 0).by_time()
    assert found.rows.ids.tolist() == [1, 3, 9, 5]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 1.0, np.nan])), max_size=8), max_size=4
    ),
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), max_size=8), max_size=4),
    st.randoms(use_true_random=False),
)
def test_a_join_is_what_writing_file_after_file_into_a_dictionary_gives(
    label_files: list[list[tuple[int, float]]],
    prediction_files: list[list[tuple[int, int]]],
    chance: random.Random,
) -> None:
    known = {key: target for file in label_files for key, target in file if target == target}
    there = {key for file in prediction_files for key, window in file if window == 1}
    marks = [
        (k, LabelRows(np.array([key for key, _ in file], np.uint64), np.array([t for _, t in file], float)))
        for k, file in enumerate(label_files)
    ]
    rows = []
    for k, file in enumerate(prediction_files):
        one = predictions([key for key, _ in file])
        windows = np.array([window for _, window in file], np.int64)
        rows.append((k, PredictionRows(one.ids, windows, one.times, one.predictions, one.scores, one.slices)))
    chance.shuffle(marks)
    chance.shuffle(rows)
    found = joined(rows, latest_labels(marks), 1)
    assert found.rows.ids.tolist() == sorted(there)
    told = {key: target for key, target in seen(found).items() if target == target}
    assert told == {key: target for key, target in known.items() if key in there}
