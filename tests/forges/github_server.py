"""A small GitHub on loopback that keeps what it is told, and holds every request and answer against GitHub's own
published description (openapi/github.json).

    with GitHub() as hub:
        number = hub.open_pull("change", head=sha, author="ada")
        hub.review(number, "grace")
        hub.merge(number, commit=merged)
        forge = forge_of(hub.spec, environment=hub.environment, answers={}, now=time.time)
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from forges.contract import Contract, sample
from forges.forge_server import CANARY, Answer, ForgeServer, moment
from mlops.resources.project import Forge

_CONTRACT = Contract("github")


class GitHub(ForgeServer):
    """One repository on GitHub; `me` is whose the token is, None: an app's."""

    contract = _CONTRACT

    def __init__(
        self, repository: str = "acme/models", *, token: str = CANARY, me: str | None = "mlops-bot"
    ) -> None:
        super().__init__()
        self.repository, self.token, self.me = repository, token, me
        self.authorization = f"Bearer {token}"
        self.pulls: dict[int, dict[str, Any]] = {}
        self._reviews: dict[int, list[dict[str, Any]]] = {}
        self._comments: dict[int, list[dict[str, Any]]] = {}
        self.writers: set[str] = set()  # who may write; everybody else may read
        self._statuses: dict[str, list[dict[str, Any]]] = {}
        self._carried: dict[str, list[int]] = {}
        self._now = moment()
        self._ids = 1000

    @property
    def spec(self) -> Forge:
        return Forge.model_validate({"github": {"repository": self.repository, "url": self.url}})

    @property
    def environment(self) -> dict[str, str]:
        return {"GITHUB_TOKEN": self.token, "GITHUB_API_URL": self.url}

    def open_pull(
        self,
        branch: str,
        base: str = "main",
        *,
        head: str = "0" * 40,
        author: str = "ada",
        title: str = "A change",
        body: str | None = None,
        fork: str | None = None,
    ) -> int:
        """Open a pull request, from `fork` (`owner/name`) if given; its number."""
        number = len(self.pulls) + 1
        web = f"https://github.test/{self.repository}/pull/{number}"
        links = {"html": web, "self": f"{self.url}/repos/{self.repository}/pulls/{number}"}
        self.pulls[number] = self._sample(
            "pull-request",
            number=number,
            id=self._id(),
            html_url=web,
            title=title,
            body=body,
            state="open",
            user=self._user(author),
            head=self._ref(branch, head, fork or self.repository),
            base=self._ref(base, "f" * 40, self.repository),
            merge_commit_sha="e" * 40,  # the merge that GitHub tries out
            created_at=self._now(),
            _links={
                **self._links("pull-request-simple"),
                **{name: {"href": url} for name, url in links.items()},
            },
        )
        self._carried.setdefault(head, []).append(number)
        return number

    def push(self, number: int, sha: str) -> None:
        """Another commit on the pull request's branch."""
        self.pulls[number]["head"]["sha"] = sha
        self._carried.setdefault(sha, []).append(number)

    def review(
        self,
        number: int,
        login: str | None,
        state: str = "APPROVED",
        *,
        commit: str | None = None,
        body: str = "",
    ) -> int:
        """Review a pull request, at its head unless `commit` is another; the review's id. None: a user that is gone."""
        id = self._id()
        self._reviews.setdefault(number, []).append(
            self._sample(
                "pull-request-review",
                id=id,
                user=None if login is None else self._user(login),
                state=state,
                body=body,
                commit_id=commit or self.pulls[number]["head"]["sha"],
                html_url=f"{self.pulls[number]['html_url']}#pullrequestreview-{id}",
                **({} if state == "PENDING" else {"submitted_at": self._now()}),
            )
        )
        return id

    def dismiss(self, number: int, review: int) -> None:
        next(one for one in self._reviews[number] if one["id"] == review)["state"] = "DISMISSED"

    def label(self, number: int, name: str) -> None:
        schema = self.contract.document["components"]["schemas"]["pull-request-simple"]["properties"][
            "labels"
        ]
        self.pulls[number]["labels"].append(sample(self.contract, schema["items"], name=name, id=self._id()))

    def merge(self, number: int, commit: str | None = None, *, commits: tuple[str, ...] = ()) -> str:
        """Merge (or squash) as `commit`; `commits`: those that a rebase made, the last of them is the merge commit."""
        pull, commit = self.pulls[number], commits[-1] if commits else commit or f"{number:040x}"
        pull.update(state="closed", merged=True, merged_at=self._now(), merge_commit_sha=commit)
        for sha in {commit, *commits}:
            self._carried.setdefault(sha, []).append(number)
        return commit

    def close(self, number: int) -> None:
        self.pulls[number].update(state="closed")

    def comment(self, number: int, login: str, body: str, *, type: str = "User") -> int:
        """Comment as somebody; the comment's id."""
        comment = self._sample("issue-comment", id=self._id(), user=self._user(login, type), body=body)
        comment |= {
            "created_at": self._now(),
            "issue_url": "https://github.test/i",
            "url": "https://github.test/c",
        }
        self._comments.setdefault(number, []).append(comment)
        return int(comment["id"])

    def comments(self, number: int) -> list[str]:
        """The bodies of its comments, oldest first."""
        return [comment["body"] for comment in self._comments.get(number, ())]

    def statuses(self, sha: str) -> dict[str, tuple[str, str]]:
        """State and description by context."""
        return {one["context"]: (one["state"], one["description"]) for one in self._statuses.get(sha, ())}

    def routed(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        if path == "/user":
            if self.me is None:
                return Answer(403, {"message": "Resource not accessible by integration"})
            extra = {"public_repos": 0, "public_gists": 0, "followers": 0, "following": 0}
            return Answer(
                200,
                {
                    **self._user(self.me),
                    **dict.fromkeys(("name", "company", "blog", "location")),
                    **extra,
                    **dict.fromkeys(("email", "hireable", "bio")),
                    "blog": "",
                    "created_at": self._now(),
                    "updated_at": self._now(),
                },
            )
        inner = path.removeprefix(f"/repos/{self.repository}/")
        if inner == path:
            return Answer(404, {"message": "Not Found"})
        if found := re.fullmatch(r"commits/([^/]+)/pulls", inner):
            if found[1] not in self._carried:
                return Answer(422, {"message": f"No commit found for SHA: {found[1]}"})
            return self._list(
                path, query, [self._simple(self.pulls[n]) for n in dict.fromkeys(self._carried[found[1]])]
            )
        if inner == "pulls":
            return self._open(body) if method == "POST" else self._list(path, query, self._listed(query))
        if found := re.fullmatch(r"pulls/(\d+)", inner):
            if (pull := self.pulls.get(int(found[1]))) is None:
                return Answer(404, {"message": "Not Found"})
            pull.update(body or {})
            return Answer(200, pull)
        if found := re.fullmatch(r"pulls/(\d+)/reviews", inner):
            return self._list(path, query, self._reviews.get(int(found[1]), []))
        if found := re.fullmatch(r"issues/(\d+)/comments", inner):
            number = int(found[1])
            if method == "GET":
                return self._list(path, query, self._comments.get(number, []))
            self.comment(number, self.me or "app[bot]", body["body"], type="User" if self.me else "Bot")
            return Answer(201, self._comments[number][-1])
        if found := re.fullmatch(r"issues/comments/(\d+)", inner):
            comment = next(c for all in self._comments.values() for c in all if c["id"] == int(found[1]))
            comment.update(body)
            return Answer(200, comment)
        if found := re.fullmatch(r"collaborators/([^/]+)/permission", inner):
            level = "write" if found[1] in self.writers else "read"
            return Answer(200, {"permission": level, "role_name": level, "user": None})
        found = re.fullmatch(r"statuses/(\w+)", inner)
        assert found is not None
        status = self._sample("status", **{"description": None, "target_url": None, **body}, creator=None)
        self._statuses.setdefault(found[1], []).append(status)
        return Answer(201, status)

    def _open(self, body: Any) -> Answer:
        same = [p for p in self.pulls.values() if p["head"]["ref"] == body["head"] and p["state"] == "open"]
        if any(
            p["base"]["ref"] == body["base"] and p["head"]["repo"]["full_name"] == self.repository
            for p in same
        ):
            message = f"A pull request already exists for {body['head']}."
            return Answer(422, {"message": "Validation Failed", "errors": [{"message": message}]})
        number = self.open_pull(
            body["head"],
            body["base"],
            title=body["title"],
            body=body.get("body"),
            author=self.me or "app[bot]",
        )
        return Answer(201, self.pulls[number])

    def _listed(self, query: dict[str, str]) -> list[Any]:
        owner, _, branch = query.get("head", "").partition(":")
        found = [
            pull
            for pull in self.pulls.values()
            if query.get("state", "open") in ("all", pull["state"])
            and query.get("base", pull["base"]["ref"]) == pull["base"]["ref"]
            and (not owner or pull["head"]["label"] == f"{owner}:{branch}")
        ]
        newest = (
            query.get("direction", "desc" if query.get("sort", "created") == "created" else "asc") == "desc"
        )
        return [self._simple(pull) for pull in sorted(found, key=lambda p: p["number"], reverse=newest)]

    def _list(self, path: str, query: dict[str, str], rows: list[Any]) -> Answer:
        size, page = int(query.get("per_page", "30")), int(query.get("page", "1"))
        part = rows[(page - 1) * size : page * size]
        if page * size >= len(rows):
            return Answer(200, part)
        onward = f"{self.host}{self.prefix}{path}?{urlencode({**query, 'page': page + 1})}"
        return Answer(200, part, {"Link": f'<{onward}>; rel="next", <{self.host}{path}?page=9>; rel="last"'})

    def _simple(self, pull: dict[str, Any]) -> dict[str, Any]:
        more = ("merged", "mergeable", "merged_by", "commits", "additions", "deletions", "changed_files")
        return {name: value for name, value in pull.items() if name not in more}

    def _ref(self, branch: str, sha: str, repository: str) -> dict[str, Any]:
        owner, _, name = repository.partition("/")
        repo = self._sample("repository", full_name=repository, name=name, owner=self._user(owner))
        return {
            "label": f"{owner}:{branch}",
            "ref": branch,
            "sha": sha,
            "repo": repo,
            "user": self._user(owner),
        }

    def _links(self, schema: str) -> dict[str, Any]:
        part = self.contract.document["components"]["schemas"][schema]["properties"]["_links"]
        return sample(self.contract, part)  # type: ignore[no-any-return]

    def _user(self, login: str, type: str = "User") -> dict[str, Any]:
        return self._sample("simple-user", login=login, type=type)

    def _sample(self, schema: str, **known: Any) -> dict[str, Any]:
        node = self.contract.document["components"]["schemas"][schema]
        return sample(self.contract, node, **known)  # type: ignore[no-any-return]

    def _id(self) -> int:
        self._ids += 1
        return self._ids
