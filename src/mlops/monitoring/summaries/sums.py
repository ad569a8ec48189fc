"""Sums without rounding: Python integers in units of 2**-1074, the smallest double, so that order cannot matter.

Values are split by adding and taking away a power of two, after which what was split off adds up exactly in floating
point (Rump, Ogita, Oishi: Accurate floating-point summation, SIAM J. Sci. Comput. 31, 2008, algorithm 3.2).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from mlops.monitoring.summaries.vectors import Floats, Integers

UNIT = 1074  # sums are in units of 2**-UNIT
_LARGE = 2.0**900
_HALF_UNIT = 2.0**-53  # of the last place of 1
_SCALED = 200  # large values are added in units of 2**_SCALED, far from overflow


def exact_sums(values: Floats, starts: Integers, largest: float | None = None) -> list[int]:
    """The sum of each segment of `values`, in units of 2**-1074.

    Args:
        values: finite doubles, shape (n,).
        starts: where segments begin, ascending, the first 0; none may be empty.
        largest: the largest absolute value, where it is known.
    """
    if not len(values):
        return [0] * len(starts)
    if largest is None:
        largest = _largest(values)
    if largest < _LARGE:
        return _sums(values, starts, largest)
    large = np.abs(values) >= _LARGE
    above = np.where(large, values, 0.0) * 2.0**-_SCALED
    high = _sums(above, starts, largest * 2.0**-_SCALED)
    rest = np.where(large, 0.0, values)
    low = _sums(rest, starts, _largest(rest))
    return [(h << _SCALED) + b for h, b in zip(high, low, strict=True)]


def _sums(values: Floats, starts: Integers, largest: float) -> list[int]:
    totals = [0] * len(starts)
    room = math.ceil(math.log2(len(values) + 2))
    rest, part = values, np.empty_like(values)
    while largest > 0.0:
        splitter = math.ldexp(1.0, math.frexp(largest)[1] + room)
        np.add(rest, splitter, out=part)
        part -= splitter
        for place, part_sum in enumerate(np.add.reduceat(part, starts).tolist()):
            if part_sum:
                totals[place] += in_units(part_sum)
        rest = np.subtract(rest, part, out=None if rest is values else rest)
        largest = splitter * _HALF_UNIT if rest.any() else 0.0  # what rounding can have left
    return totals


def _largest(values: Floats) -> float:
    return max(float(values.max()), -float(values.min()))


def in_units(value: float) -> int:
    """A finite double as a whole number of 2**-1074."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (UNIT + 1 - denominator.bit_length())


def quotient(total: int, count: int) -> float:
    """`total` units of 2**-1074 over `count`, rounded once; infinite beyond the largest double."""
    try:
        return float(Fraction(total, count << UNIT))
    except OverflowError:
        return math.copysign(math.inf, total)
