"""Where branches stand, read without a process."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from mlops.errors import MlopsError
from mlops.source import git as runner
from mlops.source.refs import NotPlain, read_head, read_ref
from mlops.source.repository import Repository


@pytest.fixture
def no_process(monkeypatch):
    """From here on, a process is an error."""

    def start() -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a process was started")

        monkeypatch.setattr(runner.subprocess, "Popen", refuse)

    return start


def test_loose_and_packed_branches_are_read_without_a_process(project, git, no_process):
    repository = Repository.discover(project)
    first = git(project, "rev-parse", "HEAD")
    git(project, "branch", "team/packed")
    git(project, "tag", "-am", "peeled lines stand between the others", "v1")
    git(project, "pack-refs", "--all", "--prune")
    git(project, "commit", "--allow-empty", "-qm", "more")
    git(project, "branch", "team/loose")
    second = git(project, "rev-parse", "HEAD")
    no_process()
    assert repository.tip("main") == repository.tip("team/loose") == repository.tip() == second
    assert repository.tip("team/packed") == first
    assert [repository.tip(name) for name in ("absent", "team", "packed", "team/packed/x", "v1")] == [
        None
    ] * 5
    assert repository.branch() == "main"


def test_a_branch_without_a_commit_and_a_detached_head(tmp_path, git, no_process):
    git(tmp_path, "init", "-q", "-b", "trunk")
    repository = Repository.discover(tmp_path)
    assert (repository.branch(), repository.tip(), repository.tip("trunk")) == ("trunk", None, None)
    git(tmp_path, "commit", "--allow-empty", "-qm", "first")
    sha = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "checkout", "-q", "--detach")
    no_process()
    assert (repository.branch(), repository.tip(), repository.tip("trunk")) == (None, sha, sha)


def test_a_linked_worktree_shares_branches_and_has_its_own_head(project, tmp_path, git, no_process):
    git(project, "worktree", "add", "-q", "-b", "side", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "--allow-empty", "-qm", "more")
    here, there = Repository.discover(project), Repository.discover(tmp_path / "tree")
    side, main = git(project, "rev-parse", "side"), git(project, "rev-parse", "main")
    no_process()
    assert (here.branch(), there.branch()) == ("main", "side")
    for repository in (here, there):
        assert (repository.tip("side"), repository.tip("main")) == (side, main)
    assert (here.tip(), there.tip()) == (main, side)


def test_a_symbolic_branch_is_left_to_git(project, git):
    git(project, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    git(project, "symbolic-ref", "refs/heads/nowhere", "refs/heads/absent")
    git(project, "symbolic-ref", "HEAD", "refs/heads/alias")
    repository = Repository.discover(project)
    assert repository.tip("alias") == repository.tip() == git(project, "rev-parse", "main")
    assert repository.tip("nowhere") is None


def test_a_repository_with_tables_of_refs_is_left_to_git(tmp_path, git):
    made = subprocess.run(
        ["git", "init", "-q", "-b", "main", "--ref-format=reftable"], cwd=tmp_path, capture_output=True
    )
    if made.returncode:  # this git has none: at least their folder must not be read as plain files
        git(tmp_path, "init", "-q", "-b", "main")
        (tmp_path / ".git/reftable").mkdir()
    git(tmp_path, "commit", "--allow-empty", "-qm", "first")
    repository = Repository.discover(tmp_path)
    assert repository.tip("main") == repository.tip() == git(tmp_path, "rev-parse", "HEAD")
    assert repository.tip("absent") is None
    assert repository.branch() == "main"
    for read in (
        lambda: read_ref(repository.git_dir, "refs/heads/main"),
        lambda: read_head(repository.git_dir),
    ):
        with pytest.raises(NotPlain):
            read()


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"\0" * 41, b"1" * 39 + b"\n"])
def test_a_damaged_branch_is_an_error_and_not_an_absent_one(project, content):
    (project / ".git/refs/heads/main").write_bytes(content)
    with pytest.raises(MlopsError, match="main is damaged"):
        Repository.discover(project).tip("main")


def test_a_repository_that_went_away_is_an_error_and_not_an_absent_branch(project):
    repository = Repository.discover(project)
    project.rename(project.with_name("aside"))
    with pytest.raises(MlopsError):
        repository.tip("main")
    project.mkdir()
    with pytest.raises(MlopsError):
        repository.tip("main")


@pytest.mark.parametrize(
    "name", ["", "../../HEAD", "a/../../x", "/etc/passwd", "-x", "a b", "x.lock", "a//b"]
)
def test_what_cannot_be_a_branch_is_no_path(project, name):
    with pytest.raises(MlopsError, match="not a name"):
        Repository.discover(project).tip(name)


def test_a_branch_whose_name_is_no_utf_8(project, git):
    name = os.fsdecode(b"caf\xe9")
    git(project, "branch", name)
    repository = Repository.discover(project)
    assert repository.tip(name) == git(project, "rev-parse", "HEAD")
    git(project, "pack-refs", "--all", "--prune")
    assert repository.tip(name) == git(project, "rev-parse", "HEAD")


def test_a_branch_is_never_missed_while_git_packs_it(project, git):
    """Git moves a branch from its own file into packed-refs and back; a reader sees it in one of the two."""
    repository, stop = Repository.discover(project), threading.Event()
    shas = [git(project, "rev-parse", "HEAD")]
    git(project, "commit", "--allow-empty", "-qm", "more")
    shas.append(git(project, "rev-parse", "HEAD"))

    def pack_and_move() -> None:
        while not stop.is_set():
            for sha in shas:
                git(project, "update-ref", "refs/heads/main", sha)
                git(project, "pack-refs", "--all", "--prune")

    thread = threading.Thread(target=pack_and_move)
    thread.start()
    try:
        seen = {repository.tip("main") for _ in range(20_000)}
    finally:
        stop.set()
        thread.join()
    assert seen <= set(shas)
