"""A forge in memory, which can die at any of its writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace


class Killed(BaseException):
    """The process died here."""


@dataclass(frozen=True)
class PullRequest:
    """What a forge knows of one."""

    number: int
    url: str
    title: str
    body: str
    state: str
    branch: str
    base: str


@dataclass
class Forge:
    """Pull requests in memory; dies before or after the write of the given ordinal."""

    requests: list[PullRequest] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    writes: int = 0
    dies_at: tuple[int, str] | None = None

    def proposed(self, branch: str) -> PullRequest | None:
        return next((one for one in reversed(self.requests) if one.branch == branch), None)

    def open(self, branch: str, base: str, title: str, body: str) -> PullRequest:
        there = next((one for one in self.requests if (one.branch, one.state) == (branch, "open")), None)
        if there is not None:
            return there
        number, url = len(self.requests) + 1, "https://forge.example/1"
        made = PullRequest(number, url, title, body, "open", branch, base)
        self._write(lambda: self.requests.append(made))
        return made

    def update(self, number: int, *, title: str | None = None, body: str | None = None) -> PullRequest:
        return self._set(number, title=title, body=body)

    def close(self, number: int, comment: str) -> None:
        if self.requests[number - 1].state == "open":
            self.comments.append(comment)
            self._set(number, state="closed")

    def _set(self, number: int, **fields: object) -> PullRequest:
        changed = replace(self.requests[number - 1], **fields)  # type: ignore[arg-type]
        self._write(lambda: self.requests.__setitem__(number - 1, changed))
        return changed

    def _write(self, how: Callable[[], None]) -> None:
        self.writes += 1
        if self.dies_at == (self.writes, "before"):
            raise Killed
        how()
        if self.dies_at == (self.writes, "after"):
            raise Killed
