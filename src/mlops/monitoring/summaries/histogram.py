"""Counts by the top bits of a double, so that a value's place is known to a fixed share of it whatever its size.

Sign, exponent and leading bits of the mantissa are the key: a logarithmic histogram by bit operations alone (the
idea of HdrHistogram, Tene 2012, and of DDSketch, Masson, Rim, Lee 2019). When keys become too many, all lose their
last bits; how many bits depends on the set of values only, so that the order of merging does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlops.monitoring.summaries.vectors import Floats, Hashes, Integers, frozen

MANTISSA_BITS: Final = 52
SCALE_SHIFT: Final = (
    MANTISSA_BITS - 7
)  # seven bits: the middle of a bucket is within 1/256 of every value in it
MOST_KEYS: Final = 8_192

_SIGN = np.uint64(1 << 63)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How many values have which leading bits.

    Args:
        shift: how many low bits of the 64 are left out.
        keys: ascending in the order of the values, see `ordered`, shape (k,).
        counts: of each key, above 0, shape (k,).
    """

    shift: int
    keys: Hashes
    counts: Integers

    @property
    def lower(self) -> Floats:
        """The least double of each bucket."""
        return unordered(self.keys << np.uint64(self.shift))

    @property
    def upper(self) -> Floats:
        """The greatest double of each bucket."""
        return unordered((self.keys << np.uint64(self.shift)) | np.uint64((1 << self.shift) - 1))

    def coarser(self, shift: int) -> Histogram:
        """The same counts with `shift` bits left out, which are no fewer than now."""
        if shift == self.shift:
            return self
        return _combined(shift, self.keys >> np.uint64(shift - self.shift), self.counts)


def ordered(values: Floats) -> Hashes:
    """Unsigned integers in the order of the doubles: all bits of negatives are turned, of the others the sign.

    Args:
        values: neither NaN nor -0.0.
    """
    bits = values.view(np.uint64)
    return np.where(bits >> np.uint64(63), ~bits, bits | _SIGN)


def unordered(keys: Hashes) -> Floats:
    """The inverse of `ordered`."""
    bits: Hashes = np.where(keys & _SIGN, keys ^ _SIGN, ~keys)
    return bits.view(np.float64)


def merged(parts: Sequence[Histogram], *, most: int = MOST_KEYS) -> Histogram:
    """All counts of `parts` together, with at most `most` keys."""
    shift = max(part.shift for part in parts)
    parts = [part.coarser(shift) for part in parts]
    keys = np.concatenate([part.keys for part in parts])
    return limited(_combined(shift, keys, np.concatenate([part.counts for part in parts])), most)


def limited(histogram: Histogram, most: int = MOST_KEYS) -> Histogram:
    """The finest histogram of the same values that has at most `most` keys."""
    return histogram.coarser(histogram.shift + bits_to_drop(histogram.keys, most))


def bits_to_drop(keys: Hashes, most: int) -> int:
    """How many low bits these ascending, distinct keys lose at least until `most` different ones remain."""
    if len(keys) <= most:
        return 0
    differences = keys[1:] ^ keys[:-1]  # neighbours are one once the highest bit in which they differ is gone
    high = differences >> _HALF
    bits = np.where(high, 32 + np.frexp(high)[1], np.frexp(differences & _LOW)[1])
    apart = (
        1 + np.cumsum(np.bincount(bits, minlength=65)[::-1])[::-1]
    )  # how many remain if one bit fewer is lost
    return int(np.argmax(apart <= most)) - 1


def _combined(shift: int, keys: Hashes, counts: Integers) -> Histogram:
    if not len(keys):
        return Histogram(shift, keys, counts)
    if np.any(keys[1:] < keys[:-1]):
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return Histogram(shift, frozen(keys[starts]), frozen(np.add.reduceat(counts, starts)))


EMPTY: Final = Histogram(SCALE_SHIFT, np.empty(0, np.uint64), np.empty(0, np.int64))
