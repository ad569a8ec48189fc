"""Sums are exact, whatever the size of the values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.monitoring.summaries.sums import UNIT, exact_sums, in_units, quotient

_DOUBLES = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(_DOUBLES, min_size=1, max_size=50))
@settings(max_examples=200, deadline=None)
def test_a_sum_of_any_doubles_is_the_sum_of_their_fractions(values: list[float]) -> None:
    (found,) = exact_sums(np.array(values), np.array([0]))
    assert Fraction(found, 1 << UNIT) == sum(map(Fraction, values))


def test_segments_are_summed_apart_and_to_the_last_bit() -> None:
    random = np.random.default_rng(7)
    values = random.normal(size=5000) * 10.0 ** random.integers(-320, 300, 5000)
    values[:2] = 5e-324, 1.7976931348623157e308
    starts = np.array([0, 1, 1000, 4999])
    expected = [sum(map(Fraction, part.tolist())) for part in np.split(values, starts[1:])]
    assert [Fraction(found, 1 << UNIT) for found in exact_sums(values, starts)] == expected


@pytest.mark.parametrize("value", [0.0, 0.1, -5e-324, 1.7976931348623157e308, -(2.0**60)])
def test_a_mean_of_one_value_is_that_value(value: float) -> None:
    assert quotient(in_units(value), 1) == value
    assert quotient(3 * in_units(value), 3) == value
