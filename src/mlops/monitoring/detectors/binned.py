"""What a detector is given, two samples counted in the same bins, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RARE = 5.0  # expected rows of a bin below which chi-square's approximation fails: Cochran (1952)


@dataclass(frozen=True, slots=True)
class Measured:
    """How large a difference is, and how probable one at least as large is without drift (`None`: no test)."""

    effect: float
    p_value: float | None
    note: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Rows of a column in the reference and in a window, counted in the same bins.

    `reference` and `window` have the shape (bins,): rows, or weights where several seasons are mixed. The sizes are
    the effective numbers of rows, which are fewer than the sum of the counts when rows are weighted or depend on
    each other. `bounds`, of the shape (bins + 1,) and finite, say that the bins lie in this order on a line; without,
    they are categories, of which the last is all others if `rest` says so. `scale` is the reference's standard
    deviation in the column's unit.
    """

    reference: Floats
    window: Floats
    reference_size: float
    window_size: float
    bounds: Floats | None = None
    scale: float | None = None
    rest: bool = False

    @classmethod
    def of(
        cls,
        reference: object,
        window: object,
        *,
        sizes: tuple[float, float] | None = None,
        bounds: object = None,
        scale: float | None = None,
        rest: bool = False,
    ) -> Binned:
        """From anything numpy takes for an array; the sizes are the sums of the counts if not given.

        Raises ValueError when the shapes do not fit, or when a sample is empty, negative or not finite.
        """
        left, right = np.asarray(reference, np.float64), np.asarray(window, np.float64)
        if left.ndim != 1 or left.shape != right.shape:
            raise ValueError("reference and window need counts of the same bins")
        for counts in (left, right):
            if not np.isfinite(counts).all() or (counts < 0).any() or counts.sum() <= 0:
                raise ValueError("counts must be finite, none negative, and not all zero")
        n, m = sizes or (left.sum(), right.sum())
        if not (n > 0 and m > 0):
            raise ValueError("effective sizes must be above zero")
        line = None if bounds is None else np.asarray(bounds, np.float64)
        if line is not None and line.shape != (len(left) + 1,):
            raise ValueError("bounds must be one more than bins")
        return cls(left, right, float(n), float(m), line, scale, rest)

    def shares(self) -> tuple[Floats, Floats]:
        """The share of rows in each bin, of reference and window."""
        return self.reference / self.reference.sum(), self.window / self.window.sum()

    def coarse(self, bins: int = 20) -> Binned:
        """In few bins, each with rows enough to be compared; their order is lost.

        Bins on a line are joined with their neighbours to at most `bins` of near-equal share in the reference, each of
        about ten rows or more (the outer ones take what lies beyond it). Then bins and categories that expect fewer
        than 5 rows in the smaller sample are counted together: chosen by both samples' sum, which favours neither.
        """
        smaller = min(self.reference_size, self.window_size)
        reference, window = self.reference, self.window
        if self.bounds is not None:
            groups = max(2, min(bins, int(smaller / (2 * RARE))))
            share = reference / reference.sum()
            middle = np.cumsum(share) - share / 2
            # Rounded so that the last bit of a sum does not choose the bin.
            group = np.clip(np.floor(np.round(middle * groups, 9)).astype(np.int64), 0, groups - 1)
            reference = np.bincount(group, reference, groups).astype(np.float64)
            window = np.bincount(group, window, groups).astype(np.float64)
        total = self.reference_size + self.window_size
        p, q = reference / reference.sum(), window / window.sum()
        pooled = (self.reference_size * p + self.window_size * q) / total
        rare = pooled * smaller < RARE
        if self.rest:  # where also those are that the reference has not seen: they are rare in it
            rare[-1] = True
        kept = ~rare
        reference = np.append(reference[kept], reference[rare].sum())
        window = np.append(window[kept], window[rare].sum())
        present = reference + window > 0
        return replace(self, reference=reference[present], window=window[present], bounds=None, rest=False)
