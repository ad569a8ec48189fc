"""Proposals at a host and a forge: one branch and one pull request, whenever somebody dies; taken back when moot."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pull_requests import Forge, Killed

from mlops.applying.writing_back import Desk, Written, publish, request, take_back, write
from mlops.proposing.proposal import Proposal
from mlops.source.proposing import Author, LeftAlone
from mlops.source.publishing import origin
from mlops.source.repository import Repository

BRANCH = "mlops/promotion/loan/1.1.0"
PROPOSAL = Proposal(BRANCH, "Promote loan 1.1.0", "It is better.", {"loan.yaml": "version: 1.1.0\n"})
AT = datetime(2026, 3, 1, tzinfo=UTC)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=Ann", "-c", "user.email=ann@b.example", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    (work / "loan.yaml").write_text("version: 1.0.0\n")
    git(work, "add", ".")
    git(work, "commit", "-qm", "First")
    git(tmp_path, "clone", "-q", "--bare", str(work), "origin.git")
    git(work, "remote", "add", "origin", str(tmp_path / "origin.git"))
    return tmp_path / "origin.git"


@pytest.fixture
def desk(bare: Path) -> Desk:
    repository = Repository.discover(bare.parent / "work")
    author = Author("mlops", "mlops@localhost")
    return Desk(repository, "", author, "main", origin(repository), Forge(), dict(os.environ))  # type: ignore[arg-type]


def proposed(desk: Desk, proposal: Proposal = PROPOSAL, body: str | None = None) -> Written:
    base = git(desk.repository.root, "rev-parse", "main")
    return request(desk, publish(desk, write(desk, proposal, base, AT)), body)


def branches(where: Path) -> list[str]:
    return git(where, "for-each-ref", "--format=%(refname:short)", "refs/heads/mlops").splitlines()


def forge_of(desk: Desk) -> Forge:
    assert isinstance(desk.forge, Forge)
    return desk.forge


def test_it_is_committed_pushed_and_opened_and_again_nothing_is_written(desk: Desk, bare: Path) -> None:
    first = proposed(desk)
    (there,) = forge_of(desk).requests
    assert (there.branch, there.base, there.title) == (BRANCH, "main", "Promote loan 1.1.0")
    assert (first.new, first.pushed, first.pull_request) == (True, True, there)
    again = proposed(desk)
    assert (again.new, again.commit) == (False, first.commit)
    assert forge_of(desk).writes == 1
    assert branches(bare) == [BRANCH]


def test_new_numbers_come_into_the_same_pull_request(desk: Desk, bare: Path) -> None:
    proposed(desk)
    better = replace(PROPOSAL, body="It is better by 3 %.")
    proposed(desk, better, "It is better by 3 %. And here is the plan.")
    (there,) = forge_of(desk).requests
    assert there.body.endswith("here is the plan.")
    assert "3 %" in git(bare, "log", "-1", "--format=%B", BRANCH)
    assert git(bare, "rev-list", "--count", f"main..{BRANCH}") == "1"


def test_a_base_that_moved_comes_under_the_same_pull_request(desk: Desk, bare: Path) -> None:
    proposed(desk)
    work = desk.repository.root
    (work / "loan.yaml").write_text("# more\nversion: 1.0.0\n")
    git(work, "commit", "-qam", "More")
    git(work, "push", "-q", "origin", "main")
    proposed(desk, replace(PROPOSAL, files={"loan.yaml": "# more\nversion: 1.1.0\n"}))
    assert len(forge_of(desk).requests) == 1
    assert git(bare, "rev-parse", f"{BRANCH}^") == git(bare, "rev-parse", "main")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("write_of", [1, 2])
def test_killed_at_any_write_of_the_forge_there_is_one_of_each(
    desk: Desk, bare: Path, moment: str, write_of: int
) -> None:
    forge = forge_of(desk)
    forge.dies_at = (write_of, moment)
    better = replace(PROPOSAL, body="It is better by 3 %.")
    for attempt in (PROPOSAL, better, better):
        try:
            proposed(desk, attempt)
        except Killed:
            continue
    proposed(desk, better)
    assert [(one.state, one.body) for one in forge.requests] == [("open", better.body)]
    assert branches(bare) == branches(desk.repository.root) == [BRANCH]
    forge.dies_at = (forge.writes + 1, moment)
    with pytest.raises(Killed):
        take_back(desk, BRANCH, "it is moot")
    assert take_back(desk, BRANCH, "it is moot")
    assert [one.state for one in forge.requests] == ["closed"]
    assert branches(bare) == branches(desk.repository.root) == []
    assert set(forge.comments) == {"Closed by the reconciler: it is moot."}


def test_what_a_person_committed_is_neither_pushed_over_nor_closed(
    desk: Desk, bare: Path, tmp_path: Path
) -> None:
    proposed(desk)
    git(tmp_path, "clone", "-q", "-b", BRANCH, str(bare), "person")
    git(tmp_path / "person", "commit", "-q", "--allow-empty", "-m", "Mine")
    git(tmp_path / "person", "push", "-q", "origin", BRANCH)
    theirs = git(bare, "rev-parse", BRANCH)
    with pytest.raises(LeftAlone):
        proposed(desk, replace(PROPOSAL, files={"loan.yaml": "version: 1.2.0\n"}))
    assert not take_back(desk, BRANCH, "it is moot")
    assert git(bare, "rev-parse", BRANCH) == theirs
    assert [one.state for one in forge_of(desk).requests] == ["open"]


def test_without_a_remote_it_stays_here_and_no_forge_is_asked(desk: Desk, bare: Path) -> None:
    alone = replace(desk, remote=None)
    assert not proposed(alone).pushed
    assert forge_of(desk).requests == []
    assert branches(bare) == []


def test_no_secret_comes_into_a_commit_or_a_pull_request(desk: Desk, bare: Path) -> None:
    masked = replace(desk, redact=lambda text: text.replace("hunter2", "***"))
    proposed(masked, replace(PROPOSAL, title="hunter2", body="column hunter2 drifted"), "plan: hunter2")
    (there,) = forge_of(desk).requests
    assert (there.title, there.body) == ("***", "plan: ***")
    assert "hunter2" not in git(bare, "log", "--format=%B", BRANCH)
    proposed(masked, replace(PROPOSAL, title="hunter2", body="column hunter2 drifted"), "plan: hunter2")
    assert forge_of(desk).writes == 1
