"""The files of a project at a commit and in a working tree."""

from __future__ import annotations

import os
import subprocess

import pytest

from mlops.errors import MlopsError, Transient
from mlops.source.repository import Repository
from mlops.source.snapshot import Entry, GitSnapshot, Snapshot, WorkingTreeSnapshot

LATIN = b"caf\xe9.csv".decode("utf-8", "surrogateescape")


def at_head(root, folder: str = "") -> GitSnapshot:
    found = Repository.discover(root)
    return GitSnapshot(found, found.resolve("HEAD").sha, folder)


def working_tree(root, folder: str = "") -> WorkingTreeSnapshot:
    return WorkingTreeSnapshot(Repository.discover(root), folder)


def save(git, root) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Save")


def both(root, folder: str = "") -> list[Snapshot]:
    return [at_head(root, folder), working_tree(root, folder)]


def test_a_clean_working_tree_and_its_commit_show_the_same(project, git):
    (project / "link").symlink_to("training")
    (project / LATIN).write_bytes(b"a,b\r\n\x00\xff")
    save(git, project)
    commit, tree = both(project)
    assert dict(commit.entries()) == dict(tree.entries())
    assert commit.read(commit.entries()) == tree.read(tree.entries())
    assert commit.revision == tree.revision == git(project, "rev-parse", "HEAD")
    assert (commit.dirty, tree.dirty) == (False, False)
    blob = git(project, "rev-parse", "HEAD:training/run.sh")
    assert commit.entries()["training/run.sh"] == Entry("training/run.sh", "100755", blob, 10)
    assert commit.entries()["training/run.sh"].is_executable
    assert commit.entries()["link"].is_link
    assert commit.read(["link", LATIN]) == {"link": b"training", LATIN: b"a,b\r\n\x00\xff"}


def test_a_project_in_a_subfolder_sees_only_itself(project, git):
    inner = project / "teams/bikes"
    inner.mkdir(parents=True)
    (inner / "mlops.yaml").write_text("kind: Project\n")
    (inner / "data").mkdir()
    (inner / "data/a.csv").write_text("1\n")
    (project / "teams/bikes-evil").write_text("x")
    save(git, project)
    for snapshot in both(project, "teams/bikes/"):
        assert sorted(snapshot.entries()) == ["data/a.csv", "mlops.yaml"]
        assert snapshot.read(["data/a.csv", "training/train.py", "../../mlops.yaml"]) == {
            "data/a.csv": b"1\n"
        }
    (project / "elsewhere").write_text("x")
    assert not working_tree(project, "teams/bikes").dirty
    assert working_tree(project).dirty


def test_what_is_tracked(project, git):
    for snapshot in both(project):
        for path in ("mlops.yaml", "training", "training/", "./training/train.py", "", "."):
            assert snapshot.tracked(path), path
        for path in ("train", "training/x", "../project", "/etc/passwd", "training/../mlops.yaml"):
            assert not snapshot.tracked(path), path


def test_a_folder_that_the_commit_does_not_have_is_empty(project):
    assert at_head(project, "absent").entries() == {}
    assert not at_head(project, "absent").tracked("")
    assert dict(working_tree(project, "absent").entries()) == {}


@pytest.mark.parametrize("root", ["../x", "/etc", "a/../../b", "a\0b"])
def test_a_root_outside_of_the_repository_is_refused(project, root):
    with pytest.raises(MlopsError, match="leaves"):
        at_head(project, root)
    with pytest.raises(MlopsError, match="leaves"):
        working_tree(project, root)


@pytest.mark.parametrize("sha", ["HEAD", "--help", "", "abc", "A" * 40, "a" * 40 + "\n"])
def test_a_snapshot_wants_a_full_sha(project, sha):
    with pytest.raises(MlopsError, match="full sha"):
        GitSnapshot(Repository.discover(project), sha)


def test_a_folder_named_like_magic_or_an_option_is_only_a_name(project, git):
    for name in (":(top)", "-rf", "*", "a b\nc", ":/"):
        (project / name).mkdir(parents=True)
        (project / name / "f").write_text(name)
    save(git, project)
    for name in (":(top)", "-rf", "*", "a b\nc"):
        for snapshot in both(project, name):
            assert snapshot.read(["f"]) == {"f": name.encode()}


def test_files_of_hostile_names_are_read_back(project, git):
    names = ["a\nb", "tab\tb", 'q"uote', "100644 " + "a" * 40 + " 0\tfake", "? x", "H 1", " lead", "-n", "ü"]
    for name in names:
        (project / name).write_text(name)
    untracked = working_tree(project).read(names)
    save(git, project)
    assert untracked == {name: name.encode() for name in names}
    for snapshot in both(project):
        assert snapshot.read(names) == untracked


def test_the_working_tree_has_what_git_would_see(project, git):
    (project / ".gitignore").write_text("*.log\n.mlops/\n")
    (project / "run.log").write_text("x")
    (project / ".mlops").mkdir()
    (project / ".mlops/state.db").write_text("x")
    (project / "new.py").write_text("x")
    (project / "training/train.py").unlink()
    (project / "training/run.sh").chmod(0o644)
    snapshot = working_tree(project)
    assert sorted(snapshot.entries()) == [".gitignore", "mlops.yaml", "new.py", "training/run.sh"]
    assert not snapshot.entries()["training/run.sh"].is_executable
    assert snapshot.dirty
    assert len(snapshot.entries()) == 4


def test_an_empty_repository_and_one_without_files(tmp_path, git):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a").write_text("x")
    snapshot = working_tree(tmp_path)
    assert snapshot.revision == ""
    assert snapshot.read(["a"]) == {"a": b"x"}
    assert snapshot.dirty
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "empty")
    assert at_head(tmp_path).entries() == {}
    assert at_head(tmp_path).read(["a"]) == {}


def test_a_bare_repository_has_commits_but_no_working_tree(project, tmp_path, git):
    git(tmp_path, "clone", "--quiet", "--bare", str(project), "bare.git")
    assert at_head(tmp_path / "bare.git").tracked("training")
    with pytest.raises(MlopsError, match="bare"):
        working_tree(tmp_path / "bare.git")


def test_links_in_the_working_tree_are_never_followed(project, tmp_path, git):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "train.py").write_text("secret")
    (outside / "run.sh").write_text("secret")
    (project / "data").symlink_to(outside)
    (project / "passwd").symlink_to("/etc/passwd")
    (project / "training").rename(project / "moved")
    (project / "training").symlink_to(outside)
    snapshot = working_tree(project)
    assert "training/train.py" not in snapshot.entries()
    read = snapshot.read(["training/train.py", "data/train.py", "data", "passwd", "training"])
    assert read["data"] == os.fsencode(outside)
    assert read["passwd"] == b"/etc/passwd"
    assert b"secret" not in read.values()
    assert "training/train.py" not in read


def test_a_project_folder_that_is_a_link_is_not_followed(project, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/f").write_text("secret")
    (project / "sub").symlink_to(tmp_path / "outside")
    assert working_tree(project, "sub").read(["f"]) == {}


def test_pipes_and_folders_in_the_place_of_files_do_not_hang(project):
    (project / "mlops.yaml").unlink()
    os.mkfifo(project / "mlops.yaml")
    (project / "training/train.py").unlink()
    (project / "training/train.py").mkdir()
    os.mkfifo(project / "pipe")
    assert sorted(working_tree(project).entries()) == ["training/run.sh"]


def test_a_file_that_changes_after_it_was_hashed_is_not_passed_off_as_the_same(project):
    snapshot = working_tree(project)
    assert snapshot.entries()["mlops.yaml"].size == 14
    (project / "mlops.yaml").write_text("kind: Evil...\n")
    with pytest.raises(Transient, match="changed"):
        snapshot.read(["mlops.yaml"])
    (project / "training/train.py").unlink()
    with pytest.raises(Transient, match="went away"):
        snapshot.read(["training/train.py"])
    with pytest.raises(Transient):
        snapshot.entries()["training/train.py"]


def test_content_of_equal_size_changes_the_blob(project):
    before = working_tree(project).entries()["mlops.yaml"]
    stat = (project / "mlops.yaml").stat()
    (project / "mlops.yaml").write_text("kind: project\n")
    os.utime(project / "mlops.yaml", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = working_tree(project).entries()["mlops.yaml"]
    assert before.size == after.size
    assert before.blob != after.blob


def test_submodules_and_repositories_inside_are_not_files(project, git):
    for name in ("sub", "loose"):
        (project / name).mkdir()
        git(project / name, "init", "--quiet")
        (project / name / "f").write_text("x")
        git(project / name, "add", ".")
        git(project / name, "commit", "-qm", "f")
    git(project, "add", "sub")
    git(project, "commit", "-qm", "sub")
    assert at_head(project).submodules() == {"sub"}
    assert working_tree(project).submodules() == {"sub", "loose"}
    for snapshot in both(project):
        assert not any(path.startswith(("sub", "loose")) for path in snapshot.entries())
        assert snapshot.read(["sub", "sub/f"]) == {}
        assert not snapshot.tracked("sub")


def test_an_unfinished_merge_lists_each_file_once(project, git):
    git(project, "checkout", "-qb", "side")
    (project / "mlops.yaml").write_text("kind: A\n")
    save(git, project)
    git(project, "checkout", "-q", "main")
    (project / "mlops.yaml").write_text("kind: B\n")
    save(git, project)
    merge = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "merge", "side"]
    assert subprocess.run(merge, cwd=project, capture_output=True, check=False).returncode == 1
    assert list(working_tree(project).entries()).count("mlops.yaml") == 1
    assert b"<<<<<<<" in working_tree(project).read(["mlops.yaml"])["mlops.yaml"]


def test_line_ends_are_left_as_they_are(project, git):
    git(project, "config", "core.autocrlf", "true")
    (project / ".gitattributes").write_text("*.yaml text eol=crlf\n")
    save(git, project)
    assert at_head(project).read(["mlops.yaml"]) == {"mlops.yaml": b"kind: Project\n"}


def test_equal_files_are_read_once_and_given_to_each_path(project, git):
    for name in ("a", "b", "c"):
        (project / name).write_text("same")
    save(git, project)
    assert at_head(project).read(["c", "a", "b", "a"]) == dict.fromkeys("abc", b"same")


def test_a_sha256_repository_has_the_same_ids_on_disk_and_in_git(tmp_path, git):
    command = ["git", "init", "--quiet", "--object-format=sha256"]
    if subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("this git has no sha256 repositories")
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to("a")
    save(git, tmp_path)
    commit, tree = both(tmp_path)
    assert dict(commit.entries()) == dict(tree.entries())
    assert len(tree.entries()["a"].blob) == 64
    assert commit.read(["a", "b"]) == {"a": b"x", "b": b"a"}


def test_a_missing_object_is_named_by_its_path(project, git):
    blob = git(project, "rev-parse", "HEAD:mlops.yaml")
    snapshot = at_head(project)
    snapshot.entries()
    (project / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(MlopsError, match=r"mlops\.yaml is missing"):
        snapshot.read(["mlops.yaml"])


def test_a_lost_commit_is_an_error_and_not_an_empty_project(project):
    with pytest.raises(MlopsError, match="there is no commit"):
        GitSnapshot(Repository.discover(project), "1" * 40).entries()


def test_twenty_thousand_files_are_read_in_one_batch(tmp_path, git):
    """Made by fast-import, so that the test itself does not write 20,000 files."""
    git(tmp_path, "init", "--quiet", "-b", "main")
    lines = [b"commit refs/heads/main\ncommitter A <a@b> 1 +0000\ndata 1\nx\n"]
    lines += [b"M 100644 inline d%d/f%d\ndata %d\n%d\n" % (n % 97, n, len(str(n)), n) for n in range(20_000)]
    git(tmp_path, "fast-import", "--quiet", feed=b"".join(lines))
    snapshot = at_head(tmp_path)
    entries = snapshot.entries()
    assert len(entries) == 20_000
    data = snapshot.read(entries)
    assert len(data) == 20_000
    assert all(data[path] == path.rpartition("/f")[2].encode() for path in entries)
