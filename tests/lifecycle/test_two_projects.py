"""Two projects in one repository and one MLflow: kept apart by their names, and refused where those are equal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from git_project import GitProject, document

from mlops.cli import run


@pytest.fixture
def teams(tmp_path: Path) -> GitProject:
    """A repository with a project in `one`, its MLflow beside the repository."""
    whole = GitProject(tmp_path / "teams", [])
    for folder in ("resources", "training", "data"):
        shutil.rmtree(whole.root / folder)
    (whole.root / "mlops.yaml").unlink()
    _declare(whole, "one", "bikes")
    whole.commit()
    return whole


def test_a_second_project_of_the_same_name_is_refused_until_it_has_another(
    teams: GitProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _mlops(teams, "one", "apply") == 0
    _declare(teams, "two", "bikes")
    teams.commit()
    for command in ("plan", "apply", "get"):
        capsys.readouterr()
        assert _mlops(teams, "two", command) == 1
        told = capsys.readouterr().err
        assert (
            "two/mlops.yaml: the Project bikes in this MLflow is the one in the repository's folder one"
            in told
        )
    assert _mlops(teams, "one", "plan", "--detailed-exitcode") == 0

    _declare(teams, "two", "trains")
    teams.commit()
    assert _mlops(teams, "two", "apply") == 0
    assert _mlops(teams, "one", "apply") == 0


def test_a_project_may_move_to_another_folder(teams: GitProject) -> None:
    assert _mlops(teams, "one", "apply") == 0
    teams.git("mv", "one", "moved")
    teams.commit()
    assert _mlops(teams, "moved", "apply") == 0
    assert _mlops(teams, "moved", "plan", "--detailed-exitcode") == 0


def test_a_folder_that_somebody_wrote_into_the_tag_stops_nothing(teams: GitProject) -> None:
    assert _mlops(teams, "one", "apply") == 0
    teams.root = teams.root / "one"
    store = teams.root.parent.parent / "mlflow.db"
    from mlflow.tracking.client import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{store}", registry_uri=f"sqlite:///{store}")
    found = client.get_experiment_by_name("bikes")
    assert found is not None
    assert found.tags["mlops.applied.folder"] == "one"
    client.set_experiment_tag(found.experiment_id, "mlops.applied.folder", "../../etc")
    assert run(["--project", str(teams.root), "apply"]) == 0
    found = client.get_experiment(found.experiment_id)
    assert found.tags["mlops.applied.folder"] == "one"


def _declare(whole: GitProject, folder: str, name: str) -> None:
    place = whole.root.parent
    tracking = {"uri": f"sqlite:///{place}/mlflow.db", "artifacts": f"file://{place}/artifacts"}
    whole.write(f"{folder}/mlops.yaml", yaml.safe_dump(document("Project", name, {"tracking": tracking})))
    whole.write(f"{folder}/resources/model.yaml", yaml.safe_dump(document("Model", f"{name}-model", {})))


def _mlops(whole: GitProject, folder: str, *arguments: str) -> int:
    return run(["--project", str(whole.root / folder), *arguments])
