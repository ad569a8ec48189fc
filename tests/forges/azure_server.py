"""A small Azure DevOps on loopback that keeps what it is told, and holds every request and answer against Microsoft's
published description (openapi/azure.json).

That description says nothing of the threads that the server adds when somebody votes (their properties and
authors), nor which fields are always there: those are as this server and the client read them, and unchecked.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import quote

from forges.contract import Contract
from forges.forge_server import CANARY, Answer, ForgeServer, moment
from mlops.resources.project import Forge

_CONTRACT = Contract("azure")
_HEADS = "refs/heads/"


class AzureDevOps(ForgeServer):
    """One repository on Azure DevOps."""

    contract = _CONTRACT
    has_etags = False

    def __init__(self, *, token: str = CANARY, me: str = "mlops@acme.test") -> None:
        super().__init__()
        self.organization, self.project, self.repository = "acme", "ML models", "models"
        self.token, self.me = token, me
        self.authorization = f"Basic {base64.b64encode(f':{token}'.encode()).decode()}"
        self.pulls: dict[int, dict[str, Any]] = {}
        self._iterations: dict[int, list[dict[str, Any]]] = {}
        self._threads: dict[int, list[dict[str, Any]]] = {}
        self._statuses: dict[str, list[dict[str, Any]]] = {}
        self._now = moment()

    @property
    def spec(self) -> Forge:
        names = {"organization": self.organization, "project": self.project, "repository": self.repository}
        return Forge.model_validate({"azureDevOps": {**names, "url": self.url}})

    @property
    def environment(self) -> dict[str, str]:
        return {"AZURE_DEVOPS_TOKEN": self.token, "SYSTEM_COLLECTIONURI": self.url}

    def open_pull(
        self,
        branch: str,
        base: str = "main",
        *,
        head: str = "0" * 40,
        author: str = "ada@acme.test",
        title: str = "A change",
        body: str = "",
        fork: bool = False,
    ) -> int:
        """Open a pull request; its number."""
        number = len(self.pulls) + 1
        self.pulls[number] = {
            "pullRequestId": number,
            "title": title,
            "description": body,
            "status": "active",
            "createdBy": _person(author),
            "creationDate": self._now(),
            "sourceRefName": _HEADS + branch,
            "targetRefName": _HEADS + base,
            "lastMergeCommit": {"commitId": "e" * 40},
            "reviewers": [],
            "labels": [],
            **({"forkSource": {"name": _HEADS + branch}} if fork else {}),
        }
        self.push(number, head)
        return number

    def push(self, number: int, sha: str) -> None:
        """Another commit on the pull request's branch."""
        self.pulls[number]["lastMergeSourceCommit"] = {"commitId": sha}
        iterations = self._iterations.setdefault(number, [])
        iterations.append(
            {"id": len(iterations) + 1, "createdDate": self._now(), "sourceRefCommit": {"commitId": sha}}
        )

    def vote(self, number: int, who: str, vote: int, *, noted: bool = True) -> None:
        """Vote 10, 5, 0, -5 or -10; the server notes it in a thread of its own unless `noted` is False."""
        reviewers = [one for one in self.pulls[number]["reviewers"] if one["uniqueName"] != who]
        self.pulls[number]["reviewers"] = [*reviewers, {**_person(who), "vote": vote}]
        if noted:
            kinds = {"CodeReviewThreadType": "VoteUpdate", "CodeReviewVoteResult": str(vote)}
            properties = {k: {"$type": "System.String", "$value": v} for k, v in kinds.items()}
            self._thread(number, who, f"{who} voted {vote}", "system", properties)

    def group_vote(self, number: int, group: str, vote: int) -> None:
        """The vote of a team, which is its members' over again."""
        self.pulls[number]["reviewers"].append({**_person(group), "vote": vote, "isContainer": True})

    def merge(self, number: int, commit: str) -> None:
        self.pulls[number].update(
            status="completed", closedDate=self._now(), lastMergeCommit={"commitId": commit}
        )

    def comments(self, number: int) -> list[str]:
        """The bodies of what people and we said, oldest first."""
        said = (thread["comments"][0] for thread in self._threads.get(number, ()))
        return [comment["content"] for comment in said if comment["commentType"] == "text"]

    def statuses(self, sha: str) -> dict[str, tuple[str, str]]:
        """State and description by context."""
        return {
            one["context"]["name"]: (one["state"], one["description"]) for one in self._statuses.get(sha, ())
        }

    def routed(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        inner = path.removeprefix(
            f"/{self.organization}/{self.project}/_apis/git/repositories/{self.repository}/"
        )
        if inner == path:
            return Answer(404, {"message": "TF401019: The Git repository does not exist"})
        if inner == "pullrequestquery":
            return Answer(200, {**body, "results": [self._found(one) for one in body["queries"]]})
        if inner == "pullrequests":
            if method == "POST":
                branch, base = (
                    body[name].removeprefix(_HEADS) for name in ("sourceRefName", "targetRefName")
                )
                number = self.open_pull(
                    branch, base, title=body["title"], body=body["description"], author=self.me
                )
                return Answer(200, self.pulls[number])
            found = [pull for pull in self.pulls.values() if _matches(pull, query)]
            return Answer(200, {"count": len(found), "value": found[::-1]})
        found_one = re.match(r"pull[rR]equests/(\d+)(/?.*)", inner)
        if found_one is None:
            sha = inner.split("/")[1]
            self._statuses.setdefault(sha, []).append(body)
            return Answer(200, {**body, "id": 1})
        number, rest = int(found_one[1]), found_one[2]
        if number not in self.pulls:
            return Answer(404, {"message": f"TF401180: The requested pull request {number} was not found."})
        if rest == "":
            self.pulls[number].update(body or {})
            return Answer(200, self.pulls[number])
        if rest == "/iterations":
            rows = self._iterations[number]
            return Answer(200, {"count": len(rows), "value": rows})
        threads = self._threads.setdefault(number, [])
        if rest == "/threads" and method == "GET":
            return Answer(200, {"count": len(threads), "value": threads})
        if rest == "/threads":
            first = body["comments"][0]
            return Answer(200, self._thread(number, self.me, first["content"], first["commentType"], None))
        thread = next(one for one in threads if one["id"] == int(rest.split("/")[2]))
        thread["comments"][0].update(body)
        return Answer(200, thread["comments"][0])

    def _found(self, query: dict[str, Any]) -> dict[str, Any]:
        field = {"lastMergeCommit": "lastMergeCommit", "commit": "lastMergeSourceCommit"}[query["type"]]
        found: dict[str, Any] = {}
        for sha in query["items"]:
            pulls = [pull for pull in self.pulls.values() if pull[field]["commitId"] == sha]
            if pulls:
                found[sha] = pulls
        return found

    def _thread(
        self, number: int, who: str, content: str, kind: str, properties: dict[str, Any] | None
    ) -> dict[str, Any]:
        threads, at = self._threads.setdefault(number, []), self._now()
        comment = {
            "id": 1,
            "author": _person(who),
            "content": content,
            "commentType": kind,
            "publishedDate": at,
        }
        thread = {"id": len(threads) + 1, "publishedDate": at, "isDeleted": False, "comments": [comment]}
        threads.append(thread if properties is None else {**thread, "properties": properties})
        return threads[-1]


def _matches(pull: dict[str, Any], query: dict[str, str]) -> bool:
    asked = {name.removeprefix("searchCriteria."): value for name, value in query.items()}
    return (
        asked.get("status", "active") in ("all", pull["status"])
        and asked.get("sourceRefName", pull["sourceRefName"]) == pull["sourceRefName"]
        and asked.get("targetRefName", pull["targetRefName"]) == pull["targetRefName"]
    )


def _person(name: str) -> dict[str, Any]:
    return {"id": f"id-of-{quote(name)}", "uniqueName": name, "displayName": name}
