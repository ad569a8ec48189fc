"""The metrics that a model can be judged by on a dataset: scikit-learn's names, and which task each is of."""

from __future__ import annotations

import re
from typing import Final

from mlops.planning.evidence import Task

NAMES: Final[dict[Task, tuple[str, ...]]] = {
    "regression": ("rmse", "mse", "mae", "mape", "r2", "max_error", "median_absolute_error"),
    "classification": (
        *("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"),
        *("log_loss", "brier", "mcc"),
    ),
}
# What scikit-learn's functions and MLflow's evaluation call the same numbers.
_ALSO: Final = {
    "root_mean_squared_error": "rmse",
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
    "mean_absolute_percentage_error": "mape",
    "r2_score": "r2",
    "accuracy_score": "accuracy",
    "balanced_accuracy_score": "balanced_accuracy",
    "precision_score": "precision",
    "recall_score": "recall",
    "f1_score": "f1",
    "roc_auc_score": "roc_auc",
    "average_precision_score": "average_precision",
    "brier_score": "brier",
    "brier_score_loss": "brier",
    "matthews_corrcoef": "mcc",
}
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def metric_named(name: str) -> tuple[str, Task] | None:
    """The metric that people mean by `name` and its task; None where there is none.

    >>> metric_named("rocAuc"), metric_named("mean_absolute_error"), metric_named("profit")
    (('roc_auc', 'classification'), ('mae', 'regression'), None)
    """
    plain = _CAPITAL.sub("_", name).lower().replace("-", "_").replace(" ", "_")
    plain = _ALSO.get(plain, plain)
    return next(((plain, task) for task, names in NAMES.items() if plain in names), None)
