"""Evidence in plans: asked for once, of what has no evidence yet, and of the very data that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from gated_plan import GATES, declare, evidence, picture

from mlops.observation.observed import Ledger, Observed, ObservedDataset, ObservedVersion
from mlops.planning.context import Options
from mlops.planning.desired import Desired
from mlops.planning.evidence import Evidence, Loading, Scoring
from mlops.planning.planner import Planned, make_plan, only, only_training
from mlops.planning.stays import history
from mlops.resources import Key, Promotion, Stage

DATA = "sha256:" + "d" * 64
SCORING = Scoring("judge", DATA, "y", "regression")


@pytest.fixture(scope="module")
def pair() -> tuple[Desired, Observed]:
    """One model: 1.0.0 in production, 2.0.0 in staging and asked for in production; all evidence is there."""
    desired, observed = picture(gated=True, count=1)
    return desired, observed


def without_evidence(observed: Observed, *runs: str) -> Observed:
    ledger = observed.ledger
    bare = {
        run_id: replace(run, tags={}) if not runs or run_id.endswith(runs) else run
        for run_id, run in ledger.runs.items()
    }
    return replace(observed, ledger=replace(ledger, runs=bare))


def evaluations(planned: Planned) -> dict[str, tuple[str, ...]]:
    """The evaluations of a plan, and which promotions need each."""
    steps = planned.plan.steps
    return {
        step.id: tuple(one.resource for one in steps if step.id in one.needs)
        for step in steps
        if step.action == "evaluate"
    }


def with_canary(desired: Desired) -> Desired:
    """A second stage after staging that asks for the same, and a promotion of the same version to it."""
    more = (
        declare(Stage, "canary", after="staging", gates=GATES[:1]),
        declare(Promotion, "m0000-canary", model="m0000", stage="canary", version="2.0.0"),
    )
    resources = {**desired.resources, **{Key(one.kind, one.metadata.name): one for one in more}}
    return replace(desired, resources=resources)


def test_what_is_known_is_not_evaluated_again(pair: tuple[Desired, Observed]) -> None:
    planned = make_plan(*pair)
    assert evaluations(planned) == {}
    [step] = [step for step in planned.plan.steps if step.action == "promote"]
    shown = {change.field: change.after for change in step.changes}
    assert shown["gates.champion"] == "passed: 10.00% better: rmse 45 against 50 of 1.0.0 on judge"


def test_two_promotions_share_one_evaluation(pair: tuple[Desired, Observed]) -> None:
    desired, observed = with_canary(pair[0]), without_evidence(pair[1])
    planned = make_plan(desired, observed)
    assert evaluations(planned) == {
        "evaluate:m0000-2@judge": ("Promotion/m0000-canary", "Promotion/m0000-production"),
        "evaluate:m0000-1@judge": ("Promotion/m0000-production",),
        "evaluate:m0000-2@signature": ("Promotion/m0000-production",),
    }
    # Who asks for one of the two gets the evidence that it shares, and not the other's move.
    asked = only(planned, {Key("Promotion", "m0000-production")})
    assert len(evaluations(asked)) == 3
    assert [step.resource for step in asked.plan.steps if step.action == "promote"] == [
        "Promotion/m0000-production"
    ]
    training = only_training(planned, ())
    assert {step.action for step in training.plan.steps} == {"evaluate"}


def test_only_what_is_wanting_is_asked_for(pair: tuple[Desired, Observed]) -> None:
    planned = make_plan(pair[0], without_evidence(pair[1], "01"))
    assert list(evaluations(planned)) == ["evaluate:m0000-1@judge"]  # of the champion


def test_data_that_moved_make_all_evidence_of_them_stale(pair: tuple[Desired, Observed]) -> None:
    desired, observed = pair
    now = ObservedDataset("judge", "judge.csv", "sha256:" + "e" * 64)
    planned = make_plan(desired, replace(observed, datasets={"judge": now}))
    assert list(evaluations(planned)) == ["evaluate:m0000-2@judge", "evaluate:m0000-1@judge"]
    later = make_plan(
        desired, replace(observed, datasets={"judge": replace(now, digest="sha256:" + "f" * 64)})
    )
    steps = [next(s for s in one.plan.steps if s.action == "evaluate").to_json() for one in (planned, later)]
    assert steps[0] != steps[1]  # a daemon that rests after one tries the other


def failing(observed: Observed) -> Observed:
    """The challenger could not be loaded."""
    [run_id] = [run_id for run_id in observed.ledger.runs if run_id.endswith("02")]
    version = observed.ledger.versions["m0000", 2]
    made = Evidence(version.tags["mlops.digest"], "model", tuple(SCORING.identity), error="it is broken")
    run = observed.ledger.runs[run_id]
    tags = {**run.tags, made.tag: made.text()}
    runs = {**observed.ledger.runs, run_id: replace(run, tags=tags)}
    return replace(observed, ledger=replace(observed.ledger, runs=runs))


def test_what_could_not_be_judged_is_not_tried_again_unless_somebody_asks(
    pair: tuple[Desired, Observed],
) -> None:
    desired, observed = pair[0], failing(pair[1])
    planned = make_plan(desired, observed)
    assert evaluations(planned) == {}
    [block] = planned.plan.blocked
    assert block.reason == "GateNotAvailable"
    assert "it is broken" in block.message
    again = make_plan(desired, observed, Options(retry_stalled=True))
    [step] = [step for step in again.plan.steps if step.action == "evaluate"]
    assert step.work.again  # type: ignore[union-attr]


def returning(observed: Observed, told: Mapping[str, str]) -> Observed:
    """2.0.0 was in production once; `told` are tags of its run."""
    ledger: Ledger = observed.ledger
    version: ObservedVersion = ledger.versions["m0000", 2]
    stays = history(version.tags, "staging")
    past = stays.closed("2026-01-20T00:00:00.000Z")
    tags: dict[str, Any] = {**version.tags}
    tags |= {name: text for name, text in past.tags("production").items() if text is not None}
    runs = {
        run_id: replace(run, tags={**run.tags, **told}) if run_id.endswith("02") else run
        for run_id, run in ledger.runs.items()
    }
    versions = {**ledger.versions, ("m0000", 2): replace(version, tags=tags)}
    return replace(observed, ledger=replace(ledger, runs=runs, versions=versions))


def test_a_version_that_goes_back_is_loaded_first_and_anew_each_time(pair: tuple[Desired, Observed]) -> None:
    desired, observed = pair
    digest = observed.ledger.versions["m0000", 2].tags["mlops.digest"]
    planned = make_plan(desired, returning(observed, {}))
    assert list(evaluations(planned)) == ["evaluate:m0000-2@loading"]
    since = "2026-01-20T00:00:00.000Z"
    known = evidence(Loading("production", since), digest, 0.0)
    assert evaluations(make_plan(desired, returning(observed, known))) == {}
    before = evidence(Loading("production", "2025-01-01T00:00:00.000Z"), digest, 0.0)
    assert list(evaluations(make_plan(desired, returning(observed, before)))) == ["evaluate:m0000-2@loading"]
    broken = Evidence(digest, "model", tuple(Loading("production", since).identity), error="gone")
    stuck = make_plan(desired, returning(observed, {broken.tag: broken.text()}))
    assert [block.reason for block in stuck.plan.blocked] == ["ModelUnloadable"]


def test_the_same_picture_gives_the_same_plan(pair: tuple[Desired, Observed]) -> None:
    observed = without_evidence(pair[1])
    assert make_plan(pair[0], observed).plan.to_json() == make_plan(pair[0], observed).plan.to_json()


def test_a_plan_says_when_a_soak_passes_and_is_the_same_until_then(pair: tuple[Desired, Observed]) -> None:
    desired, observed = pair
    begun = 1_767_225_600.0  # 2026-01-01, when 2.0.0 came to staging
    early = make_plan(desired, replace(observed, now=begun + 10))
    assert early.wakes_at == begun + 86_400
    assert [block.reason for block in early.plan.blocked] == ["GatePending"]
    later = make_plan(desired, replace(observed, now=begun + 80_000))
    assert later.plan.digest == early.plan.digest
    done = make_plan(desired, replace(observed, now=begun + 86_400))
    assert done.wakes_at is None
    assert [step.action for step in done.plan.steps if step.resource.endswith("-production")] == ["promote"]
