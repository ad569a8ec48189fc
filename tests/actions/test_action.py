"""The script of the action, run by bash as a runner does: inputs are data, and pull requests are only read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ACTION = Path(__file__).parents[2] / ".github/actions/mlops/action.yml"


def run(command: str, tmp_path: Path, event: str = "push") -> subprocess.CompletedProcess[str]:
    (step,) = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    summary = tmp_path / "summary.md"
    environ = {
        **os.environ,
        "PATH": path,
        "COMMAND": command,
        "PROJECT": str(tmp_path / "p"),
        "VERSION": "installed",
    }
    environ |= {"GITHUB_EVENT_NAME": event, "GITHUB_STEP_SUMMARY": str(summary), "RUNNER_TEMP": str(tmp_path)}
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(bash, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
@pytest.mark.parametrize("command", ["train", "apply", "monitor"])
def test_nothing_of_a_pull_request_is_run(command: str, event: str, tmp_path: Path) -> None:
    done = run(command, tmp_path, event)
    assert done.returncode == 64
    assert "runs only what is merged" in done.stdout


def test_a_hostile_input_is_data(tmp_path: Path) -> None:
    assert run("plan; touch pwned", tmp_path).returncode == 64
    assert not (tmp_path / "pwned").exists()
    assert "${{" not in yaml.safe_load(ACTION.read_text())["runs"]["steps"][0]["run"]


def test_a_pull_request_is_validated_and_its_plan_is_in_the_summary(tmp_path: Path) -> None:
    from mlops.cli import run as mlops

    assert mlops(["init", str(tmp_path / "p")]) == 0
    assert run("validate", tmp_path, "pull_request").returncode == 0
    assert run("plan", tmp_path, "pull_request").returncode == 0
    assert "### mlops plan: weather" in (tmp_path / "summary.md").read_text()
    (tmp_path / "p/resources/model.yaml").write_text("kind: Nothing\n")
    done = run("validate", tmp_path, "pull_request")
    assert (done.returncode, done.stdout.startswith("::error file=resources/model.yaml,line=")) == (1, True)
