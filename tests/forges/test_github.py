"""The client for GitHub, against a GitHub that keeps to GitHub's published description."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from forges.forge_server import CANARY
from forges.github_server import GitHub
from mlops.forges import Forge, ForgeRefused, ForgeUnavailable, forge_of

HEAD, MERGED, OTHER = "a" * 40, "b" * 40, "c" * 40


class Kept(dict[str, bytes]):
    """Answers that a test can look into."""

    def put(self, key: str, value: bytes) -> None:
        self[key] = value


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def forge(hub: GitHub, kept: Kept) -> Forge:
    return opened(hub, kept)


def opened(hub: GitHub, kept: Kept | None = None, now: float | None = None) -> Forge:
    forge = forge_of(
        hub.spec,
        environment=hub.environment,
        answers=Kept() if kept is None else kept,
        now=time.time if now is None else lambda: now,
    )
    assert forge is not None
    forge._client.sleep = lambda _: None  # type: ignore[attr-defined]
    return forge


def test_a_merge_commit_leads_to_its_pull_request_and_is_never_asked_again(hub: GitHub, kept: Kept) -> None:
    number = hub.open_pull("change", head=HEAD, author="ada", title="Retrain")
    hub.label(number, "mlops/train")
    hub.merge(number, MERGED)
    pull = opened(hub, kept).merged(MERGED, "main")
    assert pull is not None
    assert (pull.number, pull.state, pull.author, pull.head, pull.merge_commit, pull.base, pull.labels) == (
        number, "merged", "ada", HEAD, MERGED, "main", ("mlops/train",),
    )  # fmt: skip
    asked = len(hub.requests)
    assert opened(hub, kept).merged(MERGED, "main") == pull
    assert len(hub.requests) == asked


def test_every_commit_of_a_rebase_leads_to_its_pull_request(hub: GitHub, forge: Forge) -> None:
    number = hub.open_pull("change", head=HEAD)
    hub.merge(number, commits=(OTHER, MERGED))
    assert [found.number for sha in (OTHER, MERGED) if (found := forge.merged(sha, "main"))] == [
        number,
        number,
    ]


def test_a_commit_that_the_forge_does_not_know_has_no_pull_request(forge: Forge) -> None:
    assert forge.merged(OTHER, "main") is None


def test_pull_requests_that_are_open_closed_or_into_another_branch_carry_nothing(
    hub: GitHub, forge: Forge
) -> None:
    hub.open_pull("open", head=HEAD)
    hub.close(hub.open_pull("closed", head=HEAD))
    hub.merge(hub.open_pull("elsewhere", "release", head=HEAD), MERGED)
    assert forge.merged(HEAD, "main") is None
    assert forge.merged(MERGED, "main") is None
    hub.merge(hub.open_pull("again", head=HEAD), MERGED)  # what was not there is asked for again
    found = forge.merged(MERGED, "main")
    assert found is not None
    assert found.branch == "again"


def test_reviews_come_oldest_first_with_all_their_pages_and_what_they_are_of(
    hub: GitHub, forge: Forge
) -> None:
    number = hub.open_pull("change", head=HEAD)
    first = hub.review(number, "grace")
    for _ in range(230):
        hub.review(number, "chatty", "COMMENTED")
    hub.push(number, OTHER)
    hub.review(number, "grace", "CHANGES_REQUESTED")
    hub.review(number, None)
    hub.review(number, "linus", "PENDING")
    hub.dismiss(number, first)
    reviews = forge.reviews(number)
    assert len(reviews) == 233
    assert (reviews[0].login, reviews[0].state, reviews[0].commit) == ("grace", "DISMISSED", HEAD)
    assert (reviews[-2].login, reviews[-2].state, reviews[-2].commit) == ("grace", "CHANGES_REQUESTED", OTHER)
    assert reviews[-1].login == ""
    assert reviews[-1].url.startswith("https://")


def test_more_reviews_than_are_read_are_an_error_not_a_part_of_them(hub: GitHub, forge: Forge) -> None:
    number = hub.open_pull("change")
    hub.review(number, "grace")
    hub._reviews[number] *= 3001
    with pytest.raises(ForgeRefused, match="more than 3,000"):
        forge.reviews(number)


def test_what_is_unchanged_costs_nothing(hub: GitHub, kept: Kept) -> None:
    number = hub.open_pull("change")
    for _ in range(150):
        hub.review(number, "grace")
    before = opened(hub, kept).reviews(number)
    paid = hub.paid
    assert opened(hub, kept).reviews(number) == before
    assert (hub.paid, len(hub.requests)) == (paid, paid + 2)
    hub.review(number, "linus")
    assert len(opened(hub, kept).reviews(number)) == 151
    assert hub.paid == paid + 1  # the page that changed


def test_a_damaged_memory_is_asked_again(hub: GitHub, kept: Kept) -> None:
    number = hub.open_pull("change")
    opened(hub, kept).pull_request(number)
    for key in kept:
        kept[key] = b"{"
    assert opened(hub, kept).pull_request(number).number == number


def test_a_memory_that_was_tampered_with_does_not_lead_elsewhere(hub: GitHub, kept: Kept) -> None:
    with GitHub() as thief:
        number = hub.open_pull("change")
        for _ in range(150):
            hub.review(number, "grace")
        opened(hub, kept).reviews(number)
        for key, value in kept.items():
            kept[key] = value.replace(b'"next": "' + hub.url.encode(), b'"next": "' + thief.url.encode())
        assert len(opened(hub, kept).reviews(number)) == 150
        assert thief.requests == []


def test_a_fork_cannot_pass_for_our_proposal(hub: GitHub, forge: Forge) -> None:
    ours = hub.open_pull("mlops/model/a")
    hub.open_pull("mlops/model/a", fork="mallory/models")
    hub.open_pull("mlops/model/a", fork="acme/copy")
    found = forge.proposed("mlops/model/a")
    assert found is not None
    assert found.number == ours
    assert forge.proposed("mlops/model/b") is None


def test_the_newest_proposal_is_found_closed_or_not(hub: GitHub, forge: Forge) -> None:
    hub.close(hub.open_pull("mlops/model/a"))
    newest = hub.open_pull("mlops/model/a")
    hub.merge(newest)
    found = forge.proposed("mlops/model/a")
    assert found is not None
    assert (found.number, found.state) == (newest, "merged")


def test_a_pull_request_is_opened_once_then_changed_then_closed_with_a_reason(
    hub: GitHub, forge: Forge
) -> None:
    first = forge.open("mlops/model/a", "main", "Retrain", "Because of drift")
    assert (first.state, first.title, first.body, first.author) == (
        "open",
        "Retrain",
        "Because of drift",
        "mlops-bot",
    )
    assert forge.open("mlops/model/a", "main", "Retrain", "Because of drift").number == first.number
    assert hub.count("POST", "/pulls") == 1
    assert forge.update(first.number, body="Because of more drift").body == "Because of more drift"
    assert forge.update(first.number, title="Again").title == "Again"
    forge.close(first.number, "Its reason is gone")
    forge.close(first.number, "Its reason is gone")
    assert forge.pull_request(first.number).state == "closed"
    assert hub.comments(first.number) == ["<!-- mlops:closed -->\nIts reason is gone"]


def test_a_pull_request_that_somebody_else_opened_meanwhile_is_found(hub: GitHub, forge: Forge) -> None:
    number = hub.open_pull("mlops/model/a")
    hub.fail(200, body=b"[]", only="GET")
    assert forge.open("mlops/model/a", "main", "Retrain", "").number == number


@pytest.mark.parametrize("me", ["mlops-bot", None], ids=["a person's token", "an app's token"])
def test_a_comment_sticks_and_a_copied_marker_of_others_is_left_alone(me: str | None) -> None:
    with GitHub(me=me) as hub:
        number = hub.open_pull("change")
        hub.comment(number, "mallory", "<!-- mlops:plan -->\nNothing to see")
        forge = opened(hub)
        for body in ("one", "two", "two"):
            forge.comment(number, "plan", body)
        forge.comment(number, "gates", "three")
        assert hub.comments(number) == [
            "<!-- mlops:plan -->\nNothing to see", "<!-- mlops:plan -->\ntwo", "<!-- mlops:gates -->\nthree",
        ]  # fmt: skip
        assert hub.count("PATCH") == 1


def test_a_status_is_short_and_set_once(hub: GitHub, forge: Forge) -> None:
    for _ in range(2):
        forge.status(HEAD, "mlops/plan", "pending", "waits " * 100, "https://mlops.test/plan")
    assert hub.count("POST", "/statuses") == 1
    state, description = hub.statuses(HEAD)["mlops/plan"]
    assert (state, len(description)) == ("pending", 140)
    forge.status(HEAD, "mlops/plan", "success", "done")
    assert hub.statuses(HEAD)["mlops/plan"] == ("success", "done")


def test_reading_is_tried_again_and_writing_is_not(hub: GitHub, forge: Forge) -> None:
    number = hub.open_pull("change")
    hub.fail(502, times=2)
    assert forge.pull_request(number).number == number
    hub.fail(502, only="POST", after=True)
    with pytest.raises(ForgeUnavailable, match="502"):
        forge.open("mlops/model/a", "main", "Retrain", "")
    assert hub.count("POST") == 1
    forge.open("mlops/model/a", "main", "Retrain", "")  # it was done: found, not repeated
    assert hub.count("POST") == 1


def test_a_forge_that_stays_broken_is_unavailable(hub: GitHub, forge: Forge) -> None:
    hub.fail(500, times=9)
    with pytest.raises(ForgeUnavailable):
        forge.pull_request(1)
    assert len(hub.requests) == 3


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000600"}, 600),
        (429, {"retry-after": "30"}, 30),
        (403, {"retry-after": "90"}, 90),
        (429, {}, 60),
        (503, {"retry-after": "20"}, 20),
        (429, {"retry-after": "99999999"}, 3600),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "nan"}, 60),
    ],
)
def test_a_used_up_limit_says_when_and_nothing_is_asked_until_then(
    hub: GitHub, status: int, headers: dict[str, str], wait: float
) -> None:
    number, forge = hub.open_pull("change"), opened(hub, now=1_000_000.0)
    hub.fail(status, headers=headers)
    with pytest.raises(ForgeUnavailable) as told:
        forge.pull_request(number)
    assert told.value.retry_at == 1_000_000.0 + wait
    with pytest.raises(ForgeUnavailable):
        forge.pull_request(number)
    assert len(hub.requests) == 1
    forge._client.now = lambda: 1_000_001.0 + wait  # type: ignore[attr-defined]
    assert forge.pull_request(number).number == number


def test_a_refusal_names_the_token_and_what_it_needs(hub: GitHub, forge: Forge) -> None:
    with pytest.raises(ForgeRefused, match="GITHUB_TOKEN") as told:
        forge.pull_request(404)
    assert told.value.status == 404
    hub.authorization = "Bearer another"
    with pytest.raises(ForgeRefused, match="Bad credentials"):
        forge.pull_request(1)


def test_a_token_is_not_taken_to_where_a_redirect_or_a_link_leads(hub: GitHub, forge: Forge) -> None:
    with GitHub() as thief:
        number = hub.open_pull("change")
        for status in (301, 302, 307, 308):
            hub.fail(status, headers={"Location": f"{thief.url}/repos/acme/models/pulls/1"})
            with pytest.raises(ForgeRefused, match="elsewhere"):
                forge.pull_request(number)
        hub.fail(200, headers={"Link": f'<{thief.url}/next>; rel="next"'}, body=b"[]")
        with pytest.raises(ForgeRefused, match="another host"):
            forge.reviews(number)
        assert thief.requests == []


def test_a_repository_does_not_decide_where_a_token_goes(hub: GitHub) -> None:
    for home in (
        {},
        {"GITHUB_API_URL": "https://github.acme.test/api/v3"},
        {"GITHUB_API_URL": f"{hub.url[:-1]}"},
    ):
        with pytest.raises(ForgeRefused, match="GITHUB_API_URL="):
            forge_of(hub.spec, environment={"GITHUB_TOKEN": CANARY, **home}, answers=Kept(), now=time.time)
    assert hub.requests == []
    assert forge_of(None, environment={}, answers=Kept(), now=time.time) is None


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b"null", b'{"number": "x"}', b"\xff"])
def test_an_answer_that_is_none_is_not_taken_for_one(hub: GitHub, forge: Forge, body: bytes) -> None:
    hub.fail(200, body=body)
    with pytest.raises(ForgeUnavailable, match="something else"):
        forge.pull_request(1)


def test_slow_hanging_dripping_and_huge_answers_end(hub: GitHub, forge: Forge) -> None:
    client = forge._client  # type: ignore[attr-defined]
    client.timeout, client.deadline = (1.0, 0.2), 0.3
    hub.fail(200, pause=60.0, times=3)
    with pytest.raises(ForgeUnavailable, match="does not answer"):
        forge.pull_request(1)
    hub.fail(200, hang_up=True, times=3)
    with pytest.raises(ForgeUnavailable):
        forge.pull_request(1)
    client.timeout, client.deadline = (1.0, 5.0), 30.0
    hub.fail(200, body=b" " * (17 * 2**20), times=3)
    with pytest.raises(ForgeUnavailable, match="bytes"):
        forge.pull_request(1)


def test_no_token_is_in_any_error_log_or_memory(
    hub: GitHub, kept: Kept, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    forge, told = opened(hub, kept), []
    number = hub.open_pull("change", title=f"I found {CANARY}")
    forge.pull_request(number)
    echo = f'{{"message": "token {CANARY} is bad"}}'.encode()
    for status in (401, 403, 404, 422, 500, 302):
        hub.fail(status, body=echo, times=3, headers={"Location": f"https://evil.test/{CANARY}"})
        with pytest.raises((ForgeRefused, ForgeUnavailable)) as error:
            forge.update(number, title="New")
        told.append(f"{error.value!r} {error.value} {error.value.where}")
        hub._faults.clear()
    hub.fail(200, hang_up=True)
    with pytest.raises(ForgeUnavailable) as error:
        forge.update(number, title="New")
    assert error.value.__cause__ is None
    forge.comment(number, "plan", f"with {CANARY}")
    forge.status(HEAD, "mlops", "error", f"with {CANARY}")
    opened_pull = forge.open("mlops/x", "main", f"t {CANARY}", f"b {CANARY}")
    said = [
        *told,
        repr(forge._client),
        caplog.text,
        *capfd.readouterr(),
        *hub.comments(number),
        opened_pull.body,
    ]  # type: ignore[attr-defined]
    said += [repr(kept), repr(hub.statuses(HEAD)), opened_pull.title]
    assert CANARY not in "\n".join(said)
    assert "***" in "\n".join(told)
