"""MLflow's faults as errors that say whether to wait or to act."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from mlops.errors import Stalled, Transient
from mlops.tracking import Tracker
from mlops.tracking.faults import Raced, translated


def test_an_unreachable_server_is_transient_and_keeps_its_password(
    monkeypatch: pytest.MonkeyPatch, sqlite_tracker: Tracker
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://user:hunter2@127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Transient, match="cannot be reached") as caught:
            Tracker(uri, None, environ=os.environ, now=time.time).observe("p", [])
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_stalled(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_bytes(b"certainly not a database, and long enough to have a header " * 10)
    tracker = Tracker(f"sqlite:///{tmp_path}/m.db", None, environ=os.environ, now=time.time)
    with pytest.raises(Stalled) as caught:
        tracker.observe("p", [])
    assert "certainly" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("database is locked", Transient),
        ("attempt to write a readonly database", Transient),
        ("database or disk is full", Transient),
        ("unable to open database file", Transient),
        ("database disk image is malformed", Stalled),
    ],
)
def test_database_faults(said: str, kind: type[Exception]) -> None:
    assert isinstance(translated(sqlite3.OperationalError(said), "writing", "sqlite:///x"), kind)


def test_what_two_clients_of_a_server_wrote_at_once_is_written_again() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST

    said = "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id, datasets.name"
    assert isinstance(translated(MlflowException(said, BAD_REQUEST), "logging", "http://x"), Raced)
    refused = MlflowException("a tag is too long", BAD_REQUEST)
    assert isinstance(translated(refused, "logging", "http://x"), Stalled)


def test_faults_that_are_not_mlflows_stay_what_they_are() -> None:
    assert translated(KeyError("x"), "writing", "sqlite:///x") is None


def test_a_full_disk_is_transient_and_a_forbidden_folder_is_stalled() -> None:
    assert isinstance(translated(OSError(28, "No space left on device"), "x", "y"), Transient)
    assert isinstance(translated(PermissionError(13, "Permission denied", "/a"), "x", "y"), Stalled)


def test_an_old_schema_says_how_to_upgrade(tmp_path: Path, sqlite_tracker: Tracker) -> None:
    path = sqlite_tracker.store.sqlite_path
    assert path is not None
    with sqlite3.connect(path) as source, sqlite3.connect(tmp_path / "m.db") as copy:
        source.backup(copy)
        copy.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
        copy.commit()
    tracker = Tracker(f"sqlite:///{tmp_path}/m.db", None, environ=os.environ, now=time.time)
    with pytest.raises(Stalled, match="mlflow db upgrade"):
        tracker.observe("p", [])
