"""A proposal brought to people: a commit on its branch, pushed where there is a remote, shown where there is a forge.

Each of the three is found done when it is done again, so that whoever was killed between them goes on where that was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from mlops.proposing.proposal import Proposal
from mlops.source.proposing import Author, commit
from mlops.source.publishing import is_ours, push, withdraw
from mlops.source.remote import Remote
from mlops.source.repository import Repository

if TYPE_CHECKING:
    from mlops.forges import Forge, PullRequest


@dataclass(frozen=True, slots=True)
class Desk:
    """Where changes are written, by whom, and where people review them.

    Attributes:
        repository: a clone, or a bare mirror.
        folder: the project's folder in it.
        author: who the commits are by.
        branch: the branch that changes are merged into.
        remote: where branches are pushed to; None: they stay here.
        forge: where pull requests are; None: there are none.
        environ: where git's settings and credentials come from.
        redact: takes secrets out of a text before it is written.
    """

    repository: Repository
    folder: str
    author: Author
    branch: str
    remote: Remote | None = None
    forge: Forge | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    redact: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        proposal: what it says.
        commit: the sha that its branch names.
        new: false where the branch held that very commit already.
        pushed: whether a host has it now.
        pull_request: where it is reviewed.
    """

    proposal: Proposal
    commit: str
    new: bool
    pushed: bool = False
    pull_request: PullRequest | None = None


def write(desk: Desk, proposal: Proposal, base: str, at: datetime, *, reworded: bool = True) -> Written:
    """Commit a proposal on its branch.

    Args:
        base: the full sha of the commit that it is made for.
        at: the time of the commit; aware.
        reworded: whether a commit that makes the same edits and tells something else about them is replaced.

    Raises:
        LeftAlone: somebody else has committed on that branch.
        Stalled, Transient: see `mlops.source.proposing.commit`.
    """
    before = desk.repository.tip(proposal.branch)
    sha = commit(
        desk.repository,
        base,
        proposal.files,
        branch=proposal.branch,
        message=desk.redact(proposal.message),
        author=desk.author,
        at=at,
        root=desk.folder,
        reworded=reworded,
    )
    return Written(proposal, sha, sha != before)


def publish(desk: Desk, written: Written) -> Written:
    """Push what was written, where there is a remote.

    Raises:
        LeftAlone: somebody else has committed on the branch at the host.
        Stalled, Transient: see `mlops.source.publishing.push`.
    """
    if desk.remote is None:
        return written
    push(desk.repository, written.proposal.branch, desk.remote, author=desk.author, environ=desk.environ)
    return replace(written, pushed=True)


def request(desk: Desk, written: Written, body: str | None = None) -> Written:
    """Open the pull request of what was pushed, or bring the open one up to date, where there is a forge.

    Args:
        body: its text, in Markdown; by default what the commit says.

    Raises:
        ForgeUnavailable, ForgeRefused: the forge did not do it.
    """
    if desk.forge is None or not written.pushed:
        return written
    title = desk.redact(written.proposal.title)
    text = desk.redact(written.proposal.body if body is None else body)
    made = desk.forge.open(written.proposal.branch, desk.branch, title, text)
    if (made.title, made.body) != (title, text):
        made = desk.forge.update(made.number, title=title, body=text)
    return replace(written, pull_request=made)


def take_back(desk: Desk, branch: str, reason: str) -> bool:
    """Close the pull request of a proposal with why it is moot, and delete its branch, there and here.

    Returns:
        False where somebody else has committed on the branch: then it and its pull request are theirs.

    Raises:
        Stalled, Transient: see `mlops.source.publishing.withdraw` and the forge.
    """
    if not is_ours(desk.repository, branch, desk.remote, author=desk.author, environ=desk.environ):
        return False
    if desk.forge is not None:
        request = desk.forge.proposed(branch)
        if request is not None and request.state == "open":
            desk.forge.close(request.number, desk.redact(f"Closed by the reconciler: {reason}."))
    return withdraw(desk.repository, branch, desk.remote, author=desk.author, environ=desk.environ)
