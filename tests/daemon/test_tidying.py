"""What a daemon that lives for months forgets, and what it does not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from driven import DAY, HOUR, DrivenDaemon
from git_project import GitProject, document

from mlops.daemon import requests
from mlops.daemon.loop import Pace
from mlops.state import Event


def rows(project: GitProject, database: str, sql: str) -> list[Any]:
    with closing(sqlite3.connect(project.root / ".mlops" / database)) as opened:
        return opened.execute(sql).fetchall()


def slow_daemon(project: GitProject) -> DrivenDaemon:
    return DrivenDaemon(project.root, pace=Pace(glance=HOUR))


def model(text: str) -> list[dict[str, Any]]:
    return [document("Model", "m", {"description": text})]


def test_a_status_that_does_not_change_is_kept_for_as_long_as_it_stands(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(model("A model"), source={"interval": "12h"})
    daemon = slow_daemon(project)
    daemon.run(70 * DAY)
    status = "SELECT key, value FROM mlops_cache WHERE namespace = 'status'"
    kept = {key.decode(): value for key, value in rows(project, "state.db", status)}
    assert {"Project/p", "Model/m"} <= kept.keys()


def test_files_of_old_commits_are_not_remembered_for_ever(make_project: Callable[..., GitProject]) -> None:
    project = make_project(model("A model"), source={"interval": "12h"})
    daemon = slow_daemon(project)

    def commit() -> None:
        project.declare(model(f"A model on day {daemon.time.monotonic() / DAY:.0f}"))
        project.commit()

    parsed: list[int] = []

    def count() -> None:
        parsed.append(rows(project, "cache.db", "SELECT count(*) FROM mlops_cache")[0][0])

    daemon.life.every(5 * DAY, commit, first=DAY, last=70 * DAY)
    daemon.life.at(35.5 * DAY, count)
    daemon.life.at(69.5 * DAY, count)
    daemon.run(70 * DAY)
    assert parsed[1] <= parsed[0] + 1
    assert 6 <= parsed[1] <= 9


def test_the_events_of_each_resource_are_bounded_while_the_daemon_lives(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(model("A model"), source={"interval": "12h"})
    daemon = slow_daemon(project)

    def happen() -> None:
        now = daemon.time.now()
        daemon.controller.state.add_events(
            [Event(now, "Model/m", "Tried", f"attempt {number}") for number in range(500)]
        )

    daemon.life.at(2 * HOUR, happen)
    daemon.run(5 * HOUR)
    [(count,)] = rows(project, "state.db", "SELECT count(*) FROM mlops_event WHERE resource = 'Model/m'")
    assert count == 100


def test_events_are_kept_as_long_as_the_project_says(make_project: Callable[..., GitProject]) -> None:
    project = make_project(model("A model"), source={"interval": "12h"}, state={"keepEvents": "2d"})
    daemon = slow_daemon(project)
    happened: list[str] = []

    def happen() -> None:
        name = f"on day {daemon.time.monotonic() / DAY:.0f}"
        happened.append(name)
        daemon.controller.state.add_events([Event(daemon.time.now(), "Model/m", "Tried", name)])

    daemon.life.every(DAY, happen, first=DAY, last=9 * DAY)
    daemon.run(9 * DAY)
    kept = "SELECT message FROM mlops_event WHERE reason = 'Tried' ORDER BY position"
    assert [text for (text,) in rows(project, "state.db", kept)] == happened[-2:]


def test_a_clock_that_is_wrong_for_an_hour_costs_no_history(make_project: Callable[..., GitProject]) -> None:
    project = make_project(model("A model"), source={"interval": "12h"}, state={"keepEvents": "2d"})
    daemon = slow_daemon(project)
    daemon.life.at(
        2 * HOUR,
        lambda: daemon.controller.state.add_events([Event(daemon.time.now(), "Model/m", "Tried", "")]),
    )
    for hours, by in ((5.5, 400 * DAY), (7.2, -400 * DAY), (10.5, -400 * DAY), (12.2, 400 * DAY)):
        daemon.life.at(hours * HOUR, lambda by=by: daemon.time.set_wall_clock(by))
    daemon.run(20 * HOUR)
    kept = "SELECT count(*) FROM mlops_event WHERE reason = 'Tried'"
    assert rows(project, "state.db", kept) == [(1,)]


def test_who_asks_for_a_commit_that_never_comes_is_told_so(make_project: Callable[..., GitProject]) -> None:
    daemon = slow_daemon(make_project(model("A model"), source={"interval": "3m"}))
    state = lambda: daemon.controller.state  # noqa: E731
    asked: list[requests.Request] = []
    answers: list[Any] = []

    def ask() -> None:
        wish = {"revision": "f" * 40, "report": True}
        asked.append(requests.ask(state(), by="a test", now=daemon.time.now(), **wish))

    daemon.life.at(HOUR, ask)
    for minutes in (66, 80):
        daemon.life.at(minutes * 60.0, lambda: answers.append(requests.answer_to(state(), asked[0].id)))
    daemon.life.at(1.5 * HOUR, lambda: answers.append(requests.pending(state())))
    daemon.run(2 * HOUR)
    early, late, pending = answers
    assert early is None  # it may yet be fetched
    assert "no commit ffffffffffff" in late["problem"]
    assert pending == ()


def test_a_request_of_another_release_is_refused_and_does_not_stay(
    make_project: Callable[..., GitProject],
) -> None:
    daemon = slow_daemon(make_project(model("A model")))
    left: list[Any] = []

    def ask() -> None:
        daemon.controller.state.put_many(requests.ASKED, {"x": b'{"wish": "fly"}', "y": b"not JSON"})

    def look() -> None:
        left.append(daemon.controller.state.all(requests.ASKED))
        left.append(requests.answer_to(daemon.controller.state, "x"))

    daemon.life.at(HOUR / 2, ask)
    daemon.life.at(3 * HOUR, look)
    daemon.run(4 * HOUR)
    rows, answered = left
    assert rows == {}
    assert "another release" in answered["problem"]
