"""Chosen files of a snapshot on a disk: whole or not at all, and nothing outside."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mlops.errors import MlopsError, Stalled, Transient
from mlops.source.export import export
from mlops.source.repository import Repository
from mlops.source.snapshot import GitSnapshot, WorkingTreeSnapshot

CODE = ["training/train.py", "training/run.sh"]


def at_head(root: Path) -> GitSnapshot:
    found = Repository.discover(root)
    return GitSnapshot(found, found.resolve("HEAD").sha)


def with_links(git, root: Path, links: dict[str, str | bytes]) -> GitSnapshot:
    """HEAD of `root` after links were committed; a text may be what no file system would take."""
    for path, text in links.items():
        raw = text if isinstance(text, bytes) else text.encode()
        blob = git(root, "hash-object", "-w", "--stdin", feed=raw)
        git(root, "update-index", "--add", "--cacheinfo", f"120000,{blob},{path}")
    git(root, "commit", "--quiet", "--message", "links")
    return at_head(root)


def with_tree(git, root: Path, *lines: tuple[str, bytes, str]) -> GitSnapshot:
    """A snapshot of a hand-made tree that git itself would refuse to make."""
    raw = b"".join(b"%s %s\0%s" % (m.encode(), name, bytes.fromhex(oid)) for m, name, oid in lines)
    tree = git(root, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", feed=raw)
    return GitSnapshot(Repository.discover(root), git(root, "commit-tree", "-m", "hostile", tree))


def tree_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_chosen_files_arrive_with_their_bytes_and_exec_bits(project, tmp_path):
    export(at_head(project), CODE, tmp_path / "deep/out")
    out = tmp_path / "deep/out"
    assert tree_of(out) == ["training", "training/run.sh", "training/train.py"]
    assert (out / "training/train.py").read_text() == "print('trained')\n"
    assert (out / "training/run.sh").stat().st_mode & stat.S_IXUSR
    assert not (out / "training/train.py").stat().st_mode & stat.S_IXUSR
    assert tree_of(tmp_path / "deep")[0] == "out"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_a_working_tree_is_exported_as_it_stands(project, tmp_path):
    (project / "training/train.py").write_text("print('new')\n")
    export(WorkingTreeSnapshot(Repository.discover(project)), CODE, tmp_path / "out")
    assert (tmp_path / "out/training/train.py").read_text() == "print('new')\n"


def test_a_working_tree_that_moves_leaves_nothing(project, tmp_path):
    snapshot = WorkingTreeSnapshot(Repository.discover(project))
    assert list(snapshot.entries().values())
    (project / "training/train.py").write_text("print('moved')\n")
    with pytest.raises(Transient):
        export(snapshot, CODE, tmp_path / "out")
    assert not any(p.name.startswith((".out", "out")) for p in tmp_path.iterdir())


def test_exporting_again_does_nothing(project, tmp_path):
    export(at_head(project), CODE, tmp_path / "out")
    (tmp_path / "out/training/made-by-training").write_text("x")
    before = (tmp_path / "out/training/train.py").stat().st_mtime_ns
    export(at_head(project), CODE, tmp_path / "out")
    assert (tmp_path / "out/training/train.py").stat().st_mtime_ns == before
    assert (tmp_path / "out/training/made-by-training").exists()


def test_an_empty_folder_is_filled_and_nothing_else_is_overwritten(project, tmp_path):
    (tmp_path / "out").mkdir()
    export(at_head(project), CODE, tmp_path / "out")
    assert (tmp_path / "out/training/train.py").exists()
    (tmp_path / "out/training/train.py").unlink()
    with pytest.raises(MlopsError, match=r"training/train\.py is missing"):
        export(at_head(project), CODE, tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(MlopsError, match="not a folder"):
        export(at_head(project), CODE, tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(MlopsError, match="not a folder"):
        export(at_head(project), CODE, tmp_path / "link")
    assert (tmp_path / "file").read_text() == "mine"


def test_exporting_nothing_makes_an_empty_folder(project, tmp_path):
    export(at_head(project), [], tmp_path / "out")
    export(at_head(project), [], tmp_path / "out")
    assert tree_of(tmp_path / "out") == []


def test_links_within_the_tree_work(project, tmp_path, git):
    links = {
        "training/latest.py": "train.py",
        "up": "./training/../training//train.py",
        "chain": "up",
        "folder": "training",
        "through": "folder/latest.py",
        "self": ".",
        "later": "not/chosen",
    }
    snapshot = with_links(git, project, links)
    export(snapshot, [*CODE, *links], tmp_path / "out")
    out = tmp_path / "out"
    for name in ("training/latest.py", "up", "chain", "through"):
        assert (out / name).is_symlink()
        assert (out / name).read_text() == "print('trained')\n"
    assert (out / "self").resolve() == out
    assert not (out / "later").exists()
    export(snapshot, [*CODE, *links], tmp_path / "out")


@pytest.mark.parametrize(
    "links",
    [
        {"x": "/etc/passwd"},
        {"x": "/nowhere/at/all"},
        {"x": "../out-evil/secret"},
        {"x": "../out/training/train.py"},
        {"training/x": "../../absent"},
        {"training/x": "../training/../../up"},
        {"a": "training/b", "training/b": "c", "training/c": "../../up"},
        {"d": "training", "x": "d/../../up"},
        {"d": ".", "x": "d/d/d/../up"},
        {"x": "y", "y": "x"},
        {"x": "x/x"},
        {"x": ""},
        {"x": b"a\0b"},
        {"x": "a" * 5000},
        {"x": ".git/config"},
        {"x": "training/.GIT/hooks"},
        {"one": "/etc", "x": "one/passwd"},
    ],
)
def test_links_that_leave_the_tree_are_refused_and_nothing_is_written(project, tmp_path, git, links):
    (tmp_path / "out-evil").mkdir()
    (tmp_path / "out-evil/secret").write_text("secret")
    snapshot = with_links(git, project, links)
    with pytest.raises(Stalled, match="symbolic link") as raised:
        export(snapshot, [*CODE, *links], tmp_path / "out")
    assert "passwd" not in str(raised.value)
    assert {p.name for p in tmp_path.iterdir()} == {"project", "out-evil"}


def test_a_long_chain_of_links_is_refused(project, tmp_path, git):
    links = {f"l{n}": f"l{n + 1}" for n in range(60)}
    snapshot = with_links(git, project, links)
    with pytest.raises(Stalled, match="circles"):
        export(snapshot, links, tmp_path / "out")


@pytest.mark.parametrize(
    "name", [b"..", b".git", b".GIT", b".git.", b"git~1", b".", ".g\u200cit".encode(), b"a/../../x", b"/abs"]
)
def test_names_that_a_disk_would_misunderstand_are_refused(project, tmp_path, git, name):
    blob = git(project, "rev-parse", "HEAD:mlops.yaml")
    folder = git(project, "rev-parse", "HEAD:training")
    for snapshot in (
        with_tree(git, project, ("100644", name, blob)),
        with_tree(git, project, ("40000", name, folder)),
    ):
        paths = list(snapshot.entries())
        assert paths
        with pytest.raises(Stalled, match="not exported"):
            export(snapshot, paths, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tree_with_a_link_and_a_folder_of_one_name_is_refused(project, tmp_path, git):
    link = git(project, "hash-object", "-w", "--stdin", feed=b"/etc")
    folder = git(project, "rev-parse", "HEAD:training")
    snapshot = with_tree(git, project, ("120000", b"a", link), ("40000", b"a", folder))
    with pytest.raises(Stalled, match="both"):
        export(snapshot, snapshot.entries(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_submodules_are_left_out_unless_asked_for(project, tmp_path, git):
    commit = git(project, "rev-parse", "HEAD")
    git(project, "update-index", "--add", "--cacheinfo", f"160000,{commit},vendor")
    git(project, "commit", "-qm", "submodule")
    snapshot = at_head(project)
    export(snapshot, snapshot.entries(), tmp_path / "out")
    assert not (tmp_path / "out/vendor").exists()
    with pytest.raises(Stalled, match="submodule"):
        export(snapshot, ["vendor"], tmp_path / "other")


def test_a_path_that_is_not_there_is_named(project, tmp_path):
    with pytest.raises(Stalled, match=r"training/absent\.py"):
        export(at_head(project), ["training/absent.py"], tmp_path / "out")


def test_names_that_are_no_utf8_keep_their_bytes(project, tmp_path, git):
    raw = os.fsencode(project) + b"/caf\xe9.py"
    with open(raw, "w") as file:
        file.write("x")
    git(project, "add", ".")
    git(project, "commit", "-qm", "latin")
    export(at_head(project), at_head(project).entries(), tmp_path / "out")
    assert b"caf\xe9.py" in [os.fsencode(p.name) for p in (tmp_path / "out").iterdir()]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_explained(project, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(MlopsError, match="cannot be exported"):
        export(at_head(project), CODE, tmp_path / "closed/out")


def test_a_file_in_the_way_of_the_folder_is_explained(project, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MlopsError, match="cannot be exported"):
        export(at_head(project), CODE, tmp_path / "file/out")


def test_an_export_that_is_killed_leaves_nothing_and_the_next_one_cleans_up(project, tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from mlops.source.export import export
        from mlops.source.repository import Repository
        from mlops.source.snapshot import GitSnapshot

        class Killed(GitSnapshot):
            def stream(self, paths):
                for number, found in enumerate(super().stream(paths)):
                    if number == 1:
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield found

        found = Repository.discover(Path(sys.argv[1]))
        export(Killed(found, found.head()), ["training/train.py", "training/run.sh"], Path(sys.argv[2]))
        """
    )
    out = tmp_path / "runs/out"
    done = subprocess.run([sys.executable, "-c", script, str(project), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert [p.name.endswith(".partial") for p in out.parent.iterdir()] == [True]
    export(at_head(project), CODE, out)
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_an_export_under_way_is_not_swept_by_another(project, tmp_path):
    """The second export runs in the middle of the first, which then finds itself overtaken."""

    class Slow(GitSnapshot):
        def stream(self, paths):
            export(at_head(project), CODE, tmp_path / "runs/out")
            partial = [p for p in (tmp_path / "runs").iterdir() if p.name.endswith(".partial")]
            self.seen = [*getattr(self, "seen", []), len(partial)]
            yield from super().stream(paths)

    found = Repository.discover(project)
    slow = Slow(found, found.head())
    export(slow, CODE, tmp_path / "runs/out")
    assert slow.seen[-1] == 1
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["out"]
