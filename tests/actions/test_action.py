"""The script of the action, run by bash as a runner does: inputs are data, and pull requests are only read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from git_project import GitProject

from forges.github_server import GitHub

Ran = subprocess.CompletedProcess[str]
ACTION = Path(__file__).parents[2] / ".github/actions/mlops/action.yml"


def run(
    command: str, tmp_path: Path, event: str = "push", **event_of: str
) -> subprocess.CompletedProcess[str]:
    (step,) = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    summary = tmp_path / "summary.md"
    environ = {
        **os.environ,
        "PATH": path,
        "COMMAND": command,
        "PROJECT": str(tmp_path / "p"),
        "VERSION": "installed",
        **dict.fromkeys(("TOKEN", "NUMBER", "HEAD", "FROM", "ACTION", "LABEL", "SENDER"), ""),
        **event_of,
    }
    environ |= {"GITHUB_EVENT_NAME": event, "GITHUB_STEP_SUMMARY": str(summary), "RUNNER_TEMP": str(tmp_path)}
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(bash, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
@pytest.mark.parametrize("command", ["train", "apply", "monitor"])
def test_nothing_of_a_pull_request_is_run(command: str, event: str, tmp_path: Path) -> None:
    done = run(command, tmp_path, event)
    assert done.returncode == 64
    assert done.stdout.startswith("::error::")


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


class Pull:
    """A pull request of a small project on a GitHub that keeps state, as the events of a workflow tell of it."""

    def __init__(self, place: Path, hub: GitHub) -> None:
        self.place, self.hub = place, hub
        self.project = GitProject(
            place / "p", tracking={"uri": "${MLFLOW_TRACKING_URI}"}, variables=["MLFLOW_TRACKING_URI"]
        )
        self.project.write(".gitignore", ".mlops/\n")
        self.project.write("training/train.py", TELLING)
        self.head = self.project.commit("a change")
        self.number = hub.open_pull("change", head=self.head, author="ada")
        self.store = f"sqlite:///{place}/mlflow.db"

    def run(
        self, command: str, *, event: str = "pull_request", store: str | None = None, **event_of: str
    ) -> Ran:
        told = {
            "NUMBER": str(self.number), "HEAD": self.head, "FROM": self.hub.repository, "TOKEN": self.hub.token,
            "GITHUB_REPOSITORY": self.hub.repository, "GITHUB_API_URL": self.hub.url, "SENDER": "ada",
            "MLFLOW_TRACKING_URI": self.store if store is None else store,
        }  # fmt: skip
        return run(command, self.place, event, **{**told, **event_of})

    @property
    def summary(self) -> str:
        file = self.place / "summary.md"
        return file.read_text() if file.exists() else ""

    def runs(self) -> int:
        from mlflow.tracking.client import MlflowClient

        client = MlflowClient(tracking_uri=self.store, registry_uri=self.store)
        found = client.get_experiment_by_name("p/fit")
        return len(client.search_runs([found.experiment_id])) if found is not None else 0


TELLING = """\
import json, os
out = os.environ["MLOPS_OUTPUT"]
json.dump({"rmse": 5.0}, open(os.path.join(out, "metrics.json"), "w"))
open(os.path.join(out, "model.txt"), "w").write(json.dumps(dict(os.environ)))
print("environment", dict(os.environ))
"""


@pytest.fixture
def pull(tmp_path: Path) -> Iterator[Pull]:
    with GitHub() as hub:
        yield Pull(tmp_path, hub)


def holders(place: Path, secret: str) -> list[str]:
    return [str(path) for path in place.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_the_plan_is_one_comment_and_stays_one(pull: Pull) -> None:
    for _ in range(2):
        done = pull.run("plan")
        assert done.returncode == 0, done.stderr
    [comment] = pull.hub.comments(pull.number)
    assert "### mlops plan: p" in comment
    assert "### mlops plan: p" in pull.summary
    pull.project.write("training/train.py", TELLING + "# another\n")
    pull.project.commit("more")
    assert pull.run("plan").returncode == 0
    [changed] = pull.hub.comments(pull.number)
    assert changed != comment


def test_a_fork_is_planned_in_the_summary_alone(pull: Pull) -> None:
    done = pull.run("plan", FROM="mallory/models", TOKEN=pull.hub.token)
    assert done.returncode == 0, done.stderr
    assert "### mlops plan: p" in pull.summary
    assert pull.hub.comments(pull.number) == []
    assert pull.hub.requests == []
    pull.hub.writers.add("ada")
    done = pull.run("train", FROM="mallory/models", ACTION="labeled", LABEL="mlops/train")
    assert (done.returncode, "nothing of a fork is run" in done.stdout) == (64, True)


def test_a_label_of_somebody_who_may_write_trains_the_head_it_was_set_on_and_the_job_sees_no_token(
    pull: Pull,
) -> None:
    label = {"ACTION": "labeled", "LABEL": "mlops/train"}
    refused = pull.run("train", **label)
    assert refused.returncode == 1
    assert "ada may not write to this repository" in refused.stderr
    pull.hub.writers.add("ada")
    for wrong, why in (
        ({"LABEL": "bug"}, "when the label mlops/train is set"),
        ({"ACTION": "synchronize"}, "when the label mlops/train is set"),
        ({"HEAD": "1" * 40}, "check out the head that the label was set on"),
        ({"TOKEN": ""}, "needs the input token"),
    ):
        done = pull.run("train", **{**label, **wrong})
        assert (done.returncode, why in done.stdout) == (64, True), why
    assert pull.runs() == 0
    done = pull.run("train", **label)
    assert done.returncode == 0, done.stderr
    assert pull.runs() == 2
    [comment] = pull.hub.comments(pull.number)
    assert "### mlops plan: p" in comment
    assert pull.hub.token not in done.stdout + done.stderr + pull.summary + comment
    assert holders(pull.place, pull.hub.token) == []
    assert holders(pull.place, "environment {") != []  # the job told what it was told


def test_without_a_server_that_lasts_it_is_only_planned_and_said(pull: Pull) -> None:
    for command in ("apply", "monitor", "train"):
        done = pull.run(command, event="push", store="")
        assert done.returncode == 0, done.stderr
        assert "::notice::MLFLOW_TRACKING_URI is not set: planned only" in done.stdout
    assert "against an MLflow that holds nothing" in pull.summary
    assert "### mlops plan: p" in pull.summary


def test_annotations_name_files_from_the_top_of_the_repository(pull: Pull) -> None:
    inner = pull.place / "p/team/models"
    inner.mkdir(parents=True)
    (inner / "mlops.yaml").write_text(
        "apiVersion: mlops/v1\nkind: Project\nmetadata: {name: q}\nspec: {nothing: 1}\n"
    )
    done = pull.run("validate", PROJECT=str(inner))
    assert done.returncode == 1
    assert done.stdout.startswith("::error file=team/models/mlops.yaml,line=")
