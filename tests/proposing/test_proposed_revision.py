"""From a real revision to a real branch: what is proposed is a revision that means what was meant."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_proposed_edits import EVIDENCE, FILES, OUTSIDE

from mlops.proposing.proposal import Moot, Proposal
from mlops.proposing.retraining import retraining
from mlops.proposing.rollback import rollback
from mlops.resources.dataset import Dataset
from mlops.resources.key import Key
from mlops.resources.loading import Loaded, load
from mlops.resources.monitoring_policy import MonitoringPolicy
from mlops.resources.promotion import Promotion
from mlops.source.proposing import Author, commit
from mlops.source.publishing import merged
from mlops.source.repository import Repository
from mlops.source.snapshot import GitSnapshot

AUTHOR = Author("mlops", "mlops@localhost")
AT = datetime(2026, 3, 1, tzinfo=UTC)
ROOT = "bank"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository whose project stands in the folder `bank`."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for path, text in FILES.items():
        file = tmp_path / "repository" / ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, newline="")
    git(tmp_path / "repository", "init", "-q", "-b", "main")
    git(tmp_path / "repository", "add", ".")
    git(tmp_path / "repository", "commit", "-qm", "Declare")
    return Repository.discover(tmp_path / "repository")


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, check=True, text=True)
    return done.stdout.strip()


def seen(repository: Repository, sha: str) -> tuple[Loaded, dict[str, str]]:
    """What a revision declares, and the texts of its files."""
    snapshot = GitSnapshot(repository, sha, ROOT)
    loaded = load(snapshot)
    assert loaded.whole, [str(problem) for problem in loaded.problems]
    files = {location.file for location in loaded.locations.values()}
    return loaded, {path: data.decode() for path, data in snapshot.read(files).items()}


def retrained(repository: Repository, base: str) -> Proposal | Moot:
    loaded, texts = seen(repository, base)
    policy = loaded.resources[Key("MonitoringPolicy", "loan-live")]
    assert isinstance(policy, MonitoringPolicy)
    retrain = policy.spec.actions[0].retrain
    assert retrain is not None
    return retraining(loaded, texts, policy, retrain, OUTSIDE, EVIDENCE)


def committed(repository: Repository, base: str, proposal: Proposal | Moot) -> str:
    assert isinstance(proposal, Proposal)
    return commit(
        repository,
        base,
        proposal.files,
        branch=proposal.branch,
        message=proposal.message,
        author=AUTHOR,
        at=AT,
        root=ROOT,
    )


def test_a_proposed_retraining_is_a_whole_revision_that_pins_declares_and_asks(
    repository: Repository,
) -> None:
    base = repository.head()
    assert base is not None
    sha = committed(repository, base, retrained(repository, base))
    assert committed(repository, base, retrained(repository, base)) == sha
    loaded, _ = seen(repository, sha)
    promotion = loaded.resources[Key("Promotion", "loan-production")]
    recent = loaded.resources[Key("Dataset", "loan-recent")]
    assert isinstance(promotion, Promotion)
    assert isinstance(recent, Dataset)
    assert (promotion.spec.version, recent.spec.digest) == ("1.11.0", OUTSIDE["loan-recent"])
    assert Key("ModelVersion", "loan-1.11.0") in loaded.resources
    added = git(repository.root, "diff", "--numstat", f"{base}..{sha}").split("\n")
    assert sum(int(line.split("\t")[0]) for line in added) == 12
    assert sum(int(line.split("\t")[1]) for line in added) == 3


def test_once_it_is_merged_it_is_moot_and_the_way_back_can_be_proposed(repository: Repository) -> None:
    base = repository.head()
    assert base is not None
    proposal = retrained(repository, base)
    assert isinstance(proposal, Proposal)
    committed(repository, base, proposal)
    git(repository.root, "merge", "-q", "--squash", proposal.branch)
    git(repository.root, "commit", "-qm", "Squashed")
    head = repository.head()
    assert head is not None
    assert merged(repository, head, proposal.branch)
    assert isinstance(retrained(repository, head), Moot)
    loaded, texts = seen(repository, head)
    assert isinstance(rollback(loaded, texts, "loan-production", "1.9.0", EVIDENCE), Moot)  # 1.10.0 is gone
    git(repository.root, "revert", "--no-edit", "HEAD")
    again = repository.head()
    assert again is not None
    assert isinstance(retrained(repository, again), Proposal)


def test_a_version_that_was_taken_meanwhile_makes_it_anew_on_another_branch(repository: Repository) -> None:
    base = repository.head()
    assert base is not None
    first = retrained(repository, base)
    before = committed(repository, base, first)
    with (repository.root / ROOT / "resources/model.yaml").open("a") as file:
        file.write(
            "---\napiVersion: mlops/v1\nkind: ModelVersion\nmetadata: {name: loan-1.11.0}\n"
            "spec: {model: loan, version: 1.11.0, source: {experiment: loan-gbt}}\n"
        )
    git(repository.root, "commit", "-qam", "Declare by hand")
    head = repository.head()
    assert head is not None
    again = retrained(repository, head)
    sha = committed(repository, head, again)
    assert isinstance(again, Proposal)
    assert isinstance(first, Proposal)
    assert (again.branch, again.version) == ("mlops/promotion/loan-production/1.12.0", "1.12.0")
    assert sha != before
    assert git(repository.root, "rev-list", "--count", f"main..{again.branch}") == "1"
    assert seen(repository, sha)[0].whole
