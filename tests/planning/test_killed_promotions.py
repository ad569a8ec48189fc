"""An apply killed before any of its writes to the registry: the next one ends where an undisturbed one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from revisions import Case, desired, experiment, resource, revision
from store_in_memory import Memory

WRITES = ("create_version", "tag_version", "move_alias", "delete_alias", "delete_version", "write_artifact")


class Killed(BaseException):
    """What no `except Exception` catches."""


def case(number: str | None, alias: str = "dev") -> Case:
    source = {"experiment": "fit", "artifact": "model"}
    versions = [
        resource("ModelVersion", f"m-{n}", {"model": "m", "version": n, "source": source})
        for n in ("1.0.0", "2.0.0")
    ]
    asked = {"model": "m", "stage": "dev", "version": number}
    promotions = [resource("Promotion", "m-dev", asked)] if number else []
    declared = [experiment(), resource("Model", "m"), *versions, resource("Stage", "dev", {"alias": alias})]
    told = revision(f"{number} {alias}")
    return Case(desired(*declared, *promotions, revision=told), {})


def killed(store: Memory, wanted: Case, before: int) -> bool:
    """Apply, and be killed before the write of this number; False when there are fewer."""
    seen = 0

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen > before:
                raise Killed
            return write(*arguments, **named)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(store, name, counted(getattr(store, name)))
        try:
            store.apply(wanted)
        except Killed:
            return True
    return False


@pytest.mark.parametrize(
    ("first", "then", "aliases"),
    [
        ((None, "dev"), ("1.0.0", "dev"), {"dev": 1}),
        (("1.0.0", "dev"), ("2.0.0", "dev"), {"dev": 2}),
        (("1.0.0", "dev"), (None, "dev"), {}),
        (("1.0.0", "dev"), ("1.0.0", "champion"), {"champion": 1}),
        (("1.0.0", "dev"), ("2.0.0", "champion"), {"champion": 2}),
    ],
    ids=["first", "next", "demoted", "renamed", "next-renamed"],
)
def test_a_killed_promotion_ends_in_the_same_state(
    first: tuple[str | None, str], then: tuple[str | None, str], aliases: dict[str, int]
) -> None:
    before, was_killed = 0, True
    while was_killed:
        store = Memory()
        store.apply(case(*first))
        was_killed = killed(store, case(*then), before)
        if was_killed:
            store.apply(case(*then))
        plan = store.plan(case(*then)).plan
        assert (plan.steps, plan.blocked) == ((), ()), before
        assert store.models["m"].aliases == aliases, before
        before += 1
    assert before > 1
