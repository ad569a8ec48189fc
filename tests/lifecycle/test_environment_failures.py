"""An environment that cannot be built: the run says so, and is not attempted again before somebody acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from git_project import GitProject, document, experiment

from mlops.planning.runs import MESSAGE, OUTCOME, STALLED


@pytest.mark.slow
def test_a_trial_whose_environment_cannot_be_built_is_stalled_at_once(
    make_project: Callable[..., GitProject], capsys: pytest.CaptureFixture[str]
) -> None:
    fit = experiment(environment={"python": "3.1", "requirements": "training/none.txt"}, retries=3)
    rows = document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"})
    project = make_project([rows, fit])
    project.write("training/none.txt", "")
    project.commit()
    assert project.run("apply") == 1
    assert "Python 3.1 cannot be used on this machine" in capsys.readouterr().err
    [run] = _runs(project)
    assert run.info.status == "FAILED"
    assert (run.data.tags[OUTCOME], run.data.tags[STALLED]) == ("failed", "true")
    assert "Python 3.1 cannot be used" in run.data.tags[MESSAGE]

    [shown] = [r for r in project.json(capsys, "get")["resources"] if r["kind"] == "Experiment"]
    assert shown["health"] == "Degraded"
    assert "Python 3.1 cannot be used" in shown["conditions"][0]["message"]
    assert project.run("apply") == 1
    assert len(_runs(project)) == 1

    assert project.run("apply", "--retry-stalled") == 1
    assert [run.data.tags["mlops.attempt"] for run in _runs(project)] == ["2", "1"]
    del fit["spec"]["environment"]
    project.declare([rows, fit])
    project.commit()
    assert project.run("apply") == 0


def _runs(project: GitProject) -> list[Any]:
    client = project.client
    found = client.get_experiment_by_name("p/fit")
    return list(client.search_runs([found.experiment_id]))
