"""Opening a store: made or migrated once, and left in the journal mode it is in."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from mlops.errors import MlopsError
from mlops.tracking import Tracker
from mlops.tracking.connection import _current


def copied(tracker: Tracker, place: Path) -> Tracker:
    path = tracker.store.sqlite_path
    assert path is not None
    with sqlite3.connect(path) as source, sqlite3.connect(place / "m.db") as copy:
        source.backup(copy)
    return Tracker(f"sqlite:///{place}/m.db", str(place / "art"), environ=os.environ, now=time.time)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_stays_in_its_journal_mode(sqlite_tracker: Tracker, tmp_path: Path, mode: str) -> None:
    tracker = copied(sqlite_tracker, tmp_path)
    with sqlite3.connect(tmp_path / "m.db") as database:
        database.execute(f"PRAGMA journal_mode={mode}").fetchone()
    seen = set()
    for n in range(5):
        tracker.ensure_model(f"m{n}", description="", tags={})
        seen.add(tracker.token())
    assert len(seen) == 5
    with sqlite3.connect(tmp_path / "m.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == (mode,)


def test_preparing_a_store_that_is_there_changes_nothing(sqlite_tracker: Tracker) -> None:
    before = sqlite_tracker.token()
    sqlite_tracker.prepare()
    assert sqlite_tracker.token() == before
    path = sqlite_tracker.store.sqlite_path
    assert path is not None
    assert _current(path)


@pytest.mark.slow
def test_a_store_of_an_older_mlflow_is_migrated_after_a_copy_was_put_aside(
    sqlite_tracker: Tracker, tmp_path: Path
) -> None:
    sqlite_tracker._client()  # MLflow is imported by now
    import sqlalchemy
    from alembic import command
    from mlflow.store.db import utils

    uri = f"sqlite:///{tmp_path}/m.db"
    engine = sqlalchemy.create_engine(uri)
    utils.InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "bd07f7e963c5")
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
                "VALUES (7, 'p/old', 'file:///x', 'active')"
            )
        )
    engine.dispose()
    tracker = Tracker(uri, str(tmp_path / "art"), environ=os.environ, now=time.time)
    tracker.prepare()
    assert set(tracker.observe("p", []).experiments) == {"p/old"}
    assert (tmp_path / "m.db.before-bd07f7e963c5").stat().st_size > 0
    tracker.prepare()


def test_a_store_that_is_not_there_is_not_opened_ahead_and_one_that_is_needs_no_call(
    sqlite_tracker: Tracker, tmp_path: Path
) -> None:
    absent = Tracker(f"sqlite:///{tmp_path}/m.db", None, environ={}, now=time.time)
    absent.open()
    assert list(tmp_path.iterdir()) == []
    there = Tracker(sqlite_tracker.store.uri, None, environ={}, now=time.time)
    calls: list[tuple[str, bool]] = []
    there.on_call = lambda doing, seconds, failed: calls.append((doing, failed))
    there.open()
    assert there._opened is not None
    assert calls == []
    assert there.aliases("absent") == {}
    with pytest.raises(MlopsError):
        there.tag_run("0" * 32, {"a": "b"})
    assert calls == [("reading aliases of absent", False), (f"tagging run {'0' * 32}", True)]
