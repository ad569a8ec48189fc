"""New repositories and the first commits in them."""

from __future__ import annotations

import pytest

from mlops.errors import MlopsError
from mlops.source.initialise import commit_all, initialise
from mlops.source.repository import Repository
from mlops.source.snapshot import GitSnapshot


def test_a_new_folder_becomes_a_repository_on_main(tmp_path, git):
    made = initialise(tmp_path / "a/b")
    assert made.root == tmp_path / "a/b"
    assert made.head() is None
    assert git(tmp_path / "a/b", "symbolic-ref", "HEAD") == "refs/heads/main"


def test_an_existing_repository_is_kept(project):
    head = Repository.discover(project).head()
    assert initialise(project / "training/new").root == project
    assert Repository.discover(project).head() == head


def test_the_first_commit_needs_no_configured_identity(tmp_path):
    made = initialise(tmp_path)
    (tmp_path / "a").write_text("x")
    sha = commit_all(made, "Erste Änderung\n\n# not a comment\n", ["a"])
    found = made.resolve("HEAD")
    assert found.sha == sha
    assert (found.author_name, found.author_email) == ("mlops", "mlops@localhost")
    assert (found.committer_name, found.committer_email) == ("mlops", "mlops@localhost")
    assert found.subject == "Erste Änderung"


def test_a_configured_identity_is_used(tmp_path, git, monkeypatch):
    made = initialise(tmp_path)
    git(tmp_path, "config", "user.name", "Ada")
    git(tmp_path, "config", "user.email", "ada@example.com")
    (tmp_path / "a").write_text("x")
    commit_all(made, "one", [tmp_path / "a"])
    assert made.resolve("HEAD").author_email == "ada@example.com"
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Bob")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "bob@example.com")
    (tmp_path / "a").write_text("y")
    commit_all(made, "two", ["a"])
    found = made.resolve("HEAD")
    assert (found.author_email, found.committer_email) == ("bob@example.com", "ada@example.com")


def test_only_the_named_files_are_committed(project, git):
    found = Repository.discover(project)
    for name in ("staged", "loose", "training/new.py"):
        (project / name).write_text("x")
    git(project, "add", "staged")
    (project / "training/run.sh").unlink()
    sha = commit_all(found, "training", ["training"])
    assert found.changed(f"{sha}~1", sha) == ["training/new.py", "training/run.sh"]
    assert git(project, "diff", "--cached", "--name-only") == "staged"


def test_nothing_to_commit_gives_the_head(project, tmp_path):
    found = Repository.discover(project)
    assert commit_all(found, "again", ["mlops.yaml"]) == found.head()
    empty = initialise(tmp_path / "empty")
    (tmp_path / "empty/folder").mkdir()
    with pytest.raises(MlopsError, match="nothing to commit"):
        commit_all(empty, "none", ["."])
    with pytest.raises(MlopsError, match="nothing was named"):
        commit_all(found, "none", [])


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b"])
def test_files_outside_of_the_repository_are_refused(project, path):
    with pytest.raises(MlopsError):
        commit_all(Repository.discover(project), "x", [path])


def test_hostile_names_and_messages_are_only_text(project):
    found = Repository.discover(project)
    names = ["--all", ":(top)x", "*", "-f"]
    for name in names:
        (project / name).write_text("x")
    sha = commit_all(found, "--amend", names)
    assert found.resolve(sha).subject == "--amend"
    assert set(names) <= GitSnapshot(found, sha).entries().keys()
    assert len(found.resolve(sha).parents) == 1


def test_an_ignored_file_is_refused_with_gits_reason(project):
    (project / ".gitignore").write_text("*.db\n")
    (project / "x.db").write_text("x")
    with pytest.raises(MlopsError, match="gitignore"):
        commit_all(Repository.discover(project), "x", ["x.db"])


def test_a_bare_repository_takes_no_commit(project, tmp_path, git):
    git(tmp_path, "clone", "-q", "--bare", str(project), "bare.git")
    with pytest.raises(MlopsError, match="bare"):
        commit_all(Repository.discover(tmp_path / "bare.git"), "x", ["a"])
