"""Choices that planning makes: the best run, gates, what a command becomes, what a tampered run means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from revisions import desired, experiment, observed, resource

from mlops.observation.observed import Ledger, ObservedRun
from mlops.planning.gates import Case, evaluate
from mlops.planning.plan import UNKNOWN
from mlops.planning.planner import make_plan
from mlops.planning.runs import FINGERPRINT, best
from mlops.planning.trials import fill

NAN, INF = float("nan"), float("inf")


def run(name: str, metrics: Mapping[str, float], *, at: int = 0, **tags: str) -> ObservedRun:
    return ObservedRun(name, "p/fit", name, "FINISHED", at, at + 1, tags, {}, metrics)


@pytest.mark.parametrize(
    ("values", "goal", "winner"),
    [
        ([3.0, 1.0, 2.0], "minimize", "1"),
        ([3.0, 1.0, 2.0], "maximize", "0"),
        ([NAN, 2.0], "minimize", "1"),
        ([NAN, 2.0], "maximize", "1"),
        ([INF, 2.0, -INF], "maximize", "1"),
        ([-INF, 2.0], "minimize", "1"),
        ([NAN, NAN], "minimize", None),
        ([], "minimize", None),
        ([None, 5.0], "minimize", "1"),
        ([2.0, 2.0], "minimize", "0"),
        ([-0.0, 0.0], "maximize", "0"),
    ],
)
def test_the_best_run_has_the_best_finite_value(values: list[Any], goal: str, winner: str | None) -> None:
    runs = [run(str(i), {} if v is None else {"rmse": v}, at=i) for i, v in enumerate(values)]
    for order in (runs, runs[::-1]):
        found = best(order, "rmse", goal)
        assert (found.run_id if found else None) == winner


@pytest.mark.parametrize(
    ("rule", "metrics", "status", "seen"),
    [
        ({"max": 5}, {"rmse": 5.0}, "passed", 5.0),
        ({"max": 5}, {"rmse": 5.0000001}, "failed", 5.0000001),
        ({"min": 1, "max": 5}, {"rmse": 1.0}, "passed", 1.0),
        ({"min": 1, "max": 5}, {"rmse": 0.5}, "failed", 0.5),
        ({"min": 1}, {"rmse": INF}, "passed", "inf"),
        ({"max": 5}, {"rmse": -INF}, "passed", "-inf"),
        ({"max": 5}, {"rmse": NAN}, "failed", "NaN"),
        ({"min": 0, "max": 5}, {"mae": 1.0}, "failed", None),
        ({"max": 5}, {}, "failed", None),
        ({"max": 5}, None, "pending", UNKNOWN),
        ({"max": 5, "dataset": "rows"}, {"rmse": 1.0}, "error", None),
    ],
)
def test_the_metric_gate(
    rule: dict[str, Any], metrics: dict[str, float] | None, status: str, seen: Any
) -> None:
    stage: Any = resource("Stage", "prod", {"gates": [{"metric": {"name": "rmse", **rule}}]})
    [gate] = evaluate(stage, Case(None if metrics is None else run("r", metrics)))
    assert (gate.status, gate.observed) == (status, seen)
    assert gate.message
    assert gate.required


def test_every_gate_is_evaluated_and_none_passes_for_want_of_what_it_looks_at() -> None:
    rules = [{"metric": {"name": "rmse", "max": 1}}, {"soak": "24h"}, {"metric": {"name": "mae", "max": 1}}]
    stage: Any = resource("Stage", "prod", {"after": "dev", "gates": rules})
    gates = evaluate(stage, Case(run("r", {"rmse": 0.5, "mae": 2.0})))
    assert [gate.status for gate in gates] == ["passed", "pending", "failed"]


HOSTILE = [
    "; rm -rf /",
    "$(id)",
    "`id`",
    "--help",
    "-x",
    "a b",
    "{other}",
    "{",
    "}",
    "'\"\\",
    "",
    "\n",
    "|",
    "é",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_parameter_reaches_argv_as_it_is_and_in_its_one_argument(value: str) -> None:
    command = ("python", "train.py", "--name={name}", "{name}", "{unknown}", "{{name}}", "{", "{}", "a{b")
    filled = fill(command, {"name": value, "other": "SECRET"})
    assert filled == (
        *("python", "train.py", f"--name={value}", value),
        *("{unknown}", "{" + value + "}", "{", "{}", "a{b"),
    )


@given(st.lists(st.text(alphabet="{}ab", max_size=12), max_size=4), st.text(max_size=12))
def test_filling_changes_nothing_but_whole_placeholders(command: list[str], value: str) -> None:
    filled = fill(tuple(command), {"a": value})
    assert list(filled) == [argument.replace("{a}", value) for argument in command]


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (1, "1"), (0.1, "0.1"), (1e-7, "1e-07")]
)
def test_values_are_written_as_in_yaml(value: Any, text: str) -> None:
    assert fill(("{a}",), {"a": value}) == (text,)


@pytest.mark.parametrize("attempt", ["", "x", "-1", "1e3", "²", "9" * 5000, "1.5"])
def test_an_attempt_written_by_hand_does_not_stop_planning(attempt: str) -> None:
    declared = desired(experiment(retries=3))
    [step] = make_plan(declared, observed()).plan.steps
    fingerprint = next(change.after for change in step.changes if change.field == "fingerprint")
    tags = {FINGERPRINT: fingerprint, "mlops.outcome": "failed", "mlops.attempt": attempt}
    failed = ObservedRun("f", "p/fit", "f", "FAILED", 0, 1, tags, {}, {})
    [again] = make_plan(declared, observed(Ledger(runs={"f": failed}))).plan.steps
    assert again.reason == "attempt 2: the last one failed"


def test_a_run_that_nobody_closed_is_gone_on_with_and_one_without_an_outcome_is_not_finished() -> None:
    declared = desired(experiment())
    [step] = make_plan(declared, observed()).plan.steps
    fingerprint = next(change.after for change in step.changes if change.field == "fingerprint")
    for status in ("RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED"):
        half = ObservedRun(
            "half", "p/fit", "half", status, 0, None, {FINGERPRINT: fingerprint}, {}, {"rmse": 1.0}
        )
        [again] = make_plan(declared, observed(Ledger(runs={"half": half}))).plan.steps
        assert again.reason == "run half is open: go on with it"
