"""Two applies at once: one writes, the other waits or says for whom, and the end is that of one apply."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from forking import Fork, Forks, eventually
from git_project import GitProject, clean_environ, experiment, lifecycle

LONG = """\
import json, os, pathlib, time
place = pathlib.Path(os.environ["MLOPS_PARAM_PLACE"])
with (place / "ran").open("a") as ran:
    ran.write("once\\n")
while not (place / "released").exists():
    time.sleep(0.02)
out = pathlib.Path(os.environ["MLOPS_OUTPUT"])
(out / "model.txt").write_text("a model")
json.dump({"rmse": 1.0}, (out / "metrics.json").open("w"))
"""


@pytest.fixture
def long(make_project: Callable[..., GitProject], tmp_path: Path) -> Iterator[GitProject]:
    """A fresh project whose one job waits for the file `released` in `tmp_path`."""
    documents = lifecycle()
    documents[1] = experiment(parameters={"place": str(tmp_path)})
    project = make_project(documents)
    project.write("training/train.py", LONG)
    project.commit()
    yield project
    (tmp_path / "released").touch()


def started(forks: Forks, project: GitProject, place: Path) -> Fork:
    """An apply whose job runs."""
    apply = forks.start("mlops", str(project.root), "apply")
    eventually(lambda: (place / "ran").exists(), apply)
    return apply


def test_two_applies_on_a_fresh_project_come_to_the_end_of_one(
    long: GitProject, forks: Forks, tmp_path: Path
) -> None:
    both = [forks.start("mlops", str(long.root), "apply") for _ in range(2)]
    eventually(lambda: any("waiting for" in apply.stderr for apply in both), both[0])
    (tmp_path / "released").touch()
    ends = [apply.wait() for apply in both]
    assert [end.code for end in ends] == [0, 0], [end.stderr for end in ends]
    assert sorted("Nothing to change" in end.stderr for end in ends) == [False, True]
    assert (tmp_path / "ran").read_text() == "once\n"
    ended = forks.run("finished", str(long.root), "apply")
    assert (ended.code, ended.data["left"]) == (0, 0), ended.stderr
    world = ended.data["world"]
    assert [row[3:6] for row in world["runs"]] == [["FINISHED", "succeeded", "1"]]
    assert [row[4] for row in world["versions"]] == [[["dev", ["lasting"]], ["prod", ["lasting"]]]]


@pytest.mark.slow
def test_two_whole_processes_make_one_store_between_them(tmp_path: Path, forks: Forks) -> None:
    project = GitProject(tmp_path / "project")
    command = [str(Path(sys.executable).with_name("mlops")), "--project", str(project.root), "apply"]
    environ = {**clean_environ(), "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [apply.communicate()[1] for apply in both]
    assert [apply.returncode for apply in both] == [0, 0], said
    ended = forks.run("finished", str(project.root), "apply")
    assert (ended.code, ended.data["left"]) == (0, 0), ended.stderr
    assert [row[3:6] for row in ended.data["world"]["runs"]] == [["FINISHED", "succeeded", "1"]] * 2
    assert len(ended.data["world"]["versions"]) == 1


def test_an_apply_that_waits_no_longer_names_who_writes(
    long: GitProject, forks: Forks, tmp_path: Path
) -> None:
    first = started(forks, long, tmp_path)
    second = forks.run("mlops", str(long.root), "apply", "--timeout", "1s")
    assert second.code == 1
    for part in ("`mlops apply`", f"pid {first.pid}", os.uname().nodename, "--timeout"):
        assert part in second.stderr
    (tmp_path / "released").touch()
    assert first.wait().code == 0, first.stderr


def test_an_apply_takes_over_from_one_that_was_killed(long: GitProject, forks: Forks, tmp_path: Path) -> None:
    first = started(forks, long, tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    (tmp_path / "released").touch()
    second = forks.run("mlops", str(long.root), "apply", "--timeout", "60s")
    assert second.code == 0, second.stderr
    assert (tmp_path / "ran").read_text() == "once\n"


LOSSES = {
    "another took it": "UPDATE mlops_lease SET token = token + 1, owner = 'another'",
    "its row is gone": "DELETE FROM mlops_lease",
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", [*LOSSES, "its file is gone"])
def test_an_apply_that_lost_its_lease_writes_no_more_and_says_so(
    long: GitProject, forks: Forks, tmp_path: Path, loss: str
) -> None:
    apply = started(forks, long, tmp_path)
    state, ledger = long.root / ".mlops/state.db", long.root / ".mlops/mlflow.db"
    if loss in LOSSES:
        with closing(sqlite3.connect(state)) as database:
            database.execute(LOSSES[loss])
            database.commit()
        time.sleep(5)  # it is renewed every 3 seconds, and found to be lost then
    else:
        state.unlink()
    before = written(ledger)
    (tmp_path / "released").touch()
    ended = apply.wait()
    assert ended.code == 1, ended.stderr
    assert "the lease on p was lost" in ended.stderr
    assert written(ledger) == before
    with closing(sqlite3.connect(state)) as database:
        database.execute("UPDATE mlops_lease SET owner = ''")
        database.commit()
    ended = forks.run("finished", str(long.root), "apply")
    assert (ended.code, ended.data["left"]) == (0, 0), ended.stderr
    assert [row[3:6] for row in ended.data["world"]["runs"]] == [["FINISHED", "succeeded", "1"]]
    assert (tmp_path / "ran").read_text() == "once\n"


def written(ledger: Path) -> dict[str, list[object]]:
    """What an apply writes to MLflow."""
    with closing(sqlite3.connect(ledger)) as store:
        return {
            table: store.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("runs", "tags", "params", "metrics", "model_versions", "registered_model_aliases")
        }
