"""What wakes the loop, and how often it lets itself be woken: time is driven, the rest is real."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from driven import HOUR, MINUTE, DrivenDaemon
from git_project import GitProject, document, experiment

from mlops.controller import Controller
from mlops.daemon import requests, wakeups
from mlops.daemon.loop import Pace
from mlops.daemon.wakeups import Wakeups
from mlops.data import Materialised
from mlops.errors import Transient
from mlops.view import View

MODEL = [document("Model", "m", {"description": "A model"})]


# -- reasons


def test_a_burst_of_reasons_from_many_threads_is_taken_once() -> None:
    waking = Wakeups()
    reasons = (wakeups.REVISION, wakeups.LEDGER, wakeups.ENDED)
    threads = [
        threading.Thread(target=lambda: [waking.wake(reason) for reason in reasons for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waking.take() == set(reasons)
    assert waking.take() == frozenset()


def test_waiting_ends_when_there_is_a_reason_before_or_meanwhile() -> None:
    waking = Wakeups()
    waking.wake(wakeups.REQUEST)
    waking.wait(3600.0)
    waking.take()
    timer = threading.Timer(0.05, waking.wake, (wakeups.ENDED,))
    timer.start()
    waking.wait(3600.0)
    assert waking.take() == {wakeups.ENDED}


def test_a_reason_that_is_put_off_wakes_nobody_and_comes_with_the_next() -> None:
    waking = Wakeups()
    waking.kept.add(wakeups.LEDGER)
    waking.wait(0.01)  # would not come back for a reason
    waking.wake(wakeups.INTERVAL)
    assert waking.take() == {wakeups.LEDGER, wakeups.INTERVAL}
    assert waking.take() == frozenset()


# -- passes


class Engine(Controller):
    """The engine, whose looks take their time and fail as they are told, on a disk that may be full."""

    seconds = 0.0
    failures = 0
    full = False

    def look_for(self, *arguments: Any, **options: Any) -> View:
        self.pause(threading.Event(), self.seconds)
        if self.failures:
            self.failures -= 1
            raise Transient("MLflow does not answer")
        return super().look_for(*arguments, **options)

    def _materialise(self, *arguments: Any) -> Materialised:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._materialise(*arguments)


def daemon_of(project: GitProject, pace: Pace | None = None) -> DrivenDaemon:
    return DrivenDaemon(project.root, pace=pace, engine=Engine)


def engine_of(daemon: DrivenDaemon) -> Engine:
    assert isinstance(daemon.controller, Engine)
    return daemon.controller


def scribble(project: GitProject) -> None:
    """A change in MLflow's database that is none of the project's business."""
    with closing(sqlite3.connect(project.root / ".mlops/mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET last_update_time = coalesce(last_update_time, 0) + 1")


def gaps(moments: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(moments)]


def test_a_burst_is_one_pass_that_knows_all_its_reasons(make_project: Callable[..., GitProject]) -> None:
    project = make_project(MODEL)
    daemon = daemon_of(project)

    def burst() -> None:
        project.commit("one")
        project.commit("two")
        scribble(project)
        for _ in range(100):
            daemon.wakeups.wake(wakeups.WEBHOOK)
            requests.ask(daemon.controller.state, by="a test", now=daemon.time.now())

    daemon.life.at(10 * MINUTE, burst)
    daemon.run(20 * MINUTE)
    late = [one for one in daemon.told.passes if one.at >= 10 * MINUTE]
    assert late[0].reasons >= {wakeups.REVISION, wakeups.WEBHOOK, wakeups.REQUEST, wakeups.LEDGER}
    assert late[1:] == []  # answering them was no reason for another


def test_with_nothing_to_do_a_pass_is_made_every_interval(make_project: Callable[..., GitProject]) -> None:
    daemon = daemon_of(make_project(MODEL, source={"interval": "7m"}), Pace(glance=10.0))
    daemon.run(3 * HOUR)
    idle = [one.at for one in daemon.told.passes if one.reasons == {wakeups.INTERVAL}]
    assert len(idle) in (24, 25)
    assert {round(gap, 3) for gap in gaps(idle)} == {7 * MINUTE}


def test_an_mlflow_that_changes_all_the_time_keeps_the_loop_busy_a_fifth_of_it_at_most(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(MODEL)
    daemon = daemon_of(project)
    engine_of(daemon).seconds = 0.5
    daemon.life.every(0.25, lambda: scribble(project), first=MINUTE, last=3 * MINUTE)
    daemon.run(3 * MINUTE)
    busy = [one.at for one in daemon.told.passes if one.at > MINUTE and one.reasons == {wakeups.LEDGER}]
    assert 120 / 2.5 * 0.8 <= len(busy) <= 120 / 2.5 + 1  # half a second of work, two of rest
    assert min(gaps(busy)) >= 2.5


def test_news_is_never_put_off_while_the_loop_rests(make_project: Callable[..., GitProject]) -> None:
    project = make_project(MODEL)
    daemon = daemon_of(project)
    engine_of(daemon).seconds = 20.0  # a rest of 80 seconds follows each pass

    def news() -> None:
        scribble(project)
        project.commit("news")

    daemon.life.at(10 * MINUTE, lambda: scribble(project))  # a pass, and its rest
    daemon.life.at(10 * MINUTE + 30, news)
    daemon.life.at(20 * MINUTE, lambda: scribble(project))
    daemon.life.at(20 * MINUTE + 30, lambda: daemon.wakeups.wake(wakeups.REQUEST))
    daemon.run(30 * MINUTE)
    late = [one for one in daemon.told.passes if one.at > 9 * MINUTE]
    assert [one.reasons for one in late if one.at < 11.5 * MINUTE] == [
        {wakeups.LEDGER},
        {wakeups.LEDGER, wakeups.REVISION},  # what was put off comes with it
    ]
    began = late[1].at - 40  # a commit is looked at before and after
    assert began < 10 * MINUTE + 30 + 1
    [asked] = [one for one in late if wakeups.REQUEST in one.reasons]
    assert asked.at - 20 < 20 * MINUTE + 30 + 1


def test_a_look_that_failed_is_tried_again_by_itself_longer_apart_each_time(
    make_project: Callable[..., GitProject],
) -> None:
    daemon = daemon_of(make_project(MODEL, source={"interval": "1h"}))
    daemon.life.at(10 * MINUTE, lambda: setattr(daemon.controller, "failures", 6))
    daemon.life.at(10 * MINUTE, lambda: daemon.wakeups.wake(wakeups.WEBHOOK))
    daemon.run(50 * MINUTE)
    told = [pause for at, pause, _ in daemon.told.outages]
    assert len(told) == 6
    for failures, pause in enumerate(told):
        assert 0.8 * 10 * 2**failures <= pause <= 1.2 * 10 * 2**failures
    made = [one for one in daemon.told.passes if one.at >= 10 * MINUTE]
    assert [one.result for one in made[:7]] == ["failed"] * 6 + ["unchanged"]
    for gap, pause in zip(gaps([one.at for one in made[:7]]), told, strict=True):
        assert pause - 0.001 <= gap < pause + 1


def test_during_an_outage_a_change_in_mlflow_is_put_off_and_a_commit_is_not(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(MODEL, source={"interval": "1h"})
    daemon = daemon_of(project)
    daemon.life.at(10 * MINUTE, lambda: setattr(daemon.controller, "failures", 5))
    daemon.life.at(10 * MINUTE, lambda: daemon.wakeups.wake(wakeups.WEBHOOK))
    daemon.life.every(1.0, lambda: scribble(project), first=10 * MINUTE, last=20 * MINUTE)
    daemon.life.at(12 * MINUTE, lambda: project.commit("news"))  # within the pause after the fourth failure
    daemon.run(12 * MINUTE + 10)
    failed = [one for one in daemon.told.passes if one.result == "failed"]
    assert len(failed) == 5
    assert min(gaps([one.at for one in failed[:4]])) >= 8.0  # not once a second
    assert wakeups.REVISION in failed[4].reasons
    assert failed[4].at < 12 * MINUTE + 1


def test_a_repository_that_vanishes_for_a_while_ends_no_thread_that_watches_it(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(MODEL)
    daemon = daemon_of(project)
    git = project.root / ".git"

    def vanish() -> None:
        git.rename(git.with_name("away"))
        daemon.daemon._moved(wakeups.REVISION)  # as the watch tells it; what this raised would end its thread

    daemon.life.at(10 * MINUTE, vanish)
    daemon.life.at(11 * MINUTE, lambda: git.with_name("away").rename(git))
    daemon.life.at(15 * MINUTE, lambda: project.commit("news"))
    daemon.run(20 * MINUTE)
    assert "no git repository" in daemon.told.outages[0][2]
    last = daemon.told.passes[-1]
    assert (last.result, wakeups.REVISION in last.reasons) == ("unchanged", True)


def test_a_retry_that_was_begun_does_not_keep_the_loop_awake_while_it_runs(
    make_project: Callable[..., GitProject], tmp_path: Path
) -> None:
    project = make_project(
        [document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}), experiment()],
        source={"interval": "1h"},
    )
    go = tmp_path / "go"
    project.write("training/train.py", LONG.format(go=str(go)))
    project.commit("a training that waits")
    daemon = daemon_of(project)
    engine_of(daemon).full = True
    daemon.patient = lambda step: engine_of(daemon).full or go.exists()
    daemon.life.at(5.0, lambda: setattr(daemon.controller, "full", False))
    daemon.life.at(30 * MINUTE, go.touch)
    daemon.run(40 * MINUTE)
    assert daemon.told.reasons["TrainedFailed"] in (1, 2)  # the run that was made makes it another step
    assert daemon.told.reasons["Trained"] == 1
    waiting = [one for one in daemon.told.passes if MINUTE < one.at < 30 * MINUTE]
    assert waiting == []


LONG = """\
import json, os, time
while not os.path.exists({go!r}):
    time.sleep(0.01)
json.dump({{"rmse": 1.0}}, open(os.path.join(os.environ["MLOPS_OUTPUT"], "metrics.json"), "w"))
"""
