"""What is kept of a window's labelled rows: integers that add up, from which every metric is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mlops.monitoring.performance.curves import Grid
from mlops.monitoring.performance.metrics import Task
from mlops.monitoring.performance.packing import pack, unpack, unreadable
from mlops.monitoring.summaries.sums import exact_sums

_KIND = "performance"
_GREATEST = 1e70  # its fourth power is still a double
_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)  # where scikit-learn clips for its log loss


@dataclass(frozen=True, slots=True)
class Layout:
    """What is summed, fixed by the reference.

    `classes` in the order of their codes, of a binary task the negative one first. `centre` is a value near the mean
    target of a regression: powers are taken of differences from it, so that they keep their digits.
    """

    task: Task
    classes: tuple[str, ...] = ()
    centre: float = 0.0

    def __post_init__(self) -> None:
        fits = {"binary": len(self.classes) == 2, "regression": not self.classes}
        if not fits.get(self.task, len(self.classes) >= 2):
            raise ValueError("classes do not fit the task")

    @property
    def score_columns(self) -> int:
        """How many probabilities a row has: the positive class's, or one per class."""
        return {"binary": 1, "multiclass": len(self.classes), "regression": 0}[self.task]


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Of the labelled rows of one window (and slice).

    `rows` were handed in; those whose prediction or score is no number are in no other count. `confusion` is
    [target, prediction] of int64, its last row and column of classes that the layout does not know. `grids` holds one
    per score column. `moments` are exact sums, in units of 2**-1074, by name. All counts are in 1/`unit` rows: 1 where
    labels are known, more where they are estimated.
    """

    layout: Layout
    rows: int
    unit: int
    confusion: NDArray[np.int64]
    grids: tuple[Grid, ...]
    moments: Mapping[str, int]

    def merge(self, other: Sums) -> Sums:
        """Of the rows of both. Raises `ValueError` where the layouts differ."""
        if (self.layout, self.unit) != (other.layout, other.unit):
            raise ValueError("sums of different layouts")
        names = sorted({*self.moments, *other.moments})
        return Sums(
            self.layout,
            self.rows + other.rows,
            self.unit,
            self.confusion + other.confusion,
            tuple(mine.merge(theirs) for mine, theirs in zip(self.grids, other.grids, strict=True)),
            {name: self.moments.get(name, 0) + other.moments.get(name, 0) for name in names},
        )

    def encode(self) -> bytes:
        """As bytes: equal for equal sums."""
        layout = {
            "task": self.layout.task,
            "classes": list(self.layout.classes),
            "centre": self.layout.centre,
        }
        moments = {name: f"{total:x}" for name, total in self.moments.items() if total}
        header = {"layout": layout, "rows": self.rows, "unit": self.unit, "moments": moments}
        grids = [counts for grid in self.grids for counts in (grid.cells, grid.positives, grid.negatives)]
        return pack(_KIND, header, [self.confusion, *grids])

    @classmethod
    def decode(cls, packed: bytes) -> Sums:
        """What `encode` gave. Raises `Stalled` for other bytes."""
        header, (confusion, *counts) = unpack(_KIND, packed)
        try:
            layout = Layout(
                header["layout"]["task"],
                tuple(header["layout"]["classes"]),
                float(header["layout"]["centre"]),
            )
            empty = no_sums(layout)
            grids = tuple(Grid(*counts[start : start + 3]) for start in range(0, len(counts), 3))
            if confusion.shape != empty.confusion.shape or len(grids) != len(empty.grids):
                raise ValueError("shape")
            if any(not grid.cells.shape == grid.positives.shape == grid.negatives.shape for grid in grids):
                raise ValueError("grid")
            moments = {str(name): int(total, 16) for name, total in header["moments"].items()}
            return cls(layout, int(header["rows"]), int(header["unit"]), confusion, grids, moments)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise unreadable(_KIND, error) from None


def no_sums(layout: Layout, unit: int = 1) -> Sums:
    """Of no rows."""
    none = np.zeros(0, np.int64)
    size = len(layout.classes) + 1 if layout.classes else 0
    grids = tuple(Grid(none, none, none) for _ in range(layout.score_columns))
    return Sums(layout, 0, unit, np.zeros((size, size), np.int64), grids, {})


def merged(sums: list[Sums], layout: Layout) -> Sums:
    """Of the rows of all."""
    return reduce(Sums.merge, sums, no_sums(layout, sums[0].unit if sums else 1))


def summed(
    layout: Layout,
    targets: NDArray[np.float64],
    predictions: NDArray[np.float64] | None,
    scores: NDArray[np.float64] | None = None,
) -> Sums:
    """Of labelled rows.

    `targets` and `predictions` [rows] hold values or codes of classes (a negative one: unknown to the layout);
    NaN is missing. `scores` is [rows, score columns]. Without `predictions`, classes are told from scores: 0.5 and more
    is positive, the likeliest of several. Rows without a target are left out.
    """
    labelled = np.isfinite(targets)
    targets = targets[labelled]
    predictions = predictions[labelled] if predictions is not None else None
    scores = scores[labelled] if scores is not None else None
    if layout.task == "regression":
        found = predictions if predictions is not None else np.full(len(targets), np.nan)
        return _summed_values(layout, targets, found)
    certain = np.ones(len(targets), np.int64)
    weights = [(np.where(targets == code, certain, 0)) for code in range(len(layout.classes))]
    unknown = np.where((targets < 0) | (targets >= len(layout.classes)), certain, 0)
    return summed_classes(layout, [*weights, unknown], predictions, scores)


def summed_classes(
    layout: Layout,
    weights: list[NDArray[np.int64]],
    predictions: NDArray[np.float64] | None,
    scores: NDArray[np.float64] | None,
    unit: int = 1,
) -> Sums:
    """Of rows that are of class k by `weights[k]` [rows], in 1/unit; the last entry is of no known class.

    A row of no known class is a mistake whatever was predicted, and in no metric that is made of scores. Raises
    `ValueError` where `scores` are not [rows, score columns].
    """
    rows = len(weights[0])
    known = len(layout.classes)
    if scores is not None and scores.shape != (rows, layout.score_columns):
        raise ValueError(f"scores have shape {scores.shape}, not {(rows, layout.score_columns)}")
    if predictions is None:
        predictions = predicted(scores) if scores is not None else np.full(rows, np.nan)
    told = np.isfinite(predictions)
    codes = np.where((predictions[told] >= 0) & (predictions[told] < known), predictions[told], known)
    confusion = [np.bincount(codes.astype(np.int64), part[told], known + 1) for part in weights]
    empty = no_sums(layout, unit)
    grids, moments = empty.grids, {}
    if scores is not None:
        told = np.asarray(np.isfinite(scores).all(axis=1))
        scores, weights = np.ascontiguousarray(scores[told]), [part[told] for part in weights[:known]]
        whole = np.sum(weights, axis=0)
        of_column = weights[1:2] if layout.task == "binary" else weights
        grids = tuple(Grid.of(scores[:, k], part, whole - part) for k, part in enumerate(of_column))
        proper = ((scores >= 0) & (scores <= 1)).all(axis=1)  # else they are no probabilities
        moments = _moments_of_scores(layout, [part[proper] for part in weights], scores[proper])
    return Sums(layout, rows, unit, np.array(confusion, np.int64), grids, moments)


def predicted(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The class that scores [rows, columns] tell; NaN where one of them is no number."""
    codes = np.asarray(scores[:, 0] >= 0.5 if scores.shape[1] == 1 else scores.argmax(axis=1), np.float64)
    return np.where(np.isfinite(scores).all(axis=1), codes, np.nan)


def of_losses(layout: Layout, name: str, losses: NDArray[np.float64]) -> Sums:
    """Of estimated losses of rows, such as `absolute`; what is no number is left out."""
    told = losses[np.isfinite(losses) & (np.abs(losses) < _GREATEST)]
    moments = {name: _total(told), f"{name}2": _total(told * told), f"{name}Rows": len(told)}
    return Sums(layout, len(losses), 1, no_sums(layout).confusion, (), moments)


def _moments_of_scores(
    layout: Layout, weights: list[NDArray[np.int64]], scores: NDArray[np.float64]
) -> dict[str, int]:
    chances = np.column_stack([1 - scores[:, 0], scores[:, 0]]) if layout.task == "binary" else scores
    total: dict[str, int] = dict.fromkeys(("logLoss", "logLoss2", "brier", "brier2", "logLossRows"), 0)
    for code, part in enumerate(weights):
        own = chances[:, code]
        surprise = -np.log(np.clip(own, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))
        square = (1 - own) ** 2  # of several classes, scikit-learn's is the sum over all of them
        if layout.task == "multiclass":
            square = square + (np.delete(chances, code, axis=1) ** 2).sum(axis=1)
        for name, loss in (("logLoss", surprise), ("brier", square)):
            total[name] += _total(loss * part)
            total[f"{name}2"] += _total(loss * loss * part)
        total["logLossRows"] += int(part.sum())
    total["brierRows"] = total["logLossRows"]
    return total


def _summed_values(layout: Layout, targets: NDArray[np.float64], predictions: NDArray[np.float64]) -> Sums:
    rows = len(targets)
    told = np.isfinite(predictions) & (np.abs(predictions) < _GREATEST) & (np.abs(targets) < _GREATEST)
    targets, predictions = targets[told], predictions[told]
    from_centre = targets - layout.centre
    error = np.abs(targets - predictions)
    square = error * error
    relative = np.minimum(error / np.maximum(np.abs(targets), _LEAST_PROBABILITY), _GREATEST)
    losses = {"absolute": error, "squared": square, "relative": relative}
    from_centre2 = from_centre * from_centre
    parts = losses | {f"{name}2": loss * loss for name, loss in losses.items()}
    parts |= {"target1": from_centre, "target2": from_centre2, "target3": from_centre2 * from_centre}
    parts |= {"target4": from_centre2 * from_centre2}
    parts |= {"squaredTarget1": square * from_centre, "squaredTarget2": square * from_centre2}
    moments = {name: _total(part) for name, part in parts.items()}
    moments |= {f"{name}Rows": len(targets) for name in losses}
    return Sums(layout, rows, 1, no_sums(layout).confusion, (), moments)


def _total(values: NDArray[np.float64]) -> int:
    return exact_sums(values, np.zeros(1, np.int64))[0]
