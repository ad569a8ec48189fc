"""What is known of a store without opening it with MLflow."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from mlops.errors import Stalled
from mlops.tracking import Tracker
from mlops.tracking.store import Store, bound_elsewhere, credentials, local_path


def database(path: Path, journal: str) -> sqlite3.Connection:
    made = sqlite3.connect(path, isolation_level=None)
    made.execute(f"PRAGMA journal_mode={journal}")
    made.execute("CREATE TABLE t (n INTEGER)")
    made.execute("INSERT INTO t VALUES (0)")
    return made


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_every_commit_changes_the_token_even_when_nothing_grows(tmp_path: Path, journal: str) -> None:
    made = database(tmp_path / "m.db", journal)
    store = Store(f"sqlite:///{tmp_path}/m.db")
    seen = {store.token()}
    for number in range(1, 50):
        made.execute("UPDATE t SET n = ?", (number,))
        seen.add(store.token())
    made.close()
    assert len(seen) == 50


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_reading_leaves_the_token_alone(tmp_path: Path, journal: str) -> None:
    made = database(tmp_path / "m.db", journal)
    store = Store(f"sqlite:///{tmp_path}/m.db")
    before = store.token()
    other = sqlite3.connect(tmp_path / "m.db")
    assert other.execute("SELECT n FROM t").fetchall() == [(0,)]
    assert store.token() == before
    other.close()
    made.close()


def test_a_checkpoint_that_resets_the_wal_does_not_bring_an_old_token_back(tmp_path: Path) -> None:
    made = database(tmp_path / "m.db", "wal")
    store = Store(f"sqlite:///{tmp_path}/m.db")
    seen = set()
    for number in range(20):
        made.execute("UPDATE t SET n = ?", (number,))
        seen.add(store.token())
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    made.close()
    assert len(seen) == 20


def test_a_replaced_database_has_another_token(tmp_path: Path) -> None:
    for name in ("a.db", "b.db"):
        database(tmp_path / name, "delete").close()
    store = Store(f"sqlite:///{tmp_path}/a.db")
    before = store.token()
    (tmp_path / "b.db").rename(tmp_path / "a.db")
    assert store.token() != before


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:1", "postgresql://u:p@db/mlflow", "sqlite:///:memory:", "/x/mlruns"]
)
def test_other_stores_have_no_token(uri: str) -> None:
    assert Store(uri).token() is None


def test_reading_an_absent_store_finds_nothing_and_makes_nothing(tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path}/in/m.db", str(tmp_path / "art"), environ={}, now=time.time)
    ledger = tracker.observe("p", ["m"])
    assert (ledger.experiments, ledger.runs, ledger.models, ledger.versions) == ({}, {}, {}, {})
    assert tracker.token() is not None
    assert tracker.run("0" * 32) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("sqlite:////x/m.db", "sqlite"),
        ("postgresql+psycopg://db/x", "postgresql"),
        ("https://mlflow.example.com", "https"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks"),
        ("file:///x", "file"),
        ("/x/mlruns", "file"),
    ],
)
def test_schemes(uri: str, scheme: str) -> None:
    assert Store(uri).scheme == scheme


def test_a_store_is_shown_without_its_credentials() -> None:
    shown = Store("https://user:hunter2@mlflow.example.com/base?token=hunter3").shown
    assert shown == "https://mlflow.example.com/base"


def test_a_training_process_gets_the_credentials_of_its_store_and_no_others() -> None:
    environ = {
        "MLFLOW_TRACKING_TOKEN": "t",
        "AWS_SECRET_ACCESS_KEY": "a",
        "AZURE_CLIENT_SECRET": "z",
        "DATABRICKS_TOKEN": "d",
        "GITHUB_TOKEN": "g",
    }
    local, server = Store("sqlite:////x/m.db"), Store("https://mlflow.example.com")
    assert credentials(local, "file:///x", environ) == {}
    assert credentials(server, "mlflow-artifacts:/1", environ) == {"MLFLOW_TRACKING_TOKEN": "t"}
    assert set(credentials(server, "s3://b/1", environ)) == {"MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY"}
    assert set(credentials(local, "abfss://c@a/1", environ)) == {"AZURE_CLIENT_SECRET"}
    assert set(credentials(Store("databricks"), None, environ)) == {"DATABRICKS_TOKEN"}


def test_credentials_of_one_server_are_never_sent_to_another() -> None:
    environ = {"MLFLOW_TRACKING_URI": "https://mlflow.example.com", "MLFLOW_TRACKING_TOKEN": "hunter2"}
    assert bound_elsewhere(Store("https://mlflow.example.com/base"), environ) is None
    assert bound_elsewhere(Store("https://evil.example.net"), environ) == "mlflow.example.com"
    tracker = Tracker("https://evil.example.net", None, environ=environ, now=time.time)
    with pytest.raises(
        Stalled, match=r"credentials in the environment are for mlflow\.example\.com"
    ) as caught:
        tracker.observe("p", [])
    assert "hunter2" not in str(caught.value)


def test_local_paths() -> None:
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert local_path("/a/b") == Path("/a/b")
    assert local_path("s3://b/c") is None
    assert local_path("mlflow-artifacts:/1") is None
