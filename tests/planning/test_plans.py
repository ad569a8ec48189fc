"""Plans of generated revisions: what holds whatever is declared and whatever is found."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from revisions import Case, cases, key
from store_in_memory import Memory

from mlops.applying.outcomes import Done
from mlops.observation.observed import Ledger, Observed
from mlops.planning.desired import Desired
from mlops.planning.plan import Plan
from mlops.planning.planner import make_plan

thorough = settings(
    max_examples=100,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def text(plan: Plan) -> str:
    return json.dumps(plan.to_json())


def shuffled(mapping: Mapping[Any, Any], order: random.Random) -> dict[Any, Any]:
    rows = list(mapping.items())
    order.shuffle(rows)
    return dict(rows)


def in_another_order(case: Case, ledger: Ledger, order: random.Random) -> tuple[Desired, Observed]:
    """The same things, told in another order."""
    desired = replace(
        case.desired,
        resources=shuffled(case.desired.resources, order),
        code={
            name: replace(code, files=shuffled(code.files, order))
            for name, code in shuffled(case.desired.code, order).items()
        },
    )
    mixed = Ledger(
        {n: replace(e, tags=shuffled(e.tags, order)) for n, e in shuffled(ledger.experiments, order).items()},
        {
            n: replace(r, tags=shuffled(r.tags, order), metrics=shuffled(r.metrics, order))
            for n, r in shuffled(ledger.runs, order).items()
        },
        {
            n: replace(m, tags=shuffled(m.tags, order), aliases=shuffled(m.aliases, order))
            for n, m in shuffled(ledger.models, order).items()
        },
        {n: replace(v, tags=shuffled(v.tags, order)) for n, v in shuffled(ledger.versions, order).items()},
    )
    return desired, Observed(mixed, shuffled(case.datasets, order))


def check(case: Case, store: Memory) -> Plan:
    """What every plan keeps to; gives the plan."""
    planned = store.plan(case)
    plan = planned.plan
    ids = [step.id for step in plan.steps]
    assert len(set(ids)) == len(ids)
    place = {name: index for index, name in enumerate(ids)}
    for step in plan.steps:
        assert all(place[need] < place[step.id] for need in step.needs)
        assert step.reason
        assert step.resource in plan.observed
        declared = case.desired.resources.get(key(step.resource))
        assert declared is None or not declared.spec.suspend
        assert key(step.resource) not in case.desired.invalid
    for block in plan.blocked:
        assert block.reason
        assert len(block.message) > 10
        assert block.resource in plan.observed
    for made in planned.assessments.values():
        assert made.ready.status != "True" or not (made.steps or made.blocks)
    assert set(planned.assessments) == set(case.desired.resources) | case.desired.invalid
    json.dumps(plan.to_json(), allow_nan=False)
    assert sum(plan.summary.values()) == len(plan.steps) + len(plan.blocked)
    return plan


def settle(case: Case, store: Memory) -> None:
    """Apply until nothing is left to do: at once, or, where a gate closed meanwhile, by the second time."""
    plan = check(case, store)
    applied = store.apply(case)
    if len(applied.having(Done)) < len(plan.steps):
        check(case, store)
        store.apply(case)
    left = [(step.id, step.reason, step.changes) for step in check(case, store).steps]
    assert left == []


@thorough
@given(cases(name="1"), cases(name="2"), st.randoms(use_true_random=False))
def test_a_plan_is_the_same_whatever_the_order_of_its_inputs(
    first: Case, second: Case, order: random.Random
) -> None:
    store = Memory()
    for case in (first, second):
        before = text(check(case, store))
        assert text(make_plan(*in_another_order(case, store.ledger(), order)).plan) == before
        store.apply(case)
    again = Ledger.from_json(json.loads(json.dumps(store.ledger().to_json())))
    assert text(make_plan(second.desired, Observed(again, second.datasets)).plan) == text(
        check(second, store)
    )


@thorough
@given(cases(name="1"), cases(name="2"))
def test_after_apply_nothing_is_left_also_there_and_back_again(first: Case, second: Case) -> None:
    store = Memory()
    settle(first, store)
    bound = {place: version.run_id for place, version in store.versions.items()}
    settle(second, store)
    back = Case(replace(first.desired, revision=second.desired.revision[::-1]), first.datasets)
    settle(back, store)
    finished = [
        (run.experiment, run.tags["mlops.fingerprint"])
        for run in store.runs.values()
        if run.status == "FINISHED"
    ]
    assert len(set(finished)) == len(finished), "a trial was trained twice"
    for place, version in store.versions.items():
        assert bound.get(place, version.run_id) == version.run_id, "a bound version has another run"
    declared = [(v.model, v.tags["mlops.version"]) for v in store.versions.values()]
    assert len(set(declared)) == len(declared), "a version was registered twice"


@thorough
@given(cases(name="1", healthy=True), cases(name="2", healthy=True))
def test_aliases_are_those_that_git_asks_for_and_no_others(first: Case, second: Case) -> None:
    second = Case(replace(second.desired, prune_refused=None), second.datasets)
    store = Memory()
    settle(first, store)
    settle(second, store)
    planned = store.plan(second)
    wanted: dict[tuple[str, str], int] = {}
    blocked = set()
    for made in planned.assessments.values():
        if made.key.kind != "Promotion":
            continue
        promotion: Any = second.desired.resources[made.key]
        stage: Any = second.desired.resources[key(f"Stage/{promotion.spec.stage}")]
        model: Any = second.desired.resources[key(f"Model/{promotion.spec.model}")]
        place = (model.spec.registered_name or promotion.spec.model, stage.spec.alias or stage.metadata.name)
        if made.blocks:
            blocked.add(place)
        else:
            wanted[place] = made.status["mlflowVersion"]
    held = {(m.name, alias): n for m in store.models.values() for alias, n in m.aliases.items()}
    assert {place: number for place, number in held.items() if place not in blocked} == wanted


@thorough
@given(cases(name="1", healthy=True), st.data())
def test_what_is_changed_by_hand_is_put_back(case: Case, data: st.DataObject) -> None:
    store = Memory()
    settle(case, store)
    before = store.ledger()
    for name, model in before.models.items():
        hand = data.draw(st.sampled_from(["description", "tag", "alias", "nothing"]))
        if hand == "description":
            store.update_model(name, description="mine", tags={})
        elif hand == "tag":
            store.update_model(name, description=None, tags={"mlops.resource": "Model/other", "domain": "x"})
        elif hand == "alias" and model.aliases:
            store.delete_alias(name, data.draw(st.sampled_from(sorted(model.aliases))))
    for model, number in before.versions:
        tag = data.draw(st.sampled_from([None, "mlops.digest", "mlops.fingerprint", "mlops.version"]))
        if tag is not None:
            store.tag_version(model, number, {tag: None})
    for one in before.experiments.values():
        if "/" in one.name and data.draw(st.booleans()):
            store.update_experiment(one.experiment_id, tags={"mlops.project": "other"})
    settle(case, store)
    tags_that_say_so = {v: dict(store.versions[v].tags) for v in before.versions}
    assert tags_that_say_so == {v: dict(one.tags) for v, one in before.versions.items()}
    assert {m.name: m.aliases for m in store.models.values()} == {
        m.name: m.aliases for m in before.models.values()
    }
