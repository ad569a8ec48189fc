"""Planning what is kept as it was while its document is broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from revisions import Case, code, data, desired, experiment, key, observed, resource
from store_in_memory import Memory

from mlops.observation.observed import Observed
from mlops.planning.desired import Desired
from mlops.planning.planner import Planned, make_plan
from mlops.resources import Key, Resource

WHY = "its document at bbbbbbbbbbbb is broken: resources/x.yaml:3:1: spec.x: is unknown; it is kept as at aaaaaaaaaaaa"


def declared(**changed: Resource) -> dict[str, Resource]:
    return {
        "rows": resource("Dataset", "rows", {"uri": "data/rows.csv"}),
        "fit": experiment(datasets={"train": "rows"}),
        "m": resource("Model", "m"),
        "v": resource(
            "ModelVersion",
            "v",
            {"model": "m", "version": "1.0.0", "source": {"experiment": "fit", "artifact": "x"}},
        ),
        "prod": resource("Stage", "prod"),
        "q": resource("Promotion", "q", {"model": "m", "stage": "prod", "version": "1.0.0"}),
        **changed,
    }


def kept(*names: str, **given: Any) -> Desired:
    keys = frozenset(key(name) for name in names)
    made = {"whole": False, "kept": keys, "why": dict.fromkeys(keys, WHY), **given}
    return desired(*declared().values(), **made)


def planned(wanted: Desired, memory: Memory | None = None, **kept_data: str) -> Planned:
    ledger = memory.ledger() if memory is not None else None
    seen = observed(ledger, [data()])
    seen = replace(seen, kept_data={name: data(name, content) for name, content in kept_data.items()})
    return make_plan(wanted, seen)


def applied() -> Memory:
    """A store in which all of it was applied."""
    memory = Memory()
    wanted = desired(*declared().values())
    memory.apply(Case(wanted, {"rows": data()}))
    assert not memory.plan(Case(wanted, {"rows": data()})).plan.steps
    return memory


@pytest.mark.parametrize("name", [str(one.key) for one in declared().values()])
def test_what_is_kept_is_named_and_hinders_nobody(name: str) -> None:
    found = planned(kept(name), applied())
    assert [(block.resource, block.condition, block.reason) for block in found.plan.blocked] == [
        (name, "Ready", "Invalid")
    ]
    assert found.plan.steps == ()
    made = found.assessments[key(name)]
    assert (made.sync, made.health) == ("OutOfSync", "Degraded")
    assert (made.ready.status, made.ready.reason, made.ready.message) == ("False", "Invalid", WHY)
    others = [one for one in found.assessments.values() if one.key != key(name)]
    assert {one.health for one in others} == {"Healthy"}


def test_what_is_kept_is_healed_and_says_so() -> None:
    memory = applied()
    memory.delete_alias("m", "prod")
    found = planned(kept("Promotion/q"), memory)
    assert [step.id for step in found.plan.steps] == ["heal:Promotion/q"]
    made = found.assessments[Key("Promotion", "q")]
    assert [(one.type, one.status) for one in made.conditions if one.type in ("Reconciling", "InSync")] == [
        ("Reconciling", "True"),
        ("InSync", "False"),
    ]


def test_what_is_kept_keeps_its_own_troubles_too() -> None:
    wanted = kept("Experiment/fit", code={"fit": code(problem="no such folder")})
    found = planned(wanted, applied())
    reasons = [block.reason for block in found.plan.blocked if block.resource == "Experiment/fit"]
    assert sorted(reasons) == ["CodeMissing", "Invalid"]
    assert found.assessments[Key("Experiment", "fit")].ready.reason == "Invalid"


def test_a_kept_experiment_sees_the_data_that_it_had() -> None:
    memory = applied()
    moved = replace(data(), digest="sha256:" + "1" * 64)
    wanted = kept("Experiment/fit")
    ledger = memory.ledger()
    assert make_plan(wanted, Observed(ledger, {"rows": moved}, {"rows": data()})).plan.steps == ()
    trained = make_plan(wanted, Observed(ledger, {"rows": moved})).plan.steps
    assert [step.action for step in trained] == ["train"]


def test_a_kept_version_is_not_bound_from_an_experiment_that_is_not_kept() -> None:
    memory = Memory()
    found = planned(kept("ModelVersion/v"), memory)
    blocks = {block.resource: block for block in found.plan.blocked if block.reason != "Invalid"}
    assert "may have changed since" in blocks["ModelVersion/v"].message
    assert [step.action for step in found.plan.steps] == ["train", "register"]
    both = planned(kept("ModelVersion/v", "Experiment/fit"), memory)
    assert [step.action for step in both.plan.steps] == ["train", "register", "bind", "promote"]


def test_what_was_left_out_says_what_it_waits_for() -> None:
    out = Key("Promotion", "new")
    wanted = desired(
        *declared().values(),
        whole=False,
        invalid=frozenset({out, Key("Model", "x")}),
        why={out: "it needs Stage/x"},
    )
    found = {
        block.resource: block for block in planned(replace(wanted, not_held="gone"), applied()).plan.blocked
    }
    assert (found["Promotion/new"].reason, found["Promotion/new"].message) == (
        "DependencyFailed",
        "it needs Stage/x",
    )
    assert found["Model/x"].reason == "Invalid"
    assert found["Model/x"].message.endswith("(gone)")
