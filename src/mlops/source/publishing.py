"""Proposals brought to the host, taken back from there, and what became of them.

Only over the reconciler's own last commit: a branch at the host that holds what somebody else committed is left alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlops.errors import MlopsError, Stalled, Transient
from mlops.redaction import Redactor
from mlops.source.git import run, shown
from mlops.source.proposing import Author, blobs_at, checked_out, its_turn, left_alone, look
from mlops.source.refs import branch_ref
from mlops.source.remote import TOKEN, Remote
from mlops.source.repository import Repository

_LONGEST = 300.0  # seconds of one transfer
_DENIED = re.compile(
    r"could not read (username|password)|authentication failed|returned error: 40[13]|permission (to|denied)"
    r"|access (denied|rights)|not allowed to push|insufficient permission|unable to create temporary object",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"\[remote rejected\] \((?P<why>[^)]*)\)")
_MOVED = re.compile(
    r"\((stale info|fetch first|non-fast-forward|failed to update ref|failed to lock)\)|cannot lock ref"
)


def origin(repository: Repository) -> Remote | None:
    """Where a clone pushes to, None without a remote called `origin`.

    Raises:
        Stalled: its address is not allowed, or holds a credential.
    """
    asked = run(["remote", "get-url", "--push", "origin"], repository.root, accept=(0, 2, 128))
    if asked.status:
        return None
    url = os.fsdecode(asked.stdout.removesuffix(b"\n"))
    if ":" not in url and not Path(url).is_absolute():
        url = str(repository.root / url)  # as git takes it
    return Remote.parse(url)


def push(
    repository: Repository, branch: str, remote: Remote, *, author: Author, environ: Mapping[str, str]
) -> str:
    """Brings a proposal to the host; again, nothing happens.

    Args:
        repository: where `commit` has made it.
        branch: its short name.
        remote: where to, such as `origin` gives it or a mirror follows.
        author: who the reconciler's commits are by.
        environ: where git's settings and credentials come from.

    Returns:
        The sha that the branch has there.

    Raises:
        LeftAlone: here or there somebody else has committed on it.
        Transient: the host is away, or the branch moved meanwhile.
        Stalled: the host refuses: no permission, or a rule protects the branch.
        MlopsError: there is no such branch here.
    """
    ref = branch_ref(branch)
    with its_turn(repository):
        tip = repository.tip(branch)
        if tip is None:
            raise MlopsError(
                f"there is no branch {branch}", where=shown(str(repository.root)), fix="Make it."
            )
        if not look(repository, tip).is_by(author, branch):
            raise left_alone(branch, "holds commits of somebody else", repository)
        there = _brought(repository, ref, remote, environ)
        if there == tip:
            return tip
        if there is not None and not look(repository, there).is_by(author, branch):
            raise left_alone(branch, "holds commits of somebody else at the host", repository)
        options = ("--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no")
        lease = f"--force-with-lease={ref}:{there or ''}"
        command = ["push", *options, lease, "--end-of-options", remote.address, f"{tip}:{ref}"]
        network = remote.network(environ)
        done = run(command, repository.root, accept=range(256), seconds=_LONGEST, network=network)
    if done.status:
        raise _refusal(remote, done.status, done.stdout.decode("utf-8", "replace"), done.stderr, environ)
    return tip


def overtaken(repository: Repository, sha: str, branch: str, head: str) -> str | None:
    """Why a proposal is no longer what it was, None if it is: it may be merged as it stands.

    Args:
        repository: where it was made.
        sha: its commit.
        branch: the branch that it was made on.
        head: the full sha of what it is to be merged into.
    """
    tip = repository.tip(branch)
    there = sha if tip is None else tip
    if merged(repository, head, there):
        return f"{branch} is merged"
    if tip is None:
        return f"{branch} was deleted"
    if tip != sha:
        return None  # somebody has committed on it: it is theirs
    parent = look(repository, sha).commit.parents[0]
    if parent == head:
        return None
    paths = repository.changed(parent, sha)
    if blobs_at(repository, parent, paths) != blobs_at(repository, head, paths):
        return "the files that it changes have changed"
    return None


def merged(repository: Repository, base: str, tip: str) -> bool:
    """Whether a commit is in the base, or every file that it changed is there as it left it."""
    if repository.is_ancestor(tip, base):
        return True
    found = run(["merge-base", "--end-of-options", base, tip], repository.root, accept=(0, 1))
    if found.status:
        return False  # no history in common
    paths = repository.changed(found.stdout.decode().strip(), tip)
    return bool(paths) and blobs_at(repository, base, paths) == blobs_at(repository, tip, paths)


def is_ours(
    repository: Repository,
    branch: str,
    remote: Remote | None,
    *,
    author: Author,
    environ: Mapping[str, str],
) -> bool:
    """Whether nobody else has committed on a proposal's branch, here or at the host; also where there is none."""
    with its_turn(repository):
        return _all_ours(repository, branch, _tips(repository, branch, remote, environ), author)


def _tips(
    repository: Repository, branch: str, remote: Remote | None, environ: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """What a branch names here, and at the host."""
    there = _brought(repository, branch_ref(branch), remote, environ) if remote is not None else None
    return repository.tip(branch), there


def _all_ours(repository: Repository, branch: str, tips: Iterable[str | None], author: Author) -> bool:
    return all(look(repository, sha).is_by(author, branch) for sha in tips if sha is not None)


def withdraw(
    repository: Repository,
    branch: str,
    remote: Remote | None,
    *,
    author: Author,
    environ: Mapping[str, str],
) -> bool:
    """Deletes a proposal's branch, at the host and here; again, nothing happens.

    Returns:
        False where somebody else has committed on it, here or there, or has it checked out: then it stays.

    Raises:
        Transient, Stalled: the host did not answer, or refuses.
    """
    ref = branch_ref(branch)
    with its_turn(repository):
        here, there = _tips(repository, branch, remote, environ)
        if not _all_ours(repository, branch, (here, there), author) or checked_out(repository, ref):
            return False
        if remote is not None and there is not None:
            lease = f"--force-with-lease={ref}:{there}"
            options = ("--porcelain", "--no-verify", "--no-signed", "--recurse-submodules=no", lease)
            command = ["push", *options, "--end-of-options", remote.address, f":{ref}"]
            network = remote.network(environ)
            done = run(command, repository.root, accept=range(256), seconds=_LONGEST, network=network)
            if done.status:
                raise _refusal(
                    remote, done.status, done.stdout.decode("utf-8", "replace"), done.stderr, environ
                )
        if here is not None:
            run(["update-ref", "--no-deref", "-d", ref, here], repository.root)
    return True


def _brought(repository: Repository, ref: str, remote: Remote, environ: Mapping[str, str]) -> str | None:
    """What a branch names at the host, with its commits brought here; None if there is none."""
    network, everything = remote.network(environ), range(256)
    ask = ["ls-remote", "--refs", "--end-of-options", remote.address, ref]
    asked = run(ask, repository.root, accept=everything, network=network)
    if asked.status:
        raise remote.refusal(asked.status, asked.stderr, environ)
    names = (line.split(b"\t") for line in asked.stdout.splitlines())
    sha = next((found.decode() for found, name in names if name == os.fsencode(ref)), None)
    if (
        sha is None
        or run(["cat-file", "-e", f"{sha}^{{commit}}"], repository.root, accept=(0, 1, 128)).status == 0
    ):
        return sha
    options = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
    fetch = ["fetch", "--quiet", *options, "--end-of-options", remote.address, ref]
    done = run(fetch, repository.root, accept=everything, seconds=_LONGEST, network=network)
    if done.status:
        raise remote.refusal(done.status, done.stderr, environ)
    return sha


def _refusal(remote: Remote, status: int, said: str, errors: str, environ: Mapping[str, str]) -> MlopsError:
    """What a failed push means."""
    found = remote.refusal(status, errors, environ)
    rejected = _REFUSED.search(said)
    if _MOVED.search(said) or _MOVED.search(errors):
        fix = "It is looked at again."
        return Transient("the branch moved at the host meanwhile", where=str(remote), fix=fix)
    if rejected is not None:
        why = shown(Redactor.from_environ(environ, (TOKEN,)).redact(rejected["why"]))[:200]
        what = f"the host refuses the branch ({why}): {found.what.partition(': ')[2]}".rstrip(": ")
        return Stalled(what, where=str(remote), fix="Allow the reconciler to push branches below mlops/.")
    if _DENIED.search(errors):
        fix = "Give its credentials the right to push branches below mlops/."
        return Stalled(found.what, where=str(remote), fix=fix)
    return found
