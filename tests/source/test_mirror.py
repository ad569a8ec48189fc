"""A mirror follows a branch of a remote repository, whatever happens to either of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlops.errors import MlopsError, Stalled, Transient
from mlops.source import mirror as module
from mlops.source.mirror import Mirror
from mlops.source.repository import Repository
from mlops.source.snapshot import GitSnapshot

APPROVAL = "approve/p/1.0.0/ada%40example.com"


@pytest.fixture
def mirror(project, tmp_path) -> Mirror:
    return Mirror(str(project), tmp_path / "home/mirror.git", environ=os.environ)


def more(git, root: Path, text: str = "more") -> str:
    (root / "mlops.yaml").write_text(f"kind: Project # {text}\n")
    git(root, "commit", "-qam", text)
    return git(root, "rev-parse", "HEAD")


def refs(git, mirror: Mirror) -> list[str]:
    return git(mirror.folder, "for-each-ref", "--format=%(refname)").split()


def test_a_branch_is_followed_and_read_like_any_repository(project, mirror, git):
    repository = mirror.open()
    assert (repository.tip("main"), repository.head()) == (None, None)
    first = git(project, "rev-parse", "HEAD")
    assert mirror.fetch("main") == first
    assert repository.tip("main") == repository.tip() == repository.head() == first
    assert repository.branch() == "main"
    assert GitSnapshot(repository, first).read(["mlops.yaml"]) == {"mlops.yaml": b"kind: Project\n"}
    second = more(git, project)
    assert mirror.fetch("main") == second
    assert repository.is_ancestor(first, second) is True
    assert repository.is_ancestor(second, first) is False
    assert repository.is_ancestor("1" * 40, second) is None
    assert Repository.discover(mirror.folder) == repository == mirror.open()
    assert repository.dirty() is False


def test_only_the_branch_and_the_approvals_are_brought(project, mirror, git):
    for name in ("v1", "approved", APPROVAL):
        git(project, "tag", "-a", name, "-m", name)
    git(project, "branch", "other")
    mirror.fetch("main")
    assert refs(git, mirror) == ["refs/heads/main", f"refs/tags/{APPROVAL}"]


def test_it_says_whether_the_branch_or_an_approval_moved(project, mirror, git):
    def brought() -> bool:
        mirror.fetch("main")
        return mirror.brought

    assert [brought(), brought()] == [True, False]
    git(project, "tag", "-a", APPROVAL, "-m", "one")
    assert [brought(), brought()] == [True, False]
    git(project, "tag", "-f", "-a", APPROVAL, "-m", "two")
    assert [brought(), brought()] == [True, False]
    git(project, "tag", "-d", APPROVAL)
    assert [brought(), brought()] == [True, False]
    assert refs(git, mirror) == ["refs/heads/main"]
    more(git, project)
    assert [brought(), brought()] == [True, False]


def test_approvals_whose_names_are_in_each_others_way(project, mirror, git):
    for name in ("approve/p", "approve/p/1", "approve/p/1/ada"):
        git(project, "tag", "-am", "x", name)
        mirror.fetch("main")
        assert refs(git, mirror) == ["refs/heads/main", f"refs/tags/{name}"]
        git(project, "tag", "-d", name)


def test_an_approval_that_names_no_commit_stops_nothing(project, mirror, git):
    git(project, "update-ref", f"refs/tags/{APPROVAL}", git(project, "rev-parse", "HEAD:mlops.yaml"))
    git(project, "update-ref", "refs/tags/approve/tree", git(project, "rev-parse", "HEAD^{tree}"))
    assert mirror.fetch("main") == git(project, "rev-parse", "HEAD")
    assert mirror.open().tip("main") == git(project, "rev-parse", "HEAD")


def test_a_branch_that_names_no_commit_is_refused_and_the_old_one_stays(project, mirror, git):
    first = mirror.fetch("main")
    (project / ".git/refs/heads/main").write_text(git(project, "rev-parse", "HEAD:mlops.yaml") + "\n")
    with pytest.raises(Transient, match="non-commit"):
        mirror.fetch("main")
    assert mirror.open().tip("main") == first


@pytest.mark.parametrize("spelling", ["{path}", "file://{path}", "relative", "file://localhost{path}"])
def test_a_local_repository_is_named_in_several_ways(project, tmp_path, git, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    url = spelling.format(path=project) if "path" in spelling else "project"
    found = Mirror(url, tmp_path / "mirror.git", environ=os.environ)
    monkeypatch.chdir("/")
    assert found.fetch("main") == git(project, "rev-parse", "HEAD")


def test_a_path_that_is_no_utf_8_and_a_mirror_in_one(project, tmp_path, git):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 ;$(touch x)")
    project.rename(odd)
    found = Mirror(odd, Path(odd + "-mirror") / "m", environ=os.environ)
    assert found.fetch("main") == git(Path(odd), "rev-parse", "HEAD")
    assert GitSnapshot(found.open(), found.fetch("main")).entries()
    encoded = "file://" + os.fsencode(odd).decode("ascii", "surrogateescape").encode(
        "ascii", "surrogateescape"
    ).replace(b"\xe9", b"%E9").replace(b" ", b"%20").decode("ascii")
    assert Mirror(encoded, tmp_path / "other", environ=os.environ).fetch("main")
    shutil.rmtree(odd)
    with pytest.raises(Transient) as raised:
        found.fetch("main")
    str(raised.value).encode()


def test_a_file_whose_name_is_no_utf_8_arrives(project, mirror, git):
    Path(os.fsdecode(os.fsencode(project) + b"/caf\xe9")).write_text("x")
    git(project, "add", ".")
    git(project, "commit", "-qm", "odd")
    assert "caf\udce9" in GitSnapshot(mirror.open(), mirror.fetch("main")).entries()


def test_a_branch_whose_name_is_no_utf_8_is_followed_and_given_up(project, mirror, git):
    odd = os.fsdecode(b"caf\xe9")
    git(project, "branch", odd)
    assert mirror.fetch(odd) == git(project, "rev-parse", "HEAD") == mirror.open().tip(odd)
    git(project, "branch", "-D", odd)
    git(project, "branch", f"{odd}/x")
    assert mirror.fetch(f"{odd}/x") == git(project, "rev-parse", "HEAD")


def test_a_force_push_is_followed_and_a_kept_revision_outlives_it(project, mirror, git):
    old = mirror.fetch("main")
    assert mirror.keep([old]) == frozenset()
    git(project, "commit", "--amend", "-qm", "rewritten")
    new = mirror.fetch("main")
    assert new == git(project, "rev-parse", "HEAD") != old
    for command in (["reflog", "expire", "--expire=now", "--all"], ["gc", "--prune=now", "--quiet"]):
        git(mirror.folder, *command)
    repository = mirror.open()
    assert repository.is_ancestor(old, new) is False
    assert GitSnapshot(repository, old).read(["mlops.yaml"])
    assert mirror.keep([new]) == frozenset()
    git(mirror.folder, "gc", "--prune=now", "--quiet")
    assert repository.is_ancestor(old, new) is None
    assert mirror.keep([old, new]) == {old}
    assert mirror.keep([old, new]) == {old}
    assert refs(git, mirror) == ["refs/heads/main", f"refs/mlops/kept/{new}"]
    assert mirror.keep([]) == frozenset()
    assert refs(git, mirror) == ["refs/heads/main"]
    with pytest.raises(MlopsError, match="not the full sha"):
        mirror.keep(["HEAD"])


def test_a_deleted_branch_leaves_what_was_brought(project, mirror, git):
    first = mirror.fetch("main")
    git(project, "checkout", "-q", "--detach")
    git(project, "branch", "-D", "main")
    assert mirror.fetch("main") is None
    assert mirror.open().tip("main") == first
    assert mirror.fetch("never-there") is None
    assert mirror.open().branch() == "main"


def test_another_branch_is_followed_also_where_the_old_ones_name_is_in_the_way(project, mirror, git):
    first = mirror.fetch("main")
    git(project, "branch", "-m", "main", "aside")
    git(project, "branch", "main/next")
    assert mirror.fetch("main/next") == first
    assert mirror.open().branch() == "main/next"
    git(project, "branch", "-D", "main/next")
    git(project, "branch", "main")
    assert mirror.fetch("main") == first


@pytest.mark.parametrize("name", ["", "-x", "a..b", "x y", "*", "a:b", "../x", "a/.b", "x.lock", "a\nb", "@"])
def test_a_name_that_is_no_branch_is_refused(mirror, name):
    with pytest.raises(MlopsError, match="not a name"):
        mirror.fetch(name)


def test_a_vanished_repository_is_transient_and_changes_nothing(project, mirror, git):
    first = mirror.fetch("main")
    project.rename(project.with_name("aside"))
    with pytest.raises(Transient, match=r"no such repository.*does not appear to be a git repository"):
        mirror.fetch("main")
    assert mirror.open().tip("main") == first
    project.with_name("aside").rename(project)
    assert mirror.fetch("main") == first


def test_an_empty_repository_has_no_branch_yet(tmp_path, git):
    git(tmp_path, "init", "-q", "-b", "main", "empty")
    found = Mirror(str(tmp_path / "empty"), tmp_path / "m", environ=os.environ)
    assert found.fetch("main") is None
    (tmp_path / "empty/mlops.yaml").write_text("x")
    git(tmp_path / "empty", "add", ".")
    git(tmp_path / "empty", "commit", "-qm", "first")
    assert found.fetch("main") == git(tmp_path / "empty", "rev-parse", "HEAD")


def test_a_shallow_repository_is_followed_and_completed_when_it_is(project, tmp_path, git):
    first = git(project, "rev-parse", "HEAD")
    second = more(git, project)
    git(tmp_path, "clone", "-q", "--depth=1", project.as_uri(), "shallow")
    found = Mirror(str(tmp_path / "shallow"), tmp_path / "m", environ=os.environ)
    assert found.fetch("main") == second == found.fetch("main")
    repository = found.open()
    assert repository.is_shallow()
    assert repository.is_ancestor(first, second) is None
    git(tmp_path / "shallow", "fetch", "-q", "--unshallow")
    assert found.fetch("main") == second
    assert not repository.is_shallow()
    assert repository.is_ancestor(first, second) is True


def test_a_partial_clone_as_remote_is_transient_and_fetches_nothing_itself(project, tmp_path, git):
    git(project, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", project.as_uri(), "partial")
    git(
        tmp_path / "partial",
        "config",
        "remote.origin.uploadpack",
        f"touch {tmp_path}/sprung; git-upload-pack",
    )
    with pytest.raises(Transient):
        Mirror(str(tmp_path / "partial"), tmp_path / "m", environ=os.environ).fetch("main")
    assert not (tmp_path / "sprung").exists()


def test_a_sha256_repository_is_followed(tmp_path, git):
    git(tmp_path, "init", "-q", "-b", "main", "--object-format=sha256", "new")
    git(tmp_path / "new", "commit", "--allow-empty", "-qm", "first")
    found = Mirror(str(tmp_path / "new"), tmp_path / "m", environ=os.environ)
    assert found.open().object_format == "sha1"
    assert found.fetch("main") == git(tmp_path / "new", "rev-parse", "HEAD")
    assert found.open().object_format == "sha256"


def test_a_hostile_local_repository_runs_nothing(project, mirror, tmp_path, git):
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/sprung\n')
    program.chmod(0o755)
    (tmp_path / "hooks").mkdir()
    for hook in ("reference-transaction", "post-update", "pre-auto-gc", "post-merge", "fsmonitor-watchman"):
        (tmp_path / "hooks" / hook).symlink_to(program)
    for key in (
        "uploadpack.packObjectsHook",
        "core.fsmonitor",
        "core.alternateRefsCommand",
        "core.sshCommand",
    ):
        git(project, "config", key, str(program))
    for key in ("core.gitProxy", "core.pager", "core.editor", "gpg.program", "credential.helper"):
        git(project, "config", key, str(program))
    git(project, "config", "core.hooksPath", str(tmp_path / "hooks"))
    (tmp_path / "hooks/post-index-change").unlink(missing_ok=True)
    assert mirror.fetch("main")
    assert mirror.fetch("main")
    assert not (tmp_path / "sprung").exists(), (tmp_path / "sprung").read_text()
    assert not list(mirror.folder.glob("hooks/*"))


def test_a_hostile_mirror_configuration_of_the_user_is_overruled(project, mirror, tmp_path, git, monkeypatch):
    """Settings that a user may well have, and that would change what a mirror holds."""
    configuration = tmp_path / "gitconfig"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    mirror = Mirror(str(project), mirror.folder, environ=os.environ)
    for key, value in (
        ("fetch.pruneTags", "true"),
        ("safe.bareRepository", "explicit"),
        ("core.hooksPath", str(tmp_path)),
        ("fetch.writeCommitGraph", "true"),
        ("init.defaultBranch", "x"),
        ("core.logAllRefUpdates", "always"),
        ("gc.pruneExpire", "now"),
        ("transfer.unpackLimit", "1000"),
    ):
        git(tmp_path, "config", "--file", str(configuration), key, value)
    git(project, "tag", "v1")
    assert mirror.fetch("main")
    assert mirror.open().resolve("main").sha == mirror.fetch("main")
    assert git(mirror.folder, "--git-dir=.", "for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_a_damaged_mirror_is_set_aside_and_made_again(project, mirror, git):
    first = mirror.fetch("main")

    def lose(name: str) -> None:
        (mirror.folder / name).unlink()

    def truncate_packs() -> None:
        for pack in (mirror.folder / "objects/pack").glob("*.pack"):
            pack.chmod(0o644)
            pack.write_bytes(b"")

    for damage in (
        lambda: lose("HEAD"),
        lambda: shutil.rmtree(mirror.folder / "objects"),
        lambda: (mirror.folder / "config").write_text("[core\n"),
        truncate_packs,
        lambda: (mirror.folder / "refs/heads/main").write_bytes(b""),
        lambda: (shutil.rmtree(mirror.folder), mirror.folder.write_text("a file")),
        lambda: lose("HEAD"),
    ):
        for opened_before in (True, False):
            damage()
            if opened_before:
                mirror.open()
            assert mirror.fetch("main") == first
            assert GitSnapshot(mirror.open(), first).read(["mlops.yaml"])
    assert mirror.folder.with_name(".mirror.git.damaged").is_dir()


@pytest.mark.parametrize("bare", [False, True])
def test_a_damaged_mirror_never_takes_the_repository_around_it_for_itself(project, tmp_path, git, bare):
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(project), "other")
    theirs = more(git, other, "theirs")
    git(tmp_path, "clone", "-q", "--bare", str(project), "bare.git")
    around = tmp_path / "bare.git" if bare else project
    found = Mirror(str(other), around / "x/mirror.git", environ=os.environ)
    ours = git(around, "rev-parse", "HEAD")
    found.open()
    (found.folder / "HEAD").unlink()
    assert found.fetch("main") == theirs
    assert git(around, "rev-parse", "main") == ours
    (found.folder / "HEAD").unlink()
    with pytest.raises(MlopsError):
        found.keep([ours])
    assert "kept" not in git(around, "for-each-ref")


def test_what_a_killed_git_left_is_cleared_away(project, mirror, git):
    mirror.fetch("main")
    left = [
        "HEAD.lock",
        "packed-refs.lock",
        "packed-refs.new",
        "config.lock",
        "shallow.lock",
        "gc.pid",
        "refs/heads/main.lock",
        f"refs/tags/{APPROVAL}.lock",
        "objects/pack/tmp_pack_x",
        "objects/pack/pack-1.keep",
        "objects/tmp_objdir-x/file",
    ]
    for name in left:
        (mirror.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror.folder / name).write_text("")
    second = more(git, project)
    git(project, "tag", "-am", "x", APPROVAL)
    assert mirror.fetch("main") == second
    assert not [name for name in left if (mirror.folder / name).exists()]
    assert refs(git, mirror) == ["refs/heads/main", f"refs/tags/{APPROVAL}"]


STANDSTILL = """
import os, pathlib, sys
from mlops.source.mirror import Mirror
Mirror(sys.argv[1], pathlib.Path(sys.argv[2]), environ=os.environ).fetch("main")
"""


def processes_with(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if text.encode() in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def until(condition, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def hanging(tmp_path):
    """A host that takes connections and never answers: its URL, and how many it took."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []
        server.settimeout(0.05)
        done = threading.Event()

        def take() -> None:
            while not done.is_set():
                try:
                    taken.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x.git", taken
        done.set()
        thread.join()
        for connection in taken:
            connection.close()


def test_a_host_that_hangs_is_given_up_with_everything_that_was_started(hanging, tmp_path, monkeypatch):
    url, _ = hanging
    monkeypatch.setattr(module, "STILL", 0.5)
    with pytest.raises(Transient, match=r"stood still.*tried again"):
        Mirror(url, tmp_path / "m", environ=os.environ).fetch("main")
    assert until(lambda: not processes_with(url))


def test_closing_stops_a_fetch_under_way(hanging, tmp_path):
    url, taken = hanging
    found = Mirror(url, tmp_path / "m", environ=os.environ)
    raised: list[BaseException] = []

    def fetch() -> None:
        try:
            found.fetch("main")
        except Transient as problem:
            raised.append(problem)

    thread = threading.Thread(target=fetch)
    thread.start()
    assert until(lambda: taken)
    found.keep([])  # what the loop does meanwhile does not wait for the host
    found.close()
    thread.join(20)
    assert "was stopped" in str(raised[0])
    assert until(lambda: not processes_with(url))
    with pytest.raises(Transient):
        found.fetch("main")


def test_after_a_kill_in_the_middle_of_a_fetch_the_next_one_ends_it_and_mends(
    hanging, project, tmp_path, git
):
    url, taken = hanging
    killed = subprocess.Popen([sys.executable, "-c", STANDSTILL, url, str(tmp_path / "m")], cwd="/")
    assert until(lambda: taken), "it must have begun"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert processes_with("fetch\0--progress"), "git outlives its parent"
    (tmp_path / "m/refs/heads/main.lock").write_text("")
    assert Mirror(str(project), tmp_path / "m", environ=os.environ).fetch("main") == git(
        project, "rev-parse", "HEAD"
    )
    assert until(lambda: not processes_with(url))


def test_kills_at_any_instant_leave_a_mirror_that_the_next_fetch_completes(project, tmp_path, git):
    (project / "data").write_bytes(os.urandom(3_000_000))
    git(project, "add", ".")
    for number in range(12):
        git(project, "tag", "-am", "x", f"approve/p/{number}/ada")
        sha = more(git, project, f"{number}")
        command = [sys.executable, "-c", STANDSTILL, str(project), str(tmp_path / "m")]
        killed = subprocess.Popen(command, start_new_session=True)
        until(lambda: (tmp_path / "m.lock").exists())
        time.sleep(number * 0.007)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        if number % 4 == 3:
            found = Mirror(str(project), tmp_path / "m", environ=os.environ)
            assert found.fetch("main") == sha
            assert len(refs(git, found)) == number + 2
            git(found.folder, "fsck", "--full", "--strict")


def test_two_processes_do_not_write_at_once(hanging, project, tmp_path, monkeypatch):
    url, taken = hanging
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    first = Mirror(url, tmp_path / "m", environ=os.environ)

    def fetch() -> None:
        with pytest.raises(Transient, match="was stopped"):
            first.fetch("main")

    thread = threading.Thread(target=fetch)
    thread.start()
    assert until(lambda: taken)
    with pytest.raises(Transient, match="another process"):
        Mirror(str(project), tmp_path / "m", environ=os.environ).fetch("main")
    first.close()
    thread.join(20)


def test_a_process_that_got_the_number_of_a_dead_fetch_is_left_alone(project, mirror):
    mirror.fetch("main")
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        (mirror.folder.parent / "mirror.git.lock").write_text(f"{bystander.pid} 1\n")
        assert mirror.fetch("main")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_more_than_may_come_is_stopped(project, mirror, git, monkeypatch):
    (project / "data").write_bytes(os.urandom(30_000_000))
    git(project, "-c", "core.compression=0", "add", ".")
    git(project, "-c", "core.compression=0", "commit", "-qm", "large")
    git(project, "config", "pack.compression", "0")
    git(project, "config", "pack.window", "0")
    monkeypatch.setattr(module, "LARGEST", 1000)
    monkeypatch.setattr(module, "_TICK", 0.0)
    with pytest.raises(Stalled, match="outside of git"):
        mirror.fetch("main")
    assert not list(mirror.folder.glob("objects/pack/tmp_*"))
    monkeypatch.setattr(module, "LARGEST", 10**9)
    assert mirror.fetch("main") == git(project, "rev-parse", "HEAD")


def test_many_fetches_leave_few_packs_and_keep_what_is_to_be_kept(project, mirror, git, monkeypatch):
    limit = module._TIDY.index("gc.autoPackLimit=50")
    monkeypatch.setattr(
        module, "_TIDY", (*module._TIDY[:limit], "gc.autoPackLimit=3", *module._TIDY[limit + 1 :])
    )
    kept = mirror.fetch("main")
    mirror.keep([kept])
    for number in range(6):
        git(project, "commit", "--amend", "--allow-empty", "-qm", f"rewritten {number}")
        mirror.fetch("main")
    assert len(list(mirror.folder.glob("objects/pack/*.pack"))) > 4
    before = mirror.fetch("main")
    assert len(list(mirror.folder.glob("objects/pack/*.pack"))) <= 2
    assert mirror.fetch("main") == before
    assert GitSnapshot(mirror.open(), kept).read(["mlops.yaml"])


def test_the_remotes_own_default_branch_is_known(project, mirror, git):
    git(project, "branch", "-m", "main", "trunk")
    assert mirror.default_branch() == "trunk"
    git(project, "checkout", "-q", "--detach")
    assert mirror.default_branch() is None
    shutil.rmtree(project)
    with pytest.raises(Transient):
        mirror.default_branch()
