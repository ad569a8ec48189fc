"""Settings that come from variables: missing, empty, and what messages call a store whose address is hidden."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import yaml
from command_line import Ran
from git_project import GitProject, document

Mlops = Callable[..., Ran]
NAME = "MLFLOW_TRACKING_URI"


@pytest.fixture
def elsewhere(project: GitProject) -> GitProject:
    """The small project, its MLflow named by a variable."""
    spec = {"tracking": {"uri": "${MLFLOW_TRACKING_URI}"}, "variables": [NAME]}
    project.write("mlops.yaml", yaml.safe_dump(document("Project", "p", spec)))
    project.commit()
    return project


def test_a_variable_that_is_not_set_or_empty_is_named(
    elsewhere: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = mlops("plan", cwd=elsewhere.root)
    assert (ran.code, "variable MLFLOW_TRACKING_URI is not set" in ran.err) == (1, True)
    monkeypatch.setenv(NAME, "")
    ran = mlops("plan")
    assert (ran.code, "variable MLFLOW_TRACKING_URI is empty" in ran.err) == (1, True)
    assert mlops("validate").code == 0


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_called_by_its_variable(
    elsewhere: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv(NAME, f"http://127.0.0.1:{port}")
    ran = mlops("plan", cwd=elsewhere.root)
    assert ran.code == 1
    assert ran.err.startswith("error: ${MLFLOW_TRACKING_URI}: ")
    assert "the store cannot be reached. See that it is up" in ran.err
    assert str(port) not in ran.err


def test_a_store_whose_driver_is_missing_says_what_to_install(
    elsewhere: GitProject, mlops: Mlops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, "mysql+nosuchdriver://127.0.0.1/m")
    ran = mlops("plan", cwd=elsewhere.root)
    assert ran.code == 1
    assert ran.err.startswith("error: ${MLFLOW_TRACKING_URI}: ")
    assert "defect" not in ran.err
