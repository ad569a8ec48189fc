"""While the version that git asks for may not go into a stage, the one that is there stays there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from revisions import Case, desired, experiment, resource, revision
from store_in_memory import Memory

GATE = {"gates": [{"metric": {"name": "never-logged", "max": 1}}]}


def case(number: str, stage: dict[str, Any], **promotion: Any) -> Case:
    source = {"experiment": "fit", "artifact": "model"}
    versions = [
        resource("ModelVersion", f"m-{n}", {"model": "m", "version": n, "source": source})
        for n in ("1.0.0", "2.0.0")
    ]
    asked = {"model": "m", "stage": "prod", "version": number, **promotion}
    declared = [experiment(), resource("Model", "m"), *versions]
    promoted = [resource("Stage", "prod", stage), resource("Promotion", "m-prod", asked)]
    return Case(desired(*declared, *promoted, revision=revision(f"{number} {stage} {promotion}")), {})


@pytest.fixture
def blocked() -> tuple[Memory, Case]:
    """1.0.0 is in prod, and a gate keeps 2.0.0 out."""
    store = Memory()
    store.apply(case("1.0.0", {}))
    wanted = case("2.0.0", GATE)
    store.apply(wanted)
    assert store.aliases("m") == {"prod": 1}
    return store, wanted


def test_an_alias_moved_past_a_gate_by_hand_is_put_back(blocked: tuple[Memory, Case]) -> None:
    store, wanted = blocked
    store.move_alias("m", "prod", 2, tags={})
    [step] = store.plan(wanted).plan.steps
    assert (step.action, step.resource) == ("heal", "Promotion/m-prod")
    store.apply(wanted)
    assert store.aliases("m") == {"prod": 1}
    assert store.plan(wanted).plan.steps == ()


def test_an_alias_that_was_deleted_by_hand_and_its_record_are_put_back(blocked: tuple[Memory, Case]) -> None:
    store, wanted = blocked
    before = dict(store.versions["m", 1].tags)
    store.delete_alias("m", "prod")
    store.tag_version("m", 1, {"mlops.stage.prod.since": "by hand", "mlops.stage.prod.revision": None})
    store.apply(wanted)
    assert store.aliases("m") == {"prod": 1}
    assert store.versions["m", 1].tags == before


def test_what_is_suspended_is_left_where_somebody_put_it(blocked: tuple[Memory, Case]) -> None:
    store, _ = blocked
    store.move_alias("m", "prod", 2, tags={})
    frozen = case("2.0.0", GATE, suspend=True)
    assert store.plan(frozen).plan.steps == ()


def test_once_the_gate_opens_the_asked_version_goes_there(blocked: tuple[Memory, Case]) -> None:
    store, _ = blocked
    store.delete_alias("m", "prod")
    store.apply(case("2.0.0", {}))
    assert store.aliases("m") == {"prod": 2}


def test_an_alias_that_was_moved_by_hand_goes_with_the_promotion(blocked: tuple[Memory, Case]) -> None:
    store, wanted = blocked
    store.move_alias("m", "prod", 2, tags={})
    promotions = [key for key in wanted.desired.resources if key.kind == "Promotion"]
    kept = {key: one for key, one in wanted.desired.resources.items() if key not in promotions}
    without = Case(replace(wanted.desired, resources=kept, revision=revision("without")), {})
    store.apply(without)
    assert store.aliases("m") == {}
    assert store.plan(without).plan.steps == ()
