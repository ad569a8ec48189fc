"""The arrays that summaries are made of: one-dimensional, and not written to once they stand in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


def frozen(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`values`, which nobody can write to any more."""
    values.setflags(write=False)
    return values


def added(parts: Sequence[Integers]) -> Integers:
    """The element-wise sum of counts of equal length."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return frozen(total)
