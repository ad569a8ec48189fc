"""What alibi-detect is asked, made of row samples without nulls, and what its answers mean.

It takes NaN for a number like any other, and says p = NaN and no drift. So: a column compared alone is compared where
it has values. Where all columns are compared at once a null number is the reference's median, a null category is one
more category, and for each column of numbers with nulls there is one more column that says where they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.monitoring.alibi.catalogue import AlibiDetector
from mlops.monitoring.detectors.binned import RARE, Binned, Floats, Measured
from mlops.monitoring.detectors.chi_square import chi_square
from mlops.monitoring.samples import RowSample

FEWEST_VALUES = 20  # of one column on each side
FEWEST_ROWS = 50  # of all columns on each side
_MOST_CATEGORIES = 20  # of a column that get a dimension of their own
_FARTHEST = 10.0  # deviations: one wild value must not be all that a kernel sees
_PERMUTATIONS = (200, 2_000)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One detector on two sets of rows.

    Args:
        detector: which.
        reference, window: shape (rows, columns), finite.
        categorical: places of the columns that hold codes.
        seed: of all that is drawn.
        permutations: how many.
    """

    detector: AlibiDetector
    reference: npt.NDArray[np.float32]
    window: npt.NDArray[np.float32]
    categorical: tuple[int, ...]
    seed: int
    permutations: int

    def measured(self, distances: Sequence[float | None], p_values: Sequence[float | None]) -> Measured:
        """The effect and p-value that its answer says."""
        told = [p_value for p_value in p_values if p_value is not None]
        if not told:
            return Measured(math.nan, None, "it could not be measured")
        p_value = min(1.0, min(told) * len(told))  # Bonferroni over the columns of `tabular`
        if self.detector.permuted:
            # The sample itself is one of the permutations: Phipson & Smyth 2010.
            p_value = (round(p_value * self.permutations) + 1) / (self.permutations + 1)
        return Measured(self._effect(distances), p_value)

    def _effect(self, distances: Sequence[float | None]) -> float:
        n, m = len(self.reference), len(self.window)
        first = distances[0]
        match self.detector.own_name:
            case "fet":
                return abs(float(self.reference.mean()) - float(self.window.mean()))
            case "chiSquare":
                return self._cramer(0)
            case "tabular":
                parts = [
                    self._cramer(place) if place in self.categorical else distance or 0.0
                    for place, distance in enumerate(distances)
                ]
                return max(parts)
            case _ if first is None:
                return math.nan
            case "cvm":
                # The statistic less its expectation, over how it grows: the L2 distance of the shares.
                return math.sqrt(max(0.0, first - 1 / 6) * (n + m) / (n * m))
            case "mmd" | "lsdd":  # squared distances
                return math.sqrt(max(0.0, first))
            case _:
                return max(0.0, first)

    def _cramer(self, place: int) -> float:
        codes = [rows[:, place].astype(np.int64) for rows in (self.reference, self.window)]
        size = int(max(own.max() for own in codes)) + 1
        return chi_square(Binned.of(*(np.bincount(own, minlength=size) for own in codes))).effect


def of_column(detector: AlibiDetector, rows: RowSample, place: int) -> Request | str:
    """One column where it has values, or why it cannot be asked for."""
    kind = "categorical" if rows.categorical[place] else "numeric"
    if kind not in detector.kinds:
        return f"it does not compare {'categories' if kind == 'categorical' else 'numbers'}"
    reference, window = (side[np.isfinite(side[:, place]), place] for side in (rows.reference, rows.window))
    reference, window = reference[: detector.rows], window[: detector.rows]
    fewest = min(len(reference), len(window))
    if fewest < FEWEST_VALUES:
        return f"{fewest} values, fewer than {FEWEST_VALUES}"
    categorical: tuple[int, ...] = ()
    if detector.own_name == "fet":
        known = np.unique(reference)
        if len(known) != 2:
            return "the reference has not two different values"
        reference, window = (side == known[1] for side in (reference, window))
    elif kind == "categorical":
        reference, window = _grouped(reference, window)
        categorical = (0,)
    else:  # ranks, which is all that these compare: the values may be too close or too large for a float32
        _, ranks = np.unique(np.concatenate([reference, window]), return_inverse=True)
        reference, window = np.split(ranks.astype(np.float64), [len(reference)])
    return _request(detector, reference[:, None], window[:, None], categorical, rows.seed, 0)


def of_all(detector: AlibiDetector, rows: RowSample, measures: int) -> Request | str:
    """All columns at once, or why they cannot be asked for.

    Args:
        measures: how many p-values the check corrects; permutations are so many that the least can be significant.
    """
    reference, window = rows.reference[: detector.rows], rows.window[: detector.rows]
    fewest = min(len(reference), len(window))
    if fewest < FEWEST_ROWS:
        return f"{fewest} rows, fewer than {FEWEST_ROWS}"
    tabular = detector.own_name == "tabular"
    parts: list[tuple[Floats, Floats, bool]] = []
    for place, categorical in enumerate(rows.categorical.tolist()):
        left, right = reference[:, place], window[:, place]
        if categorical:
            # A null is one more category.
            left, right = _grouped(*(np.where(np.isnan(side), -1.0, side) for side in (left, right)))
            parts += [(left, right, True)] if tabular else [(*one, True) for one in _apart(left, right)]
        else:
            parts += _numbers(left, right)
    parts = [(left, right, own) for left, right, own in parts if len({*left.tolist(), *right.tolist()}) > 1]
    if not parts:
        return "all columns are constant"
    least, most = _PERMUTATIONS
    return _request(
        detector,
        np.column_stack([left for left, _, _ in parts]),
        np.column_stack([right for _, right, _ in parts]),
        tuple(place for place, (_, _, own) in enumerate(parts) if own) if tabular else (),
        rows.seed,
        min(most, max(least, 40 * measures)),
    )


def _request(
    detector: AlibiDetector,
    reference: Floats,
    window: Floats,
    categorical: tuple[int, ...],
    seed: int,
    permutations: int,
) -> Request:
    small = np.float32
    return Request(
        detector, reference.astype(small), window.astype(small), categorical, seed % 2**32, permutations
    )


def _numbers(left: Floats, right: Floats) -> list[tuple[Floats, Floats, bool]]:
    """In deviations of the reference from its median, and where they are null on either side."""
    known = left[np.isfinite(left)]
    middle = float(np.median(known)) if len(known) else 0.0
    spread = float(np.subtract(*np.quantile(known, [0.75, 0.25]))) / 1.349 if len(known) else 0.0
    spread = spread or (float(known.std()) if len(known) else 0.0) or 1.0
    parts = []
    for side in (left, right):
        filled = np.where(np.isnan(side), middle, side)
        with np.errstate(over="ignore"):
            parts.append(np.clip((filled - middle) / spread, -_FARTHEST, _FARTHEST))
    found = [(parts[0], parts[1], False)]
    missing = [np.isnan(side).astype(np.float64) for side in (left, right)]
    if missing[0].any() or missing[1].any():
        found.append((missing[0], missing[1], True))
    return found


def _apart(left: Floats, right: Floats) -> list[tuple[Floats, Floats]]:
    """A column for each frequent category. Two different ones are a distance of one apart."""
    known, counts = np.unique(np.concatenate([left, right]), return_counts=True)
    frequent = known[np.argsort(-counts, kind="stable")][:_MOST_CATEGORIES]
    one = math.sqrt(0.5)
    return [((left == code) * one, (right == code) * one) for code in frequent]


def _grouped(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Codes 0, 1, …: categories too rare for a chi-square test in the smaller sample are one (Cochran 1952)."""
    _, places, counts = np.unique(np.concatenate([left, right]), return_inverse=True, return_counts=True)
    rare = counts * min(len(left), len(right)) < RARE * (len(left) + len(right))
    codes = np.where(rare, 0, np.cumsum(~rare) - 1 + int(rare.any()))[places].astype(np.float64)
    return codes[: len(left)], codes[len(left) :]
