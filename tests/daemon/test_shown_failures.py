"""What fails while nothing else moves is seen in the metrics and over HTTP as in `mlops get`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from driven import MINUTE, DrivenDaemon
from git_project import GitProject, document

from mlops.daemon import wakeups
from mlops.daemon.following import Head, LocalBranch
from mlops.daemon.posting import Posted
from mlops.errors import Transient

Make = Callable[..., GitProject]
MODEL = [document("Model", "m", {"description": "A model"})]


@dataclass(slots=True)
class Away(LocalBranch):
    """A branch whose source is out of reach, as long as there is a problem."""

    problem: str | None = None

    def head(self) -> Head:
        return Head(LocalBranch.head(self).sha, self.problem)


def test_a_source_out_of_reach_is_shown_over_http_though_nothing_else_moves(make_project: Make) -> None:
    project = make_project(MODEL)
    daemon = DrivenDaemon(project.root)
    branch = daemon.daemon.following = Away(daemon.controller.repository, project.root)
    posted = Posted(daemon.daemon)
    seen: list[str] = []
    tags: list[str] = []

    def read() -> None:
        page = posted.status()
        assert page is not None
        data, tag = page.read()
        [row] = [row for row in json.loads(data)["resources"] if row["kind"] == "Project"]
        seen.append(row["health"])
        tags.append(tag)

    def have(problem: str | None) -> None:
        branch.problem = problem
        daemon.wakeups.wake(wakeups.REVISION)

    daemon.life.at(2 * MINUTE, read)
    daemon.life.at(3 * MINUTE, lambda: have("the host is away"))
    daemon.life.at(4 * MINUTE, read)
    daemon.life.at(5 * MINUTE, lambda: have(None))
    daemon.life.at(6 * MINUTE, read)
    daemon.life.at(7 * MINUTE, read)
    daemon.run(8 * MINUTE)
    assert seen == ["Healthy", "Degraded", "Healthy", "Healthy"]
    assert tags[2] == tags[3]


def test_a_resource_whose_step_fails_counts_as_degraded(
    make_project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise Transient("MLflow does not take it")

    monkeypatch.setattr("mlops.tracking.registry.Registry.ensure_model", refused)
    monkeypatch.setattr("mlops.applying.apply.DELAYS", ())
    daemon = DrivenDaemon(make_project(MODEL).root)
    daemon.run(2 * MINUTE)
    counts = [
        line
        for line in daemon.told.metrics.render().decode().splitlines()
        if line.startswith("mlops_resources{") and 'kind="Model"' in line
    ]
    assert len(counts) == 1
    assert 'health="Degraded"' in counts[0]
