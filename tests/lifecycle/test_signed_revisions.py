"""`source.verify: signatures`: what no approver signed is not reconciled; the last revision stays."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from git_project import GitProject, document, lifecycle, promotion


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    made = {who: tmp_path / who for who in ("ben", "mal")}
    for key in made.values():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return made


def settings(keys: dict[str, Path], *who: str, verify: str = "signatures") -> dict[str, Any]:
    approvers = [
        {"email": f"{name}@example.com", "sshKey": keys[name].with_suffix(".pub").read_text().strip()}
        for name in who
    ]
    return {"source": {"verify": verify}, "approvers": approvers}


def write(project: GitProject, number: str, key: Path | None, spec: dict[str, Any] | None = None) -> str:
    """A commit that asks for a version in dev, signed or not."""
    kept = [one for one in lifecycle() if one["metadata"]["name"] not in ("m-dev", "m-prod")]
    description = [one for one in kept if one["kind"] == "Model"]
    description[0]["spec"]["description"] = number
    project.declare([*kept, promotion("dev", "1.0.0")])
    if spec is not None:
        project.write("mlops.yaml", yaml.safe_dump(document("Project", "p", spec)))
    project.git("add", "-A")
    sign = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}", "commit", "-S"] if key else ["commit"]
    project.git(*sign, "-q", "--allow-empty", "-m", number)
    return project.git("rev-parse", "HEAD")


def described(project: GitProject) -> str:
    return str(project.client.get_registered_model("m").description)


def test_only_what_an_approver_signed_comes_into_force(
    tmp_path: Path, keys: dict[str, Path], capsys: Any
) -> None:
    project = GitProject(tmp_path / "p", **settings(keys, "ben")).with_store()
    assert project.run("apply") == 0  # the first revision stands for itself
    for number, key in (("unsigned", None), ("by a stranger", keys["mal"])):
        write(project, number, key)
        capsys.readouterr()
        assert project.run("apply") != 0
        told = capsys.readouterr()
        assert "source.verify: signatures" in told.out + told.err, number
        assert described(project) == "A model"
    write(project, "signed", keys["ben"])
    assert project.run("apply") == 0
    assert described(project) == "signed"


def test_the_change_can_neither_bring_its_key_nor_take_the_rule_away(
    tmp_path: Path, keys: dict[str, Path], capsys: Any
) -> None:
    project = GitProject(tmp_path / "p", **settings(keys, "ben")).with_store()
    assert project.run("apply") == 0
    write(project, "my key", keys["mal"], settings(keys, "ben", "mal"))
    assert project.run("apply") != 0
    write(project, "no rule", None, settings(keys, "ben", verify="none"))
    assert project.run("apply") != 0
    assert described(project) == "A model"
    write(project, "signed", keys["ben"])
    assert project.run("apply") == 0
    assert described(project) == "signed"
    write(project, "free", None)
    assert project.run("apply") == 0  # the rule was taken away by somebody who may
    assert described(project) == "free"


def test_what_was_changed_by_hand_is_healed_while_a_revision_is_held_back(
    tmp_path: Path, keys: dict[str, Path]
) -> None:
    project = GitProject(tmp_path / "p", **settings(keys, "ben")).with_store()
    assert project.run("apply") == 0
    before = dict(project.client.get_registered_model("m").aliases)
    write(project, "unsigned", None)
    project.client.delete_registered_model_alias("m", "dev")
    project.run("apply")
    assert dict(project.client.get_registered_model("m").aliases) == before


def test_a_base_whose_project_nobody_can_read_takes_nothing_new(
    tmp_path: Path, keys: dict[str, Path], capsys: Any
) -> None:
    project = GitProject(tmp_path / "p", **settings(keys, "ben")).with_store()
    assert project.run("apply") == 0
    project.write("mlops.yaml", "kind: Project\n  broken: [")
    project.git("add", "-A")
    sign = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={keys['ben']}", "commit", "-S"]
    project.git(*sign, "-q", "-m", "broken")
    project.run("apply")
    write(project, "unsigned", None, settings(keys, "ben", verify="none"))
    capsys.readouterr()
    assert project.run("apply") != 0
    assert described(project) == "A model"


def test_a_signature_of_no_kind_that_is_known_says_so() -> None:
    from mlops.approvals.signatures import Unverified, split_commit

    commit = b"tree 1\ngpgsig -----BEGIN SIGNED MESSAGE-----\n abc\n -----END SIGNED MESSAGE-----\n\ntext\n"
    with pytest.raises(Unverified, match="neither of SSH nor of GPG"):
        split_commit(commit)
