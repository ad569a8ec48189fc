"""Commits of the reconciler on branches of its own, made without a checkout.

Only objects and one ref are written: no working tree, no index, no hook, no filter. The same base, files, message,
author and time give the same commit, so that doing it twice is doing it once. A branch on which somebody else has
committed is left to them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlops.errors import MlopsError, Stalled, Transient, Waiting
from mlops.source.commit import Commit, parse_commit
from mlops.source.exclusive import alone
from mlops.source.git import failure, run, shown
from mlops.source.objects import read_objects
from mlops.source.paths import folder, is_safe
from mlops.source.refs import branch_ref, common_dir
from mlops.source.repository import Repository
from mlops.source.signing import signing_with

MARK = "Mlops-Proposal"
"""The last line of a message names the branch behind this word."""
_ABANDONED = 10.0  # seconds after which a lock of a ref, which git holds for some milliseconds, has no holder
_PATIENCE = 10.0  # seconds to wait for a mirror that is being fetched
_NEVER = threading.Event()
_BATCH = 500


class LeftAlone(Waiting):
    """The branch holds what somebody else committed: it is theirs now."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who the reconciler's commits are by, as the Project's `writeBack` says, and the key that signs them."""

    name: str
    email: str
    signing_key: str | None = None


def commit(
    repository: Repository,
    base: str,
    files: Mapping[str, str],
    *,
    branch: str,
    message: str,
    author: Author,
    at: datetime,
    root: str = "",
    reworded: bool = True,
) -> str:
    """Commits the new text of files on top of a base, and lets a branch name that commit.

    A commit of ours that is there already stays if it says the same and goes with this base, too: the base may have
    moved on elsewhere. Otherwise it is replaced, so the branch holds one commit more than its base.

    Args:
        repository: a clone, a worktree, or a bare mirror.
        base: the full sha of the commit to build on.
        files: the new text by path; a file keeps its mode, a new one is plain.
        branch: the branch's short name.
        message: the commit's message, to which a line with the branch is added.
        author: also its committer.
        at: the time of it; aware.
        root: the project's folder in the repository, which the paths stand on.
        reworded: whether one that makes the same edits and tells something else about them is replaced.

    Returns:
        The sha of the commit that the branch names now.

    Raises:
        LeftAlone: somebody else has committed on the branch, or has it checked out.
        Stalled: a path cannot be written, every edit is in the base, it cannot be signed, or another branch is in the
            way.
        Transient: another process is writing to the branch or the mirror.
        MlopsError: git failed.
    """
    ref, full = branch_ref(branch), f"{message.strip()}\n\n{MARK}: {branch}\n"
    content = {_path(root, path): text.encode("utf-8", "surrogateescape") for path, text in files.items()}
    with its_turn(repository):
        tip = repository.tip(branch)
        if tip is not None:
            there = look(repository, tip)
            if not there.is_by(author, branch):
                raise left_alone(branch, "holds commits of somebody else", repository)
            signed = there.signed or author.signing_key is None
            # What was merged and changed back again is proposed anew.
            stands = signed and repository.is_ancestor(tip, base) is not True
            same = stands and (there.message == full or not reworded)
            if same and _goes_with(repository, there.commit, base, content):
                return tip
        began = repository.resolve(base)
        tree = _tree(repository.root, began.tree, _blobs(repository.root, content))
        if tree == began.tree:
            raise Stalled("every edit is in the base already", where=branch, fix="There is nothing to do.")
        made = _commit_tree(repository.root, tree, began.sha, full, author, at)
        if made != tip:
            _point(repository, ref, made, tip)
        return made


@dataclass(frozen=True, slots=True)
class Look:
    """A commit on a branch, with its whole message."""

    commit: Commit
    message: str
    signed: bool = False

    def is_by(self, author: Author, branch: str) -> bool:
        """Whether the reconciler made it, and nobody has amended, rebased or merged it since."""
        it = self.commit
        made = (it.committer_name, it.committer_email, it.committed_at)
        return (
            self.message.endswith(f"\n\n{MARK}: {branch}\n")
            and len(it.parents) == 1
            and (it.author_name, it.author_email, it.authored_at) == made
            and tuple(map(_bare, made[:2])) == (_bare(author.name), _bare(author.email))
        )


def _bare(text: str) -> str:
    """A name without what git takes off its ends."""
    return text.strip(" \t.,:;<>\"\\'")


def look(repository: Repository, sha: str) -> Look:
    """Reads a commit by its full sha. Raises MlopsError if it is not there."""
    found = next(read_objects(repository.root, [sha]))
    if found.kind != "commit":
        fix = "See what `git fsck` says."
        raise MlopsError(f"there is no commit {sha}", where=shown(str(repository.root)), fix=fix)
    head, _, message = found.data.partition(b"\n\n")
    return Look(parse_commit(sha, found.data), message.decode("utf-8", "replace"), b"\ngpgsig" in head)


def left_alone(branch: str, why: str, repository: Repository) -> LeftAlone:
    """The error for a branch that is not ours to move."""
    fix = "It is left as it is. Merge it, or delete the branch to have it proposed anew."
    return LeftAlone(f"branch {branch} {why}", where=shown(str(repository.root)), fix=fix)


def checked_out(repository: Repository, ref: str) -> bool:
    """Whether somebody works on a branch, in any worktree."""
    listed = run(["worktree", "list", "--porcelain"], repository.root).stdout
    return b"branch " + os.fsencode(ref) in listed.split(b"\n")


def blobs_at(repository: Repository, sha: str, paths: list[str]) -> dict[str, str]:
    """The ids of the files at a commit, by path; what is not there is left out."""
    found: dict[str, str] = {}
    for at in range(0, len(paths), _BATCH):
        names = [path.encode("utf-8", "surrogateescape") for path in paths[at : at + _BATCH]]
        listed = run(["ls-tree", "-z", "--full-tree", sha, "--", *names], repository.root).stdout
        for line in listed.split(b"\0")[:-1]:
            head, _, name = line.partition(b"\t")
            found[name.decode("utf-8", "surrogateescape")] = head.split()[2].decode()
    return found


@contextlib.contextmanager
def its_turn(repository: Repository) -> Iterator[None]:
    """In a mirror, not while it is fetched into: a fetch clears away what looks like left by a dead process."""
    if not repository.bare:
        yield
        return
    # The lock that the mirror itself takes.
    file = repository.git_dir.with_name(f"{repository.git_dir.name}.lock")
    with alone(file, patience=_PATIENCE, stop=_NEVER):
        yield


def _path(root: str, path: str) -> str:
    where = f"{folder(root)}/{path}" if folder(root) else path
    if not is_safe(where):
        raise Stalled("this is no path in a repository", where=shown(path), fix="Name a file below its top.")
    return where


def _goes_with(repository: Repository, tip: Commit, base: str, content: Mapping[str, bytes]) -> bool:
    """Whether a commit makes exactly these edits, and the base has not moved in these files since."""
    parent, paths = tip.parents[0], sorted(content)
    if repository.changed(parent, tip.sha) != paths:
        return False
    names = [f"{tip.sha}:{path}" for path in paths]
    if any("\n" in name for name in names):
        return False
    if [one.data for one in read_objects(repository.root, names)] != [content[path] for path in paths]:
        return False
    return parent == base or (
        repository.is_ancestor(parent, base) is True
        and blobs_at(repository, parent, paths) == blobs_at(repository, base, paths)
    )


def _blobs(cwd: Path, content: Mapping[str, bytes]) -> dict[tuple[bytes, ...], str]:
    """Stores the contents: their ids, by the parts of their paths."""
    blobs: dict[tuple[bytes, ...], str] = {}
    for path, data in sorted(content.items()):
        made = run(["hash-object", "-w", "--stdin"], cwd, feed=[data]).stdout
        blobs[tuple(path.encode("utf-8", "surrogateescape").split(b"/"))] = made.decode().strip()
    return blobs


def _tree(cwd: Path, tree: str | None, blobs: Mapping[tuple[bytes, ...], str]) -> str:
    """The id of a tree with these files in place of those that were there."""
    entries: dict[bytes, tuple[bytes, bytes, bytes]] = {}
    if tree is not None:
        for line in run(["ls-tree", "-z", tree], cwd).stdout.split(b"\0")[:-1]:
            head, _, name = line.partition(b"\t")
            mode, kind, found = head.split()
            entries[name] = (mode, kind, found)
    below: dict[bytes, dict[tuple[bytes, ...], str]] = {}
    for path, blob in blobs.items():
        mode, kind, _ = entries.get(path[0], (b"100644" if len(path) == 1 else b"40000", b"", b""))
        if len(path) > 1:
            below.setdefault(path[0], {})[path[1:]] = blob
        elif mode in (b"100644", b"100755"):
            entries[path[0]] = (mode, b"blob", blob.encode())
        if (len(path) > 1 and kind not in (b"tree", b"")) or (len(path) == 1 and not mode.startswith(b"100")):
            where = shown(path[0].decode("utf-8", "surrogateescape"))
            raise Stalled("a link, a folder or a file is in its way", where=where, fix="Edit it by hand.")
    for name, inner in below.items():
        old = entries[name][2].decode() if name in entries else None
        entries[name] = (b"040000", b"tree", _tree(cwd, old, inner).encode())
    lines = (b"%s %s %s\t%s\0" % (*entry, name) for name, entry in entries.items())
    # --missing: a partial clone has not all that a tree names.
    return run(["mktree", "-z", "--missing"], cwd, feed=lines).stdout.decode().strip()


def _commit_tree(cwd: Path, tree: str, parent: str, message: str, author: Author, at: datetime) -> str:
    who = {"NAME": author.name, "EMAIL": author.email, "DATE": f"@{int(at.timestamp())} +0000"}
    extra = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in who.items()}
    key = author.signing_key
    how = ["--no-gpg-sign"] if key is None else [f"--gpg-sign={key}"]
    settings = ["-c", "i18n.commitEncoding=UTF-8", *(signing_with(key) if key is not None else ())]
    text = message.encode("utf-8", "backslashreplace")
    accept = (0,) if key is None else range(256)
    command = [*settings, "commit-tree", *how, tree, "-p", parent]
    done = run(command, cwd, feed=[text], extra=extra, accept=accept)
    if done.status:
        fix = "See that it names a key that git can sign with here, without a passphrase."
        raise Stalled("git cannot sign the commit", where="spec.writeBack.signingKey", fix=fix)
    return done.stdout.decode().strip()


def _point(repository: Repository, ref: str, sha: str, old: str | None) -> None:
    """Lets a branch name a commit, if it still names what it named."""
    branch, where = ref.removeprefix("refs/heads/"), shown(str(repository.root))
    if old is not None and checked_out(repository, ref):
        raise left_alone(branch, "is checked out", repository)
    command = ["update-ref", "--no-deref", "-m", "mlops: propose", ref, sha, old or "0" * len(sha)]
    who = {"GIT_COMMITTER_NAME": "mlops", "GIT_COMMITTER_EMAIL": "mlops@localhost"}  # of the reflog
    done = run(command, repository.root, accept=range(256), extra=who)
    if done.status and ".lock': File exists" in done.stderr and _unlocked(repository, ref):
        done = run(command, repository.root, accept=range(256), extra=who)
    if done.status == 0:
        return
    if "cannot lock ref" in done.stderr and (
        "but expected" in done.stderr or "already exists" in done.stderr
    ):
        raise Transient(f"branch {branch} moved meanwhile", where=where, fix="It is looked at again.")
    if "cannot create" in done.stderr:
        fix = "Rename the branch whose name this one begins with."
        raise Stalled(f"another branch is in the way of {branch}", where=where, fix=fix)
    raise failure("update-ref", done.status, done.stderr, repository.root)


def _unlocked(repository: Repository, ref: str) -> bool:
    """Whether the lock of our branch was left by a git that was killed, and is gone now."""
    lock = common_dir(repository.git_dir) / f"{ref}.lock"
    try:
        if abs(time.time() - lock.stat().st_mtime) < _ABANDONED:
            return False
        lock.unlink()
    except FileNotFoundError:
        return True
    return True
