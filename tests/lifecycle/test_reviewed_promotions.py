"""Who may put a version into a stage: reviews of the pull request that was merged, on a GitHub that keeps state."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from git_project import GitProject, document, experiment, promotion, version

from forges.github_server import GitHub

ANN, BEN, EVE = "ann@example.com", "ben@example.com", "eve@example.com"


class Reviewed:
    """A project on a forge: 1.0.0 was there before the stage was guarded; 1.1.0 comes by a pull request."""

    def __init__(self, place: Path, hub: GitHub) -> None:
        self.hub = hub
        self.documents = [
            document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
            experiment(),
            document("Model", "m", {"description": "A model"}),
            version("1.0.0"),
            version("1.1.0"),
            document("Stage", "prod", {"approvals": {"required": 1, "from": ["leads"]}}),
        ]
        self.it = GitProject(
            place / "p",
            self.documents,
            forge={"github": {"repository": hub.repository, "url": hub.url}},
            groups={"leads": [ANN, BEN]},
            approvers=[
                {"email": ANN, "github": "ann"},
                {"email": BEN, "github": "Ben"},
                {"email": EVE, "github": "eve"},
            ],
        ).with_store()
        assert self.it.run("apply") == 0
        self.number = 0

    def ask(self, number: str = "1.1.0", author: str = "cid") -> str:
        """A pull request that asks for a version; the sha of its head."""
        self.it.git("checkout", "-q", "-b", f"change-{number}")
        self.it.declare([*self.documents, promotion("prod", number)])
        head = self.it.commit(f"Release {number}")
        self.it.git("checkout", "-q", "main")
        self.number = self.hub.open_pull(f"change-{number}", head=head, author=author)
        return head

    def merge(self, *, squash: bool = False) -> str:
        branch = self.hub.pulls[self.number]["head"]["ref"]
        if squash:
            self.it.git("merge", "-q", "--squash", branch)
            self.it.git("commit", "-q", "-m", "squashed")
        else:
            self.it.git("merge", "-q", "--no-ff", "--no-edit", branch)
        sha = self.it.git("rev-parse", "HEAD")
        self.hub.merge(self.number, sha)
        return sha

    def why(self, capsys: Any) -> str:
        return " ".join(block["message"] for block in self.it.json(capsys, "plan")["blocked"])

    def stands(self) -> dict[str, str]:
        """The declared version in each stage; which of two MLflow numbers first, is its own affair."""
        aliases = self.it.client.get_registered_model("m").aliases
        return {
            name: self.it.client.get_model_version("m", str(at)).tags["mlops.version"]
            for name, at in aliases.items()
        }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    with GitHub() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def team(tmp_path: Path, hub: GitHub) -> Reviewed:
    return Reviewed(tmp_path, hub)


@pytest.mark.parametrize("squash", [False, True])
def test_a_review_of_what_was_merged_promotes_within_a_pass(
    team: Reviewed, capsys: Any, squash: bool
) -> None:
    team.ask()
    team.hub.review(team.number, "ben")
    team.merge(squash=squash)
    assert team.it.run("apply") == 0
    [row] = team.it.json(capsys, "history")["promotions"]
    [approval] = row["approvedBy"]
    assert (approval["who"], approval["how"]) == (BEN, "review")
    assert approval["reference"].startswith("https://github.test/acme/models/pull/1")
    assert (row["version"], team.stands().keys()) == ("1.1.0", {"prod"})


def dismissed(team: Reviewed) -> None:
    team.hub.dismiss(team.number, team.hub.review(team.number, "ben"))


def pushed_after(team: Reviewed) -> None:
    team.hub.review(team.number, "ben", commit="1" * 40)


def then_refused(team: Reviewed) -> None:
    team.hub.review(team.number, "ben")
    team.hub.review(team.number, "ben", "CHANGES_REQUESTED")


REFUSED: dict[str, tuple[Callable[[Reviewed], Any], str]] = {
    "nobody": (lambda team: None, "1 approval of leads missing"),
    "a stranger": (lambda team: team.hub.review(team.number, "zoe"), "the login zoe is no approver's"),
    "a non-member": (lambda team: team.hub.review(team.number, "eve"), "eve@example.com is not in leads"),
    "an author": (lambda team: team.hub.review(team.number, "ann"), "ann@example.com is an author"),
    "a user that is gone": (lambda team: team.hub.review(team.number, None), "does not know any more"),
    "a comment": (
        lambda team: team.hub.review(team.number, "ben", "COMMENTED"),
        "1 approval of leads missing",
    ),
    "dismissed": (dismissed, "it was dismissed"),
    "an older head": (pushed_after, "was merged"),
    "changes requested later": (then_refused, "ben@example.com asked for changes"),
}


def test_what_does_not_count_is_refused_with_its_reason(team: Reviewed, capsys: Any) -> None:
    team.ask()
    team.merge()
    for name, (review, reason) in REFUSED.items():
        team.hub._reviews.clear()
        review(team)
        assert reason in team.why(capsys), name
        assert team.it.run("apply") == 3, name
        assert team.stands() == {}, name


def test_a_tag_is_taken_back_by_a_later_request_for_changes_and_stands_after_an_earlier_one(
    team: Reviewed, tmp_path: Path, capsys: Any
) -> None:
    key = tmp_path / "ben"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    settings = yaml.safe_load((team.it.root / "mlops.yaml").read_text())
    settings["spec"]["approvers"].append(
        {"email": BEN, "sshKey": key.with_suffix(".pub").read_text().strip()}
    )
    team.it.write("mlops.yaml", yaml.safe_dump(settings))
    team.it.commit("Ben has a key")
    assert team.it.run("apply") == 0
    team.ask()
    team.merge()
    [found] = [
        v for v in team.it.client.search_model_versions("name='m'") if v.tags["mlops.version"] == "1.1.0"
    ]
    text = f"mlops approval\n\npromotion: m-prod\nversion: 1.1.0\ndigest: {found.tags['mlops.digest']}"
    ssh = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}"]
    team.it.git(*ssh, "tag", "-s", "-m", text, "approve/m-prod/1.1.0/ben")
    refused = team.hub.review(team.number, "ben", "CHANGES_REQUESTED")
    team.hub._reviews[team.number][0]["submitted_at"] = "2999-01-01T00:00:00Z"
    assert "ben@example.com asked for changes" in team.why(capsys)
    assert team.it.run("apply") == 3
    team.hub._reviews[team.number][0]["submitted_at"] = "2001-01-01T00:00:00Z"
    assert team.it.run("apply") == 0, refused


def test_whoever_opened_the_pull_request_does_not_approve_it(team: Reviewed, capsys: Any) -> None:
    team.ask(author="BEN")
    team.hub.review(team.number, "ben")
    team.merge()
    assert "opened the pull request" in team.why(capsys)


def test_a_pull_request_that_was_not_merged_or_into_another_branch_counts_for_nothing(
    team: Reviewed, capsys: Any
) -> None:
    team.ask()
    team.hub.review(team.number, "ben")
    team.it.git(
        "merge", "-q", "--no-ff", "--no-edit", "change-1.1.0"
    )  # by hand: nobody merged the pull request
    assert "1 approval of leads missing" in team.why(capsys)
    team.hub.pulls[team.number]["base"]["ref"] = "next"
    team.hub.merge(team.number, team.it.git("rev-parse", "HEAD"))
    assert "1 approval of leads missing" in team.why(capsys)
    assert team.it.run("apply") == 3


def test_a_forge_that_is_down_delays_only_what_needs_it_and_says_so(
    team: Reviewed, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.ask()
    team.hub.review(team.number, "ben")
    team.merge()
    team.hub.__exit__(None, None, None)
    team.documents.append(document("Stage", "dev", {}))
    team.it.declare([*team.documents, promotion("prod", "1.1.0"), promotion("dev", "1.0.0")])
    team.it.commit("dev as well")
    assert team.it.run("apply") == 3
    assert team.stands() == {"dev": "1.0.0"}
    plan = team.it.json(capsys, "plan")
    assert [block["reason"] for block in plan["blocked"]] == ["ForgeUnavailable"]
    found = team.it.json(capsys, "get", "Promotion/m-prod")["resources"][0]
    [approved] = [one for one in found["conditions"] if one["type"] == "Approved"]
    assert (approved["status"], approved["reason"]) == ("Unknown", "ForgeUnavailable")


TELLING = """\
import json, os
out = os.environ["MLOPS_OUTPUT"]
json.dump({"rmse": 9.0}, open(os.path.join(out, "metrics.json"), "w"))
open(os.path.join(out, "model.txt"), "w").write(json.dumps(dict(os.environ)))
print("environment", dict(os.environ))
"""
COMMANDS = (
    ("validate",), ("validate", "-o", "github"), ("plan",), ("plan", "-o", "json"), ("plan", "-o", "markdown"),
    ("--debug", "plan"), ("apply",), ("get",), ("get", "-o", "json"), ("get", "events", "-o", "json"),
    ("describe", "Promotion/m-prod"), ("history",), ("history", "-o", "json"), ("tree",), ("runs", "fit"),
    ("logs", "fit"), ("approve", "m-prod"), ("version",),
)  # fmt: skip


def test_a_token_is_in_no_output_no_job_and_nothing_that_is_kept(
    team: Reviewed, capsys: Any, tmp_path: Path
) -> None:
    from forges.forge_server import CANARY

    bare = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    team.it.git("remote", "add", "origin", str(bare))
    team.it.write("training/train.py", TELLING)  # a job that tells all that it is told
    team.it.commit("tell")
    told = ""

    def say_all() -> str:
        for command in COMMANDS:
            team.it.run(*command)
        ran = capsys.readouterr()
        return str(ran.out + ran.err)

    told += say_all()
    team.ask()
    team.merge()
    told += say_all()
    team.hub.review(team.number, "ben")
    told += say_all()
    assert team.stands() == {"prod": "1.1.0"}
    team.it.run("promote", "m", "1.0.0", "--to", "prod")
    team.it.run("rollback", "m-prod", "--to", "1.0.0")
    assert len(team.hub.pulls) > 1, "proposals were opened"
    team.hub.token = "changed"  # what is sent is refused
    told += say_all()
    team.hub.__exit__(None, None, None)
    told += say_all()
    assert "environment {" in told, "the job told its environment, and the log was shown"

    def objects(root: Path) -> bytes:
        read = ["git", "cat-file", "--batch-all-objects", "--batch"]
        return subprocess.run(read, cwd=root, check=True, capture_output=True).stdout

    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.name == "mlflow.db" for path in kept)
    secret = CANARY.encode()
    assert [str(path) for path, data in kept.items() if secret in data] == []
    assert secret not in objects(team.it.root) + objects(bare)
    assert CANARY not in told
    sent = [(one.path, one.query, one.body) for one in team.hub.requests]
    assert CANARY not in repr(sent) + repr(team.hub.pulls) + repr(team.hub._comments)
    assert any(CANARY in repr(one.headers) for one in team.hub.requests), "it was used"
