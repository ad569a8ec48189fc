"""Performance of a regression estimated from features (DLE): a second model tells how large the first one's errors are.

After NannyML's documentation, "Direct Loss Estimation" (nannyml.readthedocs.io): gradient-boosted trees are fitted on
the reference's features, and the prediction as one of them, to the loss of each row. It follows a change of X to where
the model was weaker; it cannot follow a change of P(Y given X).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops.errors import Stalled
from mlops.monitoring.performance.metrics import Metric
from mlops.monitoring.performance.sums import Layout, Sums, of_losses

MOST_ROWS = 20_000  # that trees are fitted on: a second's work, and more tell little more
FEWEST_ROWS = 300
FOLDS = 3
_MOST_CATEGORIES = 255  # that scikit-learn's trees hold; a column with greater codes is taken as numbers
_LOSSES = {"mae": "absolute", "rmse": "squared", "mape": "relative"}


@dataclass(frozen=True, slots=True, eq=False)
class LossModel:
    """Fitted trees; `loss` names what they tell."""

    loss: str
    trees: Any

    def losses(self, features: NDArray[np.float64], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        """The expected loss of each row, [rows]; NaN where there is no prediction."""
        if not len(predictions):
            return np.zeros(0)
        with _one_thread():
            found = self.trees.predict(_inputs(features, predictions))
        return np.where(np.isfinite(predictions), np.maximum(found, 0.0), np.nan)

    def expected(
        self, layout: Layout, features: NDArray[np.float64], predictions: NDArray[np.float64]
    ) -> Sums:
        """Sums of rows without labels, from which the metric that the model was fitted for is measured."""
        return of_losses(layout, self.loss, self.losses(features, predictions))


def fitted(
    metric: Metric,
    ids: NDArray[np.uint64],
    features: NDArray[np.float64],
    categorical: NDArray[np.bool_],
    predictions: NDArray[np.float64],
    targets: NDArray[np.float64],
) -> LossModel | None:
    """Trees that tell the loss of a row, fitted on the reference; None where fewer than 300 rows can be used.

    `features` [rows, features] hold numbers and codes of categories (where `categorical` [features]), NaN is missing.
    At most 20,000 rows are used, those of the least `ids` (hashes), in their order: the order of rows does not
    matter. Raises `Stalled` for a metric that is no mean of losses.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    losses = _losses(metric, predictions, targets)
    told = np.flatnonzero(np.isfinite(losses))
    chosen = told[np.argsort(ids[told], kind="stable")][:MOST_ROWS]
    if len(chosen) < FEWEST_ROWS:
        return None
    inputs = _inputs(features[chosen], predictions[chosen])
    as_categories = categorical & (np.nanmax(inputs[:, :-1], axis=0, initial=0) < _MOST_CATEGORIES)
    as_categories &= np.nanmin(inputs[:, :-1], axis=0, initial=0) >= 0
    trees = HistGradientBoostingRegressor(
        max_iter=80,
        max_leaf_nodes=15,
        min_samples_leaf=max(20, len(chosen) // 200),
        early_stopping=False,
        categorical_features=np.append(as_categories, False),
        random_state=0,
    )
    with _one_thread():
        trees.fit(inputs, losses[chosen])
    return LossModel(_LOSSES[metric.name], trees)


def out_of_fold(
    metric: Metric,
    ids: NDArray[np.uint64],
    features: NDArray[np.float64],
    categorical: NDArray[np.bool_],
    predictions: NDArray[np.float64],
    targets: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """Expected losses [rows] of the reference's own rows, each by trees that have not seen it; None where too few."""
    found = np.full(len(ids), np.nan)
    for fold in range(FOLDS):
        held_out = ids % np.uint64(FOLDS) == fold
        rest = ~held_out
        model = fitted(metric, ids[rest], features[rest], categorical, predictions[rest], targets[rest])
        if model is None:
            return None
        found[held_out] = model.losses(features[held_out], predictions[held_out])
    return found


def loss_name(metric: Metric) -> str:
    """The name in sums of the loss whose mean the metric is made of. Raises `Stalled` where it is none."""
    if metric.name not in _LOSSES:
        raise Stalled(
            f"{metric.name} cannot be estimated without labels",
            fix=f"Use one of {', '.join(_LOSSES)}, or leave `estimate` out",
        )
    return _LOSSES[metric.name]


def _losses(
    metric: Metric, predictions: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    loss = loss_name(metric)
    usable = np.isfinite(predictions) & np.isfinite(targets)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(usable, np.abs(targets - predictions), np.nan)
        if loss == "squared":
            error = error * error
        elif loss == "relative":
            error = error / np.maximum(np.abs(targets), np.finfo(np.float64).eps)
    return np.where(np.isfinite(error), error, np.nan)


def _one_thread() -> AbstractContextManager[Any]:
    """OpenMP's threads wait for each other by spinning: on a busy machine two take thirty times as long as one."""
    from threadpoolctl import threadpool_limits

    limited: AbstractContextManager[Any] = threadpool_limits(1, "openmp")
    return limited


def _inputs(features: NDArray[np.float64], predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    inputs = np.column_stack([features, predictions])
    return np.where(np.isfinite(inputs), inputs, np.nan)
