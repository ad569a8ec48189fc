"""The servers of the tests are held to what GitHub and Microsoft publish; whoever strays fails its test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from forges.contract import Contract
from forges.github_server import GitHub


@pytest.mark.parametrize(
    ("method", "path", "body", "fault"),
    [
        ("GET", "/repos/acme/models/pulls?sorted=created", None, "no parameter sorted"),
        ("GET", "/repos/acme/models/pulls?state=merged", None, "'merged' is not one of"),
        ("POST", "/repos/acme/models/pulls", {"title": "x", "head": "a"}, "'base' is a required property"),
        ("POST", "/repos/acme/models/statuses/abc", {"state": "good"}, "'good' is not one of"),
        ("POST", "/repos/acme/models/statuses/abc", {"state": "error", "link": "x"}, "no field link"),
        ("GET", "/repos/acme/models/pull/1", None, "no such operation"),
    ],
)
def test_a_request_that_github_does_not_take_is_noticed(
    method: str, path: str, body: object, fault: str
) -> None:
    hub = GitHub()
    with hub:
        hub.open_pull("a")
        headers = {"Authorization": hub.authorization}
        requests.request(method, hub.url + path, json=body, headers=headers, timeout=5)
        assert any(fault in broken for broken in hub.broken), hub.broken
        hub.broken.clear()


def test_an_answer_that_github_does_not_give_is_noticed() -> None:
    hub = GitHub().__enter__()
    del hub.pulls[hub.open_pull("a")]["html_url"]
    headers = {"Authorization": hub.authorization}
    requests.get(f"{hub.url}/repos/acme/models/pulls/1", headers=headers, timeout=5)
    with pytest.raises(AssertionError, match="html_url"):
        hub.__exit__(None, None, None)


@pytest.mark.parametrize("name", ["github", "azure"])
def test_each_description_says_where_it_is_from(name: str) -> None:
    text = (Path(__file__).parent / "openapi" / f"{name}.json").read_text()
    source = json.loads(text)["source"]
    assert source["licence"] == "MIT"
    assert source.get("version") or source.get("revision")
    assert Contract(name).document["paths"]
