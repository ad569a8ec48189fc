"""Performance of a window whose labels are late: from probabilities (CBPE), or from features of a sample (DLE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlops.monitoring import samples
from mlops.monitoring.evaluating.checking import told
from mlops.monitoring.evaluating.labelled import RowPlan
from mlops.monitoring.performance.concept_drift import estimated_drift
from mlops.monitoring.performance.estimates import cbpe, dle
from mlops.monitoring.performance.metrics import Metric
from mlops.monitoring.performance.rows import Joined
from mlops.monitoring.performance.sums import Layout, Sums, of_losses
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.verdicts import CheckVerdict
from mlops.resources.monitoring_checks import ConceptDrift

SAMPLE: Final = "estimates"  # under which rows for DLE are kept
Chunks = dict[str | None, list[Sums]]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a reference says of chances: how they are to be read, and those of its own rows by folds."""

    calibration: cbpe.Calibration
    chances: Values


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """What a sample of the reference says of errors: a model of them, and those of its own rows by folds."""

    model: dle.LossModel
    losses: Values
    seasons: NDArray[np.int64]


def size_of(rows: int, least: int) -> int:
    """How many rows a part of the reference has beside a window of `rows`: the power of two below it."""
    return 1 << (max(rows, least, 1).bit_length() - 1)


def fitted(plan: RowPlan, base: Joined) -> Fitted | str:
    """Chances of a reference, or why there are none."""
    layout = plan.layout
    if base.rows.scores.shape[1] != layout.score_columns:
        return "performance is estimated from probabilities, of which there are none"
    scores, targets = base.rows.scores, base.targets
    calibration = cbpe.calibrated(layout, scores, targets)
    chances = cbpe.out_of_fold(layout, base.rows.ids, scores, targets)
    if calibration is None or chances is None:
        return f"the reference has fewer than {cbpe.FEWEST_ROWS} labelled rows with probabilities"
    return Fitted(calibration, chances)


def by_chances(
    check: ConceptDrift,
    column: str,
    metric: Metric,
    plan: RowPlan,
    base: Joined,
    known: Fitted,
    rows: Joined,
    min_rows: int,
) -> CheckVerdict:
    """The verdict of CBPE."""
    ordered = np.lexsort((base.rows.ids, base.rows.times))
    size = size_of(len(rows.targets), min_rows)
    chunks: Chunks = {}
    for part in np.array_split(ordered, max(1, len(ordered) // size)):
        for label, sums in _expected(plan, base, known.chances, part).items():
            chunks.setdefault(label, []).append(sums)
    own = known.calibration.chances(rows.rows.scores)
    window = _expected(plan, rows, own, np.arange(len(rows.targets)))
    return estimated_drift(
        check.name,
        column,
        metric,
        "cbpe",
        max_drop=check.max_drop,
        min_rows=min_rows,
        window=window,
        reference=chunks,
    )


def layouts_of(
    plan: Plan, features: Sequence[str], prediction: str, target: str, min_rows: int
) -> tuple[samples.Layout, samples.Layout]:
    """What is kept of rows for DLE: of the reference as many as trees are fitted on, of a window fewer."""
    columns = (*features, prediction, target)
    most = min(dle.MOST_ROWS, max(samples.MOST_ROWS, min_rows))
    return samples.Layout.of(plan, columns, most=dle.MOST_ROWS), samples.Layout.of(plan, columns, most=most)


def grown(metric: Metric, plan: RowPlan, sketch: samples.Sketch) -> Trees | str:
    """Trees of a sample of the reference, or why there are none. Raises Stalled for a metric that has none."""
    features, predictions, targets, categorical, seasons = _columns(plan, sketch)
    ids = np.arange(len(targets)).astype(np.uint64)  # in the order of their ranks, which is random
    model = dle.fitted(metric, ids, features, categorical, predictions, targets)
    losses = dle.out_of_fold(metric, ids, features, categorical, predictions, targets)
    if model is None or losses is None:
        return f"the reference has fewer than {dle.FEWEST_ROWS} rows with labels and predictions"
    return Trees(model, losses, seasons)


def by_trees(
    check: ConceptDrift,
    column: str,
    metric: Metric,
    plan: RowPlan,
    trees: Trees,
    window: samples.Sketch,
    min_rows: int,
) -> CheckVerdict:
    """The verdict of DLE."""
    features, predictions, _, _, seasons = _columns(plan, window)
    losses = trees.losses[np.isin(trees.seasons, np.unique(seasons))]
    size = size_of(len(predictions), min_rows)
    parts = np.array_split(losses, max(1, len(losses) // size))
    layout: Layout = plan.layout
    return estimated_drift(
        check.name,
        column,
        metric,
        "dle",
        max_drop=check.max_drop,
        min_rows=min_rows,
        window={None: trees.model.expected(layout, features, predictions)},
        reference={None: [of_losses(layout, dle.loss_name(metric), part) for part in parts]},
    )


def not_estimated(check: ConceptDrift, column: str, why: str) -> CheckVerdict:
    """An estimate that could not be made, and why."""
    return replace(told(check, "insufficient", why, column), estimate=True)


def _columns(
    plan: RowPlan, sketch: samples.Sketch
) -> tuple[Values, Values, Values, NDArray[np.bool_], NDArray[np.int64]]:
    values, seasons = sketch.drawn()
    names = sketch.layout.columns
    features = [
        place for place, name in enumerate(names) if name not in (plan.roles.prediction, plan.roles.target)
    ]

    def of(name: str | None) -> Any:
        return values[:, names.index(name)] if name in names else np.full(len(values), np.nan)

    categorical = sketch.layout.categorical[features]
    return values[:, features], of(plan.roles.prediction), of(plan.roles.target), categorical, seasons


def _expected(plan: RowPlan, rows: Joined, chances: Values, places: NDArray[Any]) -> dict[str | None, Sums]:
    """Sums of rows without labels, each as every class by its chance: of all and of each slice."""
    layout = plan.layout
    predictions, scores, slices = rows.rows.predictions, rows.rows.scores, rows.rows.slices

    def of(chosen: NDArray[Any]) -> Sums:
        return cbpe.expected(layout, predictions[chosen], scores[chosen], chances[chosen])

    found: dict[str | None, Sums] = {None: of(places)}
    for column, names in enumerate(plan.slices):
        for code, label in sorted(names.items()):
            found[label] = of(places[slices[places, column] == code])
    return found
