"""Experiments and runs, in a database of our own and through a server."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mlops.errors import Stalled
from mlops.observation.observed import Ledger
from mlops.tracking import DatasetInput, Tracker


def test_an_experiment_is_made_once_and_then_left_as_it_is(tracker: Tracker, project: str) -> None:
    name = f"{project}/a"
    first = tracker.ensure_experiment(name, description="Rent", tags={"mlops.resource": "Experiment/a"})
    assert tracker.ensure_experiment(name, description="other", tags={}) == first
    experiment = tracker.observe(project, []).experiments[name]
    assert experiment.tags["mlflow.note.content"] == "Rent"
    tracker.update_experiment(first, tags={"mlflow.note.content": "Bikes", "mlops.resource": None, "x": None})
    tags = tracker.observe(project, []).experiments[name].tags
    assert tags["mlflow.note.content"] == "Bikes"
    assert "mlops.resource" not in tags


def test_an_experiment_in_the_trash_says_how_to_restore_it(tracker: Tracker, project: str) -> None:
    made = tracker.ensure_experiment(f"{project}/gone", description="", tags={})
    tracker._client().delete_experiment(made)
    with pytest.raises(Stalled, match=rf"mlflow experiments restore --experiment-id {made}"):
        tracker.ensure_experiment(f"{project}/gone", description="", tags={})
    assert tracker.observe(project, []).experiments == {}


def test_a_run_has_all_its_tags_from_its_first_moment(tracker: Tracker, project: str) -> None:
    experiment = tracker.ensure_experiment(f"{project}/a", description="", tags={})
    inputs = [
        DatasetInput("bikes", "sha256:" + "ab" * 32, "file:///data/bikes.parquet", "train"),
        DatasetInput("table", "delta:0000-11:12", "/data/table", "test"),
        DatasetInput("remote", "sha256:" + "cd" * 32, "s3://bucket/key", "extra"),
    ]
    tags = {"mlops.fingerprint": "f" * 64, "mlflow.user": "alice", "mlops.attempt": "1"}
    run_id = tracker.create_run(
        experiment, name="trial", tags=tags, parameters={f"p{n}": str(n) for n in range(150)}, inputs=inputs
    )
    run = tracker.run(run_id)
    assert run is not None
    assert (run.name, run.status, run.experiment) == ("trial", "RUNNING", f"{project}/a")
    assert run.tags == {"mlops.fingerprint": "f" * 64, "mlops.attempt": "1"}
    assert len(run.parameters) == 150
    recorded = tracker._client().get_run(run_id)
    assert recorded.data.tags["mlflow.user"] == "alice"
    assert {
        (i.dataset.name, i.tags[0].value, i.dataset.source_type) for i in recorded.inputs.dataset_inputs
    } == {
        ("bikes", "train", "local"),
        ("table", "test", "delta_table"),
        ("remote", "extra", "s3"),
    }
    bikes = next(i.dataset for i in recorded.inputs.dataset_inputs if i.dataset.name == "bikes")
    assert json.loads(bikes.source) == {"uri": "file:///data/bikes.parquet", "digest": "sha256:" + "ab" * 32}
    assert ("ab" * 32).startswith(bikes.digest)


def test_a_parameter_longer_than_mlflow_keeps_is_refused_before_anything_is_made(
    sqlite_tracker: Tracker, project: str
) -> None:
    experiment = sqlite_tracker.ensure_experiment(f"{project}/a", description="", tags={})
    with pytest.raises(Stalled, match="parameter long"):
        sqlite_tracker.create_run(experiment, name="x", tags={}, parameters={"long": "x" * 6001}, inputs=[])
    assert sqlite_tracker.observe(project, []).runs == {}


def test_metrics_that_are_not_numbers_stay_what_they_are(tracker: Tracker, project: str) -> None:
    experiment = tracker.ensure_experiment(f"{project}/a", description="", tags={})
    run_id = tracker.create_run(experiment, name="x", tags={}, parameters={}, inputs=[])
    given = {"good": 1.5, "nan": math.nan, "up": math.inf, "down": -math.inf}
    tracker.log_metrics(run_id, given, at=1_700_000_000.0)
    run = tracker.run(run_id)
    assert run is not None
    assert run.metrics["good"] == 1.5
    assert math.isnan(run.metrics["nan"])
    # MLflow stores an infinity as the largest number there is.
    assert run.metrics["up"] >= 1.7e308
    assert run.metrics["down"] <= -1.7e308
    ledger = Ledger.from_json(tracker.observe(project, []).to_json())
    assert math.isnan(ledger.runs[run_id].metrics["nan"])


def test_ending_a_run_gives_it_its_status_name_and_tags_back(tracker: Tracker, project: str) -> None:
    experiment = tracker.ensure_experiment(f"{project}/a", description="", tags={})
    run_id = tracker.create_run(experiment, name="trial", tags={"mlops.a": "1"}, parameters={}, inputs=[])
    tracker._client().update_run(run_id, "FINISHED", "renamed")
    tracker.tag_run(run_id, {"mlops.a": "changed", "mlops.b": "2"})
    tracker.terminate(run_id, "FAILED", name="trial", tags={"mlops.a": "1"})
    run = tracker.run(run_id)
    assert run is not None
    assert (run.name, run.status, run.tags["mlops.a"]) == ("trial", "FAILED", "1")
    assert run.ended_ms is not None
    assert run.ended_ms >= run.started_ms
    tracker.tag_run(run_id, {"mlops.b": None, "never": None})
    run = tracker.run(run_id)
    assert run is not None
    assert "mlops.b" not in run.tags


def test_a_run_that_does_not_exist_is_none(tracker: Tracker, project: str) -> None:
    assert tracker.run("0" * 32) is None
    assert tracker.run("../../etc/passwd") is None
    experiment = tracker.ensure_experiment(f"{project}/a", description="", tags={})
    run_id = tracker.create_run(experiment, name="x", tags={}, parameters={}, inputs=[])
    tracker._client().delete_run(run_id)
    assert tracker.run(run_id) is None
    assert tracker.observe(project, []).runs == {}


def test_observing_leaves_out_monitoring_runs_and_other_projects(tracker: Tracker, project: str) -> None:
    names = [project, f"{project}/a", f"{project}/monitoring/drift", f"{project}-other/a"]
    made = {name: tracker.ensure_experiment(name, description="", tags={}) for name in names}
    runs = {
        name: tracker.create_run(made[name], name="x", tags={}, parameters={}, inputs=[]) for name in names
    }
    ledger = tracker.observe(project, [])
    assert set(ledger.experiments) == set(names[:3])
    assert set(ledger.runs) == {runs[name] for name in names[:2]}


def test_more_runs_than_a_page_are_all_seen(
    sqlite_tracker: Tracker, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.tracking.observing._RUNS", 3)
    experiment = sqlite_tracker.ensure_experiment(f"{project}/a", description="", tags={})
    made = {
        sqlite_tracker.create_run(experiment, name=f"r{n}", tags={}, parameters={}, inputs=[])
        for n in range(8)
    }
    assert set(sqlite_tracker.observe(project, []).runs) == made


def test_an_artifact_of_a_local_store_lies_under_the_declared_root(
    sqlite_tracker: Tracker, project: str, tmp_path: Path
) -> None:
    experiment = sqlite_tracker.ensure_experiment(f"{project}/a", description="", tags={})
    run_id = sqlite_tracker.create_run(experiment, name="x", tags={}, parameters={}, inputs=[])
    (tmp_path / "model.bin").write_bytes(b"weights")
    sqlite_tracker.log_artifact(run_id, tmp_path / "model.bin")
    path = sqlite_tracker.store.sqlite_path
    assert path is not None
    root = path.parent.parent / "artifacts"
    assert (root / project / "a" / run_id / "artifacts" / "model.bin").read_bytes() == b"weights"
    default = sqlite_tracker._client().get_experiment("0")
    assert default.artifact_location.startswith(root.as_uri())
