"""Walk a plan's steps: each after those it needs, independent ones in parallel, none twice.

A step whose need did not come about is blocked, with that need named; the rest goes on.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final

from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.planning.plan import Block, Step

WORKERS: Final = 64  # threads at most; a training step's thread only waits for its job

Lane = tuple[str, int]  # steps of one name share it: at most so many at a time


def walk(
    steps: Iterable[Step], execute: Callable[[Step], Outcome], lane: Callable[[Step], Lane]
) -> Mapping[str, Outcome]:
    """Execute `steps`; gives the outcome of each by its id. `execute` must not raise."""
    order = {step.id: (index, step) for index, step in enumerate(steps)}
    missing = {name: sum(need in order for need in step.needs) for name, (_, step) in order.items()}
    dependents: dict[str, list[str]] = {}
    for name, (_, step) in order.items():
        for need in step.needs:
            if need in order:
                dependents.setdefault(need, []).append(name)
    ready: dict[Lane, list[tuple[int, str]]] = {}
    outcomes: dict[str, Outcome] = {}
    running: dict[Future[Outcome], tuple[str, Lane]] = {}
    busy: Counter[Lane] = Counter()

    def release(name: str) -> None:
        index, step = order[name]
        heapq.heappush(ready.setdefault(lane(step), []), (index, name))

    def settle(name: str, outcome: Outcome) -> None:
        outcomes[name] = outcome
        for dependent in dependents.get(name, ()):
            missing[dependent] -= 1
            if missing[dependent] == 0:
                obstacle = _obstacle(order[dependent][1], outcomes)
                if obstacle is None:
                    release(dependent)
                else:
                    settle(dependent, obstacle)

    for name, count in missing.items():
        if count == 0:
            release(name)
    with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="step") as pool:
        while True:
            for lane_, waiting in ready.items():
                while waiting and busy[lane_] < lane_[1] and len(running) < WORKERS:
                    _, name = heapq.heappop(waiting)
                    busy[lane_] += 1
                    running[pool.submit(execute, order[name][1])] = (name, lane_)
            if not running:
                return outcomes
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, lane_ = running.pop(future)
                busy[lane_] -= 1
                settle(name, future.result())


def _obstacle(step: Step, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """What keeps a step from running now that all it needs has ended, if anything does."""
    for need in step.needs:
        outcome = outcomes.get(need, Done())
        if isinstance(outcome, Left):
            return Left(f"waits for {need}: {outcome.detail}")
        if isinstance(outcome, Failed | Blocked):
            why = outcome.error.what if isinstance(outcome, Failed) else outcome.block.message
            return Blocked(Block(step.resource, "Ready", "DependencyFailed", f"{need}: {why}"))
    return None
