"""The daemon watches: new data is evaluated, proposals are trained beside the loop, people are told, all of it once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "notifying"))

from forking import Forks
from git_project import document
from loopback_service import Service, serving
from monitored import SHIFT, Watched, documents, policy
from running import HURRIED, Daemons, until

AGAIN = {**HURRIED, "notifying.rows._FIRST": 0.5}


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as served:
        yield served
        served.released.set()


@pytest.fixture
def make(tmp_path: Path, forks: Forks, empty_store: Path) -> Callable[..., Watched]:
    """Makes a project of three quiet days that looks for data every second."""

    def made(*more: Any) -> Watched:
        it = Watched.make(tmp_path / "project", forks, documents(*more), store=empty_store, days=3)
        it.project.write(
            "mlops.yaml", yaml.safe_dump(document("Project", "p", {"source": {"interval": "1s"}}))
        )
        it.project.commit("look often")
        return it

    return made


def drift(it: Watched) -> None:
    for day in range(3, 6):
        it.score(day, SHIFT)


def test_new_data_is_evaluated_and_told_once_by_a_service_that_first_refuses(
    make: Callable[..., Watched], daemons: Daemons, service: Service
) -> None:
    service.answers = {"team": [500, 200], "hangs": ["hang"]}
    it = make(
        policy(schedule="1s", actions=[{"on": ["inputs"], "alert": ["team"]}]),
        document("Notifier", "team", {"urls": [service.url("hangs"), service.url("team")]}),
    )
    daemon = daemons.fork(it.root, changed=AGAIN)
    daemon.tells("Promoted", resource="Promotion/m-prod")
    daemon.tells("Monitored", resource="MonitoringPolicy/watch")
    daemon.rests()
    daemon.mark()
    drift(it)
    daemon.tells("Monitored", resource="MonitoringPolicy/watch")
    assert service.hanging.acquire(timeout=60)
    daemon.mark()
    it.project.client.delete_registered_model_alias("m", "prod")
    daemon.tells("Healed", resource="Promotion/m-prod")  # while a service hangs
    until(lambda: len(service.reached("team")) == 2, lambda: f"it is not tried again\n{daemon}")
    service.released.set()
    assert daemon.stop() == 0
    assert daemons.get(it.root)["resources"]["MonitoringPolicy/watch"]["status"]["verdict"] == "Degraded"
