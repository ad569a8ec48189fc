"""Unmodified MLflow training code, run as real processes beside the controller."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.execution.known_failures import recognise
from mlops.observation.observed import ObservedRun
from mlops.tracking import Tracker

LOCK = [f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()]

FINANCE = """
import mlflow
import mlflow.sklearn
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

x = np.arange(40.0).reshape(20, 2)
y = x.sum(axis=1)
with mlflow.start_run(run_name="Finance Covid Experiment"):
    model = make_pipeline(PolynomialFeatures(2), Ridge())
    model.fit(x, y)
    mlflow.log_param("alpha", 1.0)
    mlflow.log_metric("mse", mean_squared_error(y, model.predict(x)))
    mlflow.log_metric("r2", r2_score(y, model.predict(x)))
    mlflow.sklearn.log_model(model, "Regression")
"""


@dataclasses.dataclass(frozen=True)
class Trained:
    run_id: str
    experiment: str
    code: int
    output: str


@pytest.fixture
def train(tracker: Tracker, project: str, tmp_path: Path) -> Callable[..., Trained]:
    def run(script: str, requirements: list[str] | None = None) -> Trained:
        name = f"{project}/trial"
        experiment = tracker.ensure_experiment(name, description="", tags={})
        tags = {"mlops.fingerprint": "f", "mlops.revision": "abc"}
        run_id = tracker.create_run(experiment, name="trial", tags=tags, parameters={}, inputs=[])
        given = tracker.child_environment(run_id, experiment, name, requirements=requirements, run_tags=tags)
        (tmp_path / "train.py").write_text(script)
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **given}
        done = subprocess.run(
            [sys.executable, "train.py"],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=600,
        )
        return Trained(run_id, experiment, done.returncode, done.stdout + done.stderr)

    return run


def observed(tracker: Tracker, run_id: str) -> ObservedRun:
    run = tracker.run(run_id)
    assert run is not None
    return run


@pytest.mark.slow
def test_plain_mlflow_code_logs_into_the_run_made_for_it(
    tracker: Tracker, train: Callable[..., Trained]
) -> None:
    trained = train(FINANCE, LOCK)
    assert trained.code == 0, trained.output
    renamed = observed(tracker, trained.run_id)
    assert (renamed.name, renamed.status) == ("Finance Covid Experiment", "FINISHED")
    tracker.terminate(trained.run_id, "FINISHED", name="trial", tags={})
    run = observed(tracker, trained.run_id)
    assert (run.name, run.parameters["alpha"], set(run.metrics)) == ("trial", "1.0", {"mse", "r2"})
    assert tracker.link_children(trained.run_id) == ()
    artifact = tracker.artifact(trained.run_id, "Regression")
    assert artifact is not None
    assert artifact.uri.startswith("models:/m-")
    assert tracker.artifact(trained.run_id, "Regression") == artifact

    model = tracker._client().get_logged_model(artifact.uri.removeprefix("models:/"))
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(artifact_uri=model.artifact_location, tracking_uri=tracker.store.uri))
    pins = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert {"mlflow", "scikit-learn", "numpy", "skops"} <= pins
    assert not pins & {"alembic", "flask", "pytest", "mlops-controller", "pandas"}
    versions = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    assert f"scikit-learn=={versions['scikit-learn']}" in (folder / "requirements.txt").read_text()

    identity = {"mlops.resource": "ModelVersion/x", "mlops.version": "1.0.0"}
    tracker.ensure_model(model.model_id, description="", tags={})
    number = tracker.create_version(
        model.model_id, source_uri=artifact.uri, run_id=trained.run_id, tags=identity, description=""
    )
    version = tracker.version(model.model_id, number)
    assert version is not None
    assert (version.source, version.run_id) == (artifact.uri, trained.run_id)
    assert tracker.artifact(trained.run_id, "Regression") == artifact


@pytest.mark.slow
def test_a_second_run_is_linked_and_what_it_left_open_is_ended(
    sqlite_tracker: Tracker, project: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    script = """
import os, signal
import mlflow
with mlflow.start_run():
    mlflow.log_metric("one", 1)
    mlflow.log_metric("loss", float("nan"))
    with mlflow.start_run(nested=True):
        mlflow.log_metric("nested", 1)
with mlflow.start_run():
    mlflow.log_metric("two", 2)
mlflow.set_experiment("elsewhere-PROJECT")
mlflow.start_run()
mlflow.log_metric("three", 3)
os.kill(os.getpid(), signal.SIGKILL)
""".replace("PROJECT", project)
    name = f"{project}/trial"
    experiment = sqlite_tracker.ensure_experiment(name, description="", tags={})
    tags = {"mlops.fingerprint": "f", "mlops.resource": "Experiment/trial", "mlops.revision": "abc"}
    run_id = sqlite_tracker.create_run(experiment, name="trial", tags=tags, parameters={}, inputs=[])
    given = sqlite_tracker.child_environment(run_id, experiment, name, requirements=None, run_tags=tags)
    (tmp_path / "train.py").write_text(script)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **given}
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=environ, capture_output=True, timeout=600
    )
    assert done.returncode == -9, done.stderr
    ours = observed(sqlite_tracker, run_id)
    assert ours.metrics["one"] == 1
    assert math.isnan(ours.metrics["loss"])
    children = sqlite_tracker.link_children(run_id)
    runs = [observed(sqlite_tracker, child) for child in children]
    assert {name for run in runs for name in run.metrics} == {"nested", "two", "three"}
    assert all(run.tags["mlflow.parentRunId"] == run_id for run in runs)
    assert all(run.tags["mlops.revision"] == "abc" for run in runs)
    assert not any("mlops.fingerprint" in run.tags or "mlops.resource" in run.tags for run in runs)
    assert {run.status for run in runs if "three" in run.metrics} == {"KILLED"}
    assert {run.status for run in runs if "two" in run.metrics} == {"FINISHED"}
    assert sqlite_tracker.link_children(run_id) == children


@pytest.mark.slow
def test_a_failing_script_without_a_with_block_reads_finished_until_it_is_ended(
    sqlite_tracker: Tracker, project: str, tmp_path: Path
) -> None:
    script = "import mlflow, sys\nmlflow.start_run()\nmlflow.log_metric('m', 1)\nsys.exit(3)\n"
    train = globals()["train"].__wrapped__(sqlite_tracker, project, tmp_path)
    trained = train(script)
    assert trained.code == 3
    assert observed(sqlite_tracker, trained.run_id).status == "FINISHED"
    sqlite_tracker.terminate(trained.run_id, "FAILED", name="trial", tags={"mlops.message": "exit code 3"})
    assert observed(sqlite_tracker, trained.run_id).status == "FAILED"


@pytest.mark.slow
def test_what_training_code_does_wrong_is_explained(
    sqlite_tracker: Tracker, project: str, tmp_path: Path
) -> None:
    train = globals()["train"].__wrapped__(sqlite_tracker, project, tmp_path)
    trained = train("import mlflow\nmlflow.set_experiment('mine')\nwith mlflow.start_run():\n    pass\n")
    assert trained.code == 1
    assert "another experiment" in str(recognise(trained.output))
    trained = train(
        "import mlflow\n"
        "from sklearn.ensemble import RandomForestRegressor\n"
        "with mlflow.start_run():\n"
        "    model = RandomForestRegressor(2).fit([[0.0], [1.0]], [0.0, 1.0])\n"
        "    mlflow.sklearn.log_model(model, name='model')\n",
        LOCK,
    )
    assert trained.code == 1
    assert "cloudpickle" in str(recognise(trained.output))


@pytest.mark.slow
def test_autologging_goes_to_the_run_made_for_it(
    sqlite_tracker: Tracker, project: str, tmp_path: Path
) -> None:
    train = globals()["train"].__wrapped__(sqlite_tracker, project, tmp_path)
    trained = train(
        "import mlflow\n"
        "from sklearn.linear_model import Ridge\n"
        "mlflow.sklearn.autolog()\n"
        "Ridge(alpha=0.5).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])\n",
        LOCK,
    )
    assert trained.code == 0, trained.output
    run = observed(sqlite_tracker, trained.run_id)
    assert run.parameters["alpha"] == "0.5"
    assert any(name.startswith("training_") for name in run.metrics)
    assert sqlite_tracker.artifact(trained.run_id, "model") is not None
