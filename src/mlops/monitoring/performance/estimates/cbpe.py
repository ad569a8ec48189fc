"""Performance estimated from probabilities (CBPE): what each prediction is worth if they mean what they meant.

After NannyML's documentation, "Confidence-based Performance Estimation" (nannyml.readthedocs.io): probabilities are
calibrated on the reference, and every row then counts as each class with the chance of it, so that every metric of
`measuring` is estimated by the same formulas. It follows a change of X. It cannot follow a change of P(Y given X): it
takes for granted that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlops.monitoring.performance.sums import Layout, Sums, summed_classes

UNIT = 2**20  # a chance is a whole number of parts of this many, so that sums are exact
FEWEST_ROWS = 300  # that a calibration says anything of
FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """For each score column, ascending scores and how often the class was seen there; between them, a line."""

    layout: Layout
    curves: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]

    def chances(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The chance of each class, [rows, classes], from scores [rows, score columns]; NaN where a score is."""
        found = [np.interp(scores[:, k], *curve) for k, curve in enumerate(self.curves)]
        if self.layout.task == "binary":
            return np.column_stack([1 - found[0], found[0]])
        each = np.column_stack(found)
        total = each.sum(axis=1, keepdims=True)
        return np.where(total == 0, 1 / len(found), each / np.where(total == 0, 1, total))


def calibrated(
    layout: Layout, scores: NDArray[np.float64], targets: NDArray[np.float64]
) -> Calibration | None:
    """How often each class is seen at a score, by isotonic regression (Zadrozny and Elkan 2002).

    `scores` [rows, score columns] and `targets` [rows] (codes of classes) are the reference's. None where fewer than
    300 rows have both.
    """
    from sklearn.isotonic import IsotonicRegression

    told = _usable(layout, scores) & (targets >= 0) & (targets < len(layout.classes))
    scores, targets = scores[told], targets[told]
    if len(targets) < FEWEST_ROWS:
        return None
    first = 1 if layout.task == "binary" else 0
    curves = []
    for column in range(layout.score_columns):
        fit = IsotonicRegression(y_min=0, y_max=1)
        fit.fit(scores[:, column], (targets == column + first).astype(np.float64))
        curves.append((np.asarray(fit.X_thresholds_), np.asarray(fit.y_thresholds_)))
    return Calibration(layout, tuple(curves))


def out_of_fold(
    layout: Layout, ids: NDArray[np.uint64], scores: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Chances [rows, classes] of the reference's own rows, each by a calibration that has not seen it.

    Folds go by `ids` (hashes), so that the order of rows does not matter. None where there are too few rows.
    """
    chances = np.full((len(ids), len(layout.classes)), np.nan)
    for held_out in _folds(ids):
        calibration = calibrated(layout, scores[~held_out], targets[~held_out])
        if calibration is None:
            return None
        chances[held_out] = calibration.chances(scores[held_out])
    return chances


def expected(
    layout: Layout,
    predictions: NDArray[np.float64],
    scores: NDArray[np.float64],
    chances: NDArray[np.float64],
) -> Sums:
    """Sums of rows without labels, each as every class by its chance.

    `predictions` [rows] are codes of classes, `scores` [rows, score columns] what the model said, `chances`
    [rows, classes] what `Calibration` makes of them. Rows without scores are counted and left out.
    """
    told = _usable(layout, scores) & np.isfinite(chances).all(axis=1)
    predictions, scores, chances = predictions[told], scores[told], chances[told]
    parts = np.rint(chances * UNIT).astype(np.int64)
    likeliest = parts.argmax(axis=1)
    parts[np.arange(len(parts)), likeliest] += UNIT - parts.sum(axis=1)  # a row is one row
    weights = [*parts.T, np.zeros(len(parts), np.int64)]
    return replace(summed_classes(layout, weights, predictions, scores, UNIT), rows=len(told))


def _folds(ids: NDArray[np.uint64]) -> Iterator[NDArray[np.bool_]]:
    for fold in range(FOLDS):
        yield np.asarray(ids % np.uint64(FOLDS) == fold)


def _usable(layout: Layout, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    if scores.ndim != 2 or scores.shape[1] != layout.score_columns or not layout.score_columns:
        return np.zeros(len(scores), np.bool_)
    return np.asarray(np.isfinite(scores).all(axis=1))
