"""Labels and performance: joined late, estimated meanwhile, against a reference that may have to be predicted first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scored_loans import loans, only, without
from scored_tables import COLUMNS, DAY, Memory, Opened, assessed, known, spec, subject, table, written

from mlops.errors import Stalled
from mlops.monitoring.evaluating import Assessed, Subject, Table
from mlops.monitoring.verdicts import CheckVerdict
from mlops.resources.dataset import Columns, Expect

CONCEPT = {"name": "concept", "type": "conceptDrift", "metric": "accuracy", "maxDrop": "3%"}
TARGET = {"name": "target", "type": "targetDrift"}
LATE = {"predictions": "scored", "labels": {"dataset": "outcomes", "maxDelay": "3d"}}
UNLABELLED = COLUMNS.model_copy(update={"target": None})


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table("train", [written(tmp_path_factory.mktemp("train"), "train.parquet", loans(1, 6_000))])


def check(found: Assessed, day: int, name: str = "concept") -> CheckVerdict:
    (evaluation,) = [one for one in found.evaluations if one.start == day * DAY]
    (verdict,) = [one for one in evaluation.checks if one.name == name]
    return verdict


class Late:
    """Predictions of four days; labels of each day in a file of their own."""

    def __init__(self, folder: Path, train: Table, flip: float = 0.0, **fields: Any) -> None:
        self.train, self.folder = train, folder
        self.rows = {day: loans(day, 1_200, day, flip=flip if day == 11 else 0.0) for day in (10, 11, 12, 13)}
        self.scored = [
            written(folder, f"s{day}.parquet", without(rows, "default")) for day, rows in self.rows.items()
        ]
        self.spec = spec(**{"task": "binary", "data": LATE, "checks": [CONCEPT, TARGET], **fields})
        self.opened = Opened()

    def labels(self, day: int, rows: int = 1_200) -> Path:
        part = {name: values[:rows] for name, values in only(self.rows[day], "id", "default").items()}
        return written(self.folder, f"l{day}-{rows}.parquet", part)

    def watched(self, *labels: Path) -> Subject:
        outcomes = table(
            "outcomes", list(labels), columns=Columns(target="default", id="id"), opened=self.opened
        )
        scored = table("scored", self.scored, columns=UNLABELLED)
        return subject(self.spec, self.train, scored, labels=outcomes)


def test_labels_beside_predictions_are_judged_at_once(tmp_path: Path, train: Table) -> None:
    paths = [
        written(tmp_path, f"{day}.parquet", loans(day, 1_200, day, flip=0.25 if day == 11 else 0.0))
        for day in (10, 11, 12)
    ]
    found = assessed(subject(spec(checks=[CONCEPT], task="binary"), train, table("scored", paths)))
    assert check(found, 10).verdict == "quiet"
    assert check(found, 11).verdict == "violated"
    assert "accuracy 0." in (check(found, 11).columns[0].note or "")


def test_a_window_waits_for_its_labels_and_is_judged_when_they_come(tmp_path: Path, train: Table) -> None:
    late, memory = Late(tmp_path, train, flip=0.25), Memory()
    first = assessed(late.watched(late.labels(10), late.labels(11, 400)), memory)
    assert check(first, 10).verdict == "quiet"
    waits = check(first, 11)
    assert (waits.verdict, waits.columns[0].note) == (
        "insufficient",
        "labels of 400 of 1200 rows are here: more are waited for",
    )
    late.opened.names.clear()
    again = assessed(
        late.watched(late.labels(10), late.labels(11, 400), late.labels(11)), memory, stored=known(first)
    )
    assert [(one.start / DAY, one.revision) for one in again.evaluations] == [(11, 1)]
    assert check(again, 11).verdict == "violated"
    assert late.opened.names == ["l11-1200.parquet"]


def test_after_the_delay_a_window_is_judged_on_the_labels_there_are(tmp_path: Path, train: Table) -> None:
    late = Late(
        tmp_path, train, data={"predictions": "scored", "labels": {"dataset": "outcomes", "maxDelay": "1d"}}
    )
    found = assessed(late.watched(late.labels(10, 600), late.labels(12, 600)))
    assert check(found, 10).verdict == "quiet"
    assert check(found, 12).verdict == "insufficient"


def test_a_label_put_right_later_replaces_the_one_before(tmp_path: Path, train: Table) -> None:
    late, memory = Late(tmp_path, train, flip=0.25), Memory()
    first = assessed(late.watched(late.labels(11)), memory)
    assert check(first, 11).verdict == "violated"
    right = loans(11, 1_200, 11)["default"]
    mended = written(tmp_path, "mended.parquet", {"id": late.rows[11]["id"], "default": right})
    again = assessed(late.watched(late.labels(11), mended), memory, stored=known(first))
    assert check(again, 11).verdict == "quiet"


def test_the_target_joined_late_is_a_column_of_target_drift(tmp_path: Path, train: Table) -> None:
    late = Late(tmp_path, train)
    rows = late.rows[11]
    rows["default"] = pa.array(np.ones(1_200, np.int64))
    found = assessed(late.watched(late.labels(10), late.labels(11)))
    assert check(found, 10, "target").verdict == "quiet"
    moved = [one.column for one in check(found, 11, "target").columns if one.verdict == "violated"]
    assert moved == ["default"]
    assert "default" not in [one.column for one in check(found, 12, "target").columns]


def test_a_file_of_labels_that_cannot_be_read_is_told_and_read_when_it_can_be(
    tmp_path: Path, train: Table
) -> None:
    late, memory = Late(tmp_path, train), Memory()
    path = late.labels(10)
    watched, whole = late.watched(late.labels(11), path), path.read_bytes()
    path.write_bytes(b"PAR1")
    found = assessed(watched, memory)
    assert [(one.table, one.file) for one in found.unread] == [("outcomes", "l10-1200.parquet")]
    assert check(found, 11).verdict == "quiet"
    assert check(found, 10).verdict == "insufficient"
    path.write_bytes(whole)
    again = assessed(watched, memory, stored=known(found))
    assert [(one.start / DAY, one.revision) for one in again.evaluations] == [(10, 1)]
    assert check(again, 10).verdict == "quiet"


def test_performance_is_estimated_while_labels_are_late(tmp_path: Path, train: Table) -> None:
    late = Late(tmp_path, train, checks=[{**CONCEPT, "estimate": True}])
    found = assessed(late.watched(late.labels(10)))
    assert (check(found, 10).verdict, check(found, 10).estimate) == ("quiet", False)
    meanwhile = check(found, 11)
    assert (meanwhile.verdict, meanwhile.estimate) == ("insufficient", True)
    (estimated,) = [one for one in meanwhile.columns if one.detector == "cbpe"]
    assert estimated.value is not None
    assert "estimated, no labels yet" in (estimated.note or "")


def test_the_loss_is_watched_row_by_row(tmp_path: Path, train: Table) -> None:
    pytest.importorskip("river")
    policy = spec(checks=[{**CONCEPT, "loss": ["adwin", "pageHinkley"]}], task="binary")
    paths = [
        written(tmp_path, f"{day}.parquet", loans(day, 1_200, day, flip=0.4 if day == 11 else 0.0))
        for day in (10, 11, 12)
    ]
    found = assessed(subject(policy, train, table("scored", paths)))
    assert {one.detector: one.verdict for one in check(found, 11).columns} == {
        "accuracy": "violated",
        "adwin": "violated",
        "pageHinkley": "violated",
    }
    assert check(found, 10).verdict == "quiet"


class TestAReferenceWithoutPredictions:
    def bare(self, folder: Path) -> Table:
        rows = without(loans(1, 6_000), "score", "prediction")
        columns = Columns(target="default", id="id", timestamp="time")
        return table("train", [written(folder, "bare.parquet", rows)], columns=columns)

    def paths(self, folder: Path) -> list[Path]:
        return [
            written(folder, f"{day}.parquet", loans(day, 1_200, day, flip=0.25 if day == 11 else 0.0))
            for day in (10, 11, 12)
        ]

    def test_says_so_without_a_model(self, tmp_path: Path) -> None:
        policy = spec(checks=[CONCEPT, TARGET, {"name": "upstream", "type": "upstreamChange"}], task="binary")
        found = assessed(subject(policy, self.bare(tmp_path), table("scored", self.paths(tmp_path))))
        told = check(found, 10)
        assert told.verdict == "insufficient"
        assert (
            told.columns[0].note
            == "the reference has no predictions, and the model could not be asked for them"
        )
        assert [one.column for one in check(found, 10, "target").columns] == ["default"]
        assert check(found, 10, "upstream").verdict == "quiet"
        assert {one.column for one in check(found, 10, "upstream").columns} == {"age", "country", "income"}

    def test_gets_them_from_the_model_once(self, tmp_path: Path) -> None:
        asked: list[int] = []

        def predict(batches: Iterable[Any]) -> Iterator[Any]:
            for batch in batches:
                asked.append(batch.num_rows)
                chance = 1 / (1 + np.exp(1.5 * batch.column("income").to_numpy() + 0.5))
                yield pa.RecordBatch.from_pydict(
                    {
                        "prediction": pa.array((chance >= 0.5).astype(np.int64)),
                        "probability": pa.array(chance),
                    }
                )

        policy = spec(checks=[{**CONCEPT, "metric": "rocAuc"}, TARGET], task="binary")
        paths, memory = self.paths(tmp_path), Memory()
        watched = subject(policy, self.bare(tmp_path), table("scored", paths), predict=predict)
        found = assessed(watched, memory)
        assert sum(asked) == 6_000
        assert check(found, 10).verdict == "quiet"
        assert check(found, 11).verdict == "violated"
        assert {one.column for one in check(found, 10, "target").columns} == {
            "default",
            "prediction",
            "score",
        }
        assessed(watched, memory)
        assert sum(asked) == 6_000

    def test_a_model_that_gives_too_few_rows_is_told(self, tmp_path: Path) -> None:
        def predict(batches: Iterable[Any]) -> Iterator[Any]:
            yield pa.RecordBatch.from_pydict({"prediction": pa.array([1])})

        policy = spec(checks=[CONCEPT], task="binary")
        watched = subject(policy, self.bare(tmp_path), table("scored", self.paths(tmp_path)), predict=predict)
        with pytest.raises(Stalled, match="one prediction for each row"):
            assessed(watched)


def test_other_names_in_the_reference_are_the_same_columns(tmp_path: Path) -> None:
    rows = loans(1, 6_000)
    rows["y"], rows["yhat"], rows["p"] = rows.pop("default"), rows.pop("prediction"), rows.pop("score")
    columns = Columns(target="y", prediction="yhat", probability="p", timestamp="time", id="id")
    train = table("train", [written(tmp_path, "train.parquet", rows)], columns=columns)
    paths = [written(tmp_path, f"{day}.parquet", loans(day, 1_200, day)) for day in (10, 11)]
    policy = spec(checks=[CONCEPT, TARGET, {"name": "inputs", "type": "dataDrift"}], task="binary")
    found = assessed(subject(policy, train, table("scored", paths)))
    assert {one.name: one.verdict for one in found.evaluations[0].checks} == {
        "concept": "quiet",
        "target": "quiet",
        "inputs": "quiet",
    }
    assert [one.column for one in check(found, 10, "inputs").columns] == ["age", "country", "income"]


def values(seed: int, rows: int, day: float, *, noise: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    income = rng.normal(0, 1, rows)
    return {
        "time": pa.array(((day + rng.random(rows)) * DAY * 1e6).astype(np.int64), pa.timestamp("us")),
        "income": pa.array(income),
        "prediction": pa.array(3 * income),
        "price": pa.array(3 * income + rng.normal(0, noise, rows)),
    }


VALUES = Columns(target="price", prediction="prediction", timestamp="time")


def test_a_regression_is_told_by_its_target_and_judged_by_its_error(tmp_path: Path) -> None:
    train = table("train", [written(tmp_path, "train.parquet", values(1, 4_000, 0))], columns=VALUES)
    paths = [
        written(tmp_path, f"{day}.parquet", values(day, 800, day, noise=1.5 if day == 11 else 1.0))
        for day in (10, 11, 12)
    ]
    policy = spec(checks=[{"name": "concept", "type": "conceptDrift"}])
    found = assessed(subject(policy, train, table("scored", paths, columns=VALUES)))
    assert check(found, 10).verdict == "quiet"
    assert check(found, 11).verdict == "violated"
    assert check(found, 11).columns[0].detector == "rmse"


def test_classes_as_texts_with_a_probability_each(tmp_path: Path) -> None:
    def flowers(seed: int, rows: int, day: float, *, wrong: float = 0.1) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        names = np.array(["rose", "tulip", "aster"])
        right = rng.integers(0, 3, rows)
        said = np.where(rng.random(rows) < wrong, (right + 1) % 3, right)
        chances = np.full((rows, 3), 0.1)
        chances[np.arange(rows), said] = 0.8
        return {
            "time": pa.array(((day + rng.random(rows)) * DAY * 1e6).astype(np.int64), pa.timestamp("us")),
            "length": pa.array(right + rng.normal(0, 1, rows)),
            "kind": pa.array(names[right]),
            "said": pa.array(names[said]),
            **{f"p_{name}": pa.array(chances[:, place]) for place, name in enumerate(names)},
        }

    columns = Columns(
        target="kind",
        prediction="said",
        probability={name: f"p_{name}" for name in ("rose", "tulip", "aster")},
        timestamp="time",
    )
    train = table("train", [written(tmp_path, "train.parquet", flowers(1, 3_000, 0))], columns=columns)
    paths = [
        written(tmp_path, f"{day}.parquet", flowers(day, 800, day, wrong=0.3 if day == 11 else 0.1))
        for day in (10, 11, 12)
    ]
    checks = [
        {"name": "concept", "type": "conceptDrift"},
        {"name": "area", "type": "conceptDrift", "metric": "rocAuc"},
    ]
    found = assessed(subject(spec(checks=checks), train, table("scored", paths, columns=columns)))
    assert [check(found, 10, name).verdict for name in ("concept", "area")] == ["quiet", "quiet"]
    assert [check(found, 11, name).verdict for name in ("concept", "area")] == ["violated", "violated"]
    assert check(found, 11).columns[0].detector == "accuracy"


def test_a_task_that_is_not_clear_is_asked_for(tmp_path: Path) -> None:
    columns = COLUMNS.model_copy(update={"probability": None})
    train = table("train", [written(tmp_path, "train.parquet", loans(1, 500))], columns=columns)
    scored = table("scored", [written(tmp_path, "a.parquet", loans(2, 500, 10, 2))], columns=columns)
    watched = subject(spec(checks=[CONCEPT]), train, scored)
    with pytest.raises(Stalled, match="classes or values") as told:
        assessed(watched)
    assert "spec.task" in (told.value.fix or "")
    assert assessed(replace(watched, output="string")).evaluations
    assert assessed(subject(spec(checks=[TARGET]), train, scored)).evaluations


def test_a_slice_is_judged_on_its_own(tmp_path: Path, train: Table) -> None:
    rows = loans(11, 4_000, 11)
    there = np.array(rows["country"].to_pylist()) == "FR"
    default = rows["default"].to_numpy()
    turned = there & (np.random.default_rng(0).random(4_000) < 0.5)
    rows["default"] = pa.array(np.where(turned, 1 - default, default))
    paths = [written(tmp_path, "11.parquet", rows), written(tmp_path, "12.parquet", loans(12, 300, 12))]
    policy = spec(checks=[{**CONCEPT, "maxDrop": "20%"}], task="binary", slices=["country"])
    found = assessed(subject(policy, train, table("scored", paths)))
    assert {one.slice: one.verdict for one in check(found, 11).columns}["country=FR"] == "violated"
    assert {one.slice: one.verdict for one in check(found, 11).columns}["country=DE"] == "quiet"


def test_performance_against_the_windows_before(tmp_path: Path) -> None:
    paths = [
        written(tmp_path, f"{day}.parquet", loans(day, 900, day, flip=0.3 if day == 15 else 0.0))
        for day in range(10, 17)
    ]
    policy = spec(checks=[CONCEPT, TARGET], task="binary", reference={"source": {"rolling": "4d"}})
    found = assessed(subject(policy, None, table("scored", paths)))
    assert check(found, 13).verdict == "insufficient"
    assert check(found, 14).verdict == "quiet"
    assert check(found, 15).verdict == "violated"


def test_the_error_of_values_is_estimated_while_labels_are_late(tmp_path: Path) -> None:
    def uneven(seed: int, rows: int, day: float, *, shift: float = 0.0) -> dict[str, Any]:
        """The error grows with income."""
        rng = np.random.default_rng(seed)
        income = rng.normal(shift, 1, rows)
        noise = rng.normal(0, 1, rows) * np.exp(income / 2)
        found = values(seed, rows, day)
        ids = pa.array(np.arange(rows) + seed * 10_000)
        return {
            **found,
            "id": ids,
            "income": pa.array(income),
            "prediction": pa.array(3 * income),
            "price": pa.array(3 * income + noise),
        }

    train = table("train", [written(tmp_path, "train.parquet", uneven(1, 4_000, 0))], columns=VALUES)
    paths = [
        written(
            tmp_path,
            f"{day}.parquet",
            without(uneven(day, 800, day, shift=1.0 if day == 11 else 0.0), "price"),
        )
        for day in (10, 11, 12)
    ]
    columns = Columns(prediction="prediction", timestamp="time", id="id")
    concept = {"name": "concept", "type": "conceptDrift", "metric": "mae", "estimate": True}
    labels = table("outcomes", [], columns=Columns(target="price", id="id"))
    watched = subject(
        spec(checks=[concept], data=LATE), train, table("scored", paths, columns=columns), labels=labels
    )
    found = assessed(watched)
    assert (check(found, 10).verdict, check(found, 10).estimate) == ("insufficient", True)
    assert (check(found, 11).verdict, check(found, 11).estimate) == ("violated", True)
    assert check(found, 11).columns[-1].detector == "dle"


def test_times_that_windows_need_are_asked_for(tmp_path: Path, train: Table) -> None:
    columns = COLUMNS.model_copy(update={"timestamp": None})
    scored = table("scored", [written(tmp_path, "a.parquet", loans(2, 500, 10, 2))], columns=columns)
    with pytest.raises(Stalled, match="no column of event times"):
        assessed(subject(spec(), train, scored))


def test_labels_that_cannot_be_joined_are_told_and_stop_no_other_check(tmp_path: Path, train: Table) -> None:
    checks = [CONCEPT, {"name": "inputs", "type": "dataDrift"}]
    paths = [written(tmp_path, f"{day}.parquet", loans(day, 600, day)) for day in (10, 11)]
    scored = table("scored", paths, columns=UNLABELLED.model_copy(update={"id": None}))
    outcomes = table("outcomes", paths, columns=Columns(target="default"))

    def of(**labels: Any) -> Assessed:
        data = {"predictions": "scored", "labels": {"dataset": "outcomes", **labels}}
        return assessed(
            subject(spec(task="binary", data=data, checks=checks), train, scored, labels=outcomes)
        )

    without_id = of()
    assert check(without_id, 10).columns[0].note == (
        "no row has an id that labels could be joined on: see columns.id of the Dataset, or joinOn of the policy"
    )
    assert check(without_id, 10, "inputs").verdict == "quiet"
    elsewhere = of(joinOn="loan")
    assert check(elsewhere, 10).verdict == "insufficient"
    assert [one.file for one in elsewhere.unread] == ["10.parquet", "11.parquet"]
    assert "no column 'loan'" in str(elsewhere.unread[0].error)


def test_a_store_that_keeps_nothing_is_told(tmp_path: Path, train: Table) -> None:
    class Sieve(Memory):
        def put_many(self, entries: Any) -> None:
            super().put_many({key: value for key, value in entries.items() if not key.startswith("window:")})

    paths = [written(tmp_path, f"{day}.parquet", loans(day, 600, day)) for day in (10, 11)]
    found = assessed(subject(spec(), train, table("scored", paths)), Sieve())
    assert found.evaluations == ()
    assert "forgotten at once" in str(found.unread[0].error)


def test_predictions_that_change_places_are_other_predictions(tmp_path: Path, train: Table) -> None:
    late, memory = Late(tmp_path, train), Memory()
    first = assessed(late.watched(late.labels(10), late.labels(11)), memory)
    swapped = without(late.rows[11], "default")
    for name in ("prediction", "score"):  # each column holds what it held
        swapped[name] = pa.array(swapped[name].to_numpy()[::-1])
    written(tmp_path, "s11.parquet", swapped)
    again = assessed(late.watched(late.labels(10), late.labels(11)), memory, stored=known(first))
    assert [(one.start / DAY, one.revision) for one in again.evaluations] == [(11, 1)]
    assert check(again, 11).verdict == "violated"


def test_a_reference_whose_predictions_change_places_judges_anew(tmp_path: Path, train: Table) -> None:
    paths = [written(tmp_path, f"{day}.parquet", loans(day, 600, day)) for day in (10, 11)]
    rows, memory = loans(1, 6_000), Memory()
    watched = subject(spec(checks=[CONCEPT], task="binary"), train, table("scored", paths))
    stored = known(assessed(watched, memory))
    rows["prediction"] = pa.array(rows["prediction"].to_numpy()[::-1])
    other = table("train", [written(tmp_path, "train.parquet", rows)])
    again = assessed(replace(watched, reference=other), memory, stored=stored)
    assert [one.revision for one in again.evaluations] == [0]


def test_another_expectation_judges_anew(tmp_path: Path, train: Table) -> None:
    paths = [written(tmp_path, f"{day}.parquet", loans(day, 600, day)) for day in (10, 11)]
    policy, memory = spec(checks=[{"name": "upstream", "type": "upstreamChange"}]), Memory()
    stored = known(assessed(subject(policy, train, table("scored", paths)), memory))
    expect = Expect.model_validate({"columns": {"age": {"max": 30}}})
    again = assessed(subject(policy, train, table("scored", paths, expect=expect)), memory, stored=stored)
    assert [one.verdict for one in again.evaluations] == ["violated"]
