"""`mlops train` beside a daemon: it trains what a pull request asks for, and what is in force goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from git_project import GitProject
from running import Daemons, declared, in_stage, until


@pytest.mark.slow
def test_the_daemon_trains_for_a_pull_request_and_promotes_nothing_of_it(
    make_project: Callable[..., GitProject], daemons: Daemons
) -> None:
    project = make_project()
    daemon = daemons.fork(project.root)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    project.git("checkout", "-q", "-b", "deeper")
    project.declare(declared(dev="2.0.0", parameters={"depth": 4}))
    asked = project.commit("deeper")
    project.git("checkout", "-q", "main")
    daemon.mark()

    trained = daemons.run(project.root, "train", "--revision", asked)
    assert trained.code == 0, trained.stderr
    assert "1 steps done" in trained.stderr
    assert [row["revision"] for row in daemon.told("Trained")] == [asked]
    runs = project.client.search_runs([project.client.get_experiment_by_name("p/fit").experiment_id])
    assert {run.data.tags["mlops.revision"] for run in runs} == {asked, project.git("rev-parse", "HEAD")}
    again = daemons.run(project.root, "train", "--revision", asked)
    assert (again.code, "nothing to change" in again.stderr) == (0, True), again.stderr
    assert in_stage(project.root) == "1.0.0"

    project.git("merge", "-q", "deeper")
    until(lambda: in_stage(project.root) == "2.0.0", lambda: str(daemon))
    assert len(daemon.told("Trained")) == 1
    assert daemon.stop() == 0


@pytest.mark.slow
def test_training_for_a_pull_request_goes_on_while_the_branch_moves_and_nobody_waits(
    make_project: Callable[..., GitProject], daemons: Daemons, tmp_path: Path
) -> None:
    project = make_project()
    daemon = daemons.fork(project.root)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    project.git("checkout", "-q", "-b", "slow")
    project.write("training/train.py", SLOW.format(go=str(tmp_path / "go")))
    asked = project.commit("slow")
    project.git("checkout", "-q", "main")

    left = daemons.run(project.root, "train", "--no-wait", "--revision", asked)
    assert left.code == 0, left.stderr
    project.declare(declared(dev="2.0.0"))
    project.commit("promote another")
    until(lambda: in_stage(project.root) == "2.0.0", lambda: str(daemon))
    (tmp_path / "go").touch()
    daemon.tells("Trained", revision=asked)
    assert daemon.told("Cancelled") == []


SLOW = """\
import json, os, pathlib, time
out = pathlib.Path(os.environ["MLOPS_OUTPUT"])
until = time.monotonic() + 60
while not os.path.exists({go!r}) and time.monotonic() < until:
    time.sleep(0.05)
(out / "metrics.json").write_text(json.dumps({{"rmse": 3.0}}))
(out / "model.txt").write_text("slow")
"""
