"""A trial is trained once, whoever trains it and whatever is declared about how, while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driven import MINUTE, DrivenDaemon
from git_project import GitProject, document, experiment

from mlops.controller import Controller
from mlops.execution.local import LocalExecutor
from mlops.view import View

Make = Callable[..., GitProject]
ROWS = document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"})


class Overtaken(Controller):
    """An engine that another machine overtakes: what is planned here is trained there a moment later."""

    there = 0

    def look_for(self, *arguments: Any, **options: Any) -> View:
        view = super().look_for(*arguments, **options)
        [state] = view.planned.trials["fit"]
        if state.state == "absent" and not self.there:
            self.there += 1
            self.tracker.prepare()
            place = self.tracker.ensure_experiment("p/fit", description="", tags={})
            tags = {"mlops.fingerprint": state.trial.fingerprint, "mlops.outcome": "succeeded"}
            run = self.tracker.create_run(place, name="there", tags=tags, parameters={}, inputs=())
            self.tracker.terminate(run, "FINISHED", name="there", tags={})
        return view


def test_what_another_machine_has_trained_since_it_was_planned_is_not_trained_again(
    make_project: Make,
) -> None:
    project = make_project([ROWS, experiment()])
    daemon = DrivenDaemon(project.root, engine=Overtaken)
    daemon.run(5 * MINUTE)
    assert [run.info.run_name for run in runs(project)] == ["there"]
    [told] = [event.message for event in daemon.told.events if event.reason == "Trained"]
    assert "has this fingerprint" in told


def test_a_job_goes_on_where_it_was_begun_though_another_executor_is_declared_by_now(
    make_project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = SimpleNamespace(load=lambda: lambda home: LocalExecutor(home.parent / "there"), value="there")
    monkeypatch.setattr("mlops.execution.registry._others", lambda: {"there": another})
    project = make_project([ROWS, experiment()])
    go, begun = tmp_path / "go", tmp_path / "begun"
    project.write("training/train.py", LONG.format(go=str(go), begun=str(begun)))
    project.commit("a training that waits")
    first = DrivenDaemon(project.root)
    first.patient = lambda step: not begun.exists()
    first.run(2 * MINUTE)
    assert begun.read_text() == "begun\n"

    project.declare([ROWS, experiment(executor="there")])
    project.commit("train elsewhere")
    go.touch()
    second = DrivenDaemon(project.root)
    second.run(5 * MINUTE)
    assert second.told.reasons["Trained"] == 1
    assert begun.read_text() == "begun\n"
    assert [run.info.status for run in runs(project)] == ["FINISHED"]


def runs(project: GitProject) -> list[Any]:
    client = project.client
    found: list[Any] = client.search_runs([client.get_experiment_by_name("p/fit").experiment_id])
    return found


LONG = """\
import json, os, time
print("begun", file=open({begun!r}, "a"))
while not os.path.exists({go!r}):
    time.sleep(0.01)
json.dump({{"rmse": 1.0}}, open(os.path.join(os.environ["MLOPS_OUTPUT"], "metrics.json"), "w"))
"""
