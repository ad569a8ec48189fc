"""A metric's value over sums, and how far chance alone can have moved it.

Standard errors are by theory and for independent rows: of a mean from the sum of squares, of what is made of means by
the delta method (van der Vaart 1998, chapter 3), of areas as `curves` says. A bootstrap would need the rows again, and
says the same at the sizes of windows. What rows have in common over time is seen in the reference's own chunks instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mlops.monitoring.performance.curves import Area, precision_area, roc_area
from mlops.monitoring.performance.metrics import Metric
from mlops.monitoring.performance.sums import Sums
from mlops.monitoring.summaries.sums import UNIT

_LOSS_OF = {"logLoss": "logLoss", "brier": "brier", "mae": "absolute", "mape": "relative"}


@dataclass(frozen=True, slots=True)
class Performance:
    """One metric over some rows; `value` is None where it is not defined, and `note` says why or what is left out."""

    metric: Metric
    value: float | None
    standard_error: float | None
    rows: int
    note: str | None = None


def measure(metric: Metric, sums: Sums, among: Sequence[int] | None = None) -> Performance:
    """The metric over the labelled rows of `sums`.

    `among`: codes of the classes that a macro mean is taken over; by default, those that `measurable` names.
    """
    handed = sums.rows
    classes = measurable(metric, sums) if among is None else tuple(among)
    note = None
    match metric.name:
        case "accuracy":
            found, rows = _accuracy(sums)
        case "f1":
            found, rows = _f1(sums, classes)
        case "rocAuc" | "averagePrecision":
            found, rows, note = _area(metric, sums, classes)
        case "rmse":
            found, rows = _root_mean(sums)
        case "r2":
            found, rows = _explained(sums)
        case "logLoss" | "brier" | "mae" | "mape":
            found, rows = _mean(sums, _LOSS_OF[metric.name])
            if metric.scores and sums.grids and rows < _scored(sums):
                found, note = None, "scores are no probabilities: some are not within 0 and 1"
    if found is None:
        return Performance(metric, None, None, rows, note or _why_not(metric, sums, rows))
    left_out = _left_out(metric, sums, classes, handed - rows)
    return Performance(metric, found[0], found[1], rows, "; ".join(filter(None, [note, left_out])) or None)


def measurable(metric: Metric, sums: Sums) -> tuple[int, ...]:
    """The codes of the classes for which the metric is defined; of a binary task the positive one's at most."""
    known = range(1, 2) if sums.layout.task == "binary" else range(len(sums.layout.classes))
    if metric.scores:
        first = known.start
        return tuple(
            code
            for code in known
            if sums.grids[code - first].positives.any()
            and (sums.grids[code - first].negatives.any() or metric.name == "averagePrecision")
        )
    return tuple(code for code in known if sums.confusion[code].any() or sums.confusion[:, code].any())


def _accuracy(sums: Sums) -> tuple[tuple[float, float] | None, int]:
    rows = _classified(sums)
    total = int(sums.confusion.sum()) / sums.unit
    if not rows:
        return None, 0
    right = float(np.trace(sums.confusion[:-1, :-1])) / sums.unit
    share = right / total
    return (share, math.sqrt(share * (1 - share) / total)), rows


def _f1(sums: Sums, classes: Sequence[int]) -> tuple[tuple[float, float] | None, int]:
    """The mean over classes of 2 TP / (2 TP + FP + FN); a row's influence on each is a constant of its cell."""
    counts = sums.confusion / sums.unit
    rows = _classified(sums)
    if not rows or not classes:
        return None, rows
    influence = np.zeros_like(counts)
    values = []
    for code in classes:
        whole = float(counts[code].sum() + counts[:, code].sum())
        value = 2 * float(counts[code, code]) / whole if whole else 0.0
        values.append(value)
        if whole:
            influence[code] -= value / whole
            influence[:, code] -= value / whole
            influence[code, code] += 2 / whole
    spread = float((counts * influence**2).sum()) / len(classes) ** 2
    return (sum(values) / len(classes), math.sqrt(spread)), rows


def _area(
    metric: Metric, sums: Sums, classes: Sequence[int]
) -> tuple[tuple[float, float] | None, int, str | None]:
    """Of several classes: the mean of each against the rest; its error as if theirs went together, so not too small."""
    area = roc_area if metric.name == "rocAuc" else precision_area
    first = 1 if sums.layout.task == "binary" else 0
    areas = [area(sums.grids[code - first], sums.unit) for code in classes]
    found: list[Area] = [one for one in areas if one is not None]
    rows = _scored(sums)
    if not found or len(found) < len(areas):
        return None, rows, None
    blurred = max(one.half_width for one in found)
    note = f"known to {blurred:.1g} only: the scores are very close together" if blurred > 0.005 else None
    value = sum(one.value for one in found) / len(found)
    return (value, sum(one.standard_error for one in found) / len(found)), rows, note


def _mean(sums: Sums, loss: str) -> tuple[tuple[float, float] | None, int]:
    count = sums.moments.get(f"{loss}Rows", 0)
    if not count:
        return None, 0
    rows = Fraction(count, sums.unit)
    mean = Fraction(sums.moments[loss], count << UNIT)
    spread = Fraction(sums.moments[f"{loss}2"], count << UNIT) - mean**2
    of_mean = max(Fraction(0), spread) / (rows - 1) if rows > 1 else Fraction(0)
    return (float(mean), math.sqrt(of_mean)), round(rows)


def _root_mean(sums: Sums) -> tuple[tuple[float, float] | None, int]:
    found, rows = _mean(sums, "squared")
    if found is None or not found[0]:
        return found, rows
    root = math.sqrt(found[0])
    return (root, found[1] / (2 * root)), rows


def _explained(sums: Sums) -> tuple[tuple[float, float] | None, int]:
    """1 - R, R = U / V of squared errors u and squared distances v from the mean: a row moves it by u - R v."""
    rows = sums.moments.get("squaredRows", 0)
    if rows < 2 or "target1" not in sums.moments:
        return None, rows
    of = {name: Fraction(total, 1 << UNIT) for name, total in sums.moments.items()}
    mean = of["target1"] / rows
    whole = of["target2"] - rows * mean**2
    if whole <= 0:
        return None, rows
    share = of["squared"] / whole
    with_error = of["squaredTarget2"] - 2 * mean * of["squaredTarget1"] + mean**2 * of["squared"]
    fourth = of["target4"] - 4 * mean * of["target3"] + 6 * mean**2 * of["target2"] - 3 * rows * mean**4
    spread = of["squared2"] - 2 * share * with_error + share**2 * fourth
    return (float(1 - share), math.sqrt(max(Fraction(0), spread / whole**2))), rows


def _classified(sums: Sums) -> int:
    return round(int(sums.confusion.sum()) / sums.unit)


def _scored(sums: Sums) -> int:
    return (
        round(int((sums.grids[0].positives + sums.grids[0].negatives).sum()) / sums.unit) if sums.grids else 0
    )


def _why_not(metric: Metric, sums: Sums, rows: int) -> str:
    if not sums.rows:
        return "no labelled rows"
    if not rows:
        return f"none of {sums.rows} rows has a usable {'score' if metric.scores else 'prediction'}"
    if metric.name == "r2":
        return "the target does not vary"
    if metric.name == "f1":
        return "no row is of the positive class, nor predicted to be"
    return f"{metric.name} is not defined: the labels are of one class only"


def _left_out(metric: Metric, sums: Sums, classes: Sequence[int], unusable: int) -> str | None:
    notes = []
    if unusable:
        notes.append(f"{unusable} of {sums.rows} rows have no usable prediction or class")
    missing = len(sums.layout.classes) - len(classes)
    if metric.macro and sums.layout.task == "multiclass" and missing:
        notes.append(f"{missing} of {len(sums.layout.classes)} classes do not occur and are left out")
    return "; ".join(notes) or None
