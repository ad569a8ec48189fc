"""Finding a repository, its commits and how they relate."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops.errors import MlopsError
from mlops.source.commit import parse_commit
from mlops.source.git import NotARepository
from mlops.source.repository import Repository


def commit(git, root: Path, name: str, text: str = "x\n") -> str:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    git(root, "add", "--", name)
    git(root, "commit", "--quiet", "--message", f"Write {name}")
    return git(root, "rev-parse", "HEAD")


def test_a_repository_is_found_from_any_folder_or_file_in_it(project):
    for start in (project, project / "training", project / "training/train.py"):
        found = Repository.discover(start)
        assert (found.root, found.bare, found.object_format) == (project, False, "sha1")


def test_a_repository_is_found_through_a_symbolic_link(project, tmp_path):
    (tmp_path / "link").symlink_to(project / "training")
    found = Repository.discover(tmp_path / "link")
    assert found.root == project
    assert found.relative(tmp_path / "link") == "training"
    assert found.relative(project) == ""


def test_a_folder_outside_has_no_place_in_the_repository(project, tmp_path):
    (tmp_path / "project-evil").mkdir()
    with pytest.raises(MlopsError, match="outside"):
        Repository.discover(project).relative(tmp_path / "project-evil")


def test_no_repository_says_what_to_do(tmp_path):
    with pytest.raises(NotARepository, match="mlops init"):
        Repository.discover(tmp_path)
    with pytest.raises(MlopsError, match="no such folder"):
        Repository.discover(tmp_path / "absent")


def test_gits_own_folder_is_no_project(project):
    with pytest.raises(MlopsError, match="git's own folder"):
        Repository.discover(project / ".git")


def test_a_linked_worktree_has_its_own_root_and_head(project, tmp_path, git):
    git(project, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "tree"))
    made = commit(git, tmp_path / "tree", "new.txt")
    found = Repository.discover(tmp_path / "tree")
    assert found.root == tmp_path / "tree"
    assert found.head() == made
    assert Repository.discover(project).head() != made
    assert found.is_shallow() is False


def test_a_bare_repository_is_read_and_never_dirty(project, tmp_path, git):
    git(tmp_path, "clone", "--quiet", "--bare", str(project), "bare.git")
    found = Repository.discover(tmp_path / "bare.git")
    assert found.bare
    assert found.head() == Repository.discover(project).head()
    assert found.dirty("") is False


def test_an_empty_repository_has_no_head(tmp_path, git):
    git(tmp_path, "init", "--quiet")
    found = Repository.discover(tmp_path)
    assert found.head() is None
    assert found.dirty() is False
    with pytest.raises(MlopsError, match="commit first"):
        found.resolve("HEAD")


def test_a_head_that_names_a_missing_commit_is_an_error_and_not_an_empty_repository(project):
    (project / ".git/refs/heads/main").write_text("1" * 40 + "\n")
    with pytest.raises(MlopsError, match="missing"):
        Repository.discover(project).head()


def test_a_commit_is_read_with_people_and_times(project, git):
    (project / "a").write_text("a")
    git(project, "add", "a")
    env = ["-c", "user.name=Zoë Ünal", "-c", "user.email=zoe@example.com"]
    git(project, *env, "commit", "-qm", "First line\nsame paragraph\n\nBody", "--date=1700000000 +0530")
    found = Repository.discover(project).resolve("HEAD")
    assert found.sha == git(project, "rev-parse", "HEAD")
    assert found.tree == git(project, "rev-parse", "HEAD^{tree}")
    assert found.parents == (git(project, "rev-parse", "HEAD~1"),)
    assert found.subject == "First line same paragraph"
    assert (found.author_name, found.author_email) == ("Zoë Ünal", "zoe@example.com")
    assert found.authored_at == datetime.fromtimestamp(1700000000, UTC)
    assert found.authored_at.utcoffset() == timedelta(hours=5, minutes=30)
    assert found.committed_at.tzinfo is not None


def test_revisions_of_all_sorts_resolve_to_the_same_commit(project, git):
    git(project, "tag", "-a", "v1", "-m", "one")
    git(project, "branch", "feature/x-y")
    found = Repository.discover(project)
    sha = found.resolve("HEAD").sha
    for rev in ("main", "v1", sha[:10], "@", "feature/x-y", "HEAD^{/Declare}"):
        assert found.resolve(rev).sha == sha


@pytest.mark.parametrize("rev", ["", "-x", "--output=/tmp/x", "a\nb", "a\0b", "--", "x" * 2000])
def test_what_cannot_be_a_revision_is_refused(project, rev):
    found = Repository.discover(project)
    for ask in (found.resolve, lambda r: found.is_ancestor(r, "HEAD"), lambda r: found.changed("HEAD", r)):
        with pytest.raises(MlopsError, match="not a revision"):
            ask(rev)


@pytest.mark.parametrize(
    "rev", ["mian", "HEAD:mlops.yaml", "HEAD..HEAD", "0" * 40, "no such\x1b[31m", "a\udcff"]
)
def test_an_unknown_revision_names_the_branches(project, rev):
    with pytest.raises(MlopsError, match="main") as raised:
        Repository.discover(project).resolve(rev)
    assert "\x1b" not in str(raised.value)
    str(raised.value).encode()


def test_a_misspelt_branch_gets_a_suggestion(project):
    with pytest.raises(MlopsError, match="Did you mean 'main'"):
        Repository.discover(project).resolve("mian")


def test_malformed_commits_are_read_without_a_crash():
    raw = b"tree " + b"a" * 40 + b"\nauthor Eve\ncommitter X <x@y> 99999999999999999999 +9999\n"
    found = parse_commit("f" * 40, raw + b"encoding no-such-codec\ngpgsig -----\n author Mallory\n\n\xff\xfe")
    assert found.author_name == ""
    assert found.committed_at == datetime.fromtimestamp(0, UTC)
    assert found.committer_email == "x@y"
    assert parse_commit("f" * 40, b"").subject == ""
    assert parse_commit("f" * 40, b"author \xe9 <e> 1 +0000\nencoding latin-1\n\n\xe9").subject == "é"


def test_ancestry(project, git):
    found = Repository.discover(project)
    first = found.head()
    second = commit(git, project, "b")
    git(project, "checkout", "--quiet", "-b", "side", first)
    side = commit(git, project, "c")
    assert found.is_ancestor(first, second) is True
    assert found.is_ancestor(first, first) is True
    assert found.is_ancestor(second, first) is False
    assert found.is_ancestor(side, second) is False
    assert found.is_ancestor("1" * 40, second) is None


def test_ancestry_is_unknown_where_history_was_cut(project, tmp_path, git):
    first = Repository.discover(project).head()
    second = commit(git, project, "b")
    third = commit(git, project, "c")
    git(tmp_path, "clone", "--quiet", "--depth=2", project.as_uri(), "shallow")
    found = Repository.discover(tmp_path / "shallow")
    assert found.is_shallow()
    assert found.is_ancestor(second, third) is True
    assert found.is_ancestor(third, second) is False
    assert found.is_ancestor(first, third) is None
    with pytest.raises(MlopsError, match="unshallow"):
        found.resolve(first)
    git(tmp_path / "shallow", "checkout", "--quiet", "--orphan", "island")
    island = commit(git, tmp_path / "shallow", "d")
    assert found.is_ancestor(second, island) is None


def test_ancestry_is_unknown_where_a_commit_between_is_lost(project, git):
    first = Repository.discover(project).head()
    second = commit(git, project, "b")
    third = commit(git, project, "c")
    (project / ".git/objects" / second[:2] / second[2:]).unlink()
    assert Repository.discover(project).is_ancestor(first, third) is None


def test_replaced_and_grafted_history_is_not_believed(project, git):
    first = Repository.discover(project).head()
    second = commit(git, project, "b")
    git(project, "replace", "--graft", second)
    (project / ".git/info/grafts").write_text(second + "\n")
    assert Repository.discover(project).is_ancestor(first, second) is True
    assert Repository.discover(project).resolve("HEAD").parents == (first,)


def test_changed_files_list_both_names_of_a_rename(project, git):
    before = Repository.discover(project).head()
    git(project, "mv", "training/train.py", "training/fit.py")
    (project / os_name(b"caf\xe9.txt")).write_text("x")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "Rename")
    found = Repository.discover(project)
    assert found.changed(before, "HEAD") == ["caf\udce9.txt", "training/fit.py", "training/train.py"]
    assert found.changed("HEAD", "HEAD") == []
    with pytest.raises(MlopsError, match="no commit 'mian'"):
        found.changed("HEAD", "mian")


def os_name(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def test_dirty_sees_changes_below_its_folder_only(project, git):
    found = Repository.discover(project)
    (project / ".gitignore").write_text("*.log\n")
    git(project, "add", ".gitignore")
    git(project, "commit", "-qm", "ignore")
    assert not found.dirty()
    (project / "training/x.log").write_text("ignored")
    assert not found.dirty()
    (project / "new").write_text("untracked")
    assert found.dirty()
    assert not found.dirty("training")
    (project / "training/train.py").write_text("print('changed')\n")
    assert found.dirty("training")
    git(project, "add", ".")
    assert found.dirty("training")


def test_a_folder_named_like_pathspec_magic_is_only_a_name(project):
    found = Repository.discover(project)
    (project / "new").write_text("untracked")
    assert not found.dirty(":/")
    assert not found.dirty("*")
    assert not found.dirty(":(top)new")


def test_asking_changes_nothing_in_the_repository(project):
    def picture() -> dict[Path, tuple[int, int]]:
        files = [p for p in (project / ".git").rglob("*") if p.is_file()]
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in files}

    (project / "mlops.yaml").touch()
    before = picture()
    found = Repository.discover(project)
    found.dirty()
    found.resolve("HEAD")
    found.is_ancestor("HEAD", "HEAD")
    assert picture() == before


def test_a_working_tree_configured_elsewhere_is_refused(project, tmp_path, git):
    git(project, "config", "core.worktree", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    with pytest.raises(MlopsError):
        Repository.discover(project)


def test_a_sha256_repository_is_read(tmp_path, git):
    made = subprocess.run(
        ["git", "init", "--quiet", "--object-format=sha256", "-b", "main"], cwd=tmp_path, capture_output=True
    )
    if made.returncode:
        pytest.skip("this git has no sha256 repositories")
    sha = commit(git, tmp_path, "a")
    found = Repository.discover(tmp_path)
    assert found.object_format == "sha256"
    assert found.resolve("HEAD").sha == sha
    assert len(sha) == 64
