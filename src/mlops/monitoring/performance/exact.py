"""Sums of floats without rounding, as integers of one fixed unit: the order of rows and files leaves no trace."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIT = 2**1126  # parts of 1: every double is a whole number of them

_LOW = 27  # a significand of 53 bits is summed in two parts, each exact in a double
_SHIFT = 1073  # -frexp's exponent of the least double
_AT_ONCE = 2**24  # values; 2**24 x 2**27 < 2**53


def exact_sum(values: NDArray[np.float64]) -> int:
    """The sum of finite doubles in units of 1/UNIT, whatever their order; divide by UNIT for the nearest double.

    >>> exact_sum(np.array([1e100, 1.0, -1e100])) / UNIT
    1.0
    """
    return sum(_part(values[start : start + _AT_ONCE]) for start in range(0, len(values), _AT_ONCE))


def _part(values: NDArray[np.float64]) -> int:
    fractions, exponents = np.frexp(values)
    significands = (fractions * 2.0**53).astype(np.int64)
    shifts = exponents + _SHIFT
    high = np.bincount(shifts, weights=significands >> _LOW)
    low = np.bincount(shifts, weights=significands & (2**_LOW - 1))
    return sum(
        ((int(high[shift]) << _LOW) + int(low[shift])) << int(shift)
        for shift in np.flatnonzero((high != 0) | (low != 0))
    )
