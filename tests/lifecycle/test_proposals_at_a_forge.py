"""What a policy proposes, at a host and a forge: one pull request with the evidence in it, closed when it is moot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from forking import Forks
from git_project import document
from monitored import RETRAIN, SHIFT, Watched, documents, policy, rows

sys.path.append(str(Path(__file__).parents[1] / "applying"))  # where the forge is

from pull_requests import Forge, Killed

BRANCH = "mlops/promotion/m-prod/1.1.0"
RECENT = document(
    "Dataset", "recent", {"uri": "data/recent.csv", "columns": {"timestamp": "t", "target": "y"}}
)


def test_a_retraining_is_one_pull_request_with_its_evidence_until_it_is_moot(
    tmp_path: Path, forks: Forks, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops.cli import run

    retrain = {**RETRAIN, "datasets": {"train": "recent"}}
    declared = documents(RECENT, policy(actions=[{"on": ["inputs"], "retrain": retrain}]))
    it = Watched.make(tmp_path / "project", forks, declared, store=empty_store, days=3)
    forged = document("Project", "p", {"forge": {"github": {"repository": "acme/models"}}})
    it.project.write("mlops.yaml", yaml.safe_dump(forged))
    it.project.commit("a forge")
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(it.root), str(bare)], check=True)
    it.project.git("remote", "add", "origin", str(bare))
    for day in range(3, 6):
        it.score(day, SHIFT)
    lines = [line for day in range(3, 6) for line in rows(day, SHIFT)]
    (it.root / "data/recent.csv").write_text("t,x,c,y\n" + "\n".join(lines) + "\n")
    forge = Forge()
    monkeypatch.setattr("mlops.forges.forge_of", lambda spec, **given: forge)
    command = ["--project", str(it.root), "apply"]

    forge.dies_at = (1, "after")  # it is opened, and nobody knows
    with pytest.raises(Killed):
        run(command)
    forge.dies_at = None
    assert run(command) == 0
    (request,) = forge.requests
    assert (request.branch, request.base, request.state) == (BRANCH, "main", "open")
    for words in (
        "Check `inputs` of MonitoringPolicy/watch fired for version 1.0.0",
        "in the newest",  # the picture
        "`report.html` of MLflow run",
        "Dataset/recent is pinned to sha256:",
        "| metric | 1.0.0 | 1.1.0 |",
        "| `rmse` |",
        "No code changed since 1.0.0 was trained.",
        "### Plan of",
        "| `promote` | `Promotion/m-prod` |",
    ):
        assert words in request.body
    writes = forge.writes
    assert run(command) == 0
    assert forge.writes == writes

    for day in range(3, 6):
        it.score(day)
    assert run(command) == 0
    (request,) = forge.requests
    assert request.state == "closed"
    assert forge.comments == [
        "Closed by the reconciler: its firing was taken back by late data or a new policy."
    ]
    listed = subprocess.run(["git", "branch", "--list", "mlops/*"], cwd=bare, capture_output=True, check=True)
    assert listed.stdout == b""
    assert it.branches() == {}
