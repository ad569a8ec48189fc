"""Where the command line is run: the project, its folders, elsewhere, repositories that are not ready yet."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Ran
from git_project import GitProject

Mlops = Callable[..., Ran]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_project_is_found_from_its_subfolders_and_by_its_name(
    project: GitProject, mlops: Mlops, tmp_path: Path
) -> None:
    inside = project.root / "training"
    assert mlops("get", "-o", "name", cwd=inside).out.startswith("Project/p\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert mlops("--project", "../project", "get", "-o", "name", cwd=elsewhere).out.startswith("Project/p\n")
    assert mlops("--project", str(inside), "plan").code == 0
    assert mlops("validate", "train.py", cwd=inside).code == 0


def test_a_project_may_be_a_folder_of_a_repository(tmp_path: Path, mlops: Mlops) -> None:
    inner = GitProject(tmp_path / "project")
    whole = tmp_path / "whole"
    (whole / "teams").mkdir(parents=True)
    (inner.root / ".git").rename(tmp_path / "unused")
    inner.root.rename(whole / "teams/bikes")
    git(whole, "init", "-q")
    git(whole, "add", "-A")
    git(whole, "commit", "-q", "-m", "first")
    ran = mlops("plan", cwd=whole / "teams/bikes/training")
    assert "train Experiment/fit" in ran.out
    assert ran.code == 0
    assert mlops("plan", cwd=whole).code == 1


def test_outside_of_any_project_it_says_what_to_do(tmp_path: Path, mlops: Mlops) -> None:
    ran = mlops("plan", cwd=tmp_path)
    assert ran.code == 1
    assert "no mlops.yaml in" in ran.err
    assert "mlops init" in ran.err
    assert mlops("--project", str(tmp_path / "nosuch"), "plan").code == 1


def test_a_project_without_a_repository_says_what_to_do(tmp_path: Path, mlops: Mlops) -> None:
    (tmp_path / "mlops.yaml").write_text(
        "apiVersion: mlops/v1\nkind: Project\nmetadata: {name: p}\nspec: {}\n"
    )
    ran = mlops("plan", cwd=tmp_path)
    assert ran.code == 1
    assert "git init" in ran.err


def test_a_repository_without_commits_says_what_to_do(
    project: GitProject, mlops: Mlops, tmp_path: Path
) -> None:
    (project.root / ".git").rename(tmp_path / "unused")
    git(project.root, "init", "-q")
    for name in ("plan", "get", "apply"):
        ran = mlops(name, cwd=project.root)
        assert ran.code == 1
        assert "no commit yet" in ran.err
        assert "Commit" in ran.err
    assert mlops("validate").code == 0
    assert mlops("plan", "--working-tree").code == 0


@pytest.mark.parametrize("name", ["plan", "get", "apply", "history"])
def test_a_project_file_that_is_not_committed_yet_is_named_so(
    name: str, project: GitProject, mlops: Mlops
) -> None:
    project.git("rm", "-q", "--cached", "mlops.yaml")
    project.git("commit", "-q", "-m", "without it")
    ran = mlops(name, cwd=project.root)
    assert ran.code == 1
    assert "mlops.yaml is not in commit" in ran.err
    assert "Commit it" in ran.err
    assert "--working-tree" in ran.err


def test_a_broken_project_file_is_told_with_its_place(project: GitProject, mlops: Mlops) -> None:
    project.write(
        "mlops.yaml", "apiVersion: mlops/v1\nkind: Project\nmetadata: {name: p}\nspec: {pruned: true}\n"
    )
    project.commit()
    ran = mlops("plan", cwd=project.root)
    assert ran.code == 1
    assert "mlops.yaml:4:8" in ran.err
    assert "Did you mean prune?" in ran.err


def test_init_makes_a_repository_and_leaves_what_is_there(tmp_path: Path, mlops: Mlops) -> None:
    assert mlops("init", "demo", cwd=tmp_path).code == 0
    demo = tmp_path / "demo"
    assert git(demo, "status", "--porcelain") == ""
    assert mlops("validate", cwd=demo).code == 0
    assert mlops("plan", "--detailed-exitcode", cwd=demo).code == 2
    before = {
        path: path.read_bytes() for path in demo.rglob("*") if path.is_file() and ".git" not in path.parts
    }
    again = mlops("init", cwd=demo)
    assert again.code == 1
    assert "exists already" in again.err
    assert "Nothing was written" in again.err
    assert {path: path.read_bytes() for path in before} == before


def test_init_into_a_folder_with_other_files_keeps_them_out_of_the_commit(
    tmp_path: Path, mlops: Mlops
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert mlops("init", cwd=tmp_path).code == 0
    assert git(tmp_path, "status", "--porcelain") == "?? notes.txt\n"


def test_init_in_a_repository_commits_nothing(tmp_path: Path, mlops: Mlops) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "notes.txt").write_text("mine")
    git(tmp_path, "add", "notes.txt")
    ran = mlops("init", "teams/bikes", cwd=tmp_path)
    assert ran.code == 0
    assert "commit them yourself" in ran.err
    assert git(tmp_path, "status", "--porcelain", "-uall").splitlines()[0] == "A  notes.txt"
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "all")
    assert mlops("plan", cwd=tmp_path / "teams/bikes").code == 0


@pytest.mark.parametrize("there", ["file", "link"])
def test_init_where_a_file_is_in_the_way_says_so(there: str, tmp_path: Path, mlops: Mlops) -> None:
    if there == "file":
        (tmp_path / "training").write_text("a file")
        ran = mlops("init", cwd=tmp_path)
    else:
        (tmp_path / "outside").mkdir()
        (tmp_path / "here").mkdir()
        (tmp_path / "here/training").symlink_to(tmp_path / "outside")
        ran = mlops("init", "here", cwd=tmp_path)
        assert list((tmp_path / "outside").iterdir()) == []
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "training" in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_project_that_cannot_be_written_to_is_still_planned(project: GitProject, mlops: Mlops) -> None:
    project.root.chmod(0o555)
    try:
        assert mlops("plan", cwd=project.root).code == 0
    finally:
        project.root.chmod(0o755)
