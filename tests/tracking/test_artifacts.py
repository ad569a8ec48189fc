"""Artifacts: found by name, identified by content, never from outside their run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlops.errors import Stalled
from mlops.tracking import Tracker
from mlops.tracking.artifacts import content


@pytest.fixture
def run_id(tracker: Tracker, project: str) -> str:
    experiment = tracker.ensure_experiment(f"{project}/a", description="", tags={})
    return tracker.create_run(experiment, name="x", tags={}, parameters={}, inputs=[])


def expected(files: dict[str, bytes]) -> str:
    rows = sorted([name, hashlib.sha256(data).hexdigest()] for name, data in files.items())
    text = json.dumps(rows, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_a_folder_a_file_and_the_only_file_of_a_name(tracker: Tracker, run_id: str) -> None:
    files = {"weights.bin": b"w" * 3000, "deep/größe.json": b"{}"}
    for name, data in files.items():
        tracker.write_artifact(run_id, f"net/{name}", data)
    tracker.write_artifact(run_id, "model.pkl", b"pickle")
    folder = tracker.artifact(run_id, "net")
    assert folder is not None
    assert (folder.digest, folder.size) == (expected(files), 3002)
    by_stem, by_name = tracker.artifact(run_id, "model"), tracker.artifact(run_id, "model.pkl")
    assert by_stem == by_name
    assert by_stem is not None
    assert by_stem.digest == expected({"model.pkl": b"pickle"})
    nested = tracker.artifact(run_id, "net/weights.bin")
    assert nested is not None
    assert nested.size == 3000
    assert tracker.artifact(run_id, "absent") is None
    assert tracker.artifact("0" * 32, "model") is None
    tracker.write_artifact(run_id, "model.json", b"{}")
    assert tracker.artifact(run_id, "model") is None


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a\0b", "..\\x"])
def test_names_that_leave_the_run_are_refused(sqlite_tracker: Tracker, name: str) -> None:
    with pytest.raises(Stalled):
        sqlite_tracker.artifact("0" * 32, name)
    with pytest.raises(Stalled):
        sqlite_tracker.read_artifact("0" * 32, name)
    with pytest.raises(Stalled):
        sqlite_tracker.write_artifact("0" * 32, name, b"")


def test_a_link_that_leaves_the_artifact_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "a").write_bytes(b"1")
    (root / "b").symlink_to("a")
    assert content(root) == (expected({"a": b"1", "b": b"1"}), 2)
    (tmp_path / "secret").write_bytes(b"s")
    (root / "c").symlink_to(tmp_path / "secret")
    with pytest.raises(Stalled, match="leaves its folder"):
        content(root)


def test_reading_and_writing(tracker: Tracker, run_id: str) -> None:
    assert tracker.read_artifact(run_id, "mlops/evidence/1.json") is None
    tracker.write_artifact(run_id, "mlops/evidence/1.json", b"one")
    tracker.write_artifact(run_id, "mlops/evidence/1.json", b"two")
    assert tracker.read_artifact(run_id, "mlops/evidence/1.json") == b"two"
    assert tracker.read_artifact(run_id, "mlops/evidence") is None
    assert tracker.read_artifact("0" * 32, "x") is None


def test_a_model_that_was_not_logged_to_its_end_is_refused(
    tracker: Tracker, run_id: str, project: str
) -> None:
    client = tracker._client()
    experiment = client.get_run(run_id).info.experiment_id
    made = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    with pytest.raises(Stalled, match="not logged to its end"):
        tracker.artifact(run_id, "model")
    from mlflow.entities import LoggedModelStatus

    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    assert tracker.artifact(run_id, "other") is None


def test_lost_bytes_are_said_to_be_lost(sqlite_tracker: Tracker, project: str) -> None:
    experiment = sqlite_tracker.ensure_experiment(f"{project}/a", description="", tags={})
    run_id = sqlite_tracker.create_run(experiment, name="x", tags={}, parameters={}, inputs=[])
    client = sqlite_tracker._client()
    made = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    from mlflow.entities import LoggedModelStatus

    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    with pytest.raises(Stalled, match="bytes are not there"):
        sqlite_tracker.artifact(run_id, "model")


def test_what_a_run_has_is_listed_without_what_the_controller_keeps_there(
    tracker: Tracker, run_id: str
) -> None:
    assert tracker.artifact_names(run_id) == ()
    for path in ("net/weights.bin", "model.pkl", "mlops/log.txt"):
        tracker.write_artifact(run_id, path, b"x")
    assert tracker.artifact_names(run_id) == ("model.pkl", "net")
