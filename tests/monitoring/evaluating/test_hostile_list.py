"""Each hostile thing in each kind of column under each kind of policy: a verdict or a reason, never silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scored_loans import loans, without
from scored_tables import DAY, NOW, assessed, spec, subject, table, written

from mlops.monitoring.evaluating import Table
from mlops.monitoring.verdicts import Evaluation

ROWS = 400
UPSTREAM = {"name": "upstream", "type": "upstreamChange"}
REST = [{"name": "target", "type": "targetDrift"}, {"name": "concept", "type": "conceptDrift"}]
POLICIES: dict[str, dict[str, Any]] = {
    "defaults": {"checks": [UPSTREAM, {"name": "inputs", "type": "dataDrift"}, *REST]},
    "calibrated": {
        "checks": [
            UPSTREAM,
            {
                **{"name": "inputs", "type": "dataDrift", "thresholds": "calibrated"},
                **{"numeric": "wasserstein", "categorical": "totalVariation"},
            },
            *REST,
        ]
    },
    "slices, seasons and all at once": {
        "checks": [
            UPSTREAM,
            {
                **{"name": "inputs", "type": "dataDrift", "multivariate": "domainClassifier", "share": 0.3},
                **{"numeric": "ks", "categorical": "chiSquare"},
            },
            *REST,
        ],
        "slices": ["country"],
        "reference": {"season": "dayOfWeek"},
    },
}
OUTPUTS = ("prediction", "score", "default")  # of them, the reason may be all that is said


def changed(column: str, values: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The rows with other values in one column."""
    return lambda rows: {**rows, column: values(rows[column])}


def salted(value: float) -> Callable[[Any], Any]:
    """A third of the numbers are `value`."""
    return lambda old: pa.array(np.where(np.arange(len(old)) % 3 == 0, value, old.to_numpy().astype(float)))


def renamed(rows: dict[str, Any]) -> dict[str, Any]:
    return {**without(rows, "income"), "salary": rows["income"]}


def mixed(old: Any) -> Any:
    return pa.array([str(one) if place % 2 else "n/a" for place, one in enumerate(old.to_pylist())])


HOSTILE: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "NaN": ("income", changed("income", salted(float("nan")))),
    "infinity": ("income", changed("income", salted(float("inf")))),
    "minus infinity": ("income", changed("income", salted(float("-inf")))),
    "the largest double": ("income", changed("income", salted(1.7e308))),
    "all null": ("income", changed("income", lambda old: pa.nulls(len(old), old.type))),
    "no type at all": ("age", changed("age", lambda old: pa.nulls(len(old)))),
    "constant": ("income", changed("income", lambda old: pa.array(np.full(len(old), 0.5)))),
    "constant category": ("country", changed("country", lambda old: pa.array(["DE"] * len(old)))),
    "mixed type": ("income", changed("income", mixed)),
    "numbers for names": ("country", changed("country", lambda old: pa.array(np.arange(len(old)) % 3))),
    "names for numbers": ("age", changed("age", lambda old: pa.array(["old", "young"] * (len(old) // 2)))),
    "unseen category": ("country", changed("country", lambda old: pa.array(["PT", "DE"] * (len(old) // 2)))),
    "a category each": (
        "country",
        changed("country", lambda old: pa.array([f"c{one}" for one in range(len(old))])),
    ),
    "lists": ("income", changed("income", lambda old: pa.array([[1.0, 2.0]] * len(old)))),
    "gone": ("income", lambda rows: without(rows, "income")),
    "renamed": ("income", renamed),
    "predictions of another kind": (
        "prediction",
        changed("prediction", lambda old: pa.array(["yes", "no"] * (len(old) // 2))),
    ),
    "no predictions": ("prediction", changed("prediction", lambda old: pa.nulls(len(old), old.type))),
    "scores beyond chances": ("score", changed("score", lambda old: pa.array(old.to_numpy() * 40 - 20))),
    "labels of another kind": (
        "default",
        changed("default", lambda old: pa.array(["perhaps"] * len(old))),
    ),
}


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Four weeks, a window a day."""
    return table("train", [written(tmp_path_factory.mktemp("train"), "t.parquet", loans(1, 6_000, 0, 28))])


def judged(folder: Path, train: Table, policy: str, rows: dict[str, Any]) -> Evaluation:
    paths = [written(folder, "a.parquet", rows), written(folder, "b.parquet", loans(36, ROWS, 36))]
    declared = spec(task="binary", **POLICIES[policy])
    (found,) = assessed(subject(declared, train, table("scored", paths, train.types))).evaluations
    assert (found.start, found.rows) == (35 * DAY, ROWS)
    assert Evaluation.from_json(found.to_json()) == found
    return found


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_verdict_or_a_reason(tmp_path: Path, train: Table, policy: str, name: str) -> None:
    column, spoil = HOSTILE[name]
    found = judged(tmp_path, train, policy, spoil(loans(35, ROWS, 35)))
    assert [(check.name, check.verdict) for check in found.checks if check.verdict == "error"] == []
    assert found.verdict != "quiet" or column in OUTPUTS
    told = [one for check in found.checks for one in check.columns if one.column in (column, "*")]
    assert [one for one in told if one.verdict == "violated" or one.note is not None]
    spared = [one for check in found.checks[:2] for one in check.columns if one.column not in (column, "*")]
    assert "violated" not in {one.verdict for one in spared}
    judged_anyway = {one.column for one in found.checks[1].columns if one.verdict == "quiet"}
    assert len(judged_anyway - {column}) >= 1  # what is wrong with one column stops no other


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_wrong_is_quiet(tmp_path: Path, train: Table, policy: str) -> None:
    assert judged(tmp_path, train, policy, loans(35, ROWS, 35)).verdict in ("quiet", "insufficient")


@pytest.mark.parametrize("policy", POLICIES)
def test_future_undated_and_foreign_times_are_counted_or_put_in_their_windows(
    tmp_path: Path, train: Table, policy: str
) -> None:
    plain = loans(35, ROWS, 35)
    later = loans(36, ROWS, 36)
    zoned = pa.array(plain["time"]).cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", "Asia/Kolkata"))
    future = {**loans(37, 30), "time": pa.array([int((NOW + 40 * DAY) * 1e6)] * 30, pa.timestamp("us"))}
    undated = {**loans(38, 20), "time": pa.nulls(20, pa.timestamp("us"))}
    frames = [{**plain, "time": zoned}, later, future, undated]
    paths = [written(tmp_path, f"{place}.parquet", one) for place, one in enumerate(frames)]
    declared = spec(task="binary", **POLICIES[policy])
    found = assessed(subject(declared, train, table("scored", paths, train.types)))
    assert (found.future, found.undated) == (30, 20)
    assert [(one.start, one.rows) for one in found.evaluations] == [(35 * DAY, ROWS)]
    same = judged(tmp_path / "plain", train, policy, plain)
    assert found.evaluations[0].checks == same.checks
