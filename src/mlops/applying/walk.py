"""Walk a plan's steps: each after those it needs, independent ones in parallel, none twice.

A step whose need did not come about is blocked, with that need named; the rest goes on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.planning.plan import Block, Step

WORKERS: Final = 64  # threads at most; a training step's thread only waits for its job


@dataclass(frozen=True, slots=True)
class Claim:
    """A share of something limited that a step takes while it runs; one that asks for too much runs alone."""

    name: str
    amount: float
    capacity: float


Claims = tuple[Claim, ...]


def walk(
    steps: Iterable[Step], execute: Callable[[Step], Outcome], claims: Callable[[Step], Claims]
) -> Mapping[str, Outcome]:
    """Execute `steps`; gives the outcome of each by its id. `execute` must not raise."""
    order = {step.id: (index, step) for index, step in enumerate(steps)}
    missing = {name: sum(need in order for need in step.needs) for name, (_, step) in order.items()}
    dependents: dict[str, list[str]] = {}
    for name, (_, step) in order.items():
        for need in step.needs:
            if need in order:
                dependents.setdefault(need, []).append(name)
    ready: dict[Claims, list[tuple[int, str]]] = {}
    outcomes: dict[str, Outcome] = {}
    running: dict[Future[Outcome], tuple[str, Claims]] = {}
    taken: dict[str, float] = {}

    def release(name: str) -> None:
        index, step = order[name]
        heapq.heappush(ready.setdefault(claims(step), []), (index, name))

    def fits(wanted: Claims) -> bool:
        return len(running) < WORKERS and all(
            not taken.get(claim.name) or taken[claim.name] + claim.amount <= claim.capacity
            for claim in wanted
        )

    def settle(name: str, outcome: Outcome) -> None:
        settled = [(name, outcome)]
        while (
            settled
        ):  # no recursion: a function that refers to itself keeps what it knows until the collector runs
            name, outcome = settled.pop()
            outcomes[name] = outcome
            for dependent in dependents.get(name, ()):
                missing[dependent] -= 1
                if missing[dependent] == 0:
                    obstacle = _obstacle(order[dependent][1], outcomes)
                    if obstacle is None:
                        release(dependent)
                    else:
                        settled.append((dependent, obstacle))

    for name, count in missing.items():
        if count == 0:
            release(name)
    with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="step") as pool:
        while True:
            for wanted, waiting in list(ready.items()):
                while waiting and fits(wanted):
                    _, name = heapq.heappop(waiting)
                    for claim in wanted:
                        taken[claim.name] = taken.get(claim.name, 0) + claim.amount
                    running[pool.submit(execute, order[name][1])] = (name, wanted)
                if not waiting:
                    del ready[wanted]
            if not running:
                return outcomes
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, held = running.pop(future)
                for claim in held:
                    taken[claim.name] = round(taken[claim.name] - claim.amount, 6)
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
