"""Pull requests on GitHub and GitHub Enterprise, over the REST API of 2022-11-28."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field

from mlops.forges.forge import ForgeRefused, PullRequest, PullRequestState, Review, StatusState
from mlops.forges.http import Client

HEADERS: Final = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
LONGEST_DESCRIPTION: Final = 140  # characters of a status's description
# How GitHub says that it does not know a commit, or has none at all.
_UNKNOWN: Final = (409, 422)


class _User(BaseModel):
    login: str
    type: str = ""


class _Repository(BaseModel):
    full_name: str


class _Ref(BaseModel):
    ref: str
    sha: str
    repo: _Repository | None = None


class _Label(BaseModel):
    name: str


class _Pull(BaseModel):
    number: int
    html_url: str
    title: str
    body: str | None
    state: Literal["open", "closed"]
    user: _User | None
    head: _Ref
    base: _Ref
    merge_commit_sha: str | None
    merged_at: str | None
    labels: list[_Label]


class _Review(BaseModel):
    user: _User | None
    state: Literal["APPROVED", "CHANGES_REQUESTED", "COMMENTED", "DISMISSED", "PENDING"]
    commit_id: str | None
    submitted_at: str = ""
    html_url: str


class _Comment(BaseModel):
    id: int
    user: _User | None
    body: str | None = Field(default=None)


class _Permission(BaseModel):
    permission: str


def _pull(answer: Any) -> Any:
    return _Pull.model_validate(answer).model_dump()


def _review(answer: Any) -> Any:
    return _Review.model_validate(answer).model_dump()


def _comment(answer: Any) -> Any:
    return _Comment.model_validate(answer).model_dump()


def _login(answer: Any) -> Any:
    return _User.model_validate(answer).login


def _permission(answer: Any) -> Any:
    return _Permission.model_validate(answer).permission


def _nothing(answer: Any) -> Any:
    return None


class GitHub:
    """One repository on GitHub; `repository` is `owner/name`. See `mlops.forges.forge.Forge` for what it does."""

    name = "github"

    def __init__(self, client: Client, repository: str) -> None:
        self._client = client
        self._repository = repository
        self._owner = repository.partition("/")[0]
        self._path = f"/repos/{repository}"
        self._me: str | None = None

    def merged(self, commit: str, branch: str) -> PullRequest | None:
        key = f"{self._path} merged {commit} {branch}"
        if (kept := self._client.remembered(key)) is not None:
            return _remembered(kept)
        path = f"{self._path}/commits/{quote(commit, safe='')}/pulls"
        try:
            found = [self._read(pull) for pull in self._client.pages(path, _pull) if self._here(pull, "base")]
        except ForgeRefused as error:
            if error.status in _UNKNOWN:
                return None
            raise
        merged = [pull for pull in found if pull.state == "merged" and pull.base == branch]
        # A squash is named by its merge commit; else the first merge is what brought the commit in.
        merged.sort(key=lambda pull: (pull.merge_commit != commit, pull.merged_at, pull.number))
        if not merged:
            return None
        self._client.remember(key, asdict(merged[0]))
        return merged[0]

    def pull_request(self, number: int) -> PullRequest:
        return self._read(self._client.get(f"{self._path}/pulls/{number}", _pull))

    def reviews(self, number: int) -> tuple[Review, ...]:
        rows = self._client.pages(f"{self._path}/pulls/{number}/reviews", _review)
        reviews = [
            Review(
                login=row["user"]["login"] if row["user"] else "",
                state=row["state"],
                commit=row["commit_id"] or "",
                submitted_at=row["submitted_at"],
                url=_web(row["html_url"]),
            )
            for row in rows
            if row["state"] != "PENDING"  # seen by nobody but its author
        ]
        return tuple(sorted(reviews, key=lambda review: review.submitted_at))

    def proposed(self, branch: str) -> PullRequest | None:
        return self._newest(branch, state="all")

    def open(self, branch: str, base: str, title: str, body: str) -> PullRequest:
        if (there := self._newest(branch, state="open", base=base)) is not None:
            return there
        said = {"head": branch, "base": base, "title": self._client.redact(title)}
        said["body"] = self._client.redact(body)
        try:
            return self._read(self._client.send("POST", f"{self._path}/pulls", said, _pull))
        except ForgeRefused as error:
            # Somebody else was faster; GitHub says 422 for that and for much else.
            if error.status == 422 and (there := self._newest(branch, state="open", base=base)) is not None:
                return there
            raise

    def update(self, number: int, *, title: str | None = None, body: str | None = None) -> PullRequest:
        said = {"title": title, "body": body}
        change = {name: self._client.redact(text) for name, text in said.items() if text is not None}
        if not change:
            return self.pull_request(number)
        return self._change(number, change)

    def close(self, number: int, comment: str) -> None:
        if self.pull_request(number).state == "open":
            self.comment(number, "closed", comment)
            self._change(number, {"state": "closed"})

    def comment(self, number: int, key: str, body: str) -> None:
        marker = f"<!-- mlops:{quote(key, safe='')} -->"
        text = self._client.redact(f"{marker}\n{body}")
        path = f"{self._path}/issues/{number}/comments"
        for there in self._client.pages(path, _comment):
            if (there["body"] or "").startswith(marker) and self._is_ours(there["user"]):
                if there["body"].replace("\r\n", "\n") != text:
                    edit = f"{self._path}/issues/comments/{there['id']}"
                    self._client.send("PATCH", edit, {"body": text}, _nothing)
                return
        self._client.send("POST", path, {"body": text}, _nothing)

    def status(
        self, commit: str, context: str, state: StatusState, description: str, url: str | None = None
    ) -> None:
        said = {
            "state": state,
            "context": context,
            "description": shortened(self._client.redact(description)),
        }
        if url is not None:
            said["target_url"] = url
        # GitHub takes a thousand of them for a commit, and none after that.
        key = f"{self._path} status {commit} {context}"
        if self._client.remembered(key) != said:
            self._client.send("POST", f"{self._path}/statuses/{quote(commit, safe='')}", said, _nothing)
            self._client.remember(key, said)

    def may_write(self, login: str) -> bool:
        """Whether somebody has write access to the repository; the role `triage`, which may set labels, has not.

        Raises:
            ForgeUnavailable: it cannot be known now.
            ForgeRefused: the token may not ask.
        """
        try:
            path = f"{self._path}/collaborators/{quote(login, safe='')}/permission"
            found = self._client.get(path, _permission)
        except ForgeRefused as error:
            if error.status == 404:
                return False
            raise
        return found in ("admin", "write")  # `maintain` is told as write, `triage` as read

    def _newest(self, branch: str, **query: str) -> PullRequest | None:
        rows = self._client.pages(
            f"{self._path}/pulls",
            _pull,
            head=f"{self._owner}:{branch}",
            sort="created",
            direction="desc",
            **query,
        )
        ours = (row for row in rows if self._here(row, "head") and row["head"]["ref"] == branch)
        return next((self._read(row) for row in ours), None)

    def _change(self, number: int, change: Mapping[str, str]) -> PullRequest:
        return self._read(self._client.send("PATCH", f"{self._path}/pulls/{number}", change, _pull))

    def _here(self, pull: Any, end: Literal["head", "base"]) -> bool:
        """Whether this end of a pull request is in this repository, not in a fork."""
        repository = pull[end]["repo"]
        return repository is not None and repository["full_name"].lower() == self._repository.lower()

    def _is_ours(self, user: Any) -> bool:
        """Whether a comment is ours: anybody can copy the marker of one."""
        if self._me is None:
            try:
                self._me = self._client.get("/user", _login)
            except ForgeRefused as error:
                if error.status != 403:
                    raise
                self._me = ""  # an installation's token has no user: its comments are a bot's
        if user is None:
            return False
        return bool(user["login"] == self._me) if self._me else bool(user["type"] == "Bot")

    def _read(self, pull: Any) -> PullRequest:
        state: PullRequestState = "merged" if pull["merged_at"] else pull["state"]
        return PullRequest(
            number=pull["number"],
            url=_web(pull["html_url"]),
            title=pull["title"],
            body=pull["body"] or "",
            state=state,
            author=pull["user"]["login"] if pull["user"] else "",
            branch=pull["head"]["ref"],
            base=pull["base"]["ref"],
            head=pull["head"]["sha"],
            # Before the merge this is a commit that GitHub only tries out.
            merge_commit=pull["merge_commit_sha"] if state == "merged" else None,
            merged_at=pull["merged_at"],
            labels=tuple(label["name"] for label in pull["labels"]),
        )


def shortened(text: str) -> str:
    """A status's description, no longer than forges take."""
    return text if len(text) <= LONGEST_DESCRIPTION else text[: LONGEST_DESCRIPTION - 1] + "…"


def _remembered(kept: Any) -> PullRequest:
    return PullRequest(**{**kept, "labels": tuple(kept["labels"])})


def _web(url: str) -> str:
    """A link that may be shown: to a page, never a script."""
    return url if url.startswith(("https://", "http://")) else ""
