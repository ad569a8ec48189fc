"""Reviews of the pull request that carries a change, as proofs.

Every review is told with what is wrong about it: one that was dismissed, or of an older head, says nothing. A review
that only comments changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar

from mlops.approvals.deciding import Asked, Proof
from mlops.approvals.people import People
from mlops.forges import Forge, ForgeUnavailable, PullRequest, Review

_T = TypeVar("_T")


class Answers:
    """What a forge answers during one look: nothing is asked twice, and nothing more once it does not answer."""

    def __init__(self, forge: Forge) -> None:
        self.name = forge.name
        self._forge = forge
        self._merged: dict[tuple[str, str], PullRequest | None] = {}
        self._reviews: dict[int, tuple[Review, ...]] = {}
        self._down: ForgeUnavailable | None = None

    def merged(self, commit: str, branch: str) -> PullRequest | None:
        """The merged pull request into `branch` that carries `commit`."""
        if (commit, branch) not in self._merged:
            self._merged[commit, branch] = self._answer(lambda: self._forge.merged(commit, branch))
        return self._merged[commit, branch]

    def reviews(self, number: int) -> tuple[Review, ...]:
        """The reviews of a pull request, oldest first."""
        if number not in self._reviews:
            self._reviews[number] = self._answer(lambda: self._forge.reviews(number))
        return self._reviews[number]

    def _answer(self, ask: Callable[[], _T]) -> _T:
        if self._down is not None:
            raise self._down
        try:
            return ask()
        except ForgeUnavailable as error:
            self._down = error
            raise


def pull_request_of(forge: Answers, commit: str, people: People) -> PullRequest | None:
    """The pull request that brought a commit into the branch that counts, if it was merged there.

    Raises:
        ForgeUnavailable: it cannot be known now.
    """
    found = forge.merged(commit, people.branch)
    return found if found is not None and found.state == "merged" and found.base == people.branch else None


def proofs(
    forge: Answers,
    pull_request: PullRequest,
    asked: Asked,
    people: People,
    asked_at: Callable[[str], tuple[str, str] | None],
) -> Iterator[Proof]:
    """What the reviews of a merged pull request prove, in the order in which they were given.

    Args:
        forge: where it is.
        pull_request: the one that was merged.
        asked: the promotion.
        people: those of the base.
        asked_at: the version and the stage that the promotion asks for at a commit; None where the commit is not
            here, as after a squash, which merges the reviewed text or nothing.

    Raises:
        ForgeUnavailable: the reviews cannot be looked at now.
    """
    logins = people.logins.get(forge.name, {})
    asks = asked_at(pull_request.head)
    for review in forge.reviews(pull_request.number):
        if review.state == "COMMENTED":
            continue
        wrong = None
        if not review.login:
            wrong = "the forge does not know any more who gave it"
        elif review.state == "DISMISSED":
            wrong = "it was dismissed"
        elif review.state == "APPROVED" and review.commit != pull_request.head:
            wrong = f"it is of {review.commit[:12]}, and {pull_request.head[:12]} was merged"
        elif review.state == "APPROVED" and asks not in (None, (asked.version, asked.stage)):
            wrong = f"what was reviewed asks for {' in '.join(part for part in asks if part) if asks else 'nothing'}"
        elif review.login.lower() == pull_request.author.lower() and not asked.allow_author:
            wrong = f"{review.login} opened the pull request"
        yield Proof(
            how="review",
            reference=review.url or pull_request.url,
            who=logins.get(review.login.lower()) if review.login else None,
            by=review.login or "nobody",
            approves=review.state != "CHANGES_REQUESTED",
            wrong=wrong,
            at=_seconds(review.submitted_at),
        )


def _seconds(time: str) -> int:
    """Unix time of what a forge writes; 0, older than every tag, where it writes something else."""
    try:
        return int(datetime.fromisoformat(time).timestamp())
    except ValueError:
        return 0
