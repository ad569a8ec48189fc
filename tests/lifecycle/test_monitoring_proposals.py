"""What a policy proposes, on a real project: retrained and trained on a branch, rolled back, or held back; once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
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
    report = it.run("monitor", "report", "watch").stdout
    assert f"proposed; version 1.1.0; branch {BRANCH}; run " in report
    assert "ended before the promotion" in it.run("monitor", "status", "watch").stdout
    assert all(window["beforePromotion"] for window in it.status()["windows"])
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


def test_late_data_that_takes_a_firing_back_withdraws_what_it_asked_for(
    watched: Callable[..., Watched],
) -> None:
    it = watched(RECENT, policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    it.apply()
    assert it.actions() == [("retrain", "inputs", "proposed")]
    for day in range(3, 6):
        it.score(day)
    said = it.apply()
    assert "not proposed any more" in said
    assert it.actions() == [("retrain", "inputs", "dropped")]
    assert it.branches() == {}
    it.at_rest()
    it.lose_state()
    it.apply()
    assert it.branches() == {}


def test_a_retraining_that_is_held_back_is_not_held_for_ever(watched: Callable[..., Watched]) -> None:
    waits = policy(actions=[{"on": ["inputs"], "retrain": FRESH}], decide={"warmup": 9})
    it = watched(RECENT, waits)
    it.apply()
    assert it.actions() == [("retrain", "inputs", "blocked")]
    for day in range(3, 6):
        it.score(day)
    it.apply()
    assert it.actions() == [("retrain", "inputs", "dropped")]
    it.at_rest()


def test_a_proposal_that_was_overtaken_is_made_anew_and_trains_nothing_twice(
    watched: Callable[..., Watched],
) -> None:
    it = watched(RECENT, policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    it.apply()
    before = it.project.git("rev-parse", BRANCH)
    it.project.write("README.md", "beside it\n")
    it.project.commit("nothing of this")
    assert "propose" not in it.apply()
    assert it.project.git("rev-parse", BRANCH) == before
    path = it.root / "resources/all.yaml"
    path.write_text("# more about it\n" + path.read_text())
    it.project.commit("a comment")
    said = it.apply()
    assert "✓ train" not in said
    assert it.actions() == [("retrain", "inputs", "proposed")]
    assert it.project.git("rev-parse", f"{BRANCH}^") == it.project.git("rev-parse", "main")
    assert "rmse" in it.project.git("log", "-1", "--format=%B", BRANCH)
    assert [len(commits) for commits in it.branches().values()] == [1]

    it.project.write("resources/mine.yaml", yaml.safe_dump(version("1.1.0")))
    it.project.commit("mine")
    it.apply()
    assert list(it.branches()) == ["mlops/promotion/m-prod/1.2.0"]
    assert it.actions() == [("retrain", "inputs", "proposed")]
    it.at_rest()


def test_a_proposal_is_withdrawn_when_another_version_is_asked_for(watched: Callable[..., Watched]) -> None:
    it = watched(RECENT, version("1.0.1"), policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    it.apply()
    text = (it.root / "resources/all.yaml").read_text()
    head, _, rest = text.partition("kind: Promotion")
    (it.root / "resources/all.yaml").write_text(head + "kind: Promotion" + rest.replace("1.0.0", "1.0.1", 1))
    it.project.commit("another one")
    said = it.apply()
    assert "asks for 1.0.1 now" in said
    assert it.branches() == {}
    it.at_rest()


def test_what_a_policy_proposed_goes_with_the_policy(watched: Callable[..., Watched]) -> None:
    it = watched(RECENT, policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    it.apply()
    text = (it.root / "resources/all.yaml").read_text()
    (it.root / "resources/all.yaml").write_text(text.replace("kind: MonitoringPolicy", "kind: Nonsense"))
    it.project.commit("broken")
    it.apply(1)
    assert list(it.branches()) == [BRANCH]
    documents = [one for one in yaml.safe_load_all(text) if one["kind"] != "MonitoringPolicy"]
    it.project.declare(documents)
    it.project.commit("no policy")
    it.apply()
    assert it.branches() == {}
    it.at_rest()


def test_a_branch_that_was_deleted_is_an_answer(watched: Callable[..., Watched]) -> None:
    it = watched(RECENT, policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    it.apply()
    it.project.git("branch", "-D", BRANCH)
    it.apply()
    assert it.branches() == {}
    assert it.actions() == [("retrain", "inputs", "dropped")]
    it.at_rest()


def test_what_people_commit_on_a_proposal_is_theirs_whatever_happens(watched: Callable[..., Watched]) -> None:
    it = watched(RECENT, policy(actions=[{"on": ["inputs"], "retrain": FRESH}]))
    it.apply()
    it.project.git("checkout", "-q", BRANCH)
    it.project.write("notes.md", "mine\n")
    theirs = it.project.commit("mine")
    it.project.git("checkout", "-q", "main")
    for day in range(3, 6):
        it.score(day)
    said = it.apply()
    assert "stays, as somebody else works on it" in said
    assert it.project.git("rev-parse", BRANCH) == theirs
    it.at_rest()
