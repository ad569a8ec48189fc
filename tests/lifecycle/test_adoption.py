"""Versions that were registered by hand are taken as they are, or refused; never as something else."""

from __future__ import annotations

from typing import Any

import pytest
from git_project import GitProject, lifecycle, version


def test_a_version_made_by_hand_from_another_run_is_not_taken_for_the_declared_one(
    project: GitProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert project.run("apply") == 0
    client = project.client
    bound, other = _runs(client)
    tags = {"mlops.version": "2.0.0"}
    made = client.create_model_version("m", f"runs:/{other}/model.txt", run_id=other, tags=tags)

    def declared(run_id: str) -> None:
        two = version("2.0.0", source={"runId": run_id, "artifact": "model.txt"})
        project.declare([*lifecycle(), two])
        project.commit()

    declared(bound)
    assert project.run("apply") == 1
    said = capsys.readouterr().err
    assert "Immutable" in said
    assert f"it was bound from run/{other}, not from run/{bound}#model.txt" in said
    assert "mlops.resource" not in client.get_model_version("m", made.version).tags

    declared(other)
    assert project.run("apply") == 0
    assert client.get_model_version("m", made.version).tags["mlops.resource"] == "ModelVersion/m-2.0.0"
    assert len(client.search_model_versions("name = 'm'")) == 2


def _runs(client: Any) -> tuple[str, str]:
    """The run that version 1 is bound to, and the other one."""
    [first] = client.search_model_versions("name = 'm'")
    found = client.search_runs([client.get_experiment_by_name("p/fit").experiment_id])
    [other] = [run.info.run_id for run in found if run.info.run_id != first.run_id]
    return first.run_id, other
