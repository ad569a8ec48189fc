"""Pull requests on Azure DevOps Repos, over the REST API 7.1.

It has no ETags, and a vote there tells neither when it was cast nor on what: both are read from the threads
that the server itself adds when somebody votes. A vote that no such thread explains is on no known commit.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, Field, model_validator

from mlops.forges.forge import PullRequest, PullRequestState, Review, ReviewState, StatusState
from mlops.forges.github import shortened
from mlops.forges.http import PAGE, Client

API: Final = "7.1"
LONGEST_BODY: Final = 4000  # characters of a pull request's description
_HEADS: Final = "refs/heads/"
_STATES: Final[dict[str, PullRequestState]] = {"active": "open", "completed": "merged", "abandoned": "closed"}
# Approved; approved with suggestions; waits for the author; rejected.
_VOTES: Final[dict[int, ReviewState]] = {
    10: "APPROVED",
    5: "APPROVED",
    -5: "CHANGES_REQUESTED",
    -10: "CHANGES_REQUESTED",
}
_STATUSES: Final[dict[StatusState, str]] = {
    "success": "succeeded",
    "failure": "failed",
    "pending": "pending",
    "error": "error",
}


_Model = TypeVar("_Model", bound=BaseModel)


class _Commit(BaseModel):
    commitId: str


class _Person(BaseModel):
    id: str
    uniqueName: str = ""


class _Reviewer(_Person):
    vote: int = 0
    isContainer: bool = False


class _Label(BaseModel):
    name: str


class _Pull(BaseModel):
    pullRequestId: int
    title: str = ""
    description: str | None = None
    status: Literal["active", "completed", "abandoned"]
    createdBy: _Person
    sourceRefName: str
    targetRefName: str
    lastMergeSourceCommit: _Commit | None = None
    lastMergeCommit: _Commit | None = None
    closedDate: str | None = None
    forkSource: dict[str, Any] | None = None
    labels: list[_Label] = Field(default_factory=list)
    reviewers: list[_Reviewer] = Field(default_factory=list)

    @model_validator(mode="after")
    def _says_what_was_merged(self) -> _Pull:
        # Without it a vote on no known commit would be one on what was merged.
        if self.status == "completed" and self.lastMergeSourceCommit is None:
            raise ValueError("completed, and nothing was merged")
        return self


class _Pulls(BaseModel):
    value: list[_Pull]


class _Query(BaseModel):
    results: list[dict[str, list[_Pull]]]


class _Iteration(BaseModel):
    createdDate: datetime
    sourceRefCommit: _Commit


class _Iterations(BaseModel):
    value: list[_Iteration]


class _Comment(BaseModel):
    id: int
    author: _Person
    content: str | None = None


class _Thread(BaseModel):
    id: int
    publishedDate: datetime
    isDeleted: bool = False
    comments: list[_Comment] = Field(default_factory=list)
    properties: dict[str, Any] | None = None


class _Threads(BaseModel):
    value: list[_Thread]


def _nothing(answer: Any) -> Any:
    return None


class AzureDevOps:
    """One repository on Azure DevOps. See `mlops.forges.forge.Forge` for what it does."""

    name = "azureDevOps"

    def __init__(self, client: Client, repository: str) -> None:
        self._client = client
        self._repository = repository
        self._path = f"/_apis/git/repositories/{quote(repository, safe='')}"

    def merged(self, commit: str, branch: str) -> PullRequest | None:
        key = f"{self._path} merged {commit} {branch}"
        if (kept := self._client.remembered(key)) is not None:
            return PullRequest(**{**kept, "labels": tuple(kept["labels"])})
        # What it became when it was merged, also squashed or rebased, and what was merged.
        query = {"queries": [{"items": [commit], "type": kind} for kind in ("lastMergeCommit", "commit")]}
        path = f"{self._path}/pullrequestquery"
        answer: _Query = self._client.send("POST", path, query, _Query.model_validate, safe=True)
        found = [self._read(pull) for result in answer.results for pull in result.get(commit, ())]
        merged = [pull for pull in found if pull.state == "merged" and pull.base == branch]
        merged.sort(key=lambda pull: (pull.merge_commit != commit, pull.merged_at or "", pull.number))
        if not merged:
            return None
        self._client.remember(key, asdict(merged[0]))
        return merged[0]

    def pull_request(self, number: int) -> PullRequest:
        return self._read(self._pull(number))

    def reviews(self, number: int) -> tuple[Review, ...]:
        pull = self._pull(number)
        votes = [who for who in pull.reviewers if who.vote in _VOTES and not who.isContainer]
        if not votes:
            return ()
        path = f"/pullRequests/{number}"
        iterations = self._get(f"{path}/iterations", _Iterations).value
        cast = _votes_cast(self._get(f"{path}/threads", _Threads).value)
        reviews = []
        for who in votes:
            at = cast.get((who.id, who.vote))
            seen = [one for one in iterations if at is not None and one.createdDate <= at]
            last = max(seen, key=lambda one: one.createdDate, default=None)
            reviews.append(
                Review(
                    login=who.uniqueName,
                    state=_VOTES[who.vote],
                    commit=last.sourceRefCommit.commitId if last else "",
                    submitted_at=at.isoformat() if at else "",
                    url=self._web(number),
                )
            )
        return tuple(sorted(reviews, key=lambda review: review.submitted_at))

    def proposed(self, branch: str) -> PullRequest | None:
        return self._newest(branch, "all")

    def open(self, branch: str, base: str, title: str, body: str) -> PullRequest:
        if (there := self._newest(branch, "active", base)) is not None:
            return there
        said = {"sourceRefName": _HEADS + branch, "targetRefName": _HEADS + base, **self._text(title, body)}
        return self._send("POST", "/pullrequests", said)

    def update(self, number: int, *, title: str | None = None, body: str | None = None) -> PullRequest:
        there, change = self.pull_request(number), self._text(title, body)
        now = {"title": there.title, "description": there.body}
        if change.items() <= now.items():
            return there  # also one that was cut off: it is no longer than Azure DevOps takes
        return self._send("PATCH", f"/pullrequests/{number}", change)

    def close(self, number: int, comment: str) -> None:
        if self.pull_request(number).state == "open":
            self.comment(number, "closed", comment)
            self._send("PATCH", f"/pullrequests/{number}", {"status": "abandoned"})

    def comment(self, number: int, key: str, body: str) -> None:
        marker = f"<!-- mlops:{quote(key, safe='')} -->"
        text = self._client.redact(f"{marker}\n{body}")
        path = f"/pullRequests/{number}/threads"
        for thread in self._get(path, _Threads).value:
            first = thread.comments[0] if thread.comments and not thread.isDeleted else None
            if first is not None and (first.content or "").startswith(marker):
                if first.content != text:
                    edit = f"{self._path}{path}/{thread.id}/comments/{first.id}"
                    said = {"content": text}
                    self._client.send("PATCH", edit, said, _nothing)
                return
        said_first = {"parentCommentId": 0, "content": text, "commentType": "text"}
        thread_said = {"comments": [said_first], "status": "closed"}  # it asks nobody to resolve it
        self._client.send("POST", self._path + path, thread_said, _nothing)

    def status(
        self, commit: str, context: str, state: StatusState, description: str, url: str | None = None
    ) -> None:
        said: dict[str, Any] = {
            "state": _STATUSES[state],
            "description": shortened(self._client.redact(description)),
            "context": {"name": context, "genre": "mlops"},
        }
        if url is not None:
            said["targetUrl"] = url
        key = f"{self._path} status {commit} {context}"
        if self._client.remembered(key) != said:
            path = f"{self._path}/commits/{quote(commit, safe='')}/statuses"
            self._client.send("POST", path, said, _nothing)
            self._client.remember(key, said)

    def _newest(self, branch: str, status: str, base: str | None = None) -> PullRequest | None:
        query: dict[str, str | int] = {"searchCriteria.sourceRefName": _HEADS + branch}
        query |= {"searchCriteria.status": status, "$top": PAGE}
        if base is not None:
            query["searchCriteria.targetRefName"] = _HEADS + base
        found = self._get("/pullrequests", _Pulls, **query).value
        ours = [pull for pull in found if pull.forkSource is None and pull.sourceRefName == _HEADS + branch]
        newest = max(ours, key=lambda pull: pull.pullRequestId, default=None)
        return None if newest is None else self._read(newest)

    def _pull(self, number: int) -> _Pull:
        return self._get(f"/pullrequests/{number}", _Pull)

    def _get(self, path: str, model: type[_Model], **query: str | int) -> _Model:
        found: _Model = self._client.get(self._path + path, model.model_validate, **query)
        return found

    def _send(self, method: Literal["POST", "PATCH"], path: str, said: Any) -> PullRequest:
        answer = self._client.send(method, self._path + path, said, _Pull.model_validate)
        return self._read(answer)

    def _text(self, title: str | None, body: str | None) -> dict[str, str]:
        said = {"title": title, "description": None if body is None else _cut(self._client.redact(body))}
        return {name: self._client.redact(text) for name, text in said.items() if text is not None}

    def _web(self, number: int) -> str:
        return f"{self._client.base}/_git/{quote(self._repository, safe='')}/pullrequest/{number}"

    def _read(self, pull: _Pull) -> PullRequest:
        state = _STATES[pull.status]
        merge = pull.lastMergeCommit
        return PullRequest(
            number=pull.pullRequestId,
            url=self._web(pull.pullRequestId),
            title=pull.title,
            body=pull.description or "",
            state=state,
            author=pull.createdBy.uniqueName,
            branch=pull.sourceRefName.removeprefix(_HEADS),
            base=pull.targetRefName.removeprefix(_HEADS),
            head=pull.lastMergeSourceCommit.commitId if pull.lastMergeSourceCommit else "",
            merge_commit=merge.commitId if state == "merged" and merge else None,
            merged_at=pull.closedDate if state == "merged" else None,
            labels=tuple(label.name for label in pull.labels),
        )


def _votes_cast(threads: list[_Thread]) -> dict[tuple[str, int], datetime]:
    """When each person last cast each vote, as the server noted it."""
    cast: dict[tuple[str, int], datetime] = {}
    for thread in threads:
        if _property(thread, "CodeReviewThreadType") != "VoteUpdate" or not thread.comments:
            continue
        result = _property(thread, "CodeReviewVoteResult")
        if isinstance(result, str) and result.lstrip("-").isdigit():
            who = (thread.comments[0].author.id, int(result))
            cast[who] = max(cast.get(who, thread.publishedDate), thread.publishedDate)
    return cast


def _property(thread: _Thread, name: str) -> Any:
    value = (thread.properties or {}).get(name)
    return value.get("$value") if isinstance(value, dict) else None


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_BODY else text[: LONGEST_BODY - 1] + "…"
