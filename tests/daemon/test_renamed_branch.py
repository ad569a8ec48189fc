"""A commit that names a branch which is not there: its own goes on to be followed, so that it can be mended there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from driven import MINUTE, DrivenDaemon
from git_project import GitProject, document

from mlops.daemon.following import Head, RemoteBranch

MODEL = [document("Model", "m", {"description": "A model"})]


def name(project: GitProject, branch: str) -> str:
    """Commit a Project that names a branch."""
    settings = {"source": {"branch": branch, "interval": "1h"}}
    project.write("mlops.yaml", yaml.safe_dump(document("Project", "p", settings)))
    return project.commit()


def test_a_branch_that_is_named_wrongly_is_mended_by_a_commit_to_the_one_before(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(MODEL)
    daemon = DrivenDaemon(project.root)
    commits: list[str] = []
    daemon.life.at(5 * MINUTE, lambda: commits.append(name(project, "mian")))
    daemon.life.at(10 * MINUTE, lambda: commits.append(name(project, "main")))
    daemon.life.at(15 * MINUTE, lambda: project.git("branch", "-q", "live"))
    daemon.life.at(15 * MINUTE, lambda: commits.append(name(project, "live")))
    daemon.life.at(20 * MINUTE, lambda: project.git("branch", "-q", "-f", "live", "main"))
    daemon.life.at(21 * MINUTE, lambda: project.git("branch", "-q", "-D", "live"))
    daemon.life.at(22 * MINUTE, lambda: commits.append(name(project, "main")))
    daemon.run(25 * MINUTE)
    forced = [event.revision for event in daemon.told.events if event.reason == "InForce"]
    assert forced[-3:] == commits[:3]  # not the last: a branch that was followed and is deleted is not left
    assert daemon.told.results.total() < 100  # two branches that name each other are followed in turns
    told = [event.message for event in daemon.told.events if event.reason == "SourceUnavailable"]
    assert ["mian" in message for message in told] == [True, False]


class Remote:
    """A remote, and its mirror, that is as it was when it was fetched."""

    brought = False

    def __init__(self, **branches: str) -> None:
        self.branches, self.here = branches, dict(branches)

    def fetch(self, branch: str) -> str | None:
        if branch in self.branches:
            self.here[branch] = self.branches[branch]
        return self.branches.get(branch)

    def tip(self, branch: str) -> str | None:
        return self.here.get(branch)


def test_a_remote_branch_counts_once_it_was_fetched_and_the_one_before_until_then() -> None:
    remote: Any = Remote(main="1", live="old")
    following = RemoteBranch(remote, remote, "main")
    moved: list[str] = []
    following._moved = moved.append
    assert following._fetch()
    remote.branches["live"] = "2"
    following.follow("live", 60.0)
    assert following.head() == Head("1")  # not where it stood when it was followed last
    assert following._fetch()
    assert (following.head(), len(moved)) == (Head("2"), 1)
    following.follow("lvie", 60.0)
    remote.branches["live"] = "3"
    assert following._fetch()
    assert following.head().sha == "3"
    assert "no branch lvie" in str(following.head().problem)
    del remote.branches["live"]
    following.follow("live", 60.0)
    assert following._fetch()
    assert following.head().sha == "3"
