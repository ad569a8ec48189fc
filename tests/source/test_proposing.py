"""The reconciler's own commits: beside people's work, the same however often, and never over somebody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from git_server import GitServer

from mlops.errors import MlopsError, Stalled, Transient
from mlops.source.mirror import Mirror
from mlops.source.proposing import Author, LeftAlone, commit
from mlops.source.publishing import is_ours, merged, origin, overtaken, push, withdraw
from mlops.source.remote import Remote
from mlops.source.repository import Repository

BRANCH = "mlops/promotion/loan/1.1.0"
AUTHOR = Author("Acme Inc.", "mlops@acme.example")
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILES = {
    "mlops.yaml": "kind: Project # changed\r\n",
    "a/b/new.yaml": "kind: New\n",
    "training/run.sh": "#!/bin/true\n",
}
SECRET = "ghs_Sup3rSecretTokenOfTheTest42"


def make(repository: Repository, base: str, **changed: object) -> str:
    given: dict[str, object] = {
        "branch": BRANCH,
        "message": "Train again\n\nIt drifted.",
        "author": AUTHOR,
        "at": AT,
    }
    files = changed.pop("files", FILES)
    return commit(repository, base, files, **{**given, **changed})  # type: ignore[arg-type]


@pytest.fixture
def repository(project: Path) -> Repository:
    return Repository.discover(project)


def head(git, project: Path) -> str:
    return git(project, "rev-parse", "HEAD")


def moved_on(git, project: Path, file: str = "other.txt") -> str:
    (project / file).write_text("more\n")
    git(project, "add", file)
    git(project, "commit", "-qm", "More")
    return head(git, project)


def test_a_commit_changes_its_files_only_and_touches_neither_working_tree_nor_index(repository, project, git):
    (project / "mlops.yaml").write_text("half done")
    (project / "training/train.py").write_text("staged")
    git(project, "add", "training/train.py")
    before = (git(project, "status", "--porcelain"), (project / ".git/index").read_bytes())
    sha = make(repository, head(git, project))
    assert (git(project, "status", "--porcelain"), (project / ".git/index").read_bytes()) == before
    assert git(project, "rev-parse", BRANCH) == sha
    assert git(project, "branch", "--show-current") == "main"
    changed = git(project, "diff", "--raw", "--abbrev=1", f"main..{BRANCH}").splitlines()
    assert [(line.split()[1], line.split()[4], line.split("\t")[1]) for line in changed] == [
        ("100644", "A", "a/b/new.yaml"),
        ("100644", "M", "mlops.yaml"),
        ("100755", "M", "training/run.sh"),
    ]
    for path, text in FILES.items():
        shown = subprocess.run(["git", "show", f"{sha}:{path}"], cwd=project, capture_output=True, check=True)
        assert shown.stdout == text.encode()
    told = git(project, "log", "-1", "--format=%an|%ae|%cn|%ce|%aI|%cI|%B", sha)
    who = "Acme Inc|mlops@acme.example"
    when = "2026-03-01T12:00:00+00:00"
    assert (
        told.rstrip() == f"{who}|{who}|{when}|{when}|Train again\n\nIt drifted.\n\nMlops-Proposal: {BRANCH}"
    )
    assert git(project, "fsck", "--strict") == ""


def test_the_same_in_another_clone_is_the_same_commit_and_done_again_it_is_done_once(
    repository, project, git, tmp_path
):
    sha = make(repository, head(git, project))
    log = git(project, "reflog", BRANCH)
    assert make(repository, head(git, project)) == sha
    assert make(repository, head(git, project), at=AT.replace(year=2027)) == sha  # it says the same
    assert git(project, "reflog", BRANCH) == log
    git(tmp_path, "clone", "-q", "--bare", "--single-branch", str(project), "bare.git")
    bare = Repository.discover(tmp_path / "bare.git")
    assert bare.bare
    assert make(bare, head(git, project)) == sha


def test_signing_hooks_filters_and_an_identity_that_are_configured_play_no_part(repository, project, git):
    ran = project / "ran"
    (project / ".git/hooks").mkdir(exist_ok=True)
    for hook in ("pre-commit", "commit-msg", "reference-transaction", "post-commit", "post-rewrite"):
        (project / ".git/hooks" / hook).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (project / ".git/hooks" / hook).chmod(0o755)
    for name, value in {
        "commit.gpgSign": "true",
        "gpg.program": "/bin/false",
        "user.useConfigOnly": "true",
        "core.autocrlf": "true",
        "i18n.commitEncoding": "latin1",
        "filter.x.clean": f"touch {ran}",
        "core.logAllRefUpdates": "always",
    }.items():
        git(project, "config", name, value)
    (project / ".gitattributes").write_text("* filter=x text=auto\n")
    sha = make(repository, head(git, project), message="Trainé")
    assert not ran.exists()
    raw = subprocess.run(
        ["git", "cat-file", "commit", sha], cwd=project, capture_output=True, check=True
    ).stdout
    assert "Trainé".encode() in raw
    assert b"encoding" not in raw
    assert b"gpgsig" not in raw
    assert git(project, "cat-file", "-p", f"{sha}:mlops.yaml") == "kind: Project # changed\r"


def test_another_proposal_replaces_ours_so_that_there_is_one_commit_on_the_base(repository, project, git):
    first = make(repository, head(git, project))
    second = make(repository, head(git, project), files={"mlops.yaml": "kind: Else\n"})
    assert second != first
    assert git(project, "rev-list", "--count", f"main..{BRANCH}") == "1"
    assert git(project, "diff", "--name-only", f"main..{BRANCH}") == "mlops.yaml"


def test_a_base_that_moved_elsewhere_leaves_it_and_one_that_moved_there_has_it_made_again(
    repository, project, git
):
    sha = make(repository, head(git, project))
    assert make(repository, moved_on(git, project)) == sha
    base = moved_on(git, project, "mlops.yaml")
    again = make(repository, base)
    assert again != sha
    assert git(project, "rev-parse", f"{BRANCH}^") == base
    git(project, "commit", "-q", "--amend", "-m", "Rewritten")
    assert git(project, "rev-parse", f"{make(repository, head(git, project))}^") == head(git, project)


@pytest.mark.parametrize("how", ["commit", "amend", "rebase", "merge", "checkout"])
def test_what_people_did_to_the_branch_is_left_alone(repository, project, git, how):
    make(repository, head(git, project))
    moved_on(git, project)
    git(project, "checkout", "-q", BRANCH)
    if how == "commit":
        git(project, "commit", "-q", "--allow-empty", "-m", f"Mend\n\nMlops-Proposal: {BRANCH}")
    elif how == "amend":
        git(project, "commit", "-q", "--amend", "--no-edit", "--date=now")
    elif how != "checkout":
        git(project, *(["rebase", "-q", "main"] if how == "rebase" else ["merge", "-q", "--no-edit", "main"]))
    if how != "checkout":
        git(project, "checkout", "-q", "main")
    theirs = git(project, "rev-parse", BRANCH)
    with pytest.raises(LeftAlone, match="somebody else" if how != "checkout" else "checked out"):
        make(repository, git(project, "rev-parse", "main"), files={"mlops.yaml": "kind: Else\n"})
    assert git(project, "rev-parse", BRANCH) == theirs
    assert is_ours(repository, BRANCH, None, author=AUTHOR, environ={}) is (how == "checkout")
    assert not withdraw(repository, BRANCH, None, author=AUTHOR, environ={})
    assert git(project, "rev-parse", BRANCH) == theirs


def test_a_project_in_a_folder_is_edited_there(repository, project, git):
    sha = make(repository, head(git, project), files={"train.py": "new\n"}, root="./training/")
    assert git(project, "show", f"{sha}:training/train.py") == "new"


@pytest.mark.parametrize(
    "path", ["../x", "/x", ".git/config", "a/.GIT/x", "", "link", "training", "mlops.yaml/x", "link/x"]
)
def test_no_path_leaves_the_repository_or_replaces_what_is_no_file(repository, project, git, path):
    (project / "link").symlink_to("mlops.yaml")
    git(project, "add", "link")
    git(project, "commit", "-qm", "Link")
    with pytest.raises(Stalled):
        make(repository, head(git, project), files={path: "x"})
    assert repository.tip(BRANCH) is None


def test_edits_that_are_in_the_base_make_no_commit(repository, project, git):
    with pytest.raises(Stalled, match="already"):
        make(repository, head(git, project), files={"mlops.yaml": "kind: Project\n"})
    assert repository.tip(BRANCH) is None


def test_a_branch_whose_name_is_in_the_way_is_named(repository, project, git):
    git(project, "branch", "mlops")
    with pytest.raises(Stalled, match="in the way"):
        make(repository, head(git, project))


def test_a_lock_is_waited_for_and_one_that_a_dead_git_left_is_not(repository, project, git):
    lock = project / f".git/refs/heads/{BRANCH}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(Transient):
        make(repository, head(git, project))
    old = time.time() - 60
    os.utime(lock, (old, old))
    make(repository, head(git, project))
    assert not lock.exists()


KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mlops.source.proposing import Author, commit
from mlops.source.repository import Repository
files = {"mlops.yaml": "kind: Project # changed\\n", "a/b/new.yaml": "kind: New\\n"}
commit(Repository.discover(Path(sys.argv[1])), sys.argv[2], files, branch="mlops/promotion/loan/1.1.0",
       message="Train again", author=Author("mlops", "mlops@localhost"), at=datetime(2026, 3, 1, tzinfo=UTC))
"""
KILLER = """#!/bin/sh
echo >> {count}
if [ $(wc -l < {count}) -eq {at} ]; then
  [ {when} = after ] && {git} "$@" > /dev/null
  kill -9 $PPID
  exit 1
fi
exec {git} "$@"
"""


def test_killed_at_any_git_command_and_started_again_there_is_one_commit_and_no_lock(
    project, git, tmp_path, monkeypatch
):
    base, real = head(git, project), shutil.which("git")
    tools, count = tmp_path / "tools", tmp_path / "count"
    tools.mkdir()
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-c", KILLED, str(project), base]
    sha, deaths, at = "", 0, 0
    while True:
        at += 1
        ends = []
        for when in ("before", "after"):
            count.write_text("")
            (tools / "git").write_text(KILLER.format(count=count, at=at, when=when, git=real))
            (tools / "git").chmod(0o755)
            ends.append(subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode)
        if ends == [0, 0]:
            break
        assert ends == [-9, -9]
        deaths += 1
        subprocess.run(command, check=True)
        made = git(project, "rev-parse", BRANCH)
        assert sha in ("", made)
        sha = made
        assert git(project, "rev-list", "--count", f"main..{BRANCH}") == "1"
        assert not list((project / ".git").rglob("*.lock"))
        git(project, "branch", "-q", "-D", BRANCH)
    assert deaths >= 6
    assert git(project, "fsck", "--strict", "--no-dangling") == ""


@pytest.fixture
def clone(project, git, tmp_path) -> Repository:
    """A clone whose origin is a bare repository, `served/team/models.git`."""
    git(tmp_path, "clone", "-q", "--bare", str(project), "served/team/models.git")
    git(tmp_path, "clone", "-q", "served/team/models.git", "clone")
    return Repository.discover(tmp_path / "clone")


def bare_of(clone: Repository) -> Path:
    return clone.root.parent / "served/team/models.git"


def pushed(clone: Repository, **environ: str) -> str:
    remote = origin(clone)
    assert remote is not None
    return push(clone, BRANCH, remote, author=AUTHOR, environ={**os.environ, **environ})


def withdrawn(clone: Repository) -> bool:
    return withdraw(clone, BRANCH, origin(clone), author=AUTHOR, environ=os.environ)


def test_a_proposal_is_pushed_and_again_and_over_our_own_last_one(clone, project, git):
    git(clone.root, "config", "push.followTags", "true")
    git(clone.root, "tag", "-a", "v1", "-m", "v1")
    base = head(git, project)
    first = make(clone, base)
    assert pushed(clone) == pushed(clone) == first
    second = make(clone, base, files={"mlops.yaml": "kind: Else\n"})
    assert pushed(clone) == second
    listed = git(bare_of(clone), "for-each-ref", "--format=%(refname) %(objectname)")
    assert listed.splitlines() == [f"refs/heads/main {base}", f"refs/heads/{BRANCH} {second}"]
    assert git(clone.root, "status", "--porcelain") == ""


def test_a_clone_that_lost_its_branch_pushes_over_our_own_commit_at_the_host(clone, project, git, tmp_path):
    make(clone, head(git, project))
    pushed(clone)
    git(tmp_path, "clone", "-q", "--single-branch", str(bare_of(clone)), "fresh")
    fresh = Repository.discover(tmp_path / "fresh")
    sha = make(fresh, head(git, project), files={"mlops.yaml": "kind: Else\n"})
    assert pushed(fresh) == sha


def test_what_people_pushed_to_a_proposal_is_left_alone(clone, project, git, tmp_path):
    base = head(git, project)
    make(clone, base)
    pushed(clone)
    git(tmp_path, "clone", "-q", "-b", BRANCH, str(bare_of(clone)), "person")
    git(tmp_path / "person", "commit", "-q", "--allow-empty", "-m", "Mend it")
    git(tmp_path / "person", "push", "-q", "origin", BRANCH)
    theirs = head(git, tmp_path / "person")
    make(clone, base, files={"mlops.yaml": "kind: Else\n"})
    with pytest.raises(LeftAlone, match="at the host"):
        pushed(clone)
    assert git(bare_of(clone), "rev-parse", BRANCH) == theirs
    assert not withdrawn(clone)
    assert git(bare_of(clone), "rev-parse", BRANCH) == theirs
    assert clone.tip(BRANCH) is not None


def test_a_withdrawn_proposal_is_gone_here_and_at_the_host_and_again_nothing_happens(clone, project, git):
    make(clone, head(git, project))
    pushed(clone)
    assert withdrawn(clone)
    assert clone.tip(BRANCH) is None
    assert git(bare_of(clone), "for-each-ref", "refs/heads/mlops") == ""
    assert withdrawn(clone)


def test_one_that_was_killed_between_host_and_clone_is_withdrawn_by_the_next(clone, project, git):
    make(clone, head(git, project))
    pushed(clone)
    git(bare_of(clone), "update-ref", "-d", f"refs/heads/{BRANCH}")
    assert withdrawn(clone)
    assert clone.tip(BRANCH) is None


def test_a_proposal_is_overtaken_by_edits_of_its_files_only(repository, project, git):
    sha = make(repository, head(git, project))
    assert overtaken(repository, sha, BRANCH, head(git, project)) is None
    assert overtaken(repository, sha, BRANCH, moved_on(git, project)) is None
    assert "changed" in str(overtaken(repository, sha, BRANCH, moved_on(git, project, "mlops.yaml")))
    git(project, "branch", "-D", BRANCH)
    assert "deleted" in str(overtaken(repository, sha, BRANCH, head(git, project)))


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_merged_proposal_is_known_however_it_was_merged(clone, project, git, tmp_path, how, deleted):
    base = head(git, project)
    sha = make(clone, base)
    pushed(clone)
    git(tmp_path, "clone", "-q", str(bare_of(clone)), "person")
    person = tmp_path / "person"
    moved_on(git, person)
    if how == "merge":
        git(person, "merge", "-q", "--no-ff", "--no-edit", f"origin/{BRANCH}")
    elif how == "squash":
        git(person, "merge", "-q", "--squash", f"origin/{BRANCH}")
        git(person, "commit", "-qm", "Squashed")
    else:
        git(person, "cherry-pick", f"origin/{BRANCH}")
    git(person, "push", "-q", "origin", "main", *([f":{BRANCH}"] if deleted else []))
    git(clone.root, "fetch", "-q", "origin", "main")
    assert merged(clone, head(git, person), sha)
    assert "merged" in str(overtaken(clone, sha, BRANCH, head(git, person)))
    assert not merged(clone, base, sha)
    assert withdrawn(clone)


def test_a_mirror_proposes_to_the_repository_that_it_follows(clone, project, git, tmp_path):
    mirror = Mirror(str(bare_of(clone)), tmp_path / "home/mirror.git", environ=os.environ)
    base = mirror.fetch("main")
    assert base is not None
    repository = mirror.open()
    sha = make(repository, base)
    remote, seen = mirror.remote, {"author": AUTHOR, "environ": os.environ}
    assert push(repository, BRANCH, remote, **seen) == sha
    assert git(bare_of(clone), "rev-parse", BRANCH) == sha
    (mirror.folder / "refs/heads/mlops/promotion/loan/1.1.0.lock").touch()
    assert mirror.fetch("main") == base
    assert repository.tip(BRANCH) == sha
    assert is_ours(repository, BRANCH, remote, **seen)
    assert make(repository, base, files={"mlops.yaml": "kind: Else\n"}) != sha


def test_what_the_host_refuses_is_said_without_the_token(clone, project, git):
    bare = bare_of(clone)
    make(clone, head(git, project))
    with GitServer(bare.parents[1]) as server:
        git(clone.root, "remote", "set-url", "origin", f"{server.url}/team/models.git")
        with pytest.raises(Stalled, match="refuses access") as refused:
            pushed(clone, MLOPS_GIT_TOKEN=SECRET)  # pushing over http is off there: 403
        server.login, server.echo = "somebody:else", True
        with pytest.raises(MlopsError) as away:
            pushed(clone, MLOPS_GIT_TOKEN=SECRET)
        server.login = None
        git(bare, "config", "http.receivepack", "true")
        (bare / "hooks").mkdir(exist_ok=True)
        (bare / "hooks/pre-receive").write_text(f"#!/bin/sh\necho 'main is protected {SECRET}' >&2\nexit 1\n")
        (bare / "hooks/pre-receive").chmod(0o755)
        with pytest.raises(Stalled, match="hook declined") as protected:
            pushed(clone, MLOPS_GIT_TOKEN=SECRET)
        (bare / "hooks/pre-receive").unlink()
        assert pushed(clone, MLOPS_GIT_TOKEN=SECRET) == clone.tip(BRANCH)
        assert server.credentials
    for error in (refused, away, protected):
        assert SECRET not in str(error.value)
        assert error.value.fix
    make(clone, head(git, project), files={"mlops.yaml": "kind: Else\n"})
    with pytest.raises(Transient, match="does not answer"):
        pushed(clone)
    with pytest.raises(Transient):
        withdrawn(clone)


def test_a_push_that_somebody_was_quicker_than_is_tried_again(clone, project, git, tmp_path, monkeypatch):
    from mlops.source import publishing

    make(clone, head(git, project))
    monkeypatch.setattr(publishing, "_brought", lambda *_: None)
    git(bare_of(clone), "branch", BRANCH, "main")
    with pytest.raises(Transient, match="meanwhile"):
        pushed(clone)


def test_a_repository_without_a_remote_has_none_and_a_credential_in_its_address_is_refused(
    repository, project, git
):
    assert origin(repository) is None
    git(project, "remote", "add", "origin", "../somewhere.git")
    assert origin(repository) == Remote(str(project.parent / "somewhere.git"), "file")
    git(project, "remote", "set-url", "origin", f"https://me:{SECRET}@example.com/a.git")
    with pytest.raises(Stalled) as refused:
        origin(repository)
    assert SECRET not in str(refused.value)


def test_nothing_but_our_own_commit_is_pushed(clone, project, git):
    with pytest.raises(MlopsError, match="no branch"):
        pushed(clone)
    git(clone.root, "branch", BRANCH)
    with pytest.raises(LeftAlone):
        pushed(clone)
