"""What each command exits with: 0 done, 1 an error, 2 changes, 3 blocked, 64 usage."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from command_line import Ran
from git_project import GitProject, document, experiment, lifecycle, promotion

from mlops.cli import COMMANDS

Mlops = Callable[..., Ran]


def test_plan_exits_with_0_whatever_it_says_and_with_2_where_that_was_asked_for(
    project: GitProject, mlops: Mlops
) -> None:
    assert mlops("plan", cwd=project.root).code == 0
    assert mlops("plan", "--detailed-exitcode").code == 2
    project.write("resources/broken.yaml", "kind: Model\n")
    project.commit()
    broken = mlops("plan", "--detailed-exitcode")
    assert broken.code == 1
    assert "resources/broken.yaml:1:1" in broken.err
    assert "train Experiment/fit" in broken.out


def test_plan_of_what_is_blocked_exits_with_0_and_has_no_changes(project: GitProject, mlops: Mlops) -> None:
    project.declare(
        [
            experiment(datasets={"train": "absent"}),
            document("Dataset", "absent", {"uri": "no.csv", "format": "csv"}),
        ]
    )
    project.commit()
    ran = mlops("plan", "--detailed-exitcode", cwd=project.root)
    assert (ran.code, "NotFound" in ran.out) == (0, True)


def test_apply_exits_with_3_where_something_is_blocked_and_1_where_something_is_broken(
    project: GitProject, mlops: Mlops
) -> None:
    project.declare(
        [document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}), experiment(suspend=True)]
    )
    project.commit()
    blocked = mlops("apply", cwd=project.root)
    assert blocked.code == 3
    assert "Suspended" in blocked.err
    project.declare([document("Dataset", "rows", {"uri": "data/gone.csv", "format": "csv"}), experiment()])
    project.commit()
    failed = mlops("apply")
    assert failed.code == 1
    assert "NotFound" in failed.err


@pytest.mark.parametrize(
    "line",
    [
        ["nosuch"],
        ["plan", "--nosuch"],
        ["plan", "-o", "xml"],
        ["plan", "extra"],
        ["get", "-o", "markdown"],
        ["describe"],
        ["wait", "Model/m", "--for", "happiness"],
        ["wait", "Model/m", "--timeout", "soon"],
        ["apply", "nosuch.json"],
        ["apply", "--timeout", "-1s"],
        ["train", "--timeout", "later"],
        ["history", "a", "b"],
        ["--nosuch"],
    ],
    ids=" ".join,
)
def test_a_line_that_is_no_command_exits_with_64(line: list[str], project: GitProject, mlops: Mlops) -> None:
    ran = mlops(*line, cwd=project.root)
    assert ran.code == 64
    assert ran.out == ""
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["get", "nosuch"], '"nosuch" is not a kind'),
        (["get", "experimnt"], "Did you mean Experiment?"),
        (["get", "Model/nosuch"], "Model/nosuch is not declared"),
        (["get", "Model/mm"], "Did you mean Model/m?"),
        (["describe", "Model"], "Kind/name"),
        (["describe", "Model/a/b"], "is not a resource"),
        (["describe", "Experiment/fitt"], "Did you mean Experiment/fit?"),
        (["runs", "nosuch"], "nosuch"),
        (["logs", "nosuch"], "nosuch"),
        (["logs", "Experiment/fit"], "no run yet"),
        (["train", "nosuch"], "Experiment/nosuch is not declared"),
        (["apply", "--target", "Model/nosuch"], "Model/nosuch is not declared"),
        (["apply", "--target", "nosuch"], "Kind/name"),
        (["history", "nosuch"], "Model/nosuch"),
        (["history", "--at", "yesterday"], "2026-03-31"),
        (["wait", "Model/nosuch"], "Model/nosuch is not declared"),
        (["suspend", "Model/nosuch"], "Model/nosuch is not declared"),
        (["suspend", "nosuch"], "Kind/name"),
        (["schema", "nosuch"], '"nosuch" is not a kind'),
        (["plan", "--revision", "nosuch"], "nosuch"),
        (["plan", "--base", "nosuch"], "nosuch"),
        (["validate", "--revision", "nosuch"], "nosuch"),
        (["plan", "--out", "no/such/folder/plan.json"], "no/such/folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_exits_with_1_and_one_sentence(
    line: list[str], words: str, project: GitProject, mlops: Mlops
) -> None:
    ran = mlops(*line, cwd=project.root)
    assert ran.code == 1
    assert words in ran.err
    assert ran.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in ran.err
    assert not (project.root / ".mlops/mlflow.db").exists()


def test_every_command_explains_itself(mlops: Mlops) -> None:
    listed = mlops("--help").out
    for name in COMMANDS:
        ran = mlops(name, "--help")
        assert ran.code == 0
        assert f"mlops {name}" in ran.out
        assert name in listed


def test_validate_exits_with_1_and_names_every_place(project: GitProject, mlops: Mlops) -> None:
    assert mlops("validate", cwd=project.root).code == 0
    project.write(
        "resources/broken.yaml", "apiVersion: mlops/v1\nkind: Model\nmetadata: {name: B}\nspec: {ownrs: []}\n"
    )
    ran = mlops("validate")
    assert ran.code == 1
    assert ran.out == ""
    assert "resources/broken.yaml:3:18" in ran.err
    assert "owners" in ran.err
    found = json.loads(mlops("validate", "-o", "json").out)["errors"]
    assert [(row["file"], row["line"]) for row in found] == [
        ("resources/broken.yaml", 3),
        ("resources/broken.yaml", 4),
    ]
    lines = mlops("validate", "-o", "github").out.splitlines()
    assert [line.startswith("::error file=resources/broken.yaml,line=") for line in lines] == [True, True]
    assert mlops("validate", "resources/all.yaml").code == 0
    assert mlops("validate", "resources").code == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "not json", '{"plan": 5}', "[" * 9999, '{"plan": {"observed": 1}}', "\udcff"]
)
def test_a_file_that_is_no_plan_is_refused(text: str, project: GitProject, mlops: Mlops) -> None:
    (project.root / "plan.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    ran = mlops("apply", "plan.json", cwd=project.root)
    assert (ran.code, ran.out) == (1, "")
    assert "this is not a plan" in ran.err


def test_a_saved_plan_takes_no_other_options(project: GitProject, mlops: Mlops) -> None:
    assert mlops("plan", "--out", "plan.json", cwd=project.root).code == 0
    assert mlops("apply", "plan.json", "--revision", "HEAD").code == 64
    assert mlops("apply", "plan.json", "--target", "Model/m").code == 64


def test_promotions_that_wait_for_people_exit_with_3(project: GitProject, mlops: Mlops) -> None:
    project.write(
        "mlops.yaml", json.dumps(document("Project", "p", {"groups": {"leads": ["a@example.com"]}}))
    )
    stage = document("Stage", "open", {"approvals": {"required": 1, "from": ["leads"]}})
    project.declare(
        [
            *lifecycle()[2:3],
            stage,
            promotion("open", "1.0.0"),
            document(
                "ModelVersion",
                "m-1",
                {"model": "m", "version": "1.0.0", "source": {"runId": "0" * 32, "artifact": "x"}},
            ),
        ]
    )
    project.commit()
    plan = mlops("plan", cwd=project.root)
    assert plan.code == 0
    assert "ApprovalPending" in plan.out or "DependencyFailed" in plan.out
