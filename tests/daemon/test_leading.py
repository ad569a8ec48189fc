"""One daemon leads, another stands by and takes over; what an `apply` and a `reconcile` do beside them."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest
from git_project import GitProject, document
from long_job import Long, lives
from running import SHORT, Daemons, declared, in_stage, sight, until


def test_another_daemon_stands_by_says_who_leads_and_goes_on_when_that_one_is_killed(
    long: Long, daemons: Daemons
) -> None:
    root = long.project.root
    leader = daemons.fork(root)
    pid = long.begins(leader)
    leader.tells("Promoted", resource="Promotion/m-dev")
    other = daemons.fork(root)
    assert f"pid {leader.pid}" in other.tells("StandingBy")["message"]
    assert f"pid {leader.pid}" in daemons.get(root)["resources"]["Project/p"]["status"]["holder"]
    sha = long.commit(dev="2.0.0")
    leader.tells("Promoted", resource="Promotion/m-dev", revision=sha)
    other.rests()
    assert not other.told("Pass")

    assert leader.stop(SIGKILL) == -SIGKILL
    sha = long.commit(dev="1.0.0")
    other.tells("Leading")
    other.tells("Promoted", resource="Promotion/m-dev", revision=sha)
    assert f"pid {other.pid}" in daemons.get(root)["resources"]["Project/p"]["status"]["holder"]
    (long.place / "released").touch()
    other.tells("Trained", resource="Experiment/long")
    assert (long.pids, long.runs) == ([pid], ["FINISHED"])


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the state is."""
    if request.param == "sqlite":
        return {"uri": "sqlite:///.mlops/state.db"}
    return {"uri": request.getfixturevalue("cluster").new_schema()}


def test_a_leader_that_was_paused_for_too_long_writes_nothing_more_and_stands_by(
    make_project: Callable[..., GitProject], daemons: Daemons, state: dict[str, Any]
) -> None:
    project = make_project(state=state)
    leader = daemons.fork(project.root, changed=SHORT)
    leader.tells("Promoted", resource="Promotion/m-dev")
    leader.rests()
    other = daemons.fork(project.root, changed=SHORT)
    other.tells("StandingBy")
    leader.send(SIGSTOP)
    project.declare(declared(dev="2.0.0"))
    project.commit()
    other.tells("Leading")
    other.tells("Promoted", resource="Promotion/m-dev")
    other.rests()
    before = sight(project.root)

    leader.mark()
    leader.send(SIGCONT)
    leader.tells("LeaseLost")
    assert f"pid {other.pid}" in leader.tells("StandingBy")["message"]
    assert {row["event"] for row in leader.rows[leader.seen :]} <= {
        "LeaseLost",
        "LeaseReleased",
        "StandingBy",
        "Pass",
    }
    assert sight(project.root) == before
    assert other.stop() == 0
    leader.tells("Leading")
    leader.tells("Pass", message="start")
    assert sight(project.root) == before


def test_an_apply_beside_a_daemon_reports_how_its_revision_went_there(
    long: Long, daemons: Daemons, tmp_path: Path
) -> None:
    project, root = long.project, long.project.root
    (long.place / "released").touch()
    daemon = daemons.fork(root)
    daemon.tells("Leading")
    first = daemons.run(root, "apply")
    assert first.code == 0, first.stderr
    assert f"pid {daemon.pid}" in first.stderr
    assert "by the daemon" in first.stderr
    assert in_stage(root) == "1.0.0"

    old = project.git("rev-parse", "HEAD")
    sha = long.commit(dev="2.0.0")
    again = daemons.run(root, "apply")
    assert (again.code, sha[:12] in again.stderr) == (0, True), again.stderr
    assert in_stage(root) == "2.0.0"
    earlier = daemons.run(root, "apply", "--revision", old)
    assert (earlier.code, "newer revision" in earlier.stderr) == (0, True), earlier.stderr
    project.git("branch", "side")
    project.git("worktree", "add", "-q", str(tmp_path / "side"), "side")
    side = GitProject.at(tmp_path / "side")
    side.declare(declared(dev="1.0.0"))
    aside = daemons.run(root, "apply", "--revision", side.commit())
    assert (aside.code, "follows a branch" in aside.stderr) == (1, True), aside.stderr
    assert in_stage(root) == "2.0.0"

    gated = [*declared(dev="1.0.0", prod="1.0.0")]
    gated[6] = document("Stage", "prod", {"after": "dev", "gates": [{"metric": {"name": "rmse", "max": 1}}]})
    project.declare(gated)
    project.commit()
    blocked = daemons.run(root, "apply")
    assert (blocked.code, "Promotion/m-prod" in blocked.stderr) == (3, True), blocked.stderr
    assert (in_stage(root), in_stage(root, "prod")) == ("1.0.0", None)

    project.declare(declared(dev="1.0.0", parameters={"depth": 1, "exit": 3}))
    project.commit()
    failed = daemons.run(root, "apply")
    assert (failed.code, "exit" in failed.stderr) == (1, True), failed.stderr
    assert len(tries(project)) == 2
    failed = daemons.run(root, "apply")
    assert (failed.code, len(tries(project))) == (1, 2), failed.stderr
    retried = daemons.run(root, "apply", "--retry-stalled")
    assert (retried.code, tries(project)) == (1, ["FINISHED", "FAILED", "FAILED"]), retried.stderr
    daemon.rests()
    assert len(tries(project)) == 3


def tries(project: GitProject) -> list[str]:
    """The status of each run of the quick experiment, oldest first."""
    client = project.client
    found = client.get_experiment_by_name("p/fit").experiment_id
    runs = client.search_runs([found], order_by=["attributes.start_time ASC"])
    return [run.info.status for run in runs]


def test_an_apply_waits_for_the_daemons_training_as_long_as_it_is_told_and_does_it_if_the_daemon_dies(
    long: Long, daemons: Daemons
) -> None:
    root = long.project.root
    daemon = daemons.fork(root)
    pid = long.begins(daemon)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    late = daemons.run(root, "apply", "--timeout", "1s")
    assert (late.code, "has not finished" in late.stderr) == (1, True), late.stderr
    at_once = daemons.run(root, "apply", "--no-wait")
    assert at_once.code == 0, at_once.stderr

    waiting = daemons.start(root, "apply")
    until(lambda: f"pid {daemon.pid}" in waiting.stderr, lambda: waiting.stderr)
    assert daemon.stop(SIGKILL) == -SIGKILL
    (long.place / "released").touch()
    ended = waiting.wait()
    assert ended.code == 0, ended.stderr
    assert (long.pids, long.runs, lives(pid)) == ([pid], ["FINISHED"], False)
    assert "daemon" not in str(daemons.get(root)["resources"]["Project/p"]["status"])


def test_an_apply_that_waited_for_another_one_asks_the_daemon_that_came_before_it(
    long: Long, daemons: Daemons
) -> None:
    root = long.project.root
    first = daemons.start(root, "apply")
    until(lambda: long.pids, lambda: first.stderr)
    waiting = daemons.start(root, "apply")
    until(lambda: f"pid {first.pid}" in waiting.stderr, lambda: waiting.stderr)
    os.kill(waiting.pid, SIGSTOP)
    daemon = daemons.fork(root)
    daemon.tells("StandingBy")
    (long.place / "released").touch()
    assert first.wait().code == 0, first.stderr
    daemon.tells("Leading")
    os.kill(waiting.pid, SIGCONT)
    ended = waiting.wait()
    assert (ended.code, "by the daemon" in ended.stderr) == (0, True), ended.stderr
    assert long.runs == ["FINISHED"]


def test_what_no_daemon_does_names_the_one_that_leads(
    make_project: Callable[..., GitProject], daemons: Daemons
) -> None:
    project = make_project()
    daemon = daemons.fork(project.root)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    short = {"cli.apply.DAEMON_PATIENCE": 1.0}
    for options in (["--target", "Model/m"], ["--working-tree"]):
        ended = daemons.start(project.root, "apply", *options, changed=short).wait()
        assert (ended.code, f"pid {daemon.pid}" in ended.stderr) == (1, True), ended.stderr


def test_a_daemon_that_died_out_of_sight_is_not_waited_for(
    make_project: Callable[..., GitProject], daemons: Daemons
) -> None:
    project = make_project()
    daemon = daemons.fork(project.root, changed=SHORT)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    assert daemon.stop(SIGKILL) == -SIGKILL
    with closing(sqlite3.connect(project.root / ".mlops/state.db")) as database:  # as if on another machine
        [[holder]] = database.execute("SELECT holder FROM mlops_lease").fetchall()
        away = json.dumps(json.loads(holder) | {"boot": "another"})
        database.execute("UPDATE mlops_lease SET holder = ?", [away])
        database.commit()
    project.declare(declared(dev="2.0.0"))
    project.commit()
    ended = daemons.start(project.root, "apply", changed=SHORT).wait()
    assert ended.code == 0, ended.stderr
    assert in_stage(project.root) == "2.0.0"


def test_reconcile_has_the_daemon_look_again_and_says_when_there_is_none(
    make_project: Callable[..., GitProject], daemons: Daemons
) -> None:
    project = make_project()
    nobody = daemons.run(project.root, "reconcile")
    assert (nobody.code, "no daemon leads" in nobody.stderr, "mlops apply" in nobody.stderr) == (
        1,
        True,
        True,
    )
    daemon = daemons.fork(project.root)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()
    daemon.mark()
    asked = daemons.run(project.root, "reconcile")
    assert asked.code == 0, asked.stderr
    daemon.tells("Pass", message="request")
    assert daemon.stop() == 0
    assert daemons.run(project.root, "reconcile").code == 1
