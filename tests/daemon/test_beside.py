"""A job of ten minutes beside the loop delays nothing, outlives the daemon, and ends when nobody wants it."""

from __future__ import annotations

import os
from signal import SIGINT, SIGKILL

from long_job import Long, lives
from running import HURRIED, Daemons, in_stage, until

LOOKING = {**HURRIED, "daemon.term.LATER": 0.5}  # at jobs that no step waits for


def test_a_long_job_delays_neither_a_promotion_nor_a_heal_nor_the_end(long: Long, daemons: Daemons) -> None:
    root = long.project.root
    daemon = daemons.fork(root)
    pid = long.begins(daemon)
    daemon.tells("Promoted", resource="Promotion/m-dev")

    daemon.mark()
    sha = long.commit(dev="2.0.0")
    daemon.tells("Promoted", resource="Promotion/m-dev", revision=sha)
    assert daemons.get(root)["revision"] == sha
    daemon.mark()
    long.project.client.delete_registered_model_alias("m", "dev")
    daemon.tells("Healed", resource="Promotion/m-dev")
    assert in_stage(root) == "2.0.0"
    row = daemons.get(root)["resources"]["Experiment/long"]
    assert (row["sync"], row["health"]) == ("OutOfSync", "Progressing")
    assert daemon.stop() == 0
    assert lives(pid)
    assert long.runs == ["RUNNING"]

    daemon = daemons.fork(root)
    following = daemons.start(root, "logs", "Experiment/long", "-f")
    until(lambda: "the long job has begun" in following.stdout, lambda: following.stderr)
    daemon.tells("Begun", resource="Experiment/long")
    (long.place / "speak").touch()
    until(lambda: "it was spoken to" in following.stdout, lambda: following.stderr)
    assert (long.pids, lives(pid)) == ([pid], True)

    daemon.mark()
    long.commit(dev="1.0.0")
    daemon.tells("Promoted", resource="Promotion/m-dev")
    (long.place / "released").touch()
    daemon.tells("Trained", resource="Experiment/long", message="rmse = 1")
    until(lambda: long.runs == ["FINISHED"], "its run is finished")
    ended = following.wait()
    assert (ended.code, ended.stdout.count("the long job has begun")) == (0, 1), ended.stderr
    assert long.pids == [pid]


def test_a_job_that_a_new_commit_does_not_want_is_ended_and_that_is_said(
    long: Long, daemons: Daemons
) -> None:
    root = long.project.root
    daemon = daemons.fork(root)
    first = long.begins(daemon)
    sha = long.commit(parameters={"epochs": 2})
    daemon.tells("Cancelled", resource="Experiment/long", revision=sha)
    second = long.begins(daemon, 2)
    until(lambda: not lives(first), "the job that nobody wants ends")
    until(lambda: long.runs == ["KILLED", "RUNNING"], lambda: f"{long.runs}\n{daemon}")
    assert lives(second)
    described = daemons.run(root, "describe", "Experiment/long")
    assert "Cancelled" in described.stdout

    sha = long.commit(wanted=False)
    daemon.tells("Cancelled", resource="Experiment/long", revision=sha)
    until(lambda: not lives(second), "the job that nobody wants ends")
    until(lambda: long.runs == ["KILLED", "KILLED"], lambda: f"{long.runs}\n{daemon}")
    daemon.rests()
    assert "failed" not in {row["result"] for row in daemon.told("Pass")}


def test_a_job_is_ended_that_a_commit_ruled_out_while_no_daemon_ran(long: Long, daemons: Daemons) -> None:
    root = long.project.root
    daemon = daemons.fork(root)
    first = long.begins(daemon)
    daemon.tells("Promoted")
    assert daemon.stop(SIGKILL) == -SIGKILL
    sha = long.commit(wanted=False, dev="2.0.0")
    daemon = daemons.fork(root)
    daemon.tells("Promoted", resource="Promotion/m-dev", revision=sha)
    daemon.tells("Cancelled", resource="Experiment/long", revision=sha)
    until(lambda: not lives(first), "the job that nobody wants ends")
    until(lambda: long.runs == ["KILLED"], lambda: f"{long.runs}\n{daemon}")

    sha = long.commit(parameters={"epochs": 3}, dev="2.0.0")
    second = long.begins(daemon, 2)
    assert daemon.stop(SIGINT) == 0
    assert lives(second)
    daemon = daemons.fork(root, "--stop-jobs")
    daemon.tells("Progress", resource="Experiment/long")  # it waits for the job
    assert daemon.stop() == 0
    until(lambda: not lives(second), "it ends with the daemon")
    assert long.pids == [first, second]
    daemon = daemons.fork(root)
    third = long.begins(daemon, 3)
    assert lives(third)


def test_a_job_that_was_suspended_while_no_daemon_ran_goes_on_and_its_run_is_closed(
    long: Long, daemons: Daemons
) -> None:
    daemon = daemons.fork(long.project.root)
    pid = long.begins(daemon)
    daemon.tells("Promoted")
    assert daemon.stop(SIGKILL) == -SIGKILL
    sha = long.commit(spec={"suspend": True}, dev="2.0.0")
    daemon = daemons.fork(long.project.root, changed=LOOKING)
    daemon.tells("Promoted", resource="Promotion/m-dev", revision=sha)
    daemon.mark()
    daemon.tells("Pass", message="retry")  # it looks at the job, and leaves it
    assert (lives(pid), long.runs) == (True, ["RUNNING"])
    (long.place / "released").touch()
    until(lambda: long.runs == ["FINISHED"], lambda: f"{long.runs}\n{daemon}")
    assert long.pids == [pid]
    assert daemon.told("Begun", resource="Experiment/long") == []


def test_a_job_that_fails_while_it_is_suspended_is_tried_again_once_it_is_resumed(
    long: Long, daemons: Daemons
) -> None:
    long.commit(spec={"retries": 3})
    daemon = daemons.fork(long.project.root, changed=LOOKING)
    pid = long.begins(daemon)
    sha = long.commit(spec={"retries": 3, "suspend": True}, dev="2.0.0")
    daemon.tells("Promoted", resource="Promotion/m-dev", revision=sha)
    os.kill(pid, SIGKILL)
    until(lambda: long.runs == ["FAILED"], lambda: f"{long.runs}\n{daemon}")
    daemon.rests()
    assert (long.runs, long.pids) == (["FAILED"], [pid])
    long.commit(spec={"retries": 3}, dev="2.0.0")
    assert lives(long.begins(daemon, 2))
