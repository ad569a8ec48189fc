"""The client for Azure DevOps, against a server that keeps to Microsoft's published description."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from forges.azure_server import AzureDevOps
from forges.forge_server import CANARY
from mlops.forges import Forge, ForgeRefused, ForgeUnavailable, forge_of

HEAD, MERGED, OTHER = "a" * 40, "b" * 40, "c" * 40


class Kept(dict[str, bytes]):
    """Answers that a test can look into."""

    def put(self, key: str, value: bytes) -> None:
        self[key] = value


@pytest.fixture
def hub() -> Iterator[AzureDevOps]:
    with AzureDevOps() as server:
        yield server


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def forge(hub: AzureDevOps, kept: Kept) -> Forge:
    forge = forge_of(hub.spec, environment=hub.environment, answers=kept, now=time.time)
    assert forge is not None
    forge._client.sleep = lambda _: None  # type: ignore[attr-defined]
    return forge


@pytest.mark.parametrize("commit", [MERGED, HEAD], ids=["merge commit", "merged commit"])
def test_a_commit_leads_to_its_pull_request_and_is_never_asked_again(
    hub: AzureDevOps, forge: Forge, commit: str
) -> None:
    number = hub.open_pull("change", head=HEAD)
    assert forge.merged(commit, "main") is None
    hub.merge(number, MERGED)
    pull = forge.merged(commit, "main")
    assert pull is not None
    assert (pull.number, pull.state, pull.author, pull.head, pull.merge_commit, pull.base, pull.branch) == (
        number, "merged", "ada@acme.test", HEAD, MERGED, "main", "change",
    )  # fmt: skip
    assert pull.url.endswith("/acme/ML%20models/_git/models/pullrequest/1")
    asked = len(hub.requests)
    assert forge.merged(commit, "main") == pull
    assert len(hub.requests) == asked
    assert forge.merged(commit, "release") is None


def test_votes_are_reviews_of_what_was_there_when_they_were_cast(hub: AzureDevOps, forge: Forge) -> None:
    number = hub.open_pull("change", head=HEAD)
    for who, vote in (("early", 10), ("silent", 0), ("changed", -10), ("unknown", 10)):
        hub.vote(number, who, vote, noted=who != "unknown")
    hub.push(number, OTHER)
    for who, vote in (("late", 5), ("against", -5), ("changed", 10)):
        hub.vote(number, who, vote)
    hub.group_vote(number, "team", 10)
    assert {review.login: (review.state, review.commit) for review in forge.reviews(number)} == {
        "early": ("APPROVED", HEAD),
        "unknown": ("APPROVED", ""),
        "late": ("APPROVED", OTHER),
        "against": ("CHANGES_REQUESTED", OTHER),
        "changed": ("APPROVED", OTHER),
    }


def test_a_merge_of_nothing_known_is_not_taken_for_one_that_was_reviewed(
    hub: AzureDevOps, forge: Forge
) -> None:
    number = hub.open_pull("change", head=HEAD)
    hub.merge(number, MERGED)
    del hub.pulls[number]["lastMergeSourceCommit"]
    with pytest.raises(ForgeUnavailable, match="something else"):
        forge.pull_request(number)


def test_nobody_can_move_the_vote_of_another_to_a_later_commit(hub: AzureDevOps, forge: Forge) -> None:
    number = hub.open_pull("change", head=HEAD)
    hub.vote(number, "grace", 10)
    hub.push(number, OTHER)
    note = hub._threads[number][0]
    hub._thread(number, "mallory", "grace voted 10", "system", note["properties"])
    assert [review.commit for review in forge.reviews(number)] == [HEAD]


def test_a_pull_request_is_opened_once_then_changed_then_closed_with_a_reason(
    hub: AzureDevOps, forge: Forge
) -> None:
    hub.open_pull("mlops/a", fork=True)
    assert forge.proposed("mlops/a") is None
    first = forge.open("mlops/a", "main", "Retrain", "Because of drift")
    assert forge.open("mlops/a", "main", "Retrain", "Because of drift") == first
    assert hub.count("POST", "/pullrequests") == 1
    assert forge.update(first.number, title="Again", body="x" * 5000).body == "x" * 3999 + "…"
    forge.update(first.number, title="Again", body="x" * 5000)
    assert hub.count("PATCH") == 1
    forge.close(first.number, "Its reason is gone")
    forge.close(first.number, "Its reason is gone")
    found = forge.proposed("mlops/a")
    assert found is not None
    assert (found.number, found.state) == (first.number, "closed")
    assert hub.comments(first.number) == ["<!-- mlops:closed -->\nIts reason is gone"]


def test_a_comment_sticks_and_a_status_is_set_once(hub: AzureDevOps, forge: Forge) -> None:
    number = hub.open_pull("change")
    for body in ("one", "two", "two"):
        forge.comment(number, "plan", body)
        forge.status(HEAD, "plan", "failure", "x" * 200, "https://mlops.test")
    assert hub.comments(number) == ["<!-- mlops:plan -->\ntwo"]
    assert (hub.count("PATCH"), hub.count("POST", "statuses")) == (1, 1)
    state, description = hub.statuses(HEAD)["plan"]
    assert (state, len(description)) == ("failed", 140)


def test_what_it_refuses_and_what_it_cannot_do_now_are_told_apart(
    hub: AzureDevOps, forge: Forge, kept: Kept
) -> None:
    told = []
    for status in (203, 302, 401, 404):  # a sign-in page is what a bad token gets
        hub.fail(status, body=f'{{"message": "{CANARY}"}}'.encode())
        with pytest.raises(ForgeRefused, match="AZURE_DEVOPS_TOKEN") as refused:
            forge.pull_request(1)
        told.append(str(refused.value))
    hub.fail(503, times=3)
    with pytest.raises(ForgeUnavailable):
        forge.merged(MERGED, "main")
    assert hub.count("POST", "pullrequestquery") == 3
    hub.fail(429, headers={"retry-after": "7"})
    with pytest.raises(ForgeUnavailable) as later:
        forge.pull_request(1)
    assert later.value.retry_at is not None
    assert CANARY not in repr((told, str(later.value), dict(kept), forge._client))  # type: ignore[attr-defined]


def test_its_token_is_not_sent_to_a_host_that_only_the_repository_names(hub: AzureDevOps) -> None:
    with pytest.raises(ForgeRefused, match="SYSTEM_COLLECTIONURI="):
        forge_of(hub.spec, environment={"AZURE_DEVOPS_TOKEN": CANARY}, answers=Kept(), now=time.time)
    assert hub.requests == []
