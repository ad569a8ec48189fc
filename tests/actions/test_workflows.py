"""The workflows that `mlops init` writes, run from their files by nektos/act on this machine, without a container.

Real: the workflow files, the runner's semantics as act has them, bash, git, mlops, the jobs it trains, MLflow's store.
GitHub is the tests' own, which keeps state. Stand-ins, as there is no network: actions/checkout (clones from this
machine) and actions/setup-python (a Python is on PATH). What runs is the mlops on PATH, not a version of an index.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from git_project import GitProject
from test_action import TELLING

import mlops
from forges.github_server import GitHub

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "src/mlops/cli/template/dot-github"
PINNED = {
    "checkout": "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683",
    "setup-python": "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065",
}
STANDING_IN = {
    "checkout": """\
name: checkout
description: Clones from this machine what GitHub would have
inputs:
  ref: {description: a commit, default: "${{ github.sha }}"}
  fetch-depth: {description: everything, whatever it says, default: "0"}
  persist-credentials: {description: there are none, default: "false"}
runs:
  using: composite
  steps:
    - shell: bash
      env: {REF: "${{ inputs.ref }}"}
      run: find . -mindepth 1 -delete && git clone --quiet "$CHECKOUT_FROM" . && git checkout --quiet "$REF"
""",
    "setup-python": """\
name: setup-python
description: A Python is on PATH
inputs:
  python-version: {description: that of the tests, default: ""}
runs:
  using: composite
  steps:
    - {shell: bash, run: python --version}
""",
}


def program(name: str) -> str:
    """A program of the development group."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed: it is in the development group")
    return found


class Runner:
    """A repository with the workflows, and the GitHub whose events run them."""

    def __init__(self, place: Path, hub: GitHub) -> None:
        self.place, self.hub, self.out = place, hub, ""
        uri = "MLFLOW_TRACKING_URI"
        self.project = GitProject(place / "p", tracking={"uri": f"${{{uri}}}"}, variables=[uri])
        self.project.write(".gitignore", ".mlops/\n")
        self.project.write("training/train.py", TELLING)
        for part in ("workflows/mlops.yaml", "actions/mlops/action.yml"):
            text = (
                (TEMPLATE / part)
                .read_text()
                .replace(f'VERSION: "{mlops.__version__}"', 'VERSION: "installed"')
            )
            self.project.write(f".github/{part}", text)
        self.project.commit("workflows")
        self.project.git("remote", "add", "origin", f"https://github.com/{hub.repository}.git")
        self.store = f"sqlite:///{place}/mlflow.db"
        for name, text in STANDING_IN.items():
            (place / name).mkdir()
            (place / name / "action.yml").write_text(text)

    def pull(self, message: str) -> int:
        """Commit, and open a pull request with it."""
        self.project.write("training/train.py", f"{TELLING}# {message}\n")
        head = self.project.commit(message)
        return self.hub.open_pull("change", head=head, author="ada")

    def happens(
        self, event: str, *, number: int = 0, fork: bool = False, store: bool = True, **told: Any
    ) -> int:
        """Run what the event runs; gives act's exit code."""
        told["repository"] = {"full_name": self.hub.repository, "default_branch": "main"}
        if number:
            whose = "mallory/models" if fork else self.hub.repository
            head = {
                "sha": self.hub.pulls[number]["head"]["sha"],
                "ref": "change",
                "repo": {"full_name": whose},
            }
            told["pull_request"] = {"number": number, "head": head, "base": {"ref": "main"}}
        file = self.place / "event.json"
        file.write_text(json.dumps(told))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"GITHUB_API_URL": self.hub.url, "CHECKOUT_FROM": str(self.project.root), "PATH": path}
        command = [
            program("act"), event, "--eventpath", str(file), "--platform", "ubuntu-latest=-self-hosted",
            "--no-skip-checkout", "--no-cache-server", "--action-cache-path", str(self.place / "cache"),
            "--secret", "GITHUB_TOKEN", "--secret", f"MLFLOW_TRACKING_TOKEN={self.hub.token}-store",
            *(f"--local-repository={action}={self.place / name}" for name, action in PINNED.items()),
            *(part for name, value in environment.items() for part in ("--env", f"{name}={value}")),
            *(("--var", f"MLFLOW_TRACKING_URI={self.store}") if store else ()),
        ]  # fmt: skip
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "MLFLOW_"))
        }
        clean |= {"GITHUB_TOKEN": self.hub.token, "HOME": str(self.place), "GIT_PAGER": "cat", "PATH": path}
        done = subprocess.run(
            command,
            cwd=self.project.root,
            env=clean,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        self.out = done.stdout + done.stderr
        return done.returncode

    def jobs(self) -> set[str]:
        """The jobs that ran."""
        return {
            line.partition("/")[2].partition("]")[0].strip()
            for line in self.out.splitlines()
            if line.startswith("[mlops/")
        }

    def runs(self) -> int:
        from mlflow.tracking.client import MlflowClient

        client = MlflowClient(tracking_uri=self.store, registry_uri=self.store)
        found = client.get_experiment_by_name("p/fit")
        return len(client.search_runs([found.experiment_id])) if found is not None else 0

    def aliases(self) -> dict[str, Any]:
        from mlflow.tracking.client import MlflowClient

        client = MlflowClient(tracking_uri=self.store, registry_uri=self.store)
        return dict(client.get_registered_model("m").aliases)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    program("act")
    with GitHub() as hub:
        yield Runner(tmp_path, hub)


@pytest.mark.slow
def test_from_a_pull_request_to_a_promotion_that_is_kept(runner: Runner) -> None:
    number = runner.pull("a change")
    for action in ("opened", "synchronize"):
        assert runner.happens("pull_request", number=number, action=action) == 0, runner.out
        assert runner.jobs() == {"plan"}
    assert len(runner.hub.comments(number)) == 1
    assert runner.runs() == 0

    label = {"action": "labeled", "label": {"name": "mlops/train"}, "sender": {"login": "ada"}}
    assert runner.happens("pull_request", number=number, **label) != 0  # may only triage
    assert "ada may not write" in runner.out
    runner.hub.writers.add("ada")
    assert runner.happens("pull_request", number=number, **label) == 0, runner.out
    assert runner.jobs() == {"train"}
    assert runner.runs() == 2
    [comment] = runner.hub.comments(number)
    assert "### mlops plan: p" in comment
    assert runner.happens("pull_request", number=number, **{**label, "label": {"name": "bug"}}) == 0
    assert runner.jobs() == set()

    assert runner.happens("push", ref="refs/heads/main") == 0, runner.out
    assert runner.jobs() == {"apply"}
    assert runner.runs() == 2  # what was reviewed is what ships
    promoted = runner.aliases()
    assert set(promoted) == {"dev", "prod"}

    from mlflow.tracking.client import MlflowClient

    MlflowClient(tracking_uri=runner.store, registry_uri=runner.store).delete_registered_model_alias(
        "m", "prod"
    )
    assert runner.happens("schedule") == 0, runner.out
    assert runner.jobs() == {"apply"}
    assert runner.aliases() == promoted

    token = runner.hub.token.encode()
    mine = [path for path in runner.place.rglob("*") if path.is_file()]
    assert [str(path) for path in mine if token in path.read_bytes()] == []
    assert runner.hub.token not in runner.out


@pytest.mark.slow
def test_a_fork_is_validated_and_planned_and_gets_nothing(runner: Runner) -> None:
    number = runner.pull("from outside")
    assert runner.happens("pull_request", number=number, fork=True, action="opened") == 0, runner.out
    assert runner.jobs() == {"plan"}
    assert "### mlops plan: p" in runner.out  # act shows the summary there
    assert runner.hub.comments(number) == []
    assert runner.hub.requests == []
    runner.hub.writers.add("ada")
    label = {"action": "labeled", "label": {"name": "mlops/train"}, "sender": {"login": "ada"}}
    assert runner.happens("pull_request", number=number, fork=True, **label) == 0
    assert runner.jobs() == set()
    runner.project.write("resources/all.yaml", "kind: Nothing\n")
    head = runner.project.commit("broken")
    runner.hub.pulls[number]["head"]["sha"] = head
    assert runner.happens("pull_request", number=number, fork=True, action="synchronize") != 0
    assert "resources/all.yaml" in runner.out


@pytest.mark.slow
def test_without_a_server_that_lasts_a_push_trains_nothing_and_says_so(runner: Runner) -> None:
    assert runner.happens("push", store=False, ref="refs/heads/main") == 0, runner.out
    assert "MLFLOW_TRACKING_URI is not set" in runner.out
    assert not (runner.place / "mlflow.db").exists()


def test_auditors_find_nothing(tmp_path: Path) -> None:
    shutil.copytree(TEMPLATE, tmp_path / "written/.github")
    shutil.copytree(ROOT / ".github", tmp_path / "ours/.github")
    done = subprocess.run(
        [program("zizmor"), "--offline", "--no-progress", str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "written/.github/workflows/mlops.yaml" in done.stderr
