"""The walk over a plan's steps: order, shares of what is limited, and what a failure stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.applying.walk import Claim, walk
from mlops.errors import Stalled
from mlops.planning.plan import Step
from mlops.planning.work import DeleteVersion


def step(name: str, *needs: str) -> Step:
    return Step(name, f"Model/{name}", "update", "a test", DeleteVersion(name, 1), (), needs)


def most_at_once(steps: list[Step], claims: Callable[[Step], tuple[Claim, ...]]) -> int:
    lock = threading.Lock()
    now, most = 0, 0

    def execute(_: Step) -> Outcome:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return Done()

    assert len(walk(steps, execute, claims)) == len(steps)
    return most


def test_a_step_comes_after_all_it_needs() -> None:
    done: list[str] = []

    def execute(step: Step) -> Outcome:
        done.append(step.id)
        return Done()

    walk([step("c", "a", "b"), step("a"), step("b", "a"), step("d", "gone")], execute, lambda _: ())
    assert set(done) == {"a", "b", "c", "d"}
    assert done.index("a") < done.index("b") < done.index("c")


def test_a_share_bounds_how_many_run_at_once() -> None:
    steps = [step(f"s{n}") for n in range(12)]
    assert most_at_once(steps, lambda _: (Claim("x", 1, 3),)) == 3
    assert most_at_once(steps, lambda _: (Claim("x", 0.5, 1),)) == 2
    assert most_at_once(steps, lambda s: (Claim(s.id, 1, 1), Claim("all", 1, 4))) == 4


def test_a_step_that_asks_for_more_than_there_is_runs_alone() -> None:
    assert most_at_once([step(f"s{n}") for n in range(4)], lambda _: (Claim("x", 8, 2),)) == 1


def test_a_failure_blocks_what_needs_it_and_nothing_else() -> None:
    def execute(step: Step) -> Outcome:
        return Failed(Stalled("broken")) if step.id == "a" else Done()

    outcomes = walk([step("a"), step("b", "a"), step("c", "b"), step("d")], execute, lambda _: ())
    assert isinstance(outcomes["b"], Blocked)
    assert "broken" in outcomes["b"].block.message
    assert isinstance(outcomes["c"], Blocked)
    assert isinstance(outcomes["d"], Done)


def test_what_waits_for_a_job_left_running_is_left_too() -> None:
    def execute(step: Step) -> Outcome:
        return Left("goes on") if step.id == "a" else Done()

    assert isinstance(walk([step("a"), step("b", "a")], execute, lambda _: ())["b"], Left)


def test_a_thousand_independent_steps_are_quick_to_order() -> None:
    steps = [step(f"s{n}") for n in range(3000)]
    outcomes = walk(steps, lambda _: Done(), lambda s: (Claim(s.id, 1, 1), Claim("all", 1, 8)))
    assert len(outcomes) == 3000
