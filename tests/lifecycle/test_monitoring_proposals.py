"""What a policy proposes, on a real project: retrained and trained on a branch, rolled back, or held back; once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forking import Forks
from git_project import document, promotion, version
from monitored import RETRAIN, SHIFT, Watched, documents, policy, rows

RECENT = document(
    "Dataset", "recent", {"uri": "data/recent.csv", "columns": {"timestamp": "t", "target": "y"}}
)
FRESH = {**RETRAIN, "datasets": {"train": "recent"}}
BRANCH = "mlops/promotion/m-prod/1.1.0"


@pytest.fixture
def watched(tmp_path: Path, forks: Forks, empty_store: Path) -> Callable[..., Watched]:
    """Makes a project of three quiet days and three after a shift, with newer data outside git to train on."""

    def make(*more: Any, name: str = "project") -> Watched:
        it = Watched.make(tmp_path / name, forks, documents(*more), store=empty_store, days=3)
        for day in range(3, 6):
            it.score(day, SHIFT)
        grow(it, 6)
        return it

    return make


def grow(it: Watched, days: int) -> None:
    lines = [line for day in range(3, days) for line in rows(day, SHIFT)]
    (it.root / "data/recent.csv").write_text("t,x,c,y\n" + "\n".join(lines) + "\n")


def declared(it: Watched, revision: str) -> str:
    return it.project.git("show", f"{revision}:resources/all.yaml")


def test_a_retraining_is_trained_on_its_branch_and_found_done_when_it_is_merged(
    watched: Callable[..., Watched],
) -> None:
    it = watched(RECENT, policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    head = it.project.git("rev-parse", "HEAD")
    it.apply()
    assert it.actions() == [("retrain", "inputs", "proposed")]
    assert [len(commits) for commits in it.branches().values()] == [1]
    text = it.project.git("log", "-1", "--format=%B", BRANCH)
    assert "rmse" in text
    assert "1.1.0" in text
    proposed = declared(it, BRANCH)
    assert "sha256:" in proposed
    assert "1.1.0" in proposed
    assert it.project.git("rev-parse", "HEAD") == head
    it.at_rest()
    assert "already" not in it.apply()
    assert list(it.branches()) == [BRANCH]

    it.project.git("merge", "-q", "--ff-only", BRANCH)
    said = it.apply()
    assert "✓ promote" in said
    assert "✓ train" not in said
    status = it.status()
    assert status["version"] == "1.1.0"
    assert [window["verdict"] for window in status["windows"]][-2:] == ["quiet", "quiet"]
    it.at_rest()
    it.project.git("branch", "-D", BRANCH)
    it.lose_state()
    it.apply()
    assert it.branches() == {}
    assert it.status()["version"] == "1.1.0"
    it.at_rest()


def test_a_lost_state_proposes_nothing_a_second_time(watched: Callable[..., Watched]) -> None:
    it = watched(RECENT, policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    it.apply()
    before, runs = it.branches(), it.told()
    it.lose_state()
    it.apply()
    assert it.branches() == before
    assert it.told() == runs
    assert it.actions() == [("retrain", "inputs", "proposed")]
    it.at_rest()


def test_an_upstream_change_holds_a_retraining_back(watched: Callable[..., Watched]) -> None:
    it = watched(RECENT, policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    for day in range(6, 9):
        lines = [
            line.replace(line.split(",")[1], f"{float(line.split(',')[1]) * 655.957:.3f}", 1)
            for line in rows(day)
        ]
        it.put(f"{day:02}.csv", "t,x,c,y,p\n" + "".join(f"{line},40\n" for line in lines))
    for day in range(3, 6):  # only the unit changes, from day 6 on
        it.score(day)
    it.apply()
    states = {(one["type"], one["state"], one["message"]) for one in it.status()["actions"]}
    assert states == {("retrain", "blocked", "upstream")}
    assert it.branches() == {}
    it.at_rest()


def test_nothing_new_to_train_on_is_dropped(watched: Callable[..., Watched]) -> None:
    it = watched(policy(actions=[{"on": ["inputs"], "retrain": RETRAIN}]))
    it.apply()
    assert it.actions() == [("retrain", "inputs", "dropped")]
    it.at_rest()
    assert "✓" not in it.apply()


def test_a_promotion_is_followed_and_a_rollback_proposed(watched: Callable[..., Watched]) -> None:
    rules = [{"on": ["inputs"], "severity": "info", "rollback": "propose"}]
    it = watched(policy(actions=rules))
    it.apply()
    assert it.actions() == [("rollback", "inputs", "dropped")]
    old = it.status()
    assert old["version"] == "1.0.0"
    changed = documents(policy(actions=rules))
    changed = [one for one in changed if one["kind"] != "Promotion"]
    it.project.declare([*changed, version("1.1.0"), promotion("prod", "1.1.0")])
    it.project.commit("promote 1.1.0")
    it.apply()
    status = it.status()
    assert status["version"] == "1.1.0"
    assert len(status["windows"]) == len(old["windows"])
    assert len(status["actions"]) == 1  # old windows decide nothing about the new version
    it.at_rest()
    for day in range(6, 10):
        it.score(day, SHIFT)
    it.apply()
    assert it.actions()[1:] == [("rollback", "inputs", "proposed")]
    (branch,) = it.branches()
    assert "version: 1.0.0" in it.project.git("diff", "main", branch)
    it.at_rest()
