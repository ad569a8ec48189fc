"""What each gate says of what it sees: passed, failed, pending, skipped or error, and never nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from mlops.observation.observed import ObservedDataset
from mlops.planning.evidence import Check, Evidence, Example, Scoring, find, tag_of
from mlops.planning.gates import Case, GateResult, Judged, evaluate, gate_block
from mlops.planning.metrics import metric_named
from mlops.planning.soaking import Monitor, Soaking
from mlops.planning.stays import History, Stay
from mlops.resources import Dataset, Key, Stage

DAY = 86_400.0
START = 1_700_000_000.0  # 2023-11-14T22:13:20Z
SINCE = "2023-11-14T22:13:20.000Z"
DIGEST = "sha256:" + "d" * 64


def stage(*gates: dict[str, Any]) -> Stage:
    spec = {"after": "dev", "gates": list(gates)}
    return Stage.model_validate(
        {"apiVersion": "mlops/v1", "kind": "Stage", "metadata": {"name": "prod"}, "spec": spec}
    )


def dataset(**columns: Any) -> Dataset:
    spec = {"uri": "judge.csv", "format": "csv", "columns": columns}
    return Dataset.model_validate(
        {"apiVersion": "mlops/v1", "kind": "Dataset", "metadata": {"name": "judge"}, "spec": spec}
    )


def model(name: str, known: Evidence | None) -> Judged:
    return Judged(name, lambda check: known)


def scored(**metrics: float) -> Evidence:
    return Evidence(DIGEST, "model", ("scores", "sha256:data", "y", "regression"), metrics, rows=10)


def case(mine: Evidence | None, theirs: Evidence | None = None, **more: Any) -> Case:
    given: dict[str, Any] = {
        "dataset": {"judge": dataset(target="y")}.get,
        "datasets": {"judge": ObservedDataset("judge", "judge.csv", "sha256:data")},
        "champion": model("1.0.0", theirs),
        **more,
    }
    return Case(None, model("1.1.0", mine), **given)


def champion(**rule: Any) -> Stage:
    return stage({"champion": {"metric": "rmse", "goal": "minimize", "dataset": "judge", **rule}})


def verdict(stage: Stage, case: Case) -> GateResult:
    [gate] = evaluate(stage, case)
    assert gate.message
    assert gate.required
    return gate


@pytest.mark.parametrize(
    ("rule", "mine", "theirs", "status"),
    [
        ({}, 9.0, 10.0, "passed"),
        ({}, 10.0, 10.0, "failed"),
        ({}, 10.0, 9.0, "failed"),
        ({"goal": "maximize"}, 10.0, 9.0, "passed"),
        ({"goal": "maximize"}, 9.0, 10.0, "failed"),
        ({"minImprovement": "10%"}, 9.0, 10.0, "passed"),
        ({"minImprovement": "10%"}, 9.1, 10.0, "failed"),
        ({"minImprovement": "10%", "goal": "maximize"}, -9.0, -10.0, "passed"),
        ({"minImprovement": 0.5}, 9.5, 10.0, "passed"),
        ({"minImprovement": 0.5}, 9.51, 10.0, "failed"),
        ({"minImprovement": 0.01, "goal": "maximize"}, 0.57, 0.56, "passed"),
        ({"minImprovement": 0.01, "goal": "maximize"}, 0.81, 0.80, "passed"),
        ({"minImprovement": "5%"}, 0.0, 0.0, "failed"),
        ({}, math.nan, 10.0, "failed"),
        ({}, 10.0, math.nan, "failed"),
        ({}, math.inf, 10.0, "failed"),
    ],
)
def test_a_challenger_has_to_beat_the_champion(
    rule: dict[str, Any], mine: float, theirs: float, status: str
) -> None:
    assert verdict(champion(**rule), case(scored(rmse=mine), scored(rmse=theirs))).status == status


def test_a_comparison_shows_both_values_and_what_they_are_from() -> None:
    gate = verdict(champion(minImprovement="5%"), case(scored(rmse=9.8), scored(rmse=10.0)))
    assert gate.observed == {"challenger": 9.8, "champion": 10.0, "version": "1.0.0"}
    assert gate.message == "2.00% better: rmse 9.8 against 10 of 1.0.0 on judge; it has to be lower by 5%"
    assert gate.evidence["data"] == "sha256:data"
    assert gate.evidence["challenger"]["metrics"] == {"rmse": 9.8}


def test_without_a_champion_there_is_nothing_to_beat() -> None:
    assert verdict(champion(), case(None, champion=None)).status == "passed"


def test_evidence_of_both_sides_is_asked_for_at_once() -> None:
    gate = verdict(champion(), case(None, None))
    assert gate.status == "pending"
    assert not gate.closed
    assert [of_champion for of_champion, _ in gate.lacks] == [False, True]
    assert {check for _, check in gate.lacks} == {Scoring("judge", "sha256:data", "y", "regression")}
    one = verdict(champion(), case(scored(rmse=1.0), None))
    assert [of_champion for of_champion, _ in one.lacks] == [True]


def test_a_champion_that_cannot_be_loaded_is_an_error_that_says_so() -> None:
    gone = Evidence(DIGEST, "model", (), error="its bytes are not there")
    gate = verdict(champion(), case(scored(rmse=1.0), gone))
    assert gate.status == "error"
    assert "1.0.0" in gate.message
    assert "its bytes are not there" in gate.message


def test_going_back_skips_what_was_asked_the_first_time() -> None:
    both = stage(
        {"champion": {"metric": "rmse", "goal": "minimize", "dataset": "judge"}},
        {"soak": "24h"},
        {"signature": True},
    )
    gates = evaluate(both, case(None, None, returns=True))
    assert [gate.status for gate in gates] == ["skipped", "skipped", "pending"]


@pytest.mark.parametrize(
    ("metric", "columns", "seen", "said"),
    [
        ("profit", {"target": "y"}, "sha256:data", "There are, for regression: rmse"),
        ("rmse", {}, "sha256:data", "spec.columns.target"),
        ("rmse", {"target": "y"}, None, "NotFound"),
    ],
)
def test_what_cannot_be_judged_is_an_error_with_what_to_write(
    metric: str, columns: dict[str, Any], seen: str | None, said: str
) -> None:
    data = ObservedDataset("judge", "judge.csv", seen, reason=None if seen else "NotFound")
    told = case(None, dataset={"judge": dataset(**columns)}.get, datasets={"judge": data})
    rule = {"metric": {"name": metric, "max": 1, "dataset": "judge"}}
    gate = verdict(stage(rule), told)
    assert gate.status == "error"
    assert said in gate.message
    block = gate_block(Key("Promotion", "m-prod"), (gate,))
    assert block is not None
    assert block.reason == "GateNotAvailable"


@pytest.mark.parametrize(
    ("value", "status"), [(1.0, "passed"), (1.1, "failed"), (math.nan, "failed"), (-math.inf, "passed")]
)
def test_a_metric_on_a_dataset_is_the_evaluation_and_not_what_the_run_says(value: float, status: str) -> None:
    rule = {"metric": {"name": "root_mean_squared_error", "max": 1, "dataset": "judge"}}
    gate = verdict(stage(rule), case(scored(rmse=value)))
    assert (gate.name, gate.status) == ("metric:root_mean_squared_error@judge", status)


def test_a_model_that_gives_no_probabilities_has_no_log_loss() -> None:
    rule = {"metric": {"name": "logLoss", "max": 1, "dataset": "judge"}}
    gate = verdict(stage(rule), case(scored(accuracy=0.9)))
    assert gate.status == "error"
    assert "log_loss cannot be told" in gate.message


@pytest.mark.parametrize(
    ("known", "status"),
    [
        (None, "pending"),
        (Evidence(DIGEST, "model", ("signature",)), "passed"),
        (Evidence(DIGEST, "model", ("signature",), failed="it has no input example"), "failed"),
        (Evidence(DIGEST, "model", ("signature",), error="it could not be loaded"), "error"),
    ],
)
def test_the_signature_gate(known: Evidence | None, status: str) -> None:
    assert verdict(stage({"signature": True}), case(known)).status == status


def soaking(*stays: tuple[float, float | None], now: float, monitors: tuple[Monitor, ...] = ()) -> Soaking:
    def at(seconds: float) -> str:
        from mlops.applying.promote import timestamp

        return timestamp(START + seconds)

    rows = tuple(
        Stay("m-dev", "dev", at(begin), "r", at(end) if end is not None else None) for begin, end in stays
    )
    return Soaking(History(rows), monitors, START + now)


ILL = Monitor("watch", "Degraded", judged=True)


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        (soaking(now=DAY), "pending", "it is not in dev yet"),
        (soaking((0, None), now=DAY - 1), "pending", "passes at 2023-11-15T22:13:20Z"),
        (soaking((0, None), now=DAY), "passed", "for at least 1d"),
        (soaking((0, None), now=-50), "pending", "passes at 2023-11-15T22:13:20Z"),
        (soaking((0, DAY), (2 * DAY, None), now=2 * DAY + 5), "passed", "at least"),
        (soaking((0, 0.6 * DAY), (DAY, 1.6 * DAY), now=3 * DAY), "failed", "only"),
        (soaking((0, None), now=2 * DAY, monitors=(ILL,)), "failed", "Degraded"),
        (soaking((0, None), now=5, monitors=(ILL,)), "failed", "Degraded"),
        (
            soaking((0, None), now=2 * DAY, monitors=(Monitor("watch", "Unknown", judged=True),)),
            "passed",
            "at least",
        ),
        (
            soaking((0, None), now=2 * DAY, monitors=(Monitor("watch", "Degraded", judged=False),)),
            "pending",
            "has not looked at it",
        ),
    ],
)
def test_the_soak_gate(told: Soaking, status: str, said: str) -> None:
    gate = verdict(stage({"soak": "24h"}), case(None, soaking=told))
    assert (gate.status, said in gate.message) == (status, True), gate.message
    assert gate.closed == (status == "pending")
    assert (gate.passes_at is not None) == ("passes at" in said)
    assert (gate_block(Key("Promotion", "p"), (gate,)) is None) == (status == "passed")


def test_two_champions_in_one_stage_have_two_names() -> None:
    rules = [
        {"champion": {"metric": metric, "goal": "minimize", "dataset": "judge"}} for metric in ("rmse", "mae")
    ]
    gates = evaluate(stage(*rules), case(scored(rmse=1, mae=2), scored(rmse=2, mae=1)))
    assert [(gate.name, gate.status) for gate in gates] == [
        ("champion:rmse@judge", "passed"),
        ("champion:mae@judge", "failed"),
    ]


def test_names_of_scikit_learn_and_mlflow_mean_the_same() -> None:
    for name in ("roc_auc", "rocAuc", "roc_auc_score", "ROC_AUC"):
        assert metric_named(name) == ("roc_auc", "classification"), name
    assert metric_named("neg_mean_squared_error") is None


def _edited(text: str) -> str:
    return text.replace('"rows":10', '"rows":"ten"')


@pytest.mark.parametrize("spoil", [lambda text: text, _edited, lambda text: text[:-1], lambda text: "[]"])
def test_evidence_is_found_again_and_nothing_else_is_taken_for_it(spoil: Callable[[str], str]) -> None:
    check: Check = Scoring("judge", "sha256:data", "y", "regression")
    made = Evidence(DIGEST, "model", tuple(check.identity), {"rmse": 1.5, "r2": math.nan}, 10, 2)
    text = spoil(made.text())
    tags = {made.tag: text, "mlops.fingerprint": "f"}
    expected = text == made.text()
    for digest in (DIGEST, None):
        found = find(tags, check, digest, "model")
        assert (found is not None) == expected
        assert found is None or found.text() == made.text()
    assert find(tags, check, "sha256:other", "model") is None
    assert find(tags, check, None, "another") is None
    assert find(tags, Scoring("judge", "sha256:later", "y", "regression"), DIGEST, "model") is None
    # What stands under the name of another model's evidence is not believed.
    moved = {tag_of(tuple(check.identity), "sha256:other"): made.text()}
    assert find(moved, check, "sha256:other", "model") is None
    assert find({tag_of(("signature",), DIGEST): made.text()}, Example(), DIGEST, "model") is None
