"""What the command line says it looked at, and what it says of places and durations that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Ran, on_a_terminal
from git_project import GitProject

Mlops = Callable[..., Ran]


def test_a_plan_of_changed_files_says_that_they_are_not_those_of_the_revision(
    project: GitProject, mlops: Mlops
) -> None:
    head = project.git("rev-parse", "HEAD")[:12]
    assert mlops("plan", "--working-tree", cwd=project.root).out.startswith(f"Plan for revision {head},")
    project.write("training/train.py", "print()\n")
    assert mlops("plan").out.startswith(f"Plan for revision {head},")
    assert mlops("plan", "--working-tree").out.startswith(f"Plan for the working tree on {head},")


def test_a_plan_without_any_commit_names_none(project: GitProject, mlops: Mlops) -> None:
    project.git("update-ref", "-d", "HEAD")
    assert mlops("plan", "--working-tree", cwd=project.root).out.startswith("Plan for the working tree,")


def test_a_long_value_is_shortened_where_trials_are_listed(project: GitProject, mlops: Mlops) -> None:
    text = (project.root / "resources/all.yaml").read_text().replace("- 1\n", f"- {'x' * 500}\n", 1)
    project.write("resources/all.yaml", text)
    shown = mlops("plan", "--working-tree", cwd=project.root).out
    assert "depth=xxx" in shown
    assert "x" * 100 not in shown


def test_validate_refuses_a_path_that_is_not_there(project: GitProject, mlops: Mlops) -> None:
    ran = mlops("validate", "resources/none.yaml", cwd=project.root)
    assert ran.code == 64
    assert "there is no resources/none.yaml" in ran.err


def test_validate_finds_mistakes_below_a_path_that_goes_up(project: GitProject, mlops: Mlops) -> None:
    project.write("resources/broken.yaml", "kind: Model\n")
    assert mlops("validate", "../resources", cwd=project.root / "training").code == 1
    ran = mlops("validate", "../resources/all.yaml")
    assert (ran.code, ran.err) == (0, "8 resources in order\n")


@pytest.mark.parametrize("command", [["apply"], ["train"], ["wait", "Model/m"]])
def test_a_duration_without_a_unit_is_refused_with_an_example(
    project: GitProject, mlops: Mlops, command: list[str]
) -> None:
    ran = mlops(*command, "--timeout", "5", cwd=project.root)
    assert ran.code == 64
    assert "'5' is not a duration. Write it like 30s, 15m, 24h or 7d." in ran.err


def test_no_color_leaves_no_escape_sequence_on_a_terminal(project: GitProject, tmp_path: Path) -> None:
    assert "\x1b[" in on_a_terminal("plan", cwd=project.root)
    assert "\x1b" not in on_a_terminal("plan", cwd=project.root, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("get", cwd=project.root, NO_COLOR="1")
