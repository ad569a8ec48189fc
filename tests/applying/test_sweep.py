"""Runs that nobody waits for any more: one that cannot be closed keeps no other from it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlops.applying.sweep import sweep
from mlops.applying.train import ORIGIN, wait
from mlops.applying.world import Waits
from mlops.errors import Stalled
from mlops.execution.jobs import JobStatus
from mlops.execution.local import LocalExecutor
from mlops.observation.observed import Ledger, Observed, ObservedRun
from mlops.planning.plan import Step
from mlops.planning.runs import FINGERPRINT, OUTCOME
from mlops.planning.work import DeleteVersion
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


def test_a_run_of_what_a_step_beside_trains_is_left_to_it_whatever_its_id(tmp_path: Path) -> None:
    closed: list[str] = []
    around = world(tmp_path, closed, Stalled("it is not reached"))
    around.busy = {"f"}  # before the step has even made its run
    assert sweep(around) == ()
    assert closed == []


def test_a_job_that_its_experiment_was_suspended_under_is_left_to_its_end(tmp_path: Path) -> None:
    closed: list[str] = []
    around = world(tmp_path, closed, Stalled("it is not reached"))
    states = [SimpleNamespace(run=run) for run in around.observed.ledger.runs.values()]
    around.planned.trials = {"fit": states}  # asked for, and no step goes on with it
    jobs = {"bad": JobStatus("running"), "good": JobStatus("exited", exit_code=0)}
    around.executor = lambda name: SimpleNamespace(poll=jobs.get, jobs=tuple)
    around.unwanted = lambda run: False
    assert sweep(around) == ()
    assert closed == ["good"]


def test_who_lost_the_lease_ends_no_job(tmp_path: Path) -> None:
    ended: list[str] = []

    def lost() -> None:
        raise LeaseLost("the lease was lost")

    around = world(tmp_path, [], Stalled("it is not reached"))
    running = SimpleNamespace(
        poll=lambda run_id: JobStatus("running"), cancel=ended.append, wait=lambda ids, timeout: {}
    )
    around.executor = lambda name: running
    around.unwanted = lambda run: True
    around.check_lease = lost
    with pytest.raises(LeaseLost):
        sweep(around)
    around.stop, around.cancel_jobs, around.waits = threading.Event(), True, Waits()
    around.monotonic = lambda: 0.0
    around.stop.set()
    with pytest.raises(LeaseLost):
        wait(around, Step("s", "r", "train", "", DeleteVersion("m", 1)), running, "bad", 1)  # type: ignore[arg-type]
    assert ended == []
