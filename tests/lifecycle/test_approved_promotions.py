"""Who may put a version into a stage: signed tags, judged by the rules and the people of the base."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from approvers import ANN, BEN, EVE, MAL, Team
from git_project import document, promotion


@pytest.fixture
def team(tmp_path: Path) -> Team:
    made = Team(tmp_path)
    assert made.it.run("apply") == 3
    return made


def test_the_right_person_promotes_within_a_pass_and_history_says_who(team: Team, capsys: Any) -> None:
    assert "1 approval of leads missing" in team.why(capsys)
    name = team.signs(BEN)
    assert team.it.run("plan", "--detailed-exitcode") == 2
    assert team.it.run("apply") == 0
    assert team.stands() == {"prod": 1}
    [row] = team.it.json(capsys, "history")["promotions"]
    assert row["approvedBy"] == [{"who": BEN, "how": "tag", "reference": name}]
    assert row["digest"] == team.digest()
    assert row["revision"] == team.it.git("rev-parse", "HEAD")
    assert row["evidence"].startswith("sha256:")
    assert team.it.run("plan", "--detailed-exitcode") == 0
    team.it.git("tag", "-d", name)  # the record says it, whatever becomes of the tag
    assert team.it.run("plan", "--detailed-exitcode") == 0


REFUSED: dict[str, tuple[Callable[[Team], Any], str]] = {
    "by its author": (lambda team: team.signs(ANN), "ann@example.com is an author of the change"),
    "by somebody in no group": (lambda team: team.signs(EVE), "eve@example.com is not in leads"),
    "with an unknown key": (lambda team: team.signs(MAL), "is no approver's at revision"),
    "for another version": (lambda team: team.signs(BEN, version="0.9.0"), "version 0.9.0, not 1.0.0"),
    "for another promotion": (lambda team: team.signs(BEN, promotion="m-dev"), "it approves m-dev"),
    "for other bytes": (lambda team: team.signs(BEN, digest="sha256:" + "0" * 64), "other bytes"),
    "with words of their own": (
        lambda team: team.signs(BEN, text="fine with me"),
        "not what `mlops approve` writes",
    ),
    "with a word more": (
        lambda team: team.signs(
            BEN,
            text=f"mlops approval\n\npromotion: m-prod\nversion: 1.0.0\ndigest: {team.digest()}\nand: more\n",
        ),
        "not what `mlops approve` writes",
    ),
    "without a signature": (
        lambda team: team.it.git("tag", "-a", "-m", "yes", "approve/m-prod/1.0.0/ben"),
        "it is not signed",
    ),
    "by a bare name": (lambda team: team.it.git("tag", "approve/m-prod/1.0.0/ben"), "no annotated tag"),
    "by a changed tag": (
        lambda team: forged(team, lambda raw: raw.replace(b"promotion: m-prod", b"promotion: m-prod ")),
        "does not fit what it says",
    ),
    "with two signatures": (
        lambda team: forged(team, lambda raw: raw + raw[raw.index(b"-----BEGIN") :]),
        "more than one signature",
    ),
    "by a huge tag": (
        lambda team: forged(team, lambda raw: raw.replace(b"mlops approval", b"x" * 2_000_000)),
        "too large",
    ),
}


def forged(team: Team, change: Callable[[bytes], bytes]) -> None:
    """Ben's tag, changed after he signed it."""
    name = team.signs(BEN)
    read = ["git", "cat-file", "tag", name]
    raw = subprocess.run(read, cwd=team.it.root, check=True, capture_output=True).stdout
    write = ["git", "hash-object", "-w", "-t", "tag", "--literally", "--stdin"]
    made = subprocess.run(write, cwd=team.it.root, input=change(raw), check=True, capture_output=True)
    team.it.git("update-ref", f"refs/tags/{name}", made.stdout.decode().strip())


def test_what_does_not_count_is_refused_with_its_reason(team: Team, capsys: Any) -> None:
    for name, (give, reason) in REFUSED.items():
        give(team)
        assert reason in team.why(capsys), name
        assert team.it.run("apply") == 3, name
        assert team.stands() == {}, name
        for tag in team.it.git("tag", "-l", "approve/*").splitlines():
            team.it.git("tag", "-d", tag)


def test_a_key_or_a_member_or_a_rule_that_the_change_itself_brings_does_not_count(
    team: Team, capsys: Any
) -> None:
    team.signs(BEN)
    assert team.it.run("apply") == 0
    team.approvers.append({"email": MAL, "sshKey": team.public(MAL)})
    team.groups["leads"].append(MAL)
    team.groups["leads"].append(EVE)
    team.documents[-2] = document("Stage", "prod", {})
    team.release("1.1.0")
    assert team.it.run("apply") == 3
    team.signs(MAL, "1.1.0", digest=team.digest("2"))
    team.signs(EVE, "1.1.0", digest=team.digest("2"))
    why = team.why(capsys)
    assert "is no approver's at revision" in why
    assert "eve@example.com is not in leads" in why
    assert team.it.run("apply") == 3  # also now that the revision that brought them was applied
    assert team.stands() == {"prod": 1}
    team.signs(BEN, "1.1.0", digest=team.digest("2"))
    assert team.it.run("apply") == 0
    assert team.stands() == {"prod": 2}


def test_the_approval_of_one_version_is_none_of_the_next_and_the_way_back_needs_no_new_one(
    team: Team, capsys: Any
) -> None:
    team.signs(BEN)
    assert team.it.run("apply") == 0
    team.release("1.1.0")
    assert team.it.run("apply") == 3
    team.signs(BEN, "1.1.0", digest=team.digest("2"))
    assert team.it.run("apply") == 0
    team.documents[-1] = promotion("prod", "1.0.0")
    team.write("Roll back")
    for tag in team.it.git("tag", "-l", "approve/*").splitlines():
        team.it.git("tag", "-d", tag)
    assert team.it.run("apply") == 0
    assert team.stands() == {"prod": 1}
    newest = team.it.json(capsys, "history")["promotions"][0]
    assert [row["who"] for row in newest["approvedBy"]] == [BEN]
    assert newest["approvedBy"][0]["how"] == "earlier"


def test_an_approval_for_one_stage_is_none_for_another_under_the_same_name(team: Team, capsys: Any) -> None:
    team.documents.insert(4, document("Stage", "dev", {"approvals": {"required": 1, "from": ["leads"]}}))
    team.documents[-1]["spec"]["stage"] = "dev"
    team.write("Into dev first")
    team.signs(BEN)
    assert team.it.run("apply") == 0
    team.documents[-1]["spec"]["stage"] = "prod"
    team.write("Now prod")
    assert team.it.run("apply") == 3
    assert "which asks for stage dev" in team.why(capsys)
    assert "prod" not in team.stands()
    team.signs(BEN)
    assert team.it.run("apply") == 0
    assert team.stands()["prod"] == 1


def test_an_author_is_let_in_only_where_both_the_base_and_the_change_say_so(
    tmp_path: Path, capsys: Any
) -> None:
    team = Team(tmp_path, required=2)
    team.documents[-2] = document(
        "Stage", "prod", {"approvals": {"required": 3, "from": ["leads"], "allowAuthor": True}}
    )
    team.groups["leads"].append(EVE)
    assert team.it.run("apply") == 3
    team.release("1.1.0")
    assert team.it.run("apply") == 3
    team.signs(ANN, "1.1.0", digest=team.digest("2"))
    assert "ann@example.com is an author of the change" in team.why(capsys)


def test_two_are_two_people_and_one_who_wrote_the_change_may_be_allowed(tmp_path: Path, capsys: Any) -> None:
    team = Team(tmp_path, required=2, allowAuthor=True)
    assert team.it.run("apply") == 3
    team.signs(BEN)
    name = f"approve/m-prod/1.0.0/{'ben-again'}"
    team.it.git("update-ref", f"refs/tags/{name}", "refs/tags/approve/m-prod/1.0.0/ben%40example.com")
    why = team.why(capsys)
    assert "1 approval of leads missing" in why
    assert "approved by ben@example.com" in why
    team.signs(ANN)
    assert team.it.run("apply") == 0
    [row] = team.it.json(capsys, "history")["promotions"]
    assert [one["who"] for one in row["approvedBy"]] == [ANN, BEN]


def test_whoever_touched_the_version_or_merged_unevenly_is_an_author_and_others_are_not(
    team: Team, capsys: Any
) -> None:
    team.signs(BEN)
    assert team.it.run("apply") == 0
    team.documents[2] = document("Model", "m", {"description": "Ben describes it"})
    team.write("Describe", BEN)  # the same file, another document
    team.release("1.1.0")
    assert team.it.run("apply") == 3
    team.signs(BEN, "1.1.0", digest=team.digest("2"))
    assert team.it.run("apply") == 0
    team.release("1.2.0", BEN)
    assert team.it.run("apply") == 3
    team.signs(BEN, "1.2.0", digest=team.digest("3"))
    assert "ben@example.com is an author of the change" in team.why(capsys)


def test_an_approval_that_is_taken_back_between_plan_and_promotion_blocks(
    team: Team, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    name = team.signs(BEN)
    from mlops.controller import Controller

    carry_out = Controller.carry_out

    def taken_back(self: Controller, *given: Any, **more: Any) -> Any:
        if name in team.it.git("tag", "-l"):
            team.it.git("tag", "-d", name)
        return carry_out(self, *given, **more)

    monkeypatch.setattr(Controller, "carry_out", taken_back)
    assert team.it.run("apply") == 3
    assert team.stands() == {}
    assert "ApprovalPending" in capsys.readouterr().err


def test_mlops_approve_signs_what_counts_and_writes_nothing_else(team: Team, capsys: Any) -> None:
    def approve(who: str) -> int:
        for name, value in {"user.email": who, "user.signingKey": f"{team.keys[who]}.pub"}.items():
            team.it.git("config", name, value)
        capsys.readouterr()
        return team.it.run("approve", "m-prod")

    assert approve(ANN) == 1
    assert "ann@example.com is an author of the change" in capsys.readouterr().err
    assert approve(MAL) == 1
    assert team.it.git("tag", "-l") == ""
    assert approve(BEN) == 0
    told = capsys.readouterr()
    assert "git push origin approve/m-prod/1.0.0/ben%40example.com" in told.out + told.err
    tags = team.it.git("for-each-ref", "refs/tags")
    assert approve(BEN) == 0
    assert team.it.git("for-each-ref", "refs/tags") == tags
    assert team.it.run("apply") == 0
    assert approve(BEN) == 0  # there is nothing left to approve, and that is said
    assert team.it.run("approve", "m-porch") == 1


def test_two_hundred_promotions_cost_no_process_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlops.approvals import Asked, People
    from mlops.observation.approving import Approving
    from mlops.resources import load
    from mlops.source import git
    from mlops.source.repository import Repository
    from mlops.source.snapshot import GitSnapshot

    team = Team(tmp_path)
    assert team.it.run("apply") == 3
    team.signs(BEN)
    read = ["git", "cat-file", "tag", "refs/tags/approve/m-prod/1.0.0/ben%40example.com"]
    raw = subprocess.run(read, cwd=team.it.root, check=True, capture_output=True).stdout
    store = ["git", "hash-object", "-w", "-t", "tag", "--literally", "--stdin-paths"]
    files = [tmp_path / f"tag-{n}" for n in range(200)]
    for n, file in enumerate(files):
        file.write_bytes(raw.replace(b"\ntag approve/m-prod/", f"\ntag approve/m-{n}/".encode()))
    paths = "".join(f"{file}\n" for file in files).encode()
    made = subprocess.run(store, cwd=team.it.root, input=paths, check=True, capture_output=True)
    tags = made.stdout.decode().split()
    assert len(set(tags)) == 200  # each is read, and none is what was signed
    refs = "".join(f"create refs/tags/approve/m-{n}/1.0.0/ben {tag}\n" for n, tag in enumerate(tags))
    subprocess.run(["git", "update-ref", "--stdin"], cwd=team.it.root, input=refs.encode(), check=True)
    repository = Repository.discover(team.it.root)
    head = team.it.git("rev-parse", "HEAD")
    project = load(GitSnapshot(repository, head, "")).project
    assert project is not None
    asked = [
        Asked(f"m-{n}", "m-1.0.0", "1.0.0", team.digest(), "prod", 1, ("leads",), False, head, head)
        for n in range(200)
    ]
    calls: list[str] = []
    monkeypatch.setattr(git, "on_call", lambda name, seconds, failed: calls.append(name))

    class Kept(dict[str, bytes]):
        def get(self, namespace: str, key: str) -> bytes | None:  # type: ignore[override]
            return super().get(key)

        def put_many(self, namespace: str, values: dict[str, bytes]) -> None:
            self.update(values)

    approving = Approving(
        repository, Kept(), lambda sha: load(GitSnapshot(repository, sha, "")), lambda spec: None, lambda: 0.0
    )  # type: ignore[arg-type]
    found = approving.look(asked, lambda base: People.of(project.spec), "")
    assert all("does not fit what it says" in decision.message for decision in found.values())
    assert len(calls) < 10, calls
    calls.clear()
    assert approving.look(asked, lambda base: People.of(project.spec), "") == found
    assert calls == ["for-each-ref"]


def test_a_gpg_key_signs_as_well_and_one_that_was_revoked_or_exchanged_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))  # the path of an agent's socket has to be short
    home.chmod(0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))

    def gpg(*arguments: str) -> str:
        quiet = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        return subprocess.run([*quiet, *arguments], check=True, capture_output=True, text=True).stdout

    try:
        for who in (BEN, EVE):
            gpg("--quick-generate-key", who, "ed25519", "sign", "never")
        team = Team(tmp_path)
        team.approvers = [{"email": BEN, "gpgKey": gpg("--armor", "--export", BEN)}]
        team.write("Ben has a GPG key")
        assert team.it.run("apply") == 3
        text = f"mlops approval\n\npromotion: m-prod\nversion: 1.0.0\ndigest: {team.digest()}"
        for who, why in ((EVE, "its key is unknown"), (BEN, "")):
            team.it.git("tag", "-f", "-s", "-u", who, "-m", text, "approve/m-prod/1.0.0/ben")
            assert why in team.why(capsys)
        assert team.it.run("apply") == 0
        [row] = team.it.json(capsys, "history")["promotions"]
        assert [one["who"] for one in row["approvedBy"]] == [BEN]
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)
