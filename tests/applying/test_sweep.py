"""Runs that nobody waits for any more: one that cannot be closed keeps no other from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlops.applying.sweep import sweep
from mlops.applying.train import ORIGIN
from mlops.errors import Stalled
from mlops.execution.local import LocalExecutor
from mlops.observation.observed import Ledger, Observed, ObservedRun
from mlops.planning.runs import FINGERPRINT, OUTCOME
from mlops.state import LeaseLost


def world(tmp_path: Path, closed: list[str], error: Exception) -> Any:
    """Two open runs of this home that no trial asks for; the first of them cannot be closed."""
    tags = {FINGERPRINT: "f", ORIGIN: "here"}
    runs = {n: ObservedRun(n, "p/fit", n, "RUNNING", 0, None, tags, {}, {}) for n in ("bad", "good")}

    def terminate(run_id: str, *_: Any, **__: Any) -> None:
        if run_id == "bad":
            raise error
        closed.append(run_id)

    executor = LocalExecutor(tmp_path / "jobs")
    return SimpleNamespace(
        observed=Observed(Ledger(runs=runs), {}),
        planned=SimpleNamespace(plan=SimpleNamespace(steps=()), trials={}),
        executor=lambda name: executor,
        home=tmp_path,
        origin="here",
        busy=set(),
        check_lease=lambda: None,
        tracker=SimpleNamespace(terminate=terminate, tag_run=lambda run_id, tags: None, run=runs.get),
    )


def test_a_run_that_cannot_be_closed_is_told_and_stops_no_other(tmp_path: Path) -> None:
    closed: list[str] = []
    [told] = sweep(world(tmp_path, closed, Stalled("its artifacts are read-only")))
    assert "run bad" in told
    assert "its artifacts are read-only" in told
    assert closed == ["good"]


def test_a_lost_lease_stops_all(tmp_path: Path) -> None:
    closed: list[str] = []
    with pytest.raises(LeaseLost):
        sweep(world(tmp_path, closed, LeaseLost("the lease was lost")))
    assert closed == []


def test_a_run_that_was_closed_since_it_was_observed_is_left_as_it_is(tmp_path: Path) -> None:
    closed: list[str] = []
    around = world(tmp_path, closed, Stalled("it is not reached"))
    seen = around.tracker.run
    around.tracker.run = lambda run_id: replace(
        seen(run_id), tags={**seen(run_id).tags, OUTCOME: "succeeded"}
    )
    assert sweep(around) == ()
    assert closed == []
