"""`kill -9` of an apply at any of its writes, then apply again: the world is that of an undisturbed apply.

The points are found by counting an undisturbed apply's writes (see `killing`). It is killed before each
commit of MLflow's and of the state's database that changes something, before each rename and replacement
of a file, before every sixth of the other writes (folders, files, removals, processes), and after every
fifth of all these. A daemon is killed at a few of its own, found in the same way; at each of them with
EVERY_CRASH_POINT=1 in the environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forking import Ended, Fork, Forks, eventually
from git_project import GitProject, experiment, lifecycle, promotion, version

TRAIN = """\
import json, os, pathlib
out = pathlib.Path(os.environ["MLOPS_OUTPUT"])
depth = float(os.environ["MLOPS_PARAM_DEPTH"])
json.dump({"rmse": 10.0 / depth}, open(out / "metrics.json", "w"))
(out / "model").mkdir()
(out / "model" / "weights.bin").write_bytes(b"0123456789" * 1000)
(out / "model" / "form.txt").write_text(f"depth {depth}")
"""
EACH = ("mlflow", "state", "rename", "replace")  # kinds of write of which none is left out
SAMPLE = 6  # points at which a daemon is killed, unless all are asked for


def declared() -> list[dict[str, Any]]:
    """The lifecycle, with its trials one after the other, so that the writes come in one order."""
    documents = lifecycle()
    documents[1]["spec"]["sweep"]["parallel"] = 1
    documents[3]["spec"]["source"]["artifact"] = "model"
    return documents


@dataclass(frozen=True, slots=True)
class Restored:
    """A project that can be put back, at its own path, to what it was when this was made."""

    project: GitProject
    copy: Path
    forks: Forks

    @classmethod
    def of(cls, project: GitProject, forks: Forks) -> Restored:
        copy = project.root.with_name(f"{project.root.name}-{project.git('rev-parse', 'HEAD')}")
        shutil.copytree(project.root, copy, symlinks=True)
        return cls(project, copy, forks)

    def restore(self) -> None:
        shutil.rmtree(self.project.root)
        shutil.copytree(self.copy, self.project.root, symlinks=True)

    def finish(self) -> Any:
        """Apply, and give the world, with all that an end must have looked at."""
        ended = self.forks.run("finished", str(self.project.root), "apply")
        assert ended.code == 0, ended.stderr
        assert ended.data["left"] == 0, ended.stderr
        left = [*self.project.root.glob(".mlops/jobs/[!.]*"), *self.project.root.glob(".mlops/work/*")]
        assert left == [], left
        return ended.data["world"]

    def points(self) -> list[tuple[str, int, bool]]:
        """Where to kill an apply: (kind, number, after)."""
        self.restore()
        ended = self.forks.run("killed", str(self.project.root), "", 0, False, "apply")
        assert ended.code == 0, ended.stderr
        found = [
            (kind, number, False)
            for kind, count in sorted(ended.data.items())
            for number in range(1, count + 1, 1 if kind in EACH else 6)
        ]
        return found + [(kind, number, True) for kind, number, _ in found[::5]]

    def kill(self, point: tuple[str, int, bool]) -> Ended:
        """An apply that is killed at `point`."""
        self.restore()
        ended = self.forks.run("killed", str(self.project.root), *point, "apply")
        ends = {-signal.SIGKILL} if point[0] == "mlflow" else {-signal.SIGKILL, 0}  # 0: fewer of the kind now
        assert ended.code in ends, (point, ended.stderr)
        return ended

    def wrong_after(self, point: tuple[str, int, bool], expected: Any) -> str | None:
        """What differs after an apply that is killed at `point` and a whole one; None if nothing does."""
        ended = self.kill(point)
        try:
            assert bound_to_half_a_run(self.project) == []
            world = self.finish()
            assert world == expected, f"{world} instead of {expected}"
        except AssertionError as problem:
            return f"{point}: {problem}\nthe killed one said: {ended.stderr}"
        return None

    # -- the same for a daemon

    def keep(self, expected: Any, *point: Any) -> Ended:
        """A daemon that is killed at `point`, or stopped when the world is the expected one."""
        where = point or ("", 0, False)
        daemon = self.forks.start("killed", str(self.project.root), *where, "--debug", "daemon")
        for _ in range(600):
            if (ended := daemon.poll()) is not None:
                return ended
            if '"event": "Pass"' in daemon.stderr and self.rests(expected):
                os.kill(daemon.pid, signal.SIGTERM)
                return daemon.wait()
            time.sleep(0.1)
        os.kill(daemon.pid, signal.SIGKILL)
        raise AssertionError(f"{point}: {daemon.wait().stderr}")

    def rests(self, expected: Any) -> bool:
        """Whether the head is in force with the expected aliases, and no run is open; read without MLflow."""
        with closing(sqlite3.connect(self.project.root / ".mlops/mlflow.db")) as store:
            force = store.execute(
                "SELECT value FROM experiment_tags WHERE key = 'mlops.applied.revision'"
            ).fetchall()
            aliases = store.execute(
                "SELECT alias, version FROM registered_model_aliases ORDER BY alias"
            ).fetchall()
            opened = store.execute("SELECT 1 FROM runs WHERE status = 'RUNNING' LIMIT 1").fetchall()
        [[_, _, wanted]] = expected["models"]
        there = [list(row) for row in aliases] == wanted
        head = (self.project.root / ".git/refs/heads/main").read_text().strip()
        return there and not opened and force == [(head,)]

    def daemons_points(self, expected: Any) -> list[tuple[str, int, bool]]:
        """Where to kill a daemon: a sample over all its writes, or all of them when asked for."""
        self.restore()
        ended = self.keep(expected)
        assert ended.code == 0, ended.stderr
        found = [
            (kind, number, after)
            for kind, count in sorted(ended.data.items())
            for number in range(1, count + 1, 1 if kind in EACH else 6)
            for after in (False, True)
        ]
        every = 1 if os.environ.get("EVERY_CRASH_POINT") else max(1, len(found) // SAMPLE)
        return found[every // 2 :: every]

    def wrong_after_daemon(self, point: tuple[str, int, bool], expected: Any) -> str | None:
        """What differs after a daemon that is killed at `point` and another one; None if nothing does."""
        self.restore()
        killed = self.keep(expected, *point)
        try:
            # 0: it made fewer writes of the kind than the one that was counted.
            assert killed.code in (-signal.SIGKILL, 0), killed.stderr
            assert bound_to_half_a_run(self.project) == []
            assert self.keep(expected).code == 0
            ended = self.forks.run("finished", str(self.project.root), "plan")
            assert ended.data["left"] == 0, ended.stderr
            world = ended.data["world"]
            assert world == expected, f"{world} instead of {expected}"
            left = [*self.project.root.glob(".mlops/jobs/[!.]*"), *self.project.root.glob(".mlops/work/*")]
            assert left == [], left
        except AssertionError as problem:
            return f"{point}: {problem}\nthe killed one said: {killed.stderr}"
        return None


def bound_to_half_a_run(project: GitProject) -> list[Any]:
    """Versions of runs that were not collected to their end, read without MLflow."""
    with closing(sqlite3.connect(project.root / ".mlops/mlflow.db")) as store:
        return store.execute(
            "SELECT name, version FROM model_versions WHERE run_id NOT IN"
            " (SELECT run_uuid FROM tags JOIN runs USING (run_uuid)"
            " WHERE key = 'mlops.outcome' AND value = 'succeeded' AND status = 'FINISHED')"
        ).fetchall()


@pytest.fixture
def fresh(make_project: Callable[..., GitProject], forks: Forks) -> Restored:
    """A project that was never applied, beside an MLflow store that holds nothing."""
    project = make_project(declared())
    project.write("training/train.py", TRAIN)
    project.commit("files")
    (project.root / ".mlops/.gitignore").unlink()  # one of the writes at which an apply is killed
    return Restored.of(project, forks)


@pytest.mark.slow
def test_a_killed_first_apply_ends_in_the_same_state(fresh: Restored) -> None:
    expected = fresh.finish()
    assert len(expected["runs"]) == 2
    assert [row[1] for row in expected["versions"]] == [1]
    wrong = [problem for point in fresh.points() if (problem := fresh.wrong_after(point, expected))]
    assert wrong == []


@pytest.fixture
def promoting(fresh: Restored) -> Restored:
    """An applied project with a commit on top that promotes a second version."""
    fresh.finish()
    second = version("1.1.0", source={"experiment": "fit", "artifact": "model"})
    fresh.project.declare([*declared()[:-2], second, promotion("dev", "1.1.0"), promotion("prod", "1.1.0")])
    fresh.project.commit("promote 1.1.0")
    return Restored.of(fresh.project, fresh.forks)


@pytest.mark.slow
def test_a_killed_promotion_leaves_one_lasting_stay_in_each_stage(promoting: Restored) -> None:
    expected = promoting.finish()
    assert expected["models"] == [["m", "A model", [["dev", 2], ["prod", 2]]]]
    assert [row[4] for row in expected["versions"]] == [
        [["dev", ["ended"]], ["prod", ["ended"]]],
        [["dev", ["lasting"]], ["prod", ["lasting"]]],
    ]
    wrong = [problem for point in promoting.points() if (problem := promoting.wrong_after(point, expected))]
    assert wrong == []


@pytest.mark.slow
def test_a_promotion_that_was_killed_and_reverted_leaves_the_first_version(promoting: Restored) -> None:
    points = [point for point in promoting.points() if point[0] == "mlflow"]
    assert len(points) > 6
    for point in points[::2]:
        promoting.kill(point)
        promoting.project.git("revert", "--no-edit", "HEAD")
        world = promoting.finish()
        assert world["models"] == [["m", "A model", [["dev", 1], ["prod", 1]]]], point
        stays = {row[1]: dict(row[4]) for row in world["versions"]}
        for stage in ("dev", "prod"):
            assert stays[1][stage][-1] == "lasting", (point, stays)
            assert [s[stage].count("lasting") for s in stays.values() if stage in s].count(1) == 1, (
                point,
                stays,
            )


@pytest.mark.slow
def test_a_store_that_was_killed_in_the_making_is_made(tmp_path: Path, forks: Forks) -> None:
    unmade = Restored.of(GitProject(tmp_path / "project", declared()[:1]), forks)
    writes = forks.run("killed", str(unmade.project.root), "", 0, False, "apply").data
    for number in range(2, writes["mlflow"], writes["mlflow"] // 4):
        unmade.kill(("mlflow", number, False))
        unmade.finish()


@pytest.mark.slow
def test_a_killed_daemon_ends_in_the_same_state(fresh: Restored) -> None:
    expected = fresh.finish()
    points = fresh.daemons_points(expected)
    assert {kind for kind, _, _ in points} >= {"mlflow", "state"}
    wrong = [problem for point in points if (problem := fresh.wrong_after_daemon(point, expected))]
    assert wrong == []


@pytest.mark.slow
def test_a_daemon_that_is_killed_while_it_promotes_ends_in_the_same_state(promoting: Restored) -> None:
    expected = promoting.finish()
    points = promoting.daemons_points(expected)
    wrong = [problem for point in points if (problem := promoting.wrong_after_daemon(point, expected))]
    assert wrong == []


LONG = """\
import json, os, pathlib, time
place = pathlib.Path(os.environ["MLOPS_PARAM_PLACE"])
with (place / "ran").open("a") as ran:
    ran.write(f"{os.getpid()}\\n")
while not (place / "released").exists():
    time.sleep(0.02)
out = pathlib.Path(os.environ["MLOPS_OUTPUT"])
(out / "model.txt").write_text("a model")
json.dump({"rmse": 1.0}, (out / "metrics.json").open("w"))
"""


@dataclass(frozen=True, slots=True)
class Long:
    """A project whose one job waits until it is released, and notes outside each time that it is run."""

    project: GitProject
    place: Path
    forks: Forks

    def apply(self, *options: str) -> Fork:
        return self.forks.start("mlops", str(self.project.root), "apply", *options)

    def finish(self) -> Any:
        ended = self.forks.run("finished", str(self.project.root), "apply")
        assert (ended.code, ended.data["left"]) == (0, 0), ended.stderr
        return ended.data["world"]

    @property
    def pids(self) -> list[int]:
        """The job's process, once for each time that it was run."""
        ran = self.place / "ran"
        return [int(line) for line in ran.read_text().splitlines()] if ran.exists() else []

    def release(self) -> None:
        (self.place / "released").touch()

    def until_it_runs(self, apply: Fork) -> int:
        eventually(lambda: bool(self.pids), apply)
        return self.pids[-1]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def long(make_project: Callable[..., GitProject], forks: Forks, tmp_path: Path) -> Iterator[Long]:
    documents = lifecycle()
    documents[1] = experiment(parameters={"place": str(tmp_path)})
    project = make_project(documents)
    project.write("training/train.py", LONG)
    project.commit()
    made = Long(project, tmp_path, forks)
    yield made
    made.release()  # whatever was left running ends by itself


def test_a_job_whose_apply_was_killed_is_adopted_and_not_run_again(long: Long) -> None:
    killed = long.apply()
    job = long.until_it_runs(killed)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait().code == -signal.SIGKILL
    assert alive(job)
    second = long.apply()
    eventually(lambda: "is open: go on with it" in second.stderr, second)
    long.release()
    assert second.wait().code == 0, second.stderr
    world = long.finish()
    assert long.pids == [job]
    assert [row[3:5] for row in world["runs"]] == [["FINISHED", "succeeded"]]
    assert world["models"] == [["m", "A model", [["dev", 1], ["prod", 1]]]]


def test_a_job_that_ended_while_nobody_looked_is_collected_and_not_run_again(long: Long) -> None:
    killed = long.apply()
    job = long.until_it_runs(killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    long.release()
    eventually(lambda: not alive(job), killed)
    assert len(long.finish()["runs"]) == 1
    assert long.pids == [job]


def test_no_wait_leaves_the_job_running_and_binds_nothing_until_it_is_collected(long: Long) -> None:
    first = long.apply("--no-wait")
    job = long.until_it_runs(first)
    assert first.wait().code == 0, first.stderr
    assert "goes on; the next apply takes it up" in first.stderr
    again = long.apply("--no-wait")
    assert again.wait().code == 0, again.stderr
    assert alive(job)
    with closing(sqlite3.connect(long.project.root / ".mlops/mlflow.db")) as store:
        assert store.execute("SELECT count(*) FROM model_versions").fetchone() == (0,)
    long.release()
    assert len(long.finish()["runs"]) == 1
    assert long.pids == [job]


def test_sigterm_leaves_the_job_running_for_the_next_apply(long: Long) -> None:
    stopped = long.apply()
    job = long.until_it_runs(stopped)
    os.kill(stopped.pid, signal.SIGTERM)
    assert stopped.wait().code == 1
    assert "jobs go on; the next apply takes them up" in stopped.stderr
    assert alive(job)
    long.release()
    assert len(long.finish()["runs"]) == 1
    assert long.pids == [job]


def test_sigint_cancels_the_job_and_the_next_apply_trains_again(long: Long) -> None:
    stopped = long.apply()
    job = long.until_it_runs(stopped)
    os.kill(stopped.pid, signal.SIGINT)
    assert stopped.wait().code == 1
    assert "cancelling jobs" in stopped.stderr
    assert "cancelled before it had finished" in stopped.stderr
    assert not alive(job)
    long.release()
    world = long.finish()
    assert sorted(row[3:5] for row in world["runs"]) == [["FINISHED", "succeeded"], ["KILLED", "cancelled"]]
    assert len(long.pids) == 2


def test_a_run_that_was_killed_before_its_job_and_is_wanted_no_more_is_closed(
    long: Long,
) -> None:
    root = long.project.root
    for number in range(1, 100):
        if long.forks.run("killed", str(root), "process", number, False, "apply").code == 0:
            break
        with closing(sqlite3.connect(root / ".mlops/mlflow.db")) as store:
            if store.execute("SELECT count(*) FROM runs").fetchone() == (1,) and not long.pids:
                break
    assert long.pids == []
    long.project.declare(lifecycle()[:1])
    long.project.commit()
    assert [row[3:5] for row in long.finish()["runs"]] == [["KILLED", "cancelled"]]
