"""Whoever waits for the loop is not kept waiting by what a store puts off, nor taken for dead over a long walk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driven import MINUTE, DrivenDaemon
from git_project import GitProject, document

from mlops.controller import Controller
from mlops.daemon.posting import Posted
from mlops.errors import Transient

Make = Callable[..., GitProject]


def models(count: int) -> list[dict[str, Any]]:
    return [document("Model", f"m{n}", {"description": "A model"}) for n in range(count)]


class Timed(Controller):
    """An engine that knows how long its walks took."""

    def carry_out(self, *arguments: Any, **options: Any) -> Any:
        began = self.monotonic()
        try:
            return super().carry_out(*arguments, **options)
        finally:
            took.append(self.monotonic() - began)


took: list[float] = []


def test_a_step_that_a_store_puts_off_again_and_again_holds_up_no_pass(
    make_project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise Transient("MLflow does not take it")

    monkeypatch.setattr("mlops.tracking.registry.Registry.ensure_model", refused)
    took.clear()
    daemon = DrivenDaemon(make_project(models(1)).root, engine=Timed)
    daemon.run(5 * MINUTE)
    assert len(took) > 3
    assert max(took) < 1.0  # one more try, half a second later; the next pass does the rest
    assert daemon.told.reasons["RegisteredFailed"] > 3


def test_a_loop_whose_walk_goes_on_for_long_is_well(
    make_project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops.tracking.registry import Registry

    unwell: list[str | None] = []
    make = Registry.ensure_model

    def slow(*arguments: Any, **options: Any) -> None:
        unwell.append(posted.unwell())
        daemon.time.pass_by(100.0)
        make(*arguments, **options)

    monkeypatch.setattr(Registry, "ensure_model", slow)
    daemon = DrivenDaemon(make_project(models(30)).root)
    posted = Posted(daemon.daemon)
    daemon.run(100 * MINUTE)
    assert unwell == [None] * 30
    assert daemon.told.results["changed"] == 1
