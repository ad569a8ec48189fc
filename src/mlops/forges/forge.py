"""What is asked of a forge, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from mlops.errors import Location, Stalled, Transient

PullRequestState = Literal["open", "merged", "closed"]
ReviewState = Literal["APPROVED", "CHANGES_REQUESTED", "COMMENTED", "DISMISSED"]
StatusState = Literal["success", "failure", "pending", "error"]


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request.

    Attributes:
        author: the login of who opened it; empty where the forge has forgotten them.
        branch: the branch it comes from, base: the branch it goes to; head: the last commit of the former.
        merge_commit: what it became when it was merged, None before.
        merged_at: when, in ISO 8601; None before.
    """

    number: int
    url: str
    title: str
    body: str
    state: PullRequestState
    author: str
    branch: str
    base: str
    head: str
    merge_commit: str | None
    merged_at: str | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """What one person said of one commit; login and commit are empty where the forge does not know them."""

    login: str
    state: ReviewState
    commit: str
    submitted_at: str
    url: str


class ForgeUnavailable(Transient):
    """The forge does not answer, or not now; `retry_at` is when it will (seconds since 1970), if it said so."""

    def __init__(
        self,
        what: str,
        *,
        where: Location | str | None = None,
        fix: str | None = None,
        retry_at: float | None = None,
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.retry_at = retry_at


class ForgeRefused(Stalled):
    """The forge does not do this; `status` is the HTTP status, 0 where it was not even asked."""

    def __init__(
        self, what: str, *, where: Location | str | None = None, fix: str | None = None, status: int = 0
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.status = status


class Answers(Protocol):
    """Keeps what was answered, by an opaque key; may forget anything at any time."""

    def get(self, key: str, /) -> bytes | None: ...
    def put(self, key: str, value: bytes, /) -> None: ...


class Forge(Protocol):
    """One repository on a forge. Every method raises ForgeUnavailable or ForgeRefused."""

    @property
    def name(self) -> str:
        """`github` or `azureDevOps`, as in `Project.spec.forge`."""
        ...

    def merged(self, commit: str, branch: str) -> PullRequest | None:
        """The merged pull request into `branch` that carries `commit`, also squashed or rebased."""
        ...

    def pull_request(self, number: int) -> PullRequest:
        """The pull request of this number."""
        ...

    def reviews(self, number: int) -> tuple[Review, ...]:
        """All that people said of it, oldest first; whose word counts is not decided here."""
        ...

    def proposed(self, branch: str) -> PullRequest | None:
        """The newest pull request from our `branch` of this same repository, never a fork's."""
        ...

    def open(self, branch: str, base: str, title: str, body: str) -> PullRequest:
        """Open a pull request; one that is open from `branch` to `base` is given back as it is."""
        ...

    def update(self, number: int, *, title: str | None = None, body: str | None = None) -> PullRequest:
        """Change its title, its body or both."""
        ...

    def close(self, number: int, comment: str) -> None:
        """Say why and close it; one that is not open is left alone."""
        ...

    def comment(self, number: int, key: str, body: str) -> None:
        """One comment for each `key`: created, edited, or left alone when it says `body` already."""
        ...

    def status(
        self, commit: str, context: str, state: StatusState, description: str, url: str | None = None
    ) -> None:
        """Set the status `context` of a commit; the same one is not set twice."""
        ...
