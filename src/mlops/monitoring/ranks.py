"""Which rows a bounded sample keeps: those of least rank, a hash of what they hold and of the number of their copy."""

from __future__ import annotations

from typing import Final

import numpy as np

from mlops.monitoring.summaries.vectors import Hashes, Integers

_COPIES: Final = 1 << 20  # ranked at once
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def kept(hashes: Hashes, copies: Integers, most: int) -> Integers:
    """The places of the `most` rows whose copies have the least ranks, ascending."""
    if len(hashes) <= most:
        return np.arange(len(hashes))
    return np.sort(np.unique(least_copies(hashes, copies, most)))


def least_copies(hashes: Hashes, copies: Integers, most: int) -> Integers:
    """The places of the rows that the `most` copies of least rank belong to, in the order of the ranks."""
    places, ranks = np.empty(0, np.int64), np.empty(0, np.uint64)
    ends = np.cumsum(copies)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, _COPIES):
        numbers = np.arange(begin, min(begin + _COPIES, total))
        of = np.searchsorted(ends, numbers, side="right")
        nth = (numbers - (ends[of] - copies[of])).astype(np.uint64)
        places = np.concatenate((places, of))
        ranks = np.concatenate((ranks, mixed(hashes[of] ^ (nth * _MULTIPLIER))))
        if len(ranks) > most:
            least = np.argpartition(ranks, most - 1)[:most]
            places, ranks = places[least], ranks[least]
    chosen: Integers = places[np.lexsort((places, ranks))]
    return chosen


def mixed(values: Hashes) -> Hashes:
    """Each of 64 bits depends on all (the finaliser of SplitMix64: Steele, Lea & Flood 2014)."""
    bits = values + _MULTIPLIER
    bits ^= bits >> np.uint64(30)
    bits *= _MIX_1
    bits ^= bits >> np.uint64(27)
    bits *= _MIX_2
    bits ^= bits >> np.uint64(31)
    return bits
