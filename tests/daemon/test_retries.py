"""When what failed is tried again: by the type of its failure, longer each time, and at once when something changes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.daemon.retries import FIRST, LONGEST, Retries, backoff
from mlops.errors import Defect, MlopsError, Stalled, Transient, Waiting
from mlops.planning.plan import Block, Change, Plan, Step
from mlops.planning.work import DeleteVersion
from mlops.state import LeaseLost

STEP = Step("heal/Model/m", "Model/m", "heal", "somebody changed it", DeleteVersion("m", 1))
GONE = Failed(Transient("the store is away"))
BLOCKED = Blocked(Block("Model/m", "Ready", "ArtifactMissing", "it is not there yet"))


def plan(*steps: Step, revision: str = "a" * 40) -> Plan:
    return Plan(revision, None, steps, ())


def noted(*outcomes: Outcome, now: float = 0.0) -> Retries:
    """What is remembered of a step that came to these ends, all at the same moment."""
    retries = Retries()
    for outcome in outcomes:
        retries.note(STEP, "a" * 40, outcome, now)
    return retries


def rests(retries: Retries, now: float, of: Plan | None = None) -> bool:
    return STEP.id in retries.resting(of or plan(STEP), now)


def test_pauses_double_from_ten_seconds_to_ten_minutes() -> None:
    pauses = [backoff(failures, lambda low, high: 1.0) for failures in range(1, 10)]
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert backoff(10_000, lambda low, high: 1.0) == LONGEST


def test_a_pause_is_up_to_a_fifth_longer_or_shorter_so_that_not_all_come_back_at_once() -> None:
    random.seed(7)
    pauses = [backoff(1) for _ in range(2000)]
    assert 0.8 * FIRST <= min(pauses) < 0.81 * FIRST
    assert 1.19 * FIRST < max(pauses) <= 1.2 * FIRST


@pytest.mark.parametrize(
    "outcome",
    [GONE, Failed(Waiting("somebody else trains it")), Failed(MlopsError("it is not said which")), BLOCKED],
    ids=["transient", "waiting", "untyped", "blocked"],
)
def test_what_may_go_by_itself_is_tried_again_after_a_pause(outcome: Outcome) -> None:
    retries = noted(outcome, now=100.0)
    assert rests(retries, 100 + 0.8 * FIRST - 0.1)
    assert not rests(retries, 100 + 1.2 * FIRST)


def test_each_failure_in_a_row_makes_the_pause_longer() -> None:
    retries = noted(GONE, GONE, BLOCKED, GONE)
    assert retries.rests[STEP.id].failures == 4
    assert rests(retries, 0.8 * 8 * FIRST - 0.1)
    assert not rests(retries, 1.2 * 8 * FIRST)


@pytest.mark.parametrize(
    "error", [Stalled("a gate has failed"), Defect("KeyError: 'x'")], ids=["stalled", "defect"]
)
def test_what_needs_a_human_is_not_tried_again_by_itself(error: MlopsError) -> None:
    retries = noted(Failed(error))
    assert rests(retries, 10 * 365 * 86_400.0)
    assert retries.due(0.0) is None


def test_a_step_that_changed_is_tried_at_once() -> None:
    other = replace(STEP, changes=(Change("description", "x", "y"),))
    for outcome in (GONE, Failed(Stalled("a human is needed"))):
        assert rests(noted(outcome), 1.0)
        assert not rests(noted(outcome), 1.0, plan(other))


def test_another_revision_tries_everything_at_once() -> None:
    for outcome in (GONE, Failed(Stalled("a human is needed"))):
        assert not rests(noted(outcome), 1.0, plan(STEP, revision="b" * 40))


def test_a_changed_step_that_fails_again_goes_on_counting() -> None:
    retries = noted(GONE, GONE)
    retries.note(STEP, "b" * 40, GONE, 0.0)
    assert retries.rests[STEP.id].failures == 3
    assert rests(retries, 1.0, plan(STEP, revision="b" * 40))


@pytest.mark.parametrize("outcome", [Done(), Left("the job goes on")], ids=["done", "left"])
def test_a_success_forgets_the_failures_before_it(outcome: Outcome) -> None:
    retries = noted(GONE, GONE, GONE, outcome)
    assert not rests(retries, 0.0)
    assert retries.due(0.0) is None
    retries.note(STEP, "a" * 40, GONE, 0.0)
    assert retries.rests[STEP.id].failures == 1


def test_a_lost_lease_says_nothing_about_the_step() -> None:
    retries = noted(Failed(LeaseLost("another process took it")))
    assert not rests(retries, 0.0)
    assert noted(GONE, Failed(LeaseLost("another process took it"))).rests[STEP.id].failures == 1


def test_a_step_that_no_plan_holds_any_more_is_forgotten() -> None:
    retries = noted(GONE, GONE)
    assert retries.resting(plan(), 0.0) == {}
    assert retries.rests == {}
    retries.note(STEP, "a" * 40, GONE, 0.0)
    assert retries.rests[STEP.id].failures == 1


def test_somebody_who_asks_has_everything_tried_again() -> None:
    retries = noted(Failed(Stalled("a human is needed")))
    retries.clear()
    assert not rests(retries, 0.0)


def test_the_first_that_comes_due_is_told_and_one_whose_turn_was_had_is_not() -> None:
    retries = noted(GONE)  # due in ten seconds
    later = replace(STEP, id="later")
    for _ in range(3):
        retries.note(later, "a" * 40, GONE, 0.0)  # due in forty
    first, second = retries.rests[STEP.id].until, retries.rests["later"].until
    assert retries.due(0.0) == first
    assert first is not None
    assert retries.due(first) == second  # a pass at that moment has begun what was due
    assert retries.due(1000.0) is None
