"""The training scripts, run by hand as resources.md says, log what their YAML reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TEMPLATE = ROOT / "src/mlops/cli/template"

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Example:
    """A project, the script of its experiment, and the folder that the script runs in."""

    root: Path
    script: Path
    folder: Path
    parameters: dict[str, Any]


SEATTLE = Example(
    EXAMPLES / "seattle-weather",
    EXAMPLES / "seattle-weather/training/train.py",
    EXAMPLES / "seattle-weather/training",
    {"alpha": 1, "degree": 2},
)
UNCHANGED = Example(
    EXAMPLES / "mlflow-unchanged", EXAMPLES / "mlflow-unchanged/train.py", EXAMPLES / "mlflow-unchanged", {}
)
INIT = Example(TEMPLATE, TEMPLATE / "training/train.py.txt", TEMPLATE / "training", {})


def declared(example: Example) -> dict[str, dict[str, dict[str, Any]]]:
    """Specs by kind and name."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for file in sorted((example.root / "resources").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            found.setdefault(document["kind"], {})[document["metadata"]["name"]] = document["spec"]
    return found


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('examples')}/mlflow.db"


def train(example: Example, store: str) -> Any:
    """One trial, run in the declared way; its finished MLflow run."""
    import mlflow

    resources = declared(example)
    (experiment,) = resources["Experiment"].values()
    parameters = experiment["parameters"] | example.parameters
    argv = [argument.format_map(parameters) for argument in experiment["command"]]
    assert argv[:2] == ["python", "train.py"]
    client = mlflow.MlflowClient(store)
    place = Path(store.removeprefix("sqlite:///")).parent / "artifacts" / example.root.name
    target = client.create_experiment(example.root.name, artifact_location=place.as_uri())
    run = client.create_run(target, run_name="declared").info.run_id
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "MLOPS_"))},
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_EXPERIMENT_ID": target,
        "MLFLOW_RUN_ID": run,
        **{
            f"MLOPS_DATASET_{role.upper()}": str(example.root / resources["Dataset"][name]["uri"])
            for role, name in experiment["datasets"].items()
        },
    }
    command = [sys.executable, str(example.script), *argv[2:]]
    done = subprocess.run(command, cwd=example.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return client.get_run(run)


@pytest.mark.parametrize("example", [SEATTLE, UNCHANGED, INIT], ids=lambda each: each.root.name)
def test_a_trial_logs_what_the_yaml_reads_and_passes_the_gates(example: Example, store: str) -> None:
    import mlflow

    run = train(example, store)
    resources = declared(example)
    (experiment,) = resources["Experiment"].values()
    assert run.info.status == "FINISHED"
    assert experiment["objective"]["metric"] in run.data.metrics
    for stage in resources["Stage"].values():
        for gate in stage["gates"]:
            observed = run.data.metrics[gate["metric"]["name"]]
            assert gate["metric"].get("min", observed) <= observed <= gate["metric"].get("max", observed)

    (version,) = resources["ModelVersion"].values()
    (logged,) = mlflow.MlflowClient(store).search_logged_models([run.info.experiment_id])
    assert logged.name == version["source"]["artifact"]
    assert logged.source_run_id == run.info.run_id


def test_the_unchanged_script_has_not_one_line_about_this_project() -> None:
    text = UNCHANGED.script.read_text()
    assert "mlops" not in text.lower()
    for line in (
        'with mlflow.start_run(run_name="Finance Covid Experiment"):',
        "make_pipeline(PolynomialFeatures(2), Ridge(",
        'mlflow.sklearn.log_model(model, "Regression")',
        'mlflow.log_metric("mse", ',
        'mlflow.log_metric("r2", ',
    ):
        assert line in text


def test_under_the_controller_the_unchanged_script_logs_into_the_declared_run(tmp_path: Path) -> None:
    import mlflow

    project = tmp_path / "finance"
    shutil.copytree(UNCHANGED.root, project, ignore=shutil.ignore_patterns(".mlops", "mlruns", "mlflow.db"))
    for argv in (
        ["git", "init", "--quiet", "--initial-branch=main"],
        ["git", "add", "."],
        ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "-qm", "Finance"],
        [str(Path(sys.executable).parent / "mlops"), "apply"],
    ):
        done = subprocess.run(argv, cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    client = mlflow.MlflowClient(f"sqlite:///{project}/.mlops/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("finance/finance-regression").experiment_id])
    assert run.data.tags["mlops.resource"] == "Experiment/finance-regression"
    assert run.data.params == {"alpha": "1.0"}
    assert set(run.data.metrics) == {"mse", "r2"}
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "us-employment"
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, model.source_run_id) == ("Regression", run.info.run_id)
    version = client.get_model_version_by_alias("finance-jobs", "production")
    assert version.run_id == run.info.run_id
