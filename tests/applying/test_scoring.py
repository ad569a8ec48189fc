"""A model's answers held against the target: scikit-learn's numbers, of the rows that have a target, and no others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from mlops.applying.scoring import Unreadable, score
from mlops.data.request import DatasetRequest
from mlops.data.rows import RowFiles, row_files
from mlops.errors import Stalled
from mlops.execution.predicting import Refused
from mlops.planning.evidence import Scoring
from mlops.resources.dataset import Columns


class Cache:
    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: self.rows[key] for key in keys if key in self.rows}

    def put_many(self, items: Any) -> None:
        self.rows.update(items)


class Answers:
    """In the place of a model's process: `says` makes columns of a batch; it remembers which columns it was shown."""

    def __init__(self, says: Callable[[Any], dict[str, Any]], refuses: Sequence[str] = ()) -> None:
        self.says, self.refuses, self.shown = says, refuses, set[str]()

    def __call__(self, wants: Sequence[str]) -> Any:
        outer = self

        class Predict:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None:
                pass

            def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
                for batch in batches:
                    outer.shown |= set(batch.schema.names)
                    if set(outer.refuses) & set(wants):
                        raise Refused("The model does not know the classes")
                    told = {name: value for name, value in outer.says(batch).items() if name in wants}
                    yield pa.RecordBatch.from_pydict(told)

        return Predict()


def rows_of(folder: Path, text: str, name: str = "judge.csv") -> RowFiles:
    (folder / name).write_text(text)
    request = DatasetRequest(name="judge", uri=name, format="csv")
    return row_files(request, base=folder, inside=None, cache=Cache(), now=lambda: 2e9)


def judged(rows: RowFiles, answers: Answers, task: Any, **columns: Any) -> tuple[dict[str, float], int, int]:
    meaning = Columns.model_validate({"target": "y", **columns})
    return score(rows, meaning, Scoring("judge", rows.digest, "y", task), answers)


def test_metrics_of_numbers_are_scikit_learns(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=500), rng.normal(1000, 3, size=500)
    text = "x,y,guess\n" + "".join(f"{a!r},{b!r},0\n" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    answers = Answers(
        lambda batch: {"prediction": pa.array([1000 + float(v) for v in batch.column("x").to_pylist()])}
    )
    found, count, left_out = judged(rows_of(tmp_path, text), answers, "regression", prediction="guess")
    told = 1000 + x
    assert (count, left_out) == (500, 0)
    assert found["rmse"] == pytest.approx(math.sqrt(metrics.mean_squared_error(y, told)), rel=1e-12)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(y, told), rel=1e-12)
    assert found["r2"] == pytest.approx(metrics.r2_score(y, told), rel=1e-12)
    assert found["max_error"] == pytest.approx(metrics.max_error(y, told), rel=1e-12)
    assert answers.shown == {"x"}  # neither the target nor what another model said


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c"), ("0", "1")])
def test_metrics_of_classes_are_scikit_learns(tmp_path: Path, classes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(8)
    truth = rng.integers(len(classes), size=400)
    chances = rng.dirichlet(np.ones(len(classes)), size=400)
    chances[np.arange(400), truth] += 0.3
    chances /= chances.sum(axis=1, keepdims=True)
    text = "x,y\n" + "".join(f"{i},{classes[k]}\n" for i, k in enumerate(truth.tolist()))

    def says(batch: Any) -> dict[str, Any]:
        at = [int(v) for v in batch.column("x").to_pylist()]
        best = chances[at].argmax(axis=1)
        named = {f"probability:{name}": pa.array(chances[at, k]) for k, name in enumerate(classes)}
        kind = float if classes == ("0", "1") else str  # as models tell classes that are numbers
        told = pa.array([kind(classes[k]) for k in best])
        return {"prediction": told, "probability": pa.array(chances[at, 1]), **named}

    found, _, _ = judged(rows_of(tmp_path, text), Answers(says), "classification")
    best = chances.argmax(axis=1)
    binary = len(classes) == 2
    average = "binary" if binary else "macro"
    assert found["accuracy"] == metrics.accuracy_score(truth, best)
    assert found["f1"] == pytest.approx(metrics.f1_score(truth, best, average=average))
    assert found["precision"] == pytest.approx(metrics.precision_score(truth, best, average=average))
    assert found["recall"] == pytest.approx(metrics.recall_score(truth, best, average=average))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, best))
    assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(truth, best))
    area = (
        metrics.roc_auc_score(truth, chances[:, 1])
        if binary
        else metrics.roc_auc_score(truth, chances, multi_class="ovr")
    )
    assert found["roc_auc"] == pytest.approx(area, rel=1e-12)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, chances), rel=1e-9)
    if binary:
        assert found["brier"] == pytest.approx(metrics.brier_score_loss(truth, chances[:, 1]))


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "x,y\n1,1\n2,\n3,3\n4,nan\n")
    answers = Answers(
        lambda batch: {"prediction": pa.array([float(v) for v in batch.column("x").to_pylist()])}
    )
    found, count, left_out = judged(rows, answers, "regression")
    assert (found["rmse"], count, left_out) == (0.0, 2, 2)


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_missing_answer_makes_every_metric_undefined(tmp_path: Path, missing: float | None) -> None:
    rows = rows_of(tmp_path, "x,y\n1,1\n2,2\n")
    answers = Answers(lambda batch: {"prediction": pa.array([1.0, missing], pa.float64())})
    assert all(math.isnan(value) for value in judged(rows, answers, "regression")[0].values())


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("x,y\n1,\n2,\n", "regression", "No row"),
        ("x,z\n1,2\n", "regression", "no column 'y'"),
        ("x,y\n1,low\n2,high\n", "regression", "text that is no number"),
        ("x,y\n", "regression", "No row"),
    ],
)
def test_data_that_cannot_judge_say_why(tmp_path: Path, text: str, task: str, said: str) -> None:
    answers = Answers(lambda batch: {"prediction": pa.array([1.0] * batch.num_rows)})
    with pytest.raises(Stalled, match=said):
        judged(rows_of(tmp_path, text), answers, task)


def test_a_model_of_other_classes_is_still_held_to_its_predictions(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "x,y\n1,a\n2,b\n3,c\n")
    answers = Answers(lambda batch: {"prediction": pa.array(["a", "b", "b"])}, refuses=["probability:c"])
    found, _, _ = judged(rows, answers, "classification")
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert "log_loss" not in found


def test_one_class_alone_defines_accuracy_and_nothing_else(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "x,y\n1,yes\n2,yes\n")
    answers = Answers(
        lambda batch: {"prediction": pa.array(["yes", "no"]), "probability": pa.array([0.9, 0.4])}
    )
    found, _, _ = judged(rows, answers, "classification")
    assert found.pop("accuracy") == 0.5
    assert all(math.isnan(value) for value in found.values())


def test_data_that_change_meanwhile_say_nothing_of_the_model(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "x,y\n1,1\n2,2\n")

    def says(batch: Any) -> dict[str, Any]:
        (tmp_path / "judge.csv").write_text("x,y\n1,9\n2,9\n3,9\n")
        return {"prediction": pa.array([1.0] * batch.num_rows)}

    with pytest.raises(Unreadable):
        judged(rows, Answers(says), "regression")
