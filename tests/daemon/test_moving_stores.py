"""A commit that names other stores, or renames the project: the daemon goes there, and leaves nothing held."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven import MINUTE, DrivenDaemon
from git_project import GitProject, document

from mlops.daemon import requests
from mlops.errors import Waiting

Make = Callable[..., GitProject]
MODEL = [document("Model", "m", {"description": "A model"})]


def declare(project: GitProject, name: str = "p", **settings: Any) -> str:
    """Commit another Project."""
    settings = {"source": {"interval": "1h"}, **settings}
    project.write("mlops.yaml", yaml.safe_dump(document("Project", name, settings)))
    return project.commit()


def leases(database: Path) -> dict[str, bool]:
    """The projects that were ever led by this state, and whether somebody leads them."""
    with closing(sqlite3.connect(database)) as opened:
        rows = opened.execute("SELECT project, owner <> '' FROM mlops_lease").fetchall()
    return {project: bool(led) for project, led in rows}


def test_a_commit_that_names_other_stores_is_carried_out_there_under_their_lease(make_project: Make) -> None:
    project = make_project(MODEL)
    daemon = DrivenDaemon(project.root)
    there = {"tracking": {"uri": "sqlite:///.mlops/there.db"}, "state": {"uri": "sqlite:///.mlops/new.db"}}
    led: list[dict[str, bool]] = []

    def look() -> None:
        led.extend(leases(project.root / ".mlops" / name) for name in ("state.db", "new.db"))

    daemon.life.at(5 * MINUTE, lambda: declare(project, **there))
    daemon.life.at(6 * MINUTE, look)
    daemon.run(7 * MINUTE)
    assert led == [{"p": False}, {"p": True}]
    assert daemon.told.passes[-1].result == "changed"
    with closing(sqlite3.connect(project.root / ".mlops/there.db")) as moved:
        assert moved.execute("SELECT name FROM registered_models").fetchall() == [("m",)]


def test_a_project_is_led_by_the_name_that_it_has(make_project: Make) -> None:
    project = make_project([])
    daemon = DrivenDaemon(project.root)
    led: list[dict[str, bool]] = []
    daemon.life.at(5 * MINUTE, lambda: declare(project, "q"))
    daemon.life.at(6 * MINUTE, lambda: led.append(leases(project.root / ".mlops/state.db")))
    daemon.run(7 * MINUTE)
    assert led == [{"p": False, "q": True}]
    assert daemon.told.events[-1].resource == "Project/q"


def test_training_for_a_commit_that_names_other_stores_is_refused(make_project: Make) -> None:
    project = make_project(MODEL)
    project.git("checkout", "-q", "-b", "beside")
    asked = declare(project, tracking={"uri": "sqlite:///.mlops/there.db"})
    project.git("checkout", "-q", "main")
    daemon = DrivenDaemon(project.root)
    answers: list[Any] = []
    ids: list[str] = []

    def ask() -> None:
        wish: dict[str, Any] = {"report": True, "revision": asked, "train": ()}
        ids.append(requests.ask(daemon.controller.state, by="a test", now=daemon.time.now(), **wish).id)

    daemon.life.at(5 * MINUTE, ask)
    daemon.life.at(6 * MINUTE, lambda: answers.append(requests.answer_to(daemon.controller.state, ids[0])))
    daemon.run(7 * MINUTE)
    assert "names other stores" in answers[0]["problem"]
    assert daemon.told.results["failed"] == 0


def test_a_variable_that_a_commit_names_is_masked_from_then_on(
    make_project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_LICENCE", "hunter-hunter-2")
    project = make_project(MODEL)
    daemon = DrivenDaemon(project.root)
    daemon.life.at(5 * MINUTE, lambda: declare(project, variables=["OUR_LICENCE"]))
    documents = [document("Model", "m", {"description": "hunter-hunter-2"})]
    daemon.life.at(6 * MINUTE, lambda: project.declare(documents))
    daemon.life.at(6 * MINUTE, project.commit)
    daemon.run(7 * MINUTE)
    told = [event.message for event in daemon.told.events if event.resource == "Model/m"]
    assert any("description: A model → ***" in message for message in told), told
    assert "hunter" not in str(told)


def test_stores_that_a_variable_hides_are_opened_once_a_commit_names_others(make_project: Make) -> None:
    project = make_project(
        MODEL, tracking={"uri": "${NOBODY_HAS_SET_THIS}"}, variables=["NOBODY_HAS_SET_THIS"]
    )
    daemon = DrivenDaemon(project.root)
    daemon.life.at(5 * MINUTE, lambda: declare(project))
    daemon.run(7 * MINUTE)
    assert "NOBODY_HAS_SET_THIS" in daemon.told.outages[0][2]
    assert daemon.told.passes[-1].result == "changed"


def test_what_stands_in_stores_that_are_not_open_is_waited_for(make_project: Make) -> None:
    daemon = DrivenDaemon(make_project(MODEL).root)
    for store in ("state", "tracker"):
        with pytest.raises(Waiting):
            getattr(daemon.controller, store)
    daemon.controller.close()
