"""Alerts of a policy on a real project, to a real server on loopback: one a transition, and never in the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forking import Forks
from git_project import document
from monitored import SHIFT, Watched, documents, policy

sys.path.append(str(Path(__file__).parents[1] / "notifying"))

from loopback_service import Service, serving

ALERTING = policy(actions=[{"on": ["inputs"], "alert": ["team"]}])


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as served:
        yield served
        served.released.set()


def notifier(*urls: str) -> dict[str, Any]:
    return document("Notifier", "team", {"urls": list(urls)})


def states(it: Watched) -> list[str]:
    return [state for _, _, state in it.actions()]


def test_people_are_told_once_that_a_check_fired_and_once_that_it_cleared(
    tmp_path: Path, forks: Forks, empty_store: Path, service: Service
) -> None:
    declared = documents(ALERTING, notifier(service.url("team")))
    it = Watched.make(tmp_path / "project", forks, declared, store=empty_store, days=3)
    it.apply()
    assert service.got == []
    for day in range(3, 6):
        it.score(day, SHIFT)
    it.apply()
    it.apply()
    (fired,) = service.reached("team")
    assert "inputs" in fired["title"] + fired["message"]
    assert "watch" in fired["title"] + fired["message"]
    assert states(it) == ["sent"]
    for day in range(6, 11):
        it.score(day)
    it.apply()
    assert len(service.reached("team")) == 2
    it.at_rest()
    it.lose_state()
    it.apply()
    assert it.run("monitor", "run").code == 0
    assert len(service.reached("team")) == 2
    assert states(it) == ["sent", "sent"]


def test_firings_of_the_past_are_told_to_nobody(
    tmp_path: Path, forks: Forks, empty_store: Path, service: Service
) -> None:
    declared = documents(ALERTING, notifier(service.url("team")))
    it = Watched.make(tmp_path / "project", forks, declared, store=empty_store, days=10)
    for day in range(2, 5):
        it.score(day, SHIFT)
    it.apply()
    assert service.got == []
    assert states(it) == ["past", "past"]
    it.at_rest()


def test_a_service_that_hangs_or_refuses_ends_no_apply_and_is_tried_again(
    tmp_path: Path, forks: Forks, empty_store: Path, service: Service
) -> None:
    service.answers = {"hangs": ["hang"], "refuses": [500, 500, 200]}
    declared = documents(ALERTING, notifier(service.url("hangs"), service.url("refuses")))
    it = Watched.make(tmp_path / "project", forks, declared, store=empty_store, days=3)
    for day in range(3, 6):
        it.score(day, SHIFT)
    apply = it.forks.start("mlops", str(it.root), "apply")
    assert service.hanging.acquire(timeout=90)
    assert len(it.told()) == 5  # by the time people are told, everything else is done
    service.released.set()
    ended = apply.wait()
    assert ended.code == 0, ended.stderr
    assert states(it) == ["pending"]
    assert len(it.stored("outbox")) == 2
    assert len(service.reached("refuses")) == 1
    it.at_rest()
