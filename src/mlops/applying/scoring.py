"""How well a model predicts a dataset: its answers, from a process of its own, held against the target column here.

The model never sees the target, and never tells a metric. Imported from inside functions only: numpy, Arrow and
scikit-learn come with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mlops.data.rows import RowFiles
from mlops.errors import MlopsError, Stalled
from mlops.execution.predicting import Predictor, Refused
from mlops.planning.evidence import Scoring
from mlops.planning.metrics import NAMES
from mlops.resources.dataset import Columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_ROWS: Final = 50_000_000
MOST_CLASSES: Final = 1_000
Predicting = Callable[[Sequence[str]], Predictor]  # the columns that are wanted of the model → who asks it


class Unreadable(Exception):
    """The data cannot be read, or changed meanwhile: nothing is said of the model by that."""

    def __init__(self, why: MlopsError) -> None:
        super().__init__(str(why))
        self.why = why


def score(
    rows: RowFiles, columns: Columns, check: Scoring, predicting: Predicting
) -> tuple[dict[str, float], int, int]:
    """All metrics of the check's task, how many rows had a target, and how many had none.

    Args:
        rows: of the Dataset at the check's digest.
        columns: what its columns mean.
    Raises:
        Stalled: why nothing can be told of the model.
        Unreadable: why nothing can be told of the data.
        Transient: it was stopped, or killed from outside.
    """
    if check.target not in rows.types:
        raise Stalled(
            f"Dataset/{check.dataset} has no column {check.target!r}, which it names as its target",
            fix="Mend spec.columns.target of the Dataset.",
        )
    hidden = {check.target, columns.prediction}
    given = columns.probability
    hidden |= {given} if isinstance(given, str) else set((given or {}).values())
    if check.task == "regression":
        return _regression(rows, check, hidden, predicting)
    return _classification(rows, check, hidden, predicting)


def _regression(
    rows: RowFiles, check: Scoring, hidden: set[str | None], predicting: Predicting
) -> tuple[dict[str, float], int, int]:
    import numpy as np

    from mlops.monitoring.summaries.reading import numbers_of

    def target(array: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        found = numbers_of(array, "double")
        if found.unparsable is not None and found.unparsable.any():
            raise Stalled(
                f"The target {check.target!r} of Dataset/{check.dataset} holds text that is no number",
                fix="Judge by a metric of classes, or mend the column.",
            )
        return found.values, ~np.isnan(found.values)

    def told(batch: Any) -> list[NDArray[Any]]:
        return [numbers_of(batch.column("prediction"), "double").values]

    targets, answers, left_out = _asked(rows, check, hidden, target, told, predicting, ["prediction"])
    predictions = answers[0]
    if not (np.isfinite(predictions).all() and np.isfinite(targets).all()):
        return dict.fromkeys(NAMES["regression"], math.nan), len(targets), left_out
    from sklearn import metrics

    squared = float(metrics.mean_squared_error(targets, predictions))
    values = {
        "rmse": math.sqrt(squared),
        "mse": squared,
        "mae": float(metrics.mean_absolute_error(targets, predictions)),
        "mape": float(metrics.mean_absolute_percentage_error(targets, predictions)),
        "r2": float(metrics.r2_score(targets, predictions)) if np.ptp(targets) > 0 else math.nan,
        "max_error": float(metrics.max_error(targets, predictions)),
        "median_absolute_error": float(metrics.median_absolute_error(targets, predictions)),
    }
    return values, len(targets), left_out


def _classification(
    rows: RowFiles, check: Scoring, hidden: set[str | None], predicting: Predicting
) -> tuple[dict[str, float], int, int]:
    import numpy as np

    from mlops.monitoring.summaries.reading import categories_of, numbers_of

    kind = rows.types[check.target]
    codes: dict[str, int] = {}

    def coded(array: Any) -> NDArray[np.int64]:
        found = categories_of(array, kind)
        known = [codes.setdefault(name, len(codes)) for name in found.names.to_pylist()]
        if len(codes) > MOST_CLASSES:
            raise Stalled(
                f"The target {check.target!r} of Dataset/{check.dataset} has more than {MOST_CLASSES} classes",
                fix="Judge by a metric of numbers, such as rmse.",
            )
        return np.array([*known, -1], np.int64)[found.codes]

    def target(array: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        found = coded(array)
        return found, found >= 0

    for batch in _batches(rows, [check.target]):  # which classes there are has to be known before asking
        coded(batch.column(check.target))
    labels = sorted(codes, key=_class_order)
    scores = ["probability"] if len(labels) <= 2 else [f"probability:{label}" for label in labels]

    def told(batch: Any) -> list[NDArray[Any]]:
        names = batch.schema.names
        answers: list[NDArray[Any]] = [coded(batch.column("prediction"))]
        if all(name in names for name in scores):
            answers += [numbers_of(batch.column(name), "double").values for name in scores]
        return answers

    wants = ["prediction", *scores]
    try:
        targets, answers, left_out = _asked(rows, check, hidden, target, told, predicting, wants)
    except Refused:  # probabilities of other classes than these: its predictions still count
        targets, answers, left_out = _asked(rows, check, hidden, target, told, predicting, ["prediction"])
    chances = np.column_stack(answers[1:]) if len(answers) > 1 else None
    return _of_classes(labels, codes, targets, answers[0], chances), len(targets), left_out


def _of_classes(
    labels: list[str],
    codes: Mapping[str, int],
    targets: NDArray[Any],
    predictions: NDArray[Any],
    chances: NDArray[np.float64] | None,
) -> dict[str, float]:
    """Metrics of classes; of two, the later one (by number, else by text) is the positive one, of more it is macro."""
    import numpy as np
    from sklearn import metrics

    scored = ("roc_auc", "average_precision", "log_loss", "brier")
    names = [name for name in NAMES["classification"] if chances is not None or name not in scored]
    if len(labels) > 2 and "brier" in names:
        names.remove("brier")
    if (predictions < 0).any():
        return dict.fromkeys(names, math.nan)
    values = dict.fromkeys(names, math.nan)
    values["accuracy"] = float(metrics.accuracy_score(targets, predictions))
    if len(labels) < 2:
        return values
    known = [codes[label] for label in labels]
    several: dict[str, Any] = {"labels": known, "average": "macro", "zero_division": 0.0}
    if len(labels) == 2:
        several = {"labels": known[1:], "average": "macro", "zero_division": 0.0}
    values["precision"] = float(metrics.precision_score(targets, predictions, **several))
    values["recall"] = float(metrics.recall_score(targets, predictions, **several))
    values["f1"] = float(metrics.f1_score(targets, predictions, **several))
    # The mean of recall over the classes that occur, as scikit-learn has it, without its warning.
    every = metrics.recall_score(targets, predictions, labels=known, average="macro", zero_division=0.0)
    values["balanced_accuracy"] = float(every)
    values["mcc"] = float(metrics.matthews_corrcoef(targets, predictions))
    if chances is None or not np.isfinite(chances).all():
        return values
    return values | _of_chances(known, targets, chances, names)


def _of_chances(
    known: Sequence[int], targets: NDArray[Any], chances: NDArray[np.float64], names: Iterable[str]
) -> dict[str, float]:
    import numpy as np
    from sklearn import metrics

    own = np.column_stack([targets == code for code in known])
    binary = len(known) == 2
    each = [(own[:, 1], chances[:, 0])] if binary else list(zip(own.T, chances.T, strict=True))
    values = {
        "roc_auc": float(np.mean([metrics.roc_auc_score(is_it, chance) for is_it, chance in each])),
        "average_precision": float(
            np.mean([metrics.average_precision_score(is_it, chance) for is_it, chance in each])
        ),
    }
    proper = bool(((chances >= 0) & (chances <= 1)).all())
    table = np.column_stack([1 - chances[:, 0], chances[:, 0]]) if binary else chances
    if proper:
        least = float(np.finfo(np.float64).eps)  # where scikit-learn clips
        # Of several classes scikit-learn scales each row to 1 first, and so is it here.
        table = table / table.sum(axis=1, keepdims=True)
        values["log_loss"] = float(-np.log(np.clip(table[own], least, 1 - least)).mean())
        if binary:
            values["brier"] = float(((chances[:, 0] - own[:, 1]) ** 2).mean())
    return {name: value for name, value in values.items() if name in names}


def _asked(
    rows: RowFiles,
    check: Scoring,
    hidden: set[str | None],
    target: Callable[[Any], tuple[NDArray[Any], NDArray[np.bool_]]],
    told: Callable[[Any], list[NDArray[Any]]],
    predicting: Predicting,
    wants: Sequence[str],
) -> tuple[NDArray[Any], list[NDArray[Any]], int]:
    """Targets [rows], what the model says [rows] of each, and how many rows had no target."""
    import numpy as np
    import pyarrow as pa

    targets: list[NDArray[Any]] = []
    left_out = 0

    def given() -> Iterator[Any]:
        nonlocal left_out
        for batch in _batches(rows, None):
            values, there = target(batch.column(check.target))
            left_out += int((~there).sum())
            if not there.any():
                continue
            targets.append(values[there])
            if sum(map(len, targets)) > MOST_ROWS:
                raise Stalled(
                    f"Dataset/{check.dataset} has more than {MOST_ROWS:,} rows with a target",
                    fix="Judge by a sample of them: name another Dataset.",
                )
            seen = batch.select([name for name in batch.schema.names if name not in hidden])
            yield seen if there.all() else seen.filter(pa.array(there))

    answers: list[list[NDArray[Any]]] = []
    with predicting(wants) as predict:
        for batch in predict(given()):
            answers.append(told(batch))
    if not targets:
        raise Stalled(
            f"No row of Dataset/{check.dataset} has a value in its target {check.target!r}",
            fix="Name a Dataset that is labelled.",
        )
    return np.concatenate(targets), [np.concatenate(parts) for parts in zip(*answers, strict=True)], left_out


def _batches(rows: RowFiles, names: Sequence[str] | None) -> Iterator[Any]:
    """The record batches of all files that have the target, one after the other."""
    for file in rows.files:
        batches = file.batches(names)
        while True:
            try:
                batch = next(batches, None)
            except MlopsError as error:
                raise Unreadable(error) from error
            if batch is None:
                break
            if batch.num_rows:
                yield batch


def _class_order(label: str) -> tuple[bool, float, str]:
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label
