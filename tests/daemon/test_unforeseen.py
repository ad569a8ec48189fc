"""What nobody foresaw ends neither the loop nor a thread beside it, and who waits hears of news at once."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from driven import MINUTE, DrivenDaemon
from git_project import GitProject, document

from mlops.controller import Controller
from mlops.daemon import wakeups
from mlops.daemon.following import Head, LocalBranch, RemoteBranch, _Quiet
from mlops.errors import MlopsError, Transient
from mlops.view import View
from mlops.workspace import Mirrored

Make = Callable[..., GitProject]
MODEL = [document("Model", "m", {"description": "A model"})]


@dataclass(slots=True)
class Unread(LocalBranch):
    """A branch whose refs the system refuses to read while `refused`."""

    refused: bool = False

    def head(self) -> Head:
        if self.refused:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "HEAD")
        return LocalBranch.head(self)


def test_what_the_system_refuses_is_told_and_gone_on_from(make_project: Make) -> None:
    project = make_project(MODEL)
    daemon = DrivenDaemon(project.root)
    branch = Unread(daemon.controller.repository, project.root)
    daemon.daemon.following = branch

    def refuse() -> None:
        branch.refused = True
        daemon.daemon._moved(wakeups.REVISION)  # by the thread that watches, which goes on

    daemon.life.at(5 * MINUTE, refuse)
    daemon.life.at(10 * MINUTE, lambda: setattr(branch, "refused", False))
    daemon.life.at(20 * MINUTE, lambda: project.commit("news"))
    daemon.run(25 * MINUTE)
    assert "Too many open files" in daemon.told.outages[0][2]
    assert daemon.told.passes[-1].at < 20 * MINUTE + 2
    assert daemon.told.passes[-1].result == "unchanged"


class Defective(Controller):
    """An engine with a defect in what opens the stores, the first time."""

    opened = 0

    def open(self, *arguments: Any) -> Any:
        self.opened += 1
        if self.opened == 1:
            raise KeyError("nobody expected this")
        return super().open(*arguments)


def test_a_defect_before_the_first_pass_is_told_and_does_not_end_the_daemon(make_project: Make) -> None:
    daemon = DrivenDaemon(make_project(MODEL).root, engine=Defective)
    daemon.run(5 * MINUTE)
    assert "nobody expected this" in daemon.told.outages[0][2]
    assert daemon.told.passes[-1].result == "changed"


def broken(project: GitProject) -> str:
    """Commit a Project that nobody can read; gives the good one."""
    good = (project.root / "mlops.yaml").read_text()
    project.write("mlops.yaml", "kind: Project\n")
    project.git("checkout", "-q", "--orphan", "broken")
    project.commit("broken")
    return good


def test_a_daemon_that_could_not_begin_takes_up_the_commit_that_mends_it_at_once(make_project: Make) -> None:
    project = make_project(MODEL)
    good = broken(project)
    daemon = DrivenDaemon(project.root)

    def mend() -> None:
        project.write("mlops.yaml", good.replace("interval: 1h", "interval: 1h\n    branch: broken"))
        project.commit("mended")

    daemon.life.at(3 * MINUTE, mend)  # the next look would be two minutes later
    daemon.run(10 * MINUTE)
    assert daemon.told.passes[0].at < 3 * MINUTE + 5


def test_a_file_that_is_mended_is_news_to_a_daemon_that_could_not_begin(make_project: Make) -> None:
    project = make_project(MODEL)
    good = broken(project)
    daemon = DrivenDaemon(project.root)
    daemon.daemon.working_tree = True
    daemon.daemon.following = LocalBranch(daemon.controller.repository, project.root, files=True)

    def mend() -> None:
        project.write("mlops.yaml", good)
        daemon.wakeups.wake(wakeups.FILES)

    daemon.life.at(3 * MINUTE, mend)
    daemon.run(10 * MINUTE)
    assert daemon.told.passes[0].at < 3 * MINUTE + 5


def test_a_daemon_of_a_mirror_begins_and_heals_though_its_head_cannot_be_read(
    make_project: Make, with_store: Callable[[Path], Path], tmp_path: Path
) -> None:
    project, home = make_project(MODEL), with_store(tmp_path / "home")

    class Mirroring(Controller):
        def __init__(self, root: Path, **options: Any) -> None:
            super().__init__(home, mirror=Mirrored(root), **options)

    DrivenDaemon(project.root, engine=Mirroring).run(2 * MINUTE)
    project.git("add", "-f", ".mlops/.gitignore")
    head = project.commit("with what a machine remembers")
    daemon = DrivenDaemon(project.root, engine=Mirroring)
    client = GitProject.at(home).client
    daemon.life.at(MINUTE, lambda: client.update_registered_model("m", "mine"))
    daemon.run(5 * MINUTE)
    [refused] = [event for event in daemon.told.events if event.reason == "RevisionRefused"]
    assert (refused.revision, ".mlops/ is tracked" in refused.message) == (head, True)
    assert client.get_registered_model("m").description == "A model"
    assert not daemon.told.outages


class Damaged:
    """A mirror whose ref is damaged until it is fetched."""

    brought = False
    fetched = 0

    def fetch(self, branch: str) -> str:
        self.fetched += 1
        if self.fetched == 2:
            raise KeyError("a defect")
        return "1" * 40

    def tip(self, branch: str) -> str:
        if self.fetched < 3:
            raise MlopsError("main is damaged: it names no commit")
        return "1" * 40

    def close(self) -> None:
        pass


def test_neither_a_damaged_ref_nor_a_defect_ends_the_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.daemon.retries.FIRST", 0.01)
    damaged: Any = Damaged()
    moved = threading.Event()
    following = RemoteBranch(damaged, damaged, "main", interval=0.01)
    following.start(lambda reason: moved.set() if damaged.fetched > 2 else None)
    try:
        assert moved.wait(20)
        assert following.head() == Head("1" * 40)
    finally:
        following.close()


def test_files_that_change_all_the_time_are_looked_at_nevertheless() -> None:
    looked = threading.Event()
    quiet = _Quiet(0.1, 0.3, looked.set)
    until = time.monotonic() + 20
    while not looked.is_set() and time.monotonic() < until:
        quiet.touch()
        time.sleep(0.001)
    quiet.close()
    assert looked.is_set()


class Slow(Controller):
    """An engine whose looks take five seconds."""

    def look_for(self, *arguments: Any, **options: Any) -> View:
        self.pause(threading.Event(), 5.0)
        return super().look_for(*arguments, **options)


def test_many_steps_that_fail_for_ever_keep_the_loop_busy_a_fifth_of_it_at_most(
    make_project: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise Transient("MLflow does not take it")

    monkeypatch.setattr("mlops.tracking.registry.Registry.ensure_model", refused)
    monkeypatch.setattr("mlops.applying.apply.DELAYS", ())
    models = [document("Model", f"m{n}", {"description": "A model"}) for n in range(40)]
    daemon = DrivenDaemon(make_project(models).root, engine=Slow)
    daemon.run(20 * MINUTE)
    retries = [one.at for one in daemon.told.passes if one.reasons == {wakeups.RETRY}]
    assert len(retries) > 10
    assert (
        min(later - earlier for earlier, later in pairwise(retries)) >= 24.999
    )  # five of work, twenty of rest
    assert daemon.told.reasons["RegisteredFailed"] >= 40 * 4
