"""How quickly the command line may answer: by what it imports. And that shells can complete it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import START
from git_project import GitProject

HEAVY = (
    "pydantic",
    "yaml",
    "rich",
    "mlflow",
    "pandas",
    "numpy",
    "pyarrow",
    "sqlalchemy",
    "git",
    "sklearn",
    "asyncio",
)

LOOK = """
import sys
from mlops.cli import run
code = run(sys.argv[1:])
print("imported:", code, *(name for name in {heavy} if name in sys.modules), file=sys.stderr)
"""


def imported(*arguments: str, cwd: Path) -> tuple[int, set[str]]:
    command = [sys.executable, "-c", LOOK.format(heavy=HEAVY), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    words = done.stderr.rpartition("imported: ")[2].split()
    return int(words[0]), set(words[1:])


@pytest.mark.parametrize("line", [["--help"], ["--version"], ["-h"], []], ids=str)
def test_help_and_version_import_nothing_heavy(line: list[str], tmp_path: Path) -> None:
    code, found = imported(*line, cwd=tmp_path)
    assert found == set()
    assert code == (0 if line else 64)


@pytest.mark.parametrize("name", ["plan", "apply", "get", "runs", "init"])
def test_the_help_of_a_command_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    assert imported(name, "--help", cwd=tmp_path) == (0, set())


@pytest.mark.parametrize(
    "line",
    [
        ["validate"],
        ["schema"],
        ["schema", "Model"],
        ["plan"],
        ["get"],
        ["plan", "-o", "json"],
        ["tree"],
        ["version"],
    ],
    ids=" ".join,
)
def test_what_only_reads_an_unchanged_store_imports_no_mlflow(line: list[str], applied: GitProject) -> None:
    code, found = imported(*line, cwd=applied.root)
    assert code == 0
    assert found.isdisjoint({"mlflow", "pandas", "numpy", "sqlalchemy", "sklearn"})


def test_a_first_plan_imports_no_mlflow(project: GitProject) -> None:
    assert "mlflow" not in imported("plan", cwd=project.root)[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_given_a_script_that_completes(shell: str, tmp_path: Path) -> None:
    environ = {**os.environ, "_MLOPS_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert "_MLOPS_COMPLETE" in done.stdout
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [("mlops ", "validate"), ("mlops pl", "plan"), ("mlops plan --detailed", "--detailed-exitcode")],
)
def test_commands_and_options_are_completed(words: str, expected: str, tmp_path: Path) -> None:
    last = len(words.split()) - (not words.endswith(" "))
    environ = {
        **os.environ,
        "_MLOPS_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(last),
    }
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert f"plain,{expected}" in done.stdout.splitlines()
