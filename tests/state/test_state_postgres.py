"""What only a server can do: refuse, restart, be shared by hosts."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops.errors import MlopsError, Stalled, Transient
from mlops.state import State, database, open_state
from mlops.state import postgres as driver

Open = Callable[..., State]
Python = Callable[..., "subprocess.Popen[str]"]

CONCURRENT = """
import sys, time
from pathlib import Path
import psycopg
from mlops.state import Event, open_state
print("ready", flush=True)
sys.stdin.readline()
with open_state(sys.argv[2], base=Path("."), now=time.time) as state:
    state.put_many("n", {f"{sys.argv[1]}-{number}": b"1" for number in range(100)})
    state.put_many("same", {str(number): b"1" for number in range(500)})
    state.add_events([Event(time.time(), "Model/m", "Tick", "same")])
print("fine")
"""


def test_eight_processes_make_the_tables_at_once(opened: Open, python: Python, cluster: Any) -> None:
    uri = cluster.new_schema()
    children = [python(CONCURRENT, str(number), uri) for number in range(8)]
    for child in children:
        assert child.stdout.readline() == "ready\n"  # type: ignore[union-attr]
    for child in children:
        child.stdin.write("\n")  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]
    assert [child.communicate()[0] for child in children] == ["fine\n"] * 8
    state = opened(uri)
    assert len(state.all("n")) == 800
    assert [event.count for event in state.events()] == [8]


def test_a_restart_of_the_server_costs_no_more_than_the_calls_meanwhile(opened: Open, cluster: Any) -> None:
    state = opened(cluster.new_schema())
    state.put_many("n", {"a": b"1"})
    cluster.stop()
    try:
        with pytest.raises(Transient, match="cannot be reached"):
            state.get("n", "a")
        with pytest.raises(Transient, match="cannot be reached"):
            opened(cluster.uri())
    finally:
        cluster.start()
    assert state.get("n", "a") == b"1"
    cluster.stop()
    cluster.start()
    state.put_many("n", {"a": b"2"})
    assert state.get("n", "a") == b"2"


def test_a_locked_table_is_waited_for_within_bounds(opened: Open, cluster: Any) -> None:
    uri = cluster.new_schema()
    state, other = opened(uri, timeout=0.1), opened(uri)
    locked, done = threading.Event(), threading.Event()

    def hold(session: Any) -> None:
        session.run("LOCK TABLE mlops_cache IN ACCESS EXCLUSIVE MODE")
        locked.set()
        done.wait(30)

    holder = threading.Thread(target=lambda: other.database.write(hold))
    holder.start()
    try:
        assert locked.wait(30)
        with pytest.raises(Transient, match="locked or too slow"):
            state.put_many("n", {"a": b"1"})
        with pytest.raises(Transient, match="locked or too slow"):
            state.get("n", "a")
    finally:
        done.set()
        holder.join()
    state.put_many("n", {"a": b"1"})
    assert state.get("n", "a") == b"1"


def test_a_newer_schema_is_refused(opened: Open, cluster: Any) -> None:
    uri = cluster.new_schema()
    state = opened(uri)
    state.database.write(lambda session: session.run("INSERT INTO mlops_schema (version) VALUES (99)"))
    with pytest.raises(MlopsError, match=r"schema 99.*Upgrade"):
        opened(uri)


def test_an_older_schema_is_migrated_and_keeps_what_it_holds(
    opened: Open, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = cluster.new_schema()
    with opened(uri) as state:
        state.put_many("n", {"a": b"1"})
    newer = (*database.MIGRATIONS, ("CREATE TABLE mlops_more (x {blob})",))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    monkeypatch.setattr(driver, "MIGRATIONS", newer)
    with opened(uri) as state:
        assert state.get("n", "a") == b"1"
        assert state.database.read(lambda s: s.rows("SELECT count(*) FROM mlops_more")) == [(0,)]
    monkeypatch.undo()
    with pytest.raises(MlopsError, match=f"schema {len(newer)}"):
        opened(uri)


def test_a_migration_that_fails_changes_nothing(
    opened: Open, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = cluster.new_schema()
    with opened(uri) as state:
        state.put_many("n", {"a": b"1"})
    twice = ("CREATE TABLE mlops_more (x {blob})", "CREATE TABLE mlops_more (x {blob})")
    monkeypatch.setattr(driver, "MIGRATIONS", (*database.MIGRATIONS, twice))
    with pytest.raises(MlopsError, match="refused a statement"):
        opened(uri)
    monkeypatch.undo()
    assert opened(uri).get("n", "a") == b"1"


def test_refusals_say_what_to_do_and_no_password(opened: Open, cluster: Any) -> None:
    port = cluster.port
    for uri, words in {
        f"postgresql://mlops:hunter22@127.0.0.1:{port}/postgres": "refuses these credentials",
        f"postgresql://nobody:hunter22@127.0.0.1:{port}/postgres": "refuses these credentials",
        cluster.uri("absent"): "does not exist",
    }.items():
        with pytest.raises(Stalled, match=words) as caught:
            opened(uri)
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert "hunter22" not in str(caught.value)
        assert "horse" not in str(caught.value)
        assert caught.value.__cause__ is None  # a traceback would print the driver's words


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://u:hunt@er22@h/d", "postgresql://u:hunt/er22@h/d", "postgresql://u:hunt#er22@h/d",
        "postgresql://u:hunter22@h/d?nonsense=er22", "postgresql://u:hunter22@h:er22/d", "postgresql://[er22/d",
    ],
)  # fmt: skip
def test_a_malformed_uri_is_refused_without_repeating_it(opened: Open, uri: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(MlopsError) as caught:
        opened(uri)
    assert "er22" not in str(caught.value)
    assert "hunt" not in str(caught.value)


def test_a_missing_driver_is_named_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
sys.modules["psycopg"] = None
from mlops.errors import MlopsError
from mlops.state import open_state
try:
    open_state("postgresql://u:hunter22@h/d", base=Path("."), now=time.time)
except MlopsError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "mlops-controller[postgres]"' in said
    assert "hunter22" not in said


def test_a_uri_may_say_everything_in_its_options(opened: Open, cluster: Any, tmp_path: Path) -> None:
    options = cluster.new_schema().rpartition("?")[2]
    uri = f"postgresql:///postgres?host=127.0.0.1&port={cluster.port}&user=mlops&password=correct%20horse&{options}"
    with open_state(uri, base=tmp_path, now=lambda: 1.0) as state:
        state.put_many("n", {"a": b"1"})
        assert "horse" not in state.database.place
        assert "horse" not in repr(state)
    assert opened(uri).get("n", "a") == b"1"
