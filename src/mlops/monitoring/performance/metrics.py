"""The metrics by their names in a policy: which way is better, what they are bounded by, what they need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mlops.errors import Stalled

Task = Literal["binary", "multiclass", "regression"]
MetricName = Literal[
    "accuracy", "f1", "rocAuc", "averagePrecision", "logLoss", "brier", "rmse", "mae", "mape", "r2"
]


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure of performance.

    `best` is its value of a model without a fault, so `low`/`high` bound it and `higher_is_better` says the way.
    `scores` says that it is made of probabilities, not of predicted classes. `macro`: of more than two classes, it is
    the plain mean of the classes' own.
    """

    name: MetricName
    higher_is_better: bool
    low: float
    high: float
    regression: bool = False
    scores: bool = False
    macro: bool = False

    def worsening(self, reference: float, value: float) -> float:
        """By how much `value` is worse than `reference`, relative to its size; negative where it is better.

        0.03 is a drop of 3 %. Infinite where the reference is 0 and `value` is worse.

        >>> METRICS["rocAuc"].worsening(0.8, 0.76).__round__(3), METRICS["rmse"].worsening(2.0, 3.0)
        (0.05, 0.5)
        """
        worse = reference - value if self.higher_is_better else value - reference
        if reference:
            return worse / abs(reference)
        return math.copysign(math.inf, worse) if worse else 0.0


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, 0, 1),
        Metric("f1", True, 0, 1, macro=True),
        Metric("rocAuc", True, 0, 1, scores=True, macro=True),
        Metric("averagePrecision", True, 0, 1, scores=True, macro=True),
        Metric("logLoss", False, 0, math.inf, scores=True),
        Metric("brier", False, 0, 2, scores=True),
        Metric("rmse", False, 0, math.inf, regression=True),
        Metric("mae", False, 0, math.inf, regression=True),
        Metric("mape", False, 0, math.inf, regression=True),
        Metric("r2", True, -math.inf, 1, regression=True),
    )
}


def metric_for(name: str, task: Task) -> Metric:
    """The metric of that name. Raises `Stalled` where there is none, or none for `task`."""
    fitting = [metric.name for metric in METRICS.values() if metric.regression == (task == "regression")]
    if name not in fitting:
        raise Stalled(f"There is no metric {name} for {task}", fix=f"Use one of {', '.join(fitting)}")
    return METRICS[name]


def default_metric(task: Task) -> MetricName:
    """The metric of a policy that names none: rocAuc, accuracy of several classes, rmse of numbers."""
    match task:
        case "binary":
            return "rocAuc"
        case "multiclass":
            return "accuracy"
        case "regression":
            return "rmse"
