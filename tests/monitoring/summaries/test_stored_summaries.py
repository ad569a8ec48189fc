"""Plans and summaries come back from their bytes as they were; other bytes are nothing, never an error."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loan_rows import in_batches, loan_plan, loans

from mlops.monitoring.summaries.encoding import Damaged, Reader, Writer
from mlops.monitoring.summaries.storing import decode, decode_plan, encode, encode_plan
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import merge


def test_a_plan_comes_back_with_the_same_digest() -> None:
    for plan in (loan_plan(), loan_plan(season="month", slices=("country", "sold"))):
        back = decode_plan(encode_plan(plan))
        assert back is not None
        assert back.digest == plan.digest
        assert (back.slices, back.season, back.excluded) == (plan.slices, plan.season, plan.excluded)


def test_what_changes_a_plan_changes_its_digest() -> None:
    plans = [
        loan_plan(),
        loan_plan(season="month"),
        loan_plan(slices=()),
        loan_plan(slices=("sold",)),
        loan_plan(rows=4_999),
    ]
    assert len({plan.digest for plan in plans}) == len(plans)


def test_a_summary_comes_back_and_goes_on_adding_up() -> None:
    plan = loan_plan(season="dayOfWeek")
    one, other = (
        summarise(in_batches(loans(900, seed, new=True), 200), plan, timestamp="at") for seed in (1, 2)
    )
    value = encode(one.windows[0])
    back = decode(value, plan)
    assert back is not None
    assert encode(back) == value
    assert encode(merge([back, other.windows[0]])) == encode(merge([one.windows[0], other.windows[0]]))
    assert len(value) < 100_000


def test_bytes_for_another_plan_or_cut_or_turned_are_nothing() -> None:
    plan = loan_plan()
    value = encode(summarise(in_batches(loans(300), 100), plan).windows[0])
    assert decode(None, plan) is None
    assert decode(value, loan_plan(season="month")) is None
    assert decode_plan(value) is None
    assert decode(encode_plan(plan), plan) is None
    random = np.random.default_rng(1)
    for position in random.integers(0, len(value), 200).tolist():
        assert decode(value[:position], plan) is None
        turned = bytearray(value)
        turned[position] ^= 1 << int(random.integers(0, 8))
        assert decode(bytes(turned), plan) is None
    assert decode(value + b"\0", plan) is None


@given(st.binary(max_size=300), st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_no_bytes_are_an_error_even_with_a_right_sum(noise: bytes, start: int) -> None:
    plan = _PLAN
    assert decode(noise, plan) is None
    assert decode_plan(noise) is None
    body = _VALUE[:start] + noise
    forged = body + hashlib.blake2b(body, digest_size=16).digest()
    assert decode_plan(forged) is None
    decode(forged, plan)  # whatever comes of it, it is no error


@pytest.mark.parametrize("value", [0, 1, -1, 255, 256, -256, 2**64, -(2**1100) * 3, 7 << 2000, 10**40])
def test_whole_numbers_of_any_size_come_back(value: int) -> None:
    writer = Writer()
    writer.whole(value)
    reader = Reader(writer.done())
    assert reader.whole() == value
    reader.end()


def test_a_reader_says_that_there_is_more_or_less_than_it_is_asked_for() -> None:
    writer = Writer()
    writer.text("\ud800")
    writer.number(None)
    reader = Reader(writer.done())
    assert reader.text() == "\ud800"
    with pytest.raises(Damaged):
        reader.end()
    assert reader.number() is None
    with pytest.raises(Damaged):
        reader.whole()


_PLAN = loan_plan(rows=200)
_VALUE = encode(summarise(in_batches(loans(50), 50), _PLAN).windows[0])
