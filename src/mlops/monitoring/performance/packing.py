"""Arrays of numbers as bytes: the same for equal values, and read back with suspicion.

`MAGIC`, the length of the header, the header as JSON with sorted keys, then the arrays, little-endian.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops.errors import Stalled

_MAGIC = b"mlperf1\n"
_DTYPES = ("<f8", "<i8", "<i4", "<u8")


def pack(kind: str, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> bytes:
    """`header` (what JSON holds) and arrays of 64-bit numbers or 32-bit integers as bytes."""
    described = [[array.dtype.newbyteorder("<").str, list(array.shape)] for array in arrays]
    document = {"kind": kind, "header": dict(header), "arrays": described}
    head = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    bodies = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes() for array in arrays]
    return b"".join([_MAGIC, len(head).to_bytes(4, "little"), head, *bodies])


def unpack(kind: str, packed: bytes) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """What `pack` was given. Raises `Stalled` when `packed` is not, to the byte, what it makes of such a thing."""
    try:
        if packed[:8] != _MAGIC:
            raise ValueError("magic")
        start = 12 + int.from_bytes(packed[8:12], "little")
        document = json.loads(packed[12:start])
        if document["kind"] != kind:
            raise ValueError("kind")
        arrays = []
        for dtype, shape in document["arrays"]:
            if dtype not in _DTYPES or not all(isinstance(size, int) and size >= 0 for size in shape):
                raise ValueError("array")
            count = math.prod(shape)
            array = np.frombuffer(packed, dtype, count, start).reshape(shape)
            arrays.append(array.astype(array.dtype.newbyteorder("="), copy=False))
            start += array.nbytes
        header: dict[str, Any] = document["header"]
        if start != len(packed) or pack(kind, header, arrays) != packed:
            raise ValueError("length")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise unreadable(kind, error) from None  # without its text, which may quote data
    return header, arrays


def unreadable(kind: str, error: Exception) -> Stalled:
    """What is told of stored bytes that are not what they should be."""
    what = f"Stored {kind} cannot be read ({type(error).__name__})"
    return Stalled(what, fix="Delete the state; it is built again from MLflow and the data")
