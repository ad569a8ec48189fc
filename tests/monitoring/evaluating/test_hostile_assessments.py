"""What comes in real files: a verdict or a reason each time, never a crash and never a silent pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scored_loans import loans, without
from scored_tables import DAY, Memory, assessed, known, spec, subject, table, written

from mlops.errors import MlopsError
from mlops.monitoring.evaluating import DataFile, Table
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Evaluation
from mlops.resources.dataset import Expect

CHECKS = [
    {"name": "upstream", "type": "upstreamChange"},
    {"name": "inputs", "type": "dataDrift"},
    {"name": "target", "type": "targetDrift"},
    {"name": "concept", "type": "conceptDrift"},
]
POLICY = spec(checks=CHECKS, task="binary")


@pytest.fixture(scope="module", params=["parquet", "csv"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table("train", [written(tmp_path_factory.mktemp("train"), "train.parquet", loans(1, 3_000))])


def judged(
    folder: Path, train: Table, rows: dict[str, Any], suffix: str = "parquet", **rest: Any
) -> Evaluation:
    """The verdict on a day of `rows`, beside a day of nothing wrong that closes it."""
    paths = [written(folder, f"a.{suffix}", rows), written(folder, f"b.{suffix}", loans(11, 300, 11))]
    scored = table("scored", paths, train.types, **rest)
    found = assessed(subject(POLICY, train, scored))
    (evaluation,) = found.evaluations
    assert evaluation.start == 10 * DAY
    return evaluation


def check(evaluation: Evaluation, name: str) -> CheckVerdict:
    return next(one for one in evaluation.checks if one.name == name)


def column(evaluation: Evaluation, name: str, of: str, detector: str | None = None) -> ColumnVerdict:
    found = [one for one in check(evaluation, name).columns if one.column == of]
    return next(one for one in found if detector is None or one.detector == detector)


def test_nothing_wrong_is_quiet(tmp_path: Path, train: Table, suffix: str) -> None:
    found = judged(tmp_path, train, loans(10, 600, 10), suffix)
    assert [one.verdict for one in found.checks] == ["quiet"] * 4


def test_all_null(tmp_path: Path, train: Table, suffix: str) -> None:
    rows = loans(10, 600, 10)
    rows["income"] = pa.array([None] * 600, pa.float64())
    found = judged(tmp_path, train, rows, suffix)
    assert column(found, "upstream", "income", "nullRate").verdict == "violated"
    assert column(found, "inputs", "income").note == "all null"
    assert column(found, "inputs", "age").verdict == "quiet"


def test_constant(tmp_path: Path, train: Table, suffix: str) -> None:
    rows = loans(10, 600, 10)
    rows["income"] = pa.array(np.full(600, 0.25))
    found = judged(tmp_path, train, rows, suffix)
    assert column(found, "upstream", "income", "constant").verdict == "violated"


def test_not_a_number_and_infinity(tmp_path: Path, train: Table, suffix: str) -> None:
    rows = loans(10, 600, 10)
    values = rows["income"].to_numpy().copy()
    values[:200], values[200:400] = np.nan, np.inf
    rows["income"] = pa.array(values)
    found = judged(tmp_path, train, rows, suffix)
    assert column(found, "upstream", "income", "nullRate").verdict == "violated"
    assert column(found, "inputs", "income").value is not None


def test_scores_that_are_no_numbers(tmp_path: Path, train: Table) -> None:
    rows = loans(10, 600, 10)
    rows["score"] = pa.array(np.full(600, np.nan))
    found = judged(tmp_path, train, rows)
    assert check(found, "concept").verdict == "insufficient"
    assert check(found, "inputs").verdict == "quiet"


def test_numbers_that_come_as_texts(tmp_path: Path, train: Table) -> None:
    rows = loans(10, 600, 10)
    rows["income"] = pa.array(
        [str(one) if place % 2 else "unknown" for place, one in enumerate(rows["income"].to_pylist())]
    )
    found = judged(tmp_path, train, rows)
    assert column(found, "upstream", "income", "schema").verdict == "violated"
    text = judged(tmp_path, train, rows, "csv")
    assert column(text, "upstream", "income", "schema").note == (
        "it came as string in 50.0% of the rows, as double before"
    )


def test_a_category_never_seen(tmp_path: Path, train: Table, suffix: str) -> None:
    rows = loans(10, 600, 10)
    rows["country"] = pa.array(["XX"] * 60 + rows["country"].to_pylist()[60:])
    found = judged(tmp_path, train, rows, suffix)
    assert column(found, "upstream", "country", "newCategory").verdict == "violated"


def test_a_hundred_thousand_categories(tmp_path: Path) -> None:
    def many(seed: int, rows: int, day: float) -> dict[str, Any]:
        found = loans(seed, rows, day)
        found["country"] = pa.array(
            [f"c{one}" for one in np.random.default_rng(seed).integers(0, 100_000, rows)]
        )
        return found

    train = table("train", [written(tmp_path, "t.parquet", many(1, 100_000, 0))])
    found = judged(tmp_path, train, many(2, 20_000, 10))
    assert check(found, "upstream").verdict == "quiet"
    assert check(found, "inputs").verdict == "quiet"


def test_a_class_never_seen_and_labels_of_another_kind(tmp_path: Path, train: Table, suffix: str) -> None:
    rows = loans(10, 600, 10)
    rows["default"] = pa.array(["maybe"] * 300 + [str(one) for one in rows["default"].to_pylist()[300:]])
    found = judged(tmp_path, train, rows, suffix)
    assert check(found, "target").verdict == "violated"
    assert "300 of 600 rows have no usable" in (check(found, "concept").columns[0].note or "")


def test_one_row(tmp_path: Path, train: Table, suffix: str) -> None:
    found = judged(tmp_path, train, loans(10, 1, 10), suffix)
    assert (found.rows, {one.verdict for one in found.checks}) == (1, {"insufficient"})


def test_files_without_rows(tmp_path: Path, train: Table, suffix: str) -> None:
    paths = [
        written(tmp_path, f"a.{suffix}", loans(10, 300, 10)),
        written(tmp_path, f"b.{suffix}", loans(11, 0, 11)),
        written(tmp_path, f"c.{suffix}", loans(11, 300, 11)),
    ]
    found = assessed(subject(POLICY, train, table("scored", paths, train.types)))
    assert [one.rows for one in found.evaluations] == [300]
    nothing = assessed(subject(POLICY, train, table("scored", paths[1:2], train.types)))
    assert (nothing.evaluations, nothing.watermark) == ((), None)
    none = assessed(subject(POLICY, train, table("scored", [], train.types)))
    assert none.evaluations == ()


def test_a_column_that_is_gone_or_renamed(tmp_path: Path, train: Table, suffix: str) -> None:
    found = judged(tmp_path, train, without(loans(10, 600, 10), "income"), suffix)
    assert column(found, "upstream", "income", "schema").note == "the column is gone"
    assert column(found, "inputs", "income").note == "gone"
    rows = loans(10, 600, 10)
    rows["salary"] = rows.pop("income")
    note = column(judged(tmp_path, train, rows), "upstream", "income", "schema").note or ""
    assert "'salary' is new and has its distribution" in note


def test_columns_of_predictions_labels_or_time_that_are_gone(tmp_path: Path, train: Table) -> None:
    for gone in ("prediction", "score", "default", "id"):
        found = judged(tmp_path, train, without(loans(10, 600, 10), gone))
        assert check(found, "upstream").verdict == "quiet"
        if gone in ("score", "default"):
            assert check(found, "concept").verdict == "insufficient"


def test_rows_of_one_window_in_files_of_different_columns(tmp_path: Path, train: Table) -> None:
    paths = [
        written(tmp_path, "a.parquet", loans(10, 300, 10)),
        written(tmp_path, "b.parquet", without(loans(9, 300, 10), "income")),
        written(tmp_path, "c.parquet", loans(11, 300, 11)),
    ]
    found = assessed(subject(POLICY, train, table("scored", paths)))
    note = column(found.evaluations[0], "upstream", "income", "schema").note
    assert note == "50.0% of the rows lack the column"


def test_poisoned_names(tmp_path: Path) -> None:
    name = "<script>‮\n\"'"

    def poisoned(seed: int, rows: int, day: float) -> dict[str, Any]:
        found = loans(seed, rows, day)
        found[name] = pa.array(np.random.default_rng(seed).normal(size=rows))
        return found

    train = table("train", [written(tmp_path, "t.parquet", poisoned(1, 2_000, 0))])
    found = judged(tmp_path, train, poisoned(2, 600, 10))
    assert column(found, "inputs", name).verdict == "quiet"
    assert Evaluation.from_json(found.to_json()) == found


def test_a_constant_or_empty_reference(tmp_path: Path) -> None:
    rows = loans(1, 1_000)
    rows["income"] = pa.array([None] * 1_000, pa.float64())
    rows["age"] = pa.array(np.full(1_000, 40))
    found = judged(tmp_path, table("train", [written(tmp_path, "t.parquet", rows)]), loans(10, 600, 10))
    assert column(found, "inputs", "income").note == "the reference has no values"
    assert column(found, "inputs", "age").verdict == "violated"
    empty = table("train", [written(tmp_path, "e.parquet", loans(1, 0))])
    found = judged(tmp_path, empty, loans(10, 600, 10))
    assert "quiet" not in {check(found, name).verdict for name in ("inputs", "target", "concept")}


def test_a_reader_that_breaks_is_told_without_what_it_says(tmp_path: Path, train: Table) -> None:
    def broken(columns: Any) -> Any:
        raise RuntimeError("secret content")

    good = table("scored", [written(tmp_path, "a.parquet", loans(10, 600, 10))])
    files = (*good.files, DataFile("d", "broken.parquet", 0, broken))
    found = assessed(subject(POLICY, train, replace(good, files=files)))
    (unread,) = found.unread
    assert unread.file == "broken.parquet"
    assert isinstance(unread.error, MlopsError)
    assert "secret" not in str(unread.error)


def test_a_check_that_fails_stops_no_other(tmp_path: Path, train: Table) -> None:
    checks = [
        {"name": "broken", "type": "dataDrift", "numeric": "nobody/nothing"},
        {"name": "wrong", "type": "conceptDrift", "metric": "rmse"},
        {"name": "inputs", "type": "dataDrift"},
    ]
    paths = [
        written(tmp_path, "a.parquet", loans(10, 600, 10)),
        written(tmp_path, "b.parquet", loans(11, 300, 11)),
    ]
    (found,) = assessed(
        subject(spec(checks=checks, task="binary"), train, table("scored", paths))
    ).evaluations
    assert check(found, "broken").verdict == "error"
    assert check(found, "wrong").columns[0].note == "There is no metric rmse for binary"
    assert check(found, "inputs").verdict == "quiet"
    assert found.verdict == "error"


class TestExpectations:
    def test_what_the_dataset_expects_is_tested_of_each_window(
        self, tmp_path: Path, train: Table, suffix: str
    ) -> None:
        expect = Expect.model_validate(
            {"minRows": 10_000, "columns": {"income": {"type": "double", "max": 2.0}, "age": {"min": 0}}}
        )
        rows = loans(10, 600, 10)
        income = np.clip(rows["income"].to_numpy(), -9, 1.9)
        fine = judged(tmp_path, train, {**rows, "income": pa.array(income)}, suffix, expect=expect)
        assert not [one for one in check(fine, "upstream").columns if one.detector == "expect"]
        income[7] = 2.5
        found = judged(tmp_path, train, {**rows, "income": pa.array(income)}, suffix, expect=expect)
        (broken,) = [one for one in check(found, "upstream").columns if one.detector == "expect"]
        assert broken.note == "column income: its greatest value 2.5 is above max 2.0"

    def test_missing_values_and_types(self, tmp_path: Path, train: Table) -> None:
        expect = Expect.model_validate(
            {
                "columns": {
                    "income": {"maxNull": 0.1},
                    "age": {"type": "string"},
                    "zip": {"min": 1},
                    "country": {"type": "string"},
                }
            }
        )
        rows = loans(10, 600, 10)
        rows["income"] = pa.array([None] * 100 + rows["income"].to_pylist()[100:])
        found = judged(tmp_path, train, rows, expect=expect)
        assert [one.note for one in check(found, "upstream").columns if one.detector == "expect"] == [
            "column age: its type is integer, not string",
            "column income: 0.1667 of its values are missing, more than maxNull 0.1",
            "column zip is missing",
        ]


def test_a_price_that_turns_into_another_currency_is_named(tmp_path: Path) -> None:
    def prices(seed: int, rows: int, day: float, factor: float = 1.0) -> dict[str, Any]:
        found = loans(seed, rows, day)
        found["price"] = pa.array(np.random.default_rng(seed).lognormal(3, 0.8, rows) * factor)
        return found

    train = table("train", [written(tmp_path, "t.parquet", prices(1, 4_000, 0))])
    paths = [
        written(tmp_path, "a.parquet", prices(2, 2_000, 10, 655.957)),
        written(tmp_path, "b.parquet", loans(3, 200, 11)),
    ]
    policy = spec(checks=CHECKS[:2], columns={"overrides": {"price": {"unit": "EUR"}}})
    (found,) = assessed(subject(policy, train, table("scored", paths))).evaluations
    note = column(found, "upstream", "price", "unitRatio").note or ""
    assert "EUR" in note


def test_a_season_is_compared_with_the_same_season(tmp_path: Path) -> None:
    def seasonal(seed: int, rows: int, day: float, days: float) -> dict[str, Any]:
        found = loans(seed, rows, day, days)
        weekday = np.array([one.weekday() for one in found["time"].to_pylist()])
        found["income"] = pa.array(found["income"].to_numpy() + np.where(weekday >= 5, 4.0, 0.0))
        return found

    train = table("train", [written(tmp_path, "t.parquet", seasonal(1, 14_000, 4, 28))])
    scored = table("scored", [written(tmp_path, "a.parquet", seasonal(2, 7_000, 102, 8))])
    plain = assessed(subject(spec(), train, scored))
    assert sum(one.verdict == "violated" for one in plain.evaluations) >= 2
    found = assessed(subject(spec(reference={"season": "dayOfWeek"}), train, scored))
    assert {one.verdict for one in found.evaluations} == {"quiet"}
    assert len(found.evaluations) == 7


def test_thresholds_calibrated_on_the_reference_allow_what_it_does_itself(tmp_path: Path) -> None:
    def walking(seed: int, days: int, first: float) -> dict[str, Any]:
        """Each day has a mean of its own, as autocorrelated data has."""
        rng = np.random.default_rng(seed)
        found = loans(seed, 400 * days, first, days)
        of_day = (
            np.floor(found["time"].to_numpy().astype("datetime64[us]").astype(np.int64) / 86_400e6) - first
        )
        found["income"] = pa.array(
            found["income"].to_numpy() + rng.normal(0, 0.7, days + 1)[of_day.astype(int)]
        )
        return found

    train = table("train", [written(tmp_path, "t.parquet", walking(1, 40, 0))])
    scored = table("scored", [written(tmp_path, "a.parquet", walking(2, 12, 100))])
    plain = assessed(subject(spec(), train, scored))
    check = {"name": "inputs", "type": "dataDrift", "thresholds": "calibrated"}
    upstream = {"name": "upstream", "type": "upstreamChange"}
    found = assessed(subject(spec(checks=[check, upstream]), train, scored))
    assert sum(one.verdict == "violated" for one in plain.evaluations) >= 3
    assert {one.verdict for one in found.evaluations} == {"quiet"}
    undated = replace(train, columns=train.columns.model_copy(update={"timestamp": None}))
    (note,) = {
        one.columns[0].note
        for one in assessed(subject(spec(checks=[check]), undated, scored)).evaluations[0].checks
    }
    assert note == "too few windows of the reference to calibrate on"


def test_excluded_and_ignored_columns_are_not_looked_at(tmp_path: Path, train: Table) -> None:
    rows = loans(10, 600, 10, shift=3.0)
    rows["age"] = pa.array(np.full(600, 200))
    policy = spec(checks=CHECKS[:2], columns={"exclude": ["age", "income"]})
    paths = [written(tmp_path, "a.parquet", rows), written(tmp_path, "b.parquet", loans(11, 300, 11))]
    (found,) = assessed(subject(policy, train, table("scored", paths))).evaluations
    assert found.verdict == "quiet"
    assert {one.column for one in check(found, "inputs").columns} == {"country"}
    only = assessed(subject(spec(), train, table("scored", paths), features=("country",))).evaluations[0]
    assert {one.column for one in only.checks[0].columns} == {"country"}


def test_what_a_report_wants_is_there(tmp_path: Path, train: Table) -> None:
    paths = [
        written(tmp_path, "a.parquet", loans(10, 600, 10)),
        written(tmp_path, "b.parquet", loans(11, 300, 11)),
    ]
    found = assessed(subject(POLICY, train, table("scored", paths)))
    start = found.evaluations[0].start
    reference, window = found.reference_of(start), found.window_of(start)
    assert reference is not None
    assert window is not None
    assert (reference.rows, window.rows) == (3_000, 600)


def test_the_same_file_under_another_name_is_not_read_again(tmp_path: Path, train: Table) -> None:
    path = written(tmp_path, "a.parquet", loans(10, 600, 10))
    memory = Memory()
    watched = subject(
        POLICY, train, table("scored", [path, written(tmp_path, "b.parquet", loans(11, 300, 11))])
    )
    first = assessed(watched, memory)
    moved = replace(watched.predictions.files[0], name="z.parquet", position=9)
    files = (moved, watched.predictions.files[1])
    again = assessed(
        replace(watched, predictions=replace(watched.predictions, files=files)), memory, stored=known(first)
    )
    assert again.evaluations == ()
