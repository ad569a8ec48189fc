"""Looking at a SQLite store's change counter takes no lock away from a transaction of the same process.

The system takes all of a process's locks on a file away when the process closes any descriptor of that file
(https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlops.tracking.store import Store

WRITE = """\
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    database.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    sys.exit(str(error))
"""


@pytest.fixture(params=["delete", "wal"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as made:
        made.execute(f"PRAGMA journal_mode = {request.param}")
        made.execute("CREATE TABLE t (x)")
        yield made


def other_process_writes(place: Path) -> str:
    """What keeps another process from writing; empty if nothing does."""
    done = subprocess.run([sys.executable, "-c", WRITE, str(place)], capture_output=True, text=True)
    return done.stderr.strip()


def test_a_token_taken_in_the_middle_of_a_transaction_leaves_its_lock(
    database: sqlite3.Connection, tmp_path: Path
) -> None:
    place = tmp_path / "mlflow.db"
    store = Store(f"sqlite:///{place}")
    assert other_process_writes(place) == ""
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO t VALUES (1)")
    for _ in range(3):
        store.token()
    assert other_process_writes(place) == "database is locked"
    database.execute("COMMIT")
    assert other_process_writes(place) == ""


def test_a_store_that_was_made_again_in_its_place_has_another_token(tmp_path: Path) -> None:
    place = tmp_path / "mlflow.db"
    store = Store(f"sqlite:///{place}")
    tokens = {store.token()}
    for _ in range(3):
        place.unlink(missing_ok=True)
        with closing(sqlite3.connect(place)) as made:
            made.execute("CREATE TABLE t (x)")
        tokens.add(store.token())
    assert len(tokens) == 4
