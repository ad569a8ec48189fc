"""`mlops promote`, `rollback` and `pin`: a change on a branch, once, and the working tree left as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command_line import Ran
from git_project import GitProject, document, lifecycle, promotion, version

sys.path.append(str(Path(__file__).parents[1] / "applying"))  # where the forge is

from pull_requests import Forge

from forges.forge_server import CANARY
from forges.github_server import GitHub

Mlops = Callable[..., Ran]
BRANCH = "mlops/promotion/m-prod/1.1.0"


@pytest.fixture
def project(tmp_path: Path) -> GitProject:
    """Two versions are declared, and both stages ask for the first."""
    return GitProject(tmp_path / "project", [*lifecycle(), version("1.1.0")])


@pytest.fixture
def origin(project: GitProject, tmp_path: Path) -> Path:
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(project.root), str(bare)], check=True)
    project.git("remote", "add", "origin", str(bare))
    return bare


def state_of(project: GitProject) -> tuple[str, ...]:
    """What a person works on: HEAD, branch, index, working tree."""
    asked = (
        ("rev-parse", "HEAD"),
        ("branch", "--show-current"),
        ("status", "--porcelain"),
        ("ls-files", "-s"),
    )
    return tuple(project.git(*one) for one in asked)


def test_a_promotion_is_one_changed_line_on_a_branch(project: GitProject, mlops: Mlops) -> None:
    (project.root / "resources/all.yaml").write_text("half done")
    project.write("data/rows.csv", "staged\n")
    project.git("add", "data/rows.csv")
    before = state_of(project)
    ran = mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
    assert ran.code == 0, ran.err
    assert state_of(project) == before
    assert (project.root / "resources/all.yaml").read_text() == "half done"
    changed = project.git("diff", "-U0", "main", BRANCH).splitlines()[4:]
    assert [line for line in changed if line[0] in "+-"] == ["-  version: 1.0.0", "+  version: 1.1.0"]
    assert "+  version: 1.1.0" in ran.out
    for words in (
        "Promote m 1.1.0 to prod",
        BRANCH,
        f"git merge {BRANCH}",
        f"mlops plan --revision {BRANCH}",
    ):
        assert words in ran.err
    message = project.git("log", "-1", "--format=%an <%ae>%n%B", BRANCH)
    assert message.startswith(
        "mlops <mlops@localhost>\nPromote m 1.1.0 to prod\n\nPromotion/m-prod asked for 1.0.0."
    )


def test_the_same_again_is_there_already_whoever_asks_and_whenever(
    project: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(mlops("promote", "m", "1.1.0", "--to", "prod", "-o", "json", cwd=project.root).out)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Another")
    again = mlops("promote", "m", "1.1.0", "--to", "prod", "-o", "json")
    assert "exists already" in again.err
    assert json.loads(again.out) == {**first, "new": False}
    assert first["files"] == ["resources/all.yaml"]
    project.git("merge", "-q", BRANCH)
    done = mlops("promote", "m", "1.1.0", "--to", "prod")
    assert (done.code, done.out) == (0, "")
    assert "asks for 1.1.0 already; nothing was written" in done.err


def test_what_was_merged_and_reverted_is_asked_for_anew(project: GitProject, mlops: Mlops) -> None:
    mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
    project.git("merge", "-q", BRANCH)
    project.git("revert", "--no-edit", "HEAD")
    ran = mlops("promote", "m", "1.1.0", "--to", "prod")
    assert "exists already" not in ran.err
    assert project.git("rev-parse", f"{BRANCH}^") == project.git("rev-parse", "main")


def test_it_is_pushed_to_the_origin_once(project: GitProject, origin: Path, mlops: Mlops) -> None:
    def pushed() -> str:
        shown = ["git", "for-each-ref", "--format=%(refname:short) %(objectname)"]
        return subprocess.run(shown, cwd=origin, capture_output=True, text=True, check=True).stdout

    ran = mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
    assert "pushed to origin" in ran.err
    first = pushed()
    assert BRANCH in first
    mlops("promote", "m", "1.1.0", "--to", "prod")
    assert pushed() == first


def test_what_was_cut_off_before_the_push_is_pushed_by_the_next(
    project: GitProject, origin: Path, mlops: Mlops
) -> None:
    moved = origin.rename(origin.with_name("away"))
    ran = mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
    assert ran.code == 1
    assert BRANCH in ran.err
    moved.rename(origin)
    again = mlops("promote", "m", "1.1.0", "--to", "prod")
    assert again.code == 0
    assert "exists already" in again.err
    assert "pushed to origin" in again.err


def test_what_somebody_else_committed_on_the_branch_is_left_alone(project: GitProject, mlops: Mlops) -> None:
    mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
    project.git("checkout", "-q", BRANCH)
    project.commit("mine")
    theirs = project.git("rev-parse", BRANCH)
    project.git("checkout", "-q", "main")
    project.write("other", "x")
    project.commit("main moved on")
    ran = mlops("promote", "m", "1.1.0", "--to", "prod")
    assert ran.code == 1
    assert "somebody else" in ran.err
    assert project.git("rev-parse", BRANCH) == theirs


def test_it_is_made_for_the_branch_in_force_wherever_a_person_stands(
    project: GitProject, mlops: Mlops
) -> None:
    project.git("checkout", "-q", "-b", "feature")
    project.write("other", "x")
    project.commit("not for main")
    assert mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root).code == 0
    assert project.git("merge-base", BRANCH, "feature") == project.git("rev-parse", "main")
    assert mlops("promote", "m", "1.1.0", "--to", "prod", "--revision", "feature").code == 0
    assert project.git("rev-parse", f"{BRANCH}^") in (
        project.git("rev-parse", "main"),
        project.git("rev-parse", "feature"),
    )


def test_a_promotion_that_is_not_there_yet_is_declared_beside_the_others(
    project: GitProject, mlops: Mlops
) -> None:
    project.declare([*lifecycle(), version("1.1.0"), document("Stage", "canary", {})])
    project.commit()
    ran = mlops("promote", "m", "1.1.0", "--to", "canary", cwd=project.root)
    assert ran.code == 0, ran.err
    branch = "mlops/promotion/m-canary/1.1.0"
    added = [line for line in project.git("diff", "-U0", "main", branch).splitlines() if line[:1] == "+"][1:]
    assert added[-1] == "+spec: {model: m, stage: canary, version: 1.1.0}"
    assert not project.git("diff", "--numstat", "main", branch).split()[1].strip("0")
    assert mlops("validate").code == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("n", "1.1.0", "--to", "prod"), "there is no Model/n"),
        (("m", "1.1.1", "--to", "prod"), "Did you mean 1.1.0? It has 1.1.0, 1.0.0"),
        (("m", "1.1.0", "--to", "prd"), "there is no Stage/prd. Did you mean prod?"),
        (("m", "latest", "--to", "gated"), "asks for approvals, and an approval is for one version"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    project: GitProject, mlops: Mlops, asked: tuple[str, ...], said: str
) -> None:
    gated = document("Stage", "gated", {"approvals": {"required": 1, "from": ["leads"]}})
    people = "groups: {leads: [a@b.c]}, approvers: [{email: a@b.c, github: a}]"
    head = "apiVersion: mlops/v1\nkind: Project\nmetadata: {name: p}\n"
    project.write("mlops.yaml", f"{head}spec: {{{people}}}\n")
    project.declare([*lifecycle(), version("1.1.0"), gated])
    project.commit()
    assert mlops("validate", cwd=project.root).code == 0
    ran = mlops("promote", *asked)
    assert ran.code == 1
    assert said in ran.err
    assert project.git("branch", "--list", "mlops/*") == ""


def test_latest_is_asked_for_where_nobody_has_to_approve(project: GitProject, mlops: Mlops) -> None:
    assert mlops("promote", "m", "latest", "--to", "dev", cwd=project.root).code == 0
    assert "version: latest" in project.git("diff", "main", "mlops/promotion/m-dev/latest")


def test_comments_and_layout_stay(project: GitProject, mlops: Mlops) -> None:
    text = "# by hand\r\napiVersion: mlops/v1\r\nkind: Promotion\r\nmetadata: {name: m-prod}   # the one\r\n"
    text += "spec: {model: m, stage: 'prod', version: \"1.0.0\"} # since March"
    others = [one for one in lifecycle() if one["metadata"]["name"] != "m-prod"]
    project.declare([*others, version("1.1.0")])
    (project.root / "resources/prod.yaml").write_bytes(text.encode())
    project.commit()
    mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
    shown = subprocess.run(
        ["git", "show", f"{BRANCH}:resources/prod.yaml"], cwd=project.root, capture_output=True, check=True
    )
    assert shown.stdout == text.replace("1.0.0", "1.1.0").encode()


def test_two_that_are_asked_for_at_once_are_two_branches_and_both_merge(
    project: GitProject, mlops: Mlops
) -> None:
    mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
    mlops("promote", "m", "1.1.0", "--to", "dev")
    project.git("merge", "-q", BRANCH)
    project.git("merge", "-q", "--no-edit", "mlops/promotion/m-dev/1.1.0")
    assert project.git("show", "HEAD:resources/all.yaml").count("version: 1.1.0") == 3


def test_a_rollback_without_a_version_before_says_so(project: GitProject, mlops: Mlops) -> None:
    ran = mlops("rollback", "m-prod", cwd=project.root)
    assert ran.code == 1
    assert "no other version of m was in prod before" in ran.err
    ran = mlops("rollback", "m-pro")
    assert "Did you mean m-prod?" in ran.err


def test_a_stage_goes_back_to_what_it_had_and_versions_and_data_are_pinned(
    tmp_path: Path, mlops: Mlops
) -> None:
    outside = tmp_path / "rows.csv"
    outside.write_text("x,y\n1,2\n")
    declared = [one for one in lifecycle() if one["kind"] != "Dataset"]
    declared.append(document("Dataset", "rows", {"uri": f"file://{outside}", "format": "csv"}))
    project = GitProject(tmp_path / "project", declared)
    assert mlops("apply", cwd=project.root).code == 0
    changed = [one for one in declared if one["kind"] != "Promotion"]
    changed += [version("1.1.0"), promotion("dev", "1.1.0"), promotion("prod", "1.1.0")]
    project.declare(changed)
    project.commit("release")
    assert mlops("apply").code == 0

    ran = mlops("rollback", "Promotion/m-prod")
    assert ran.code == 0, ran.err
    branch = "mlops/promotion/m-prod/1.0.0"
    assert "+  version: 1.0.0" in project.git("diff", "-U0", "main", branch).splitlines()
    project.git("merge", "-q", "--ff-only", branch)
    assert mlops("apply").code == 0
    (now,) = (one for one in json.loads(mlops("get", "promotion/m-prod", "-o", "json").out)["resources"])
    assert now["status"]["version"] == "1.0.0"
    assert mlops("rollback", "m-prod").code == 0  # and forth: the one before is 1.1.0 now
    assert project.git("branch", "--list", "mlops/promotion/m-prod/1.1.0")

    project.git("branch", "-D", branch)
    pinned = json.loads(mlops("pin", "ModelVersion/m-1.1.0", "Dataset/rows", "-o", "json").out)
    lines = [
        one for one in project.git("diff", "-U0", "main", pinned["branch"]).splitlines() if one[:1] in "+-"
    ]
    assert pinned["branch"].startswith("mlops/dataset/rows/")
    fields = sorted(line.split(":")[0].replace(" ", "") for line in lines[2:])
    assert fields == ["+digest", "+digest", "+runId", "-experiment"]
    assert (
        json.loads(mlops("pin", "Dataset/rows", "ModelVersion/m-1.1.0", "-o", "json").out)["commit"]
        == pinned["commit"]
    )
    project.git("merge", "-q", "--ff-only", pinned["branch"])
    assert "promote" not in mlops("plan").out
    assert mlops("apply").code == 0
    assert mlops("plan", "--detailed-exitcode").code == 0
    assert "nothing was written" in mlops("pin", "Dataset/rows", "ModelVersion/m-1.1.0").err
    assert "has nothing to pin" in mlops("pin", "Stage/prod").err


def test_where_there_is_a_forge_the_pull_request_shows_gates_and_plan_and_there_is_one(
    tmp_path: Path, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = GitProject(
        tmp_path / "project",
        [*lifecycle(), version("1.1.0")],
        forge={"github": {"repository": "acme/models"}},
    )
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(project.root), str(tmp_path / "origin.git")], check=True
    )
    project.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    forge = Forge()
    monkeypatch.setenv("GITHUB_TOKEN", "any")
    monkeypatch.setattr("mlops.forges.forge_of", lambda spec, **given: forge)
    ran = mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
    assert ran.code == 0, ran.err
    assert "pull request #1: https://forge.example/1" in ran.err
    (request,) = forge.requests
    assert (request.branch, request.base, request.title) == (BRANCH, "main", "Promote m 1.1.0 to prod")
    for words in (
        "Promotion/m-prod asked for 1.0.0.",
        "### Gates",
        "`metric:rmse`",
        "### Plan of",
        "| `promote` |",
    ):
        assert words in request.body
    again = json.loads(mlops("promote", "m", "1.1.0", "--to", "prod", "-o", "json").out)
    assert again["pullRequest"] == {"number": 1, "url": "https://forge.example/1"}
    assert len(forge.requests) == 1
    assert forge.writes == 1


def test_it_is_signed_with_the_key_that_the_project_names(tmp_path: Path, mlops: Mlops) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    who = {"name": "Acme mlops", "email": "mlops@acme.example", "signingKey": str(key)}
    project = GitProject(tmp_path / "project", [*lifecycle(), version("1.1.0")], writeBack=who)
    assert mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root).code == 0
    allowed = tmp_path / "signers"
    allowed.write_text(f"mlops@acme.example {key.with_suffix('.pub').read_text()}")
    setting = ("-c", f"gpg.ssh.allowedSignersFile={allowed}")
    project.git(*setting, "verify-commit", BRANCH)
    shown = project.git(*setting, "log", "-1", "--format=%G? %GS %an", BRANCH)
    assert shown == "G mlops@acme.example Acme mlops"
    key.unlink()
    ran = mlops("promote", "m", "1.1.0", "--to", "dev")
    assert ran.code == 1
    assert "spec.writeBack.signingKey: git cannot sign the commit" in ran.err
    assert project.git("branch", "--list", "mlops/promotion/m-dev/*") == ""


def test_on_github_it_is_one_pull_request_however_often_it_is_asked_for(
    project: GitProject, origin: Path, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    with GitHub() as hub:
        spec = hub.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        project.write("mlops.yaml", yaml.safe_dump(document("Project", "p", {"forge": spec})))
        project.commit("a forge")
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        ran = mlops("promote", "m", "1.1.0", "--to", "prod", cwd=project.root)
        assert ran.code == 0, ran.err
        asked = json.loads(mlops("promote", "m", "1.1.0", "--to", "prod", "-o", "json").out)
        assert asked["new"] is False
        assert asked["pullRequest"]["number"] == 1
        assert f"pull request #1: {asked['pullRequest']['url']}" in ran.err
        (request,) = hub.pulls.values()
        assert "### Plan of" in request["body"]
        assert CANARY not in ran.out + ran.err + json.dumps(request)
        monkeypatch.setenv("GITHUB_TOKEN", "of-somebody-else")
        refused = mlops("promote", "m", "1.1.0", "--to", "dev")
        assert refused.code == 1
        assert "pushed to origin" in refused.err
        assert "GITHUB_TOKEN" in refused.err
        monkeypatch.setenv("GITHUB_TOKEN", "")
        before = len(hub.requests)
        alone = mlops("promote", "m", "1.1.0", "--to", "dev", "-o", "json")
        assert alone.code == 0, alone.err
        assert "no pull request was opened, as GITHUB_TOKEN is not set" in alone.err
        assert (json.loads(alone.out)["pushed"], json.loads(alone.out)["pullRequest"]) == (True, None)
        assert len(hub.requests) == before
