"""A 64-bit hash of texts that is the same everywhere and always (Python's own is not)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.monitoring.summaries.vectors import Hashes

_LONG = 256  # bytes; what is longer is rare and left to BLAKE2b
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_HALF, _SHIFT = np.uint64(32), np.uint64(33)


def hashes_of(texts: Any) -> Hashes:
    """One hash for each text: eight bytes at a time, the end as MurmurHash3 (Appleby 2011) mixes.

    Args:
        texts: a pyarrow string array without nulls, shape (n,).
    """
    texts = texts.cast(pa.large_string())
    _, offsets_buffer, data_buffer = texts.buffers()
    if not len(texts):
        return np.empty(0, np.uint64)
    offsets = np.frombuffer(offsets_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    starts, lengths = offsets[:-1], np.diff(offsets)
    first, last = int(offsets[0]), int(offsets[-1])
    raw = b"" if data_buffer is None else data_buffer.slice(first, last - first).to_pybytes()
    padded = raw + bytes(8)
    words = np.ndarray((len(padded) - 7,), dtype="<u8", buffer=padded, strides=(1,))
    mixed: Hashes = lengths.astype(np.uint64) * _MULTIPLIER
    active = np.flatnonzero((lengths > 0) & (lengths <= _LONG))
    at = 0
    while len(active):
        word = words[starts[active] - first + at].astype(np.uint64)
        left = lengths[active] - at
        short = left < 8
        word[short] &= (np.uint64(1) << (left[short] * 8).astype(np.uint64)) - np.uint64(1)
        part = (mixed[active] ^ word) * _MULTIPLIER
        mixed[active] = part ^ (part >> _HALF)
        at += 8
        active = active[left > 8]
    mixed ^= mixed >> _SHIFT
    mixed *= _MIX_1
    mixed ^= mixed >> _SHIFT
    mixed *= _MIX_2
    mixed ^= mixed >> _SHIFT
    for place in np.flatnonzero(lengths > _LONG).tolist():
        start = int(starts[place]) - first
        digest = hashlib.blake2b(raw[start : start + int(lengths[place])], digest_size=8).digest()
        mixed[place] = int.from_bytes(digest, "little")
    return mixed
