"""Being told that refs or files changed."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from mlops.errors import MlopsError
from mlops.source.repository import Repository
from mlops.source.watching import watch_files, watch_refs


class Told:
    """Counts calls, and waits for one more; generous, for a busy machine."""

    def __init__(self) -> None:
        self.times = 0
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.times += 1
            self._changed.notify_all()

    def by(self, action, *arguments) -> bool:
        """Whether something was told after `action`."""
        before = self.settled(0.2)
        action(*arguments)
        with self._changed:
            return self._changed.wait_for(lambda: self.times > before, 10)

    def settled(self, seconds: float = 0.7) -> int:
        """How often something was told, once nothing was for a while.

        A rename is told half a second late when its two halves are read apart.
        """
        seen = -1
        while seen != self.times:
            seen = self.times
            time.sleep(seconds)
        return seen


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_commit_a_branch_a_tag_and_a_checkout_are_told(project, git, told):
    git(project, "branch", "feature/deep/x")
    with watch_refs(Repository.discover(project), "main", told):
        assert told.by(git, project, "commit", "--allow-empty", "-qm", "more")
        assert told.by(git, project, "update-ref", "refs/heads/main", "HEAD~1")
        assert told.by(git, project, "pack-refs", "--all", "--prune")
        assert told.by(git, project, "update-ref", "refs/heads/main", git(project, "rev-parse", "HEAD"))
        assert told.by(git, project, "tag", "-am", "x", "approve/p/1/ada%40example.com")
        assert told.by(git, project, "tag", "-d", "approve/p/1/ada%40example.com")
        assert told.by(git, project, "checkout", "-q", "feature/deep/x")


def test_other_branches_tags_and_objects_are_not_told(project, git, told):
    repository = Repository.discover(project)
    with watch_refs(repository, "main", told):
        git(project, "branch", "other")
        git(project, "tag", "v1")
        git(project, "update-ref", "refs/remotes/origin/main", "HEAD")
        git(project, "hash-object", "-w", "mlops.yaml")
        for _ in range(20):
            assert repository.tip("main")
        assert told.settled() == 0


def test_a_branch_with_slashes_is_told_although_its_folders_come_and_go(project, git, told):
    with watch_refs(Repository.discover(project), "team/a/b", told):
        for _ in range(2):
            assert told.by(git, project, "branch", "team/a/b")
            assert told.by(git, project, "branch", "-D", "team/a/b")
        git(project, "branch", "team/a/b")
        git(project, "pack-refs", "--all", "--prune")  # which takes the folders away
        git(project, "commit", "--allow-empty", "-qm", "more")
        assert told.by(git, project, "update-ref", "refs/heads/team/a/b", "HEAD")


def test_a_linked_worktree_is_told_of_the_refs_that_it_shares(project, git, tmp_path, told):
    git(project, "worktree", "add", "-q", "-b", "side", str(tmp_path / "tree"))
    with watch_refs(Repository.discover(tmp_path / "tree"), "main", told):
        assert told.by(git, project, "commit", "--allow-empty", "-qm", "more")
        assert told.by(git, tmp_path / "tree", "checkout", "-q", "--detach")


def test_refs_that_are_deleted_and_made_again_are_still_watched(project, git, told):
    with watch_refs(Repository.discover(project), "main", told) as watch:
        for _ in range(3):
            git(project, "pack-refs", "--all", "--prune")
            assert told.by(shutil.rmtree, project / ".git/refs")
            assert told.by((project / ".git/refs/heads").mkdir, 0o755, True)
            told.settled(0.2)
            assert told.by(git, project, "commit", "--allow-empty", "-qm", "more")
        assert watch.problem is None


def test_tables_of_refs_are_told(project, told):
    """A stand-in for git's reftable format, which the git here may not know: its files, written as git does."""
    with watch_refs(Repository.discover(project), "main", told):
        assert told.by((project / ".git/reftable").mkdir)
        (project / ".git/reftable/tables.list.lock").write_text("0x1.ref\n")
        assert told.by(
            (project / ".git/reftable/tables.list.lock").rename, project / ".git/reftable/tables.list"
        )


def test_a_repository_that_vanishes_does_no_harm(project, git, told):
    with watch_refs(Repository.discover(project), "main", told):
        assert told.by(shutil.rmtree, project)
        project.mkdir()
        git(project, "init", "-q")
        told.settled()


def test_files_are_told_except_those_of_ignored_folders(project, told):
    (project / ".mlops").mkdir()
    (project / "training/deep").mkdir()
    with watch_files(project, told, ignore=(".git", ".mlops", "__pycache__")):
        assert told.by((project / "training/deep/x.py").write_text, "1")
        assert told.by((project / "mlops.yaml").write_text, "kind: Project # changed\n")
        assert told.by((project / "mlops.yaml").chmod, 0o755)
        assert told.by((project / "mlops.yaml").unlink)
        assert told.by((project / "resources/a/b").mkdir, 0o755, True)
        told.settled(0.2)
        assert told.by((project / "resources/a/b/x.yaml").write_text, "1")
        before = told.settled()
        (project / ".mlops/state.db").write_text("x")
        (project / ".git/x").write_text("x")
        (project / "training/__pycache__").mkdir()
        (project / "training/__pycache__/x.pyc").write_text("x")
        assert (project / "training/train.py").read_text()
        assert told.settled() == before


def test_a_folder_that_is_made_again_is_watched_again(project, told):
    with watch_files(project, told, ignore=(".git",)):
        for _ in range(3):
            assert told.by(shutil.rmtree, project / "training")
            assert told.by((project / "training").mkdir)
            told.settled(0.2)
            assert told.by((project / "training/new.py").write_text, "1")
        assert told.by((project / "training").rename, project / "renamed")
        told.settled(0.2)
        assert told.by((project / "renamed/new.py").write_text, "2")


def test_a_folder_that_is_replaced_in_an_instant_is_still_watched(project, told):
    """Before anybody is told of the one that went, there is another, often of the same inode number."""
    with watch_files(project, told, ignore=(".git",)):
        for _ in range(10):
            shutil.rmtree(project / "training")
            (project / "training").mkdir()
        told.settled()
        assert told.by((project / "training/new.py").write_text, "1")


def test_closing_leaves_no_thread_and_no_descriptor(project, told):
    repository = Repository.discover(project)

    def held() -> tuple[set[threading.Thread], int]:
        return set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))

    watch_refs(repository, "main", told).close()
    before = held()
    for _ in range(5):
        first = watch_refs(repository, "main", told)
        second = watch_files(project, told, ignore=(".git",))
        first.close()
        second.close()
        second.close()
    assert held() == before


def test_a_watch_may_be_closed_by_whom_it_calls(project, git):
    done = threading.Event()

    def close() -> None:
        watch.close()
        done.set()

    watch = watch_refs(Repository.discover(project), "main", close)
    git(project, "commit", "--allow-empty", "-qm", "more")
    assert done.wait(10)
    watch.close()


@pytest.mark.parametrize("allowed", [0, 1, 5])
def test_the_systems_limit_is_said_and_nothing_is_left_behind(project, told, monkeypatch, allowed):
    """The kernel's answer at its limit, for the limit itself is shared with everything else here."""
    inotify = pytest.importorskip("watchdog.observers.inotify_c")
    for name in range(10):
        (project / f"training/{name}").mkdir()
    real, calls = inotify.inotify_add_watch, 0

    def limited(descriptor: int, path: bytes, mask: int) -> int:
        nonlocal calls
        calls += 1
        return real(descriptor, path, mask) if calls <= allowed else real(descriptor, b"", 0)

    threads = set(threading.enumerate())
    monkeypatch.setattr(inotify, "inotify_add_watch", limited)
    monkeypatch.setattr(inotify.ctypes, "get_errno", lambda: 28)
    with pytest.raises(MlopsError, match=r"watch limit reached.*max_user_watches"):
        watch_files(project, told, ignore=(".git",))
    assert set(threading.enumerate()) == threads


def test_a_name_that_is_no_branch_is_refused(project, told):
    with pytest.raises(MlopsError, match="not a name"):
        watch_refs(Repository.discover(project), "../../x", told)


def test_a_folder_that_is_not_there_is_no_crash(tmp_path: Path, told):
    with watch_files(tmp_path / "absent", told, ignore=()):
        assert told.settled() == 0
