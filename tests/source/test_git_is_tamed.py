"""Nothing in a repository, its configuration or the environment makes git run a program or look elsewhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlops.errors import MlopsError, Transient
from mlops.source import git as runner
from mlops.source.export import export
from mlops.source.git import Conversation, run, shown
from mlops.source.initialise import commit_all
from mlops.source.objects import read_objects
from mlops.source.repository import Repository
from mlops.source.snapshot import GitSnapshot, WorkingTreeSnapshot


@pytest.fixture
def trap(project, tmp_path, git):
    """A repository that would write `sprung` by every way that its files and configuration know."""
    sprung = tmp_path / "sprung"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {sprung}\ncat\n')
    program.chmod(0o755)
    hooks = ["post-checkout", "pre-commit", "prepare-commit-msg", "commit-msg", "post-commit"]
    hooks += ["post-index-change", "reference-transaction", "fsmonitor-watchman", "pre-auto-gc"]
    (tmp_path / "hooks").mkdir()
    for folder in (project / ".git/hooks", tmp_path / "hooks"):
        for hook in hooks:
            (folder / hook).unlink(missing_ok=True)
            (folder / hook).symlink_to(program)
    (project / ".gitattributes").write_text("*.py filter=evil diff=evil\n*.sh filter=od=d diff=evil\n")
    git(project, "add", ".")
    git(project, "-c", "core.hooksPath=/dev/null", "commit", "-qm", "attributes")
    for key in ("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "filter.od=d.clean"):
        git(project, "config", key, str(program))
    git(project, "config", "filter.evil.required", "true")
    for key in ("core.fsmonitor", "diff.evil.textconv", "diff.evil.command", "diff.external", "core.pager"):
        git(project, "config", key, str(program))
    for key in ("gpg.program", "core.editor", "core.sshCommand", "core.askPass", "credential.helper"):
        git(project, "config", key, str(program))
    for key in ("commit.gpgSign", "log.showSignature", "status.submoduleSummary", "commit.verbose"):
        git(project, "config", key, "true")
    git(project, "config", "core.hooksPath", str(tmp_path / "hooks"))
    sprung.unlink(missing_ok=True)
    (project / "training/train.py").write_text("print('touched')\n")
    (project / "training/run.sh").write_text("#!/bin/sh\nexit\n")
    return sprung


def test_reading_a_hostile_repository_runs_none_of_its_programs(project, trap, tmp_path):
    found = Repository.discover(project)
    head = found.resolve("HEAD")
    assert found.dirty()
    found.changed(head.parents[0], head.sha)
    found.is_ancestor(head.parents[0], head.sha)
    for snapshot in (GitSnapshot(found, head.sha), WorkingTreeSnapshot(found)):
        assert snapshot.read(snapshot.entries())["training/train.py"]
        list(snapshot.entries().values())
        export(snapshot, snapshot.entries(), tmp_path / f"out-{snapshot.dirty}")
    assert not trap.exists(), trap.read_text()


def test_committing_runs_none_of_its_programs(project, trap, git):
    found = Repository.discover(project)
    commit_all(found, "All", ["training", ".gitattributes"])
    assert not trap.exists(), trap.read_text()
    assert GitSnapshot(found, found.head()).read(["training/train.py"]) == {
        "training/train.py": b"print('touched')\n"
    }


def test_the_trap_would_spring_for_plain_git(project, trap):
    subprocess.run(["git", "status"], cwd=project, capture_output=True, check=False)
    assert trap.exists()


def test_a_hostile_submodule_runs_nothing(project, tmp_path, git):
    sprung, program = tmp_path / "sprung", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {sprung}\n")
    program.chmod(0o755)
    inner = project / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "f").write_text("x")
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "inner")
    git(project, "add", "inner")
    git(project, "commit", "-qm", "submodule")
    (inner / "f").write_text("y")
    (project / "new").write_text("new")
    git(inner, "config", "core.fsmonitor", str(program))
    found = Repository.discover(project)
    found.dirty()
    snapshot = WorkingTreeSnapshot(found)
    assert snapshot.read(["inner", "inner/f", "new"]) == {"new": b"new"}
    assert snapshot.submodules() == {"inner"}
    commit_all(found, "With a submodule", ["."])
    assert not sprung.exists()
    git(project, "status")
    assert sprung.exists(), "the trap must be real"


def test_the_environment_of_an_enclosing_hook_is_ignored(project, tmp_path, git, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git/objects",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_NAMESPACE": "x",
        "GIT_PREFIX": "training/",
        "GIT_TRACE": "1",
        "GIT_EXTERNAL_DIFF": "/bin/false",
        "GIT_CONFIG_PARAMETERS": "'core.bare'='true'",
        "GIT_GLOB_PATHSPECS": "1",
        "LC_ALL": "de_DE.UTF-8",
        "LANGUAGE": "de",
    }.items():
        monkeypatch.setenv(name, str(value))
    found = Repository.discover(project)
    assert found.root == project
    assert "mlops.yaml" in GitSnapshot(found, found.head()).entries()
    assert "mlops.yaml" in WorkingTreeSnapshot(found).entries()
    assert not found.dirty()


def test_a_program_called_git_in_the_current_folder_is_not_run(project, tmp_path, monkeypatch):
    fake = project / "git"
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    fake.chmod(0o755)
    monkeypatch.chdir(project)
    monkeypatch.setenv("PATH", f".::{os.environ['PATH']}")
    Repository.discover(project).resolve("HEAD")
    assert not (tmp_path / "sprung").exists()


def test_without_git_the_error_says_to_install_it(project, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MlopsError, match="Install git"):
        Repository.discover(project)


def test_a_repository_of_another_user_is_explained(project, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(MlopsError, match=r"another user.*safe\.directory"):
        Repository.discover(project)


def test_a_partial_clone_is_explained_and_never_fetches(project, tmp_path, git):
    git(project, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", project.as_uri(), "partial")
    git(
        tmp_path / "partial",
        "config",
        "remote.origin.uploadpack",
        f"touch {tmp_path}/sprung; git-upload-pack",
    )
    found = Repository.discover(tmp_path / "partial")
    snapshot = GitSnapshot(found, found.head())
    with pytest.raises(MlopsError, match=r"partial clone|--filter"):
        snapshot.read(["mlops.yaml"])
    assert not (tmp_path / "sprung").exists()


def test_output_beyond_the_limit_and_time_stop_the_process(project, monkeypatch):
    with pytest.raises(MlopsError, match="more than 10 bytes"):
        run(["log"], project, limit=10)
    talk = Conversation(["cat-file", "--batch"], project, iter([b"HEAD\n"]))
    monkeypatch.setattr(talk, "_write", lambda: talk._poll.unregister(talk._process.stdin.fileno()))
    with pytest.raises(Transient, match="too long"):
        talk.chunk(0.05)
    talk.close()
    assert talk._process.returncode is not None


def test_a_reader_that_stops_early_leaves_no_process(project, git):
    ids = git(project, "rev-parse", "HEAD", "HEAD^{tree}").split()
    answers = read_objects(project, (i for _ in range(100_000) for i in ids))
    next(answers)
    process = answers.gi_frame.f_locals["talk"]._process
    answers.close()
    assert process.poll() is not None


def test_a_hundred_thousand_ids_are_fed_while_answers_are_read(project, git):
    blob = git(project, "rev-parse", "HEAD:mlops.yaml")
    seen = sum(item.kind == "blob" for item in read_objects(project, [blob, "0" * 40] * 50_000))
    assert seen == 50_000


def test_objects_beyond_the_limit_are_refused_before_they_are_read(project):
    with pytest.raises(MlopsError, match="more than the 5"):
        list(read_objects(project, ["HEAD:mlops.yaml"], limit=5))


def test_a_failure_tells_gits_reason_without_credentials(project):
    problem = runner.failure(
        "fetch", 128, "hint: x\nfatal: no access to 'https://me:s3cret@h/x'\nmore", project
    )
    assert "s3cret" not in str(problem)
    assert "no access" in str(problem)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh://u:p@h/x", "ssh://***@h/x"),
        ("a\x1b]0;b\n\udce9\u202e", "a\\x1b]0;b\\n\\udce9\\u202e"),
        ("https://h/a@b", "https://h/a@b"),
        ("Zoë", "Zoë"),
    ],
)
def test_what_is_printed_is_plain(text, expected):
    assert shown(text) == expected


def test_a_lock_is_transient(project: Path):
    (project / ".git/index.lock").touch()
    (project / "new").write_text("x")
    with pytest.raises(Transient, match="another git command"):
        commit_all(Repository.discover(project), "x", ["new"])


def test_each_git_command_is_told_of_once_with_whether_it_failed(project, monkeypatch):
    told = []
    monkeypatch.setattr(runner, "on_call", lambda *call: told.append((call[0], call[2])))
    repository = Repository.discover(project)
    repository.is_ancestor("HEAD", "HEAD")
    with pytest.raises(MlopsError):
        run(["cat-file", "-e", "nothing-of-this-name"], repository.root)
    assert told == [("rev-parse", False), ("merge-base", False), ("cat-file", True)]
