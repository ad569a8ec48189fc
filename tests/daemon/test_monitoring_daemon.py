"""The daemon watches: new data is evaluated, proposals are trained beside the loop, people are told, all of it once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "notifying"))

from forking import Forks
from git_project import TRAIN, document
from loopback_service import Service, serving
from monitored import SHIFT, Watched, documents, policy, rows
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


def test_a_long_retraining_delays_no_heal_and_a_killed_daemon_goes_on_with_it(
    make: Callable[..., Watched], daemons: Daemons, tmp_path: Path
) -> None:
    retrain = {"experiment": "fit", "datasets": {"train": "recent"}}
    recent = document("Dataset", "recent", {"uri": "data/recent.csv"})
    it = make(recent, policy(schedule="1s", actions=[{"on": ["inputs"], "retrain": retrain}]))
    slow = 'for _ in range(6000):\n    if rows < 900 and not os.path.exists("{0}"): time.sleep(0.1)\n    else: break\n'
    code = TRAIN.replace("import json, os", "import json, time, os") + slow.format(tmp_path / "released")
    it.project.write("training/train.py", code)
    it.project.commit("train slowly what is small")
    daemon = daemons.fork(it.root)
    daemon.tells("Monitored", resource="MonitoringPolicy/watch")
    for day in range(3, 6):
        it.score(day, SHIFT)
    lines = [line for day in range(3, 6) for line in rows(day, SHIFT)]
    (it.root / "data/recent.csv").write_text("t,x,c,y\n" + "\n".join(lines) + "\n")
    daemon.mark()
    daemon.tells("Proposed", resource="MonitoringPolicy/watch")
    daemon.tells("Begun", resource="Experiment/fit")
    it.project.client.delete_registered_model_alias("m", "prod")
    daemon.tells("Healed", resource="Promotion/m-prod")
    daemon.stop(SIGKILL)
    daemon = daemons.fork(it.root)
    daemon.tells("Begun", resource="Experiment/fit")
    (tmp_path / "released").touch()
    daemon.tells("Proposed", resource="MonitoringPolicy/watch", message="review and merge")
    assert daemon.stop() == 0
    assert [len(commits) for commits in it.branches().values()] == [1]
    status = daemons.get(it.root)["resources"]["MonitoringPolicy/watch"]["status"]
    assert [(one["type"], one["state"]) for one in status["actions"]] == [("retrain", "proposed")]
    client = it.project.client
    place = client.get_experiment_by_name("p/monitoring/watch").experiment_id
    keys = [run.data.tags["mlops.evaluation"] for run in client.search_runs([place])]
    assert len(keys) == len(set(keys)) == len(status["windows"]) == 5
