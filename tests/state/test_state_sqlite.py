"""What happens to the SQLite file: made, migrated, damaged, deleted, locked, full, read-only."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlops.errors import MlopsError, Transient
from mlops.state import Event, State, database, open_state
from mlops.state import sqlite as driver

Open = Callable[..., State]
Python = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".mlops" / "state.db"


def test_paths_are_relative_to_the_project_or_absolute(tmp_path: Path, clock: Callable[[], float]) -> None:
    with open_state("sqlite:///deep/er/s.db", base=tmp_path, now=clock):
        assert (tmp_path / "deep/er/s.db").exists()
    with open_state(f"sqlite:///{tmp_path}/my state ü%20.db", base=Path("/nonexistent"), now=clock) as state:
        state.put_many("n", {"a": b"1"})
    assert (tmp_path / "my state ü%20.db").stat().st_size > 0


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite://state.db", "sqlite:///", "state.db", "", "mysql://u:hunter22@h/d", "sqlite:///../out.db",
        "sqlite:///a/../../out.db", "sqlite:///s.db?mode=ro", "file:///s.db", "u:hunter22@h",
    ],
)  # fmt: skip
def test_a_uri_that_is_not_understood_says_what_is(
    uri: str, tmp_path: Path, clock: Callable[[], float]
) -> None:
    with pytest.raises(MlopsError) as caught:
        open_state(uri, base=tmp_path / "base", now=clock)
    assert "state" in str(caught.value)
    assert caught.value.fix
    assert "hunter22" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_set_aside_and_a_fresh_one_takes_its_place(opened: Open, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"this was never a database" * 1000)
    state = opened()
    state.put_many("n", {"a": b"1"})
    assert state.get("n", "a") == b"1"
    (aside,) = file.parent.glob("state.db.corrupt-*")
    assert aside.read_bytes().startswith(b"this was never")
    (event,) = state.events()
    assert (event.reason, event.severity) == ("StateDamaged", "warning")
    assert aside.name in event.message
    assert state.warnings == [event.message]


def test_damage_that_shows_later_is_survived_by_the_running_process(opened: Open, file: Path) -> None:
    state = opened()
    state.put_many("n", {f"{number}": b"x" * 500 for number in range(500)})
    late = opened()  # has read none of the pages yet
    with file.open("r+b") as handle:
        handle.seek(4096)
        handle.write(b"\xde\xad" * 40_000)
    assert late.all("n") == {}
    state.put_many("n", {"a": b"1"})
    assert opened().get("n", "a") == b"1"
    assert [event.reason for event in state.events()] == ["StateDamaged"]
    assert len(list(file.parent.glob("state.db.corrupt-*"))) == 1


def test_a_truncated_file_is_survived(opened: Open, file: Path) -> None:
    with opened() as state:
        state.put_many("n", {f"{number}": b"x" * 500 for number in range(500)})
    os.truncate(file, file.stat().st_size // 2)
    again = opened()
    again.put_many("n", {"a": b"1"})
    assert again.get("n", "a") == b"1"


def test_only_a_few_damaged_files_are_kept(opened: Open, file: Path, clock: Callable[[], float]) -> None:
    file.parent.mkdir()
    for _ in range(6):
        file.write_bytes(b"damaged" * 1000)
        opened().close()
    assert len(list(file.parent.glob("state.db.corrupt-*"))) == 3


def test_a_deleted_file_is_made_again_under_a_running_process(opened: Open, file: Path) -> None:
    state, other = opened(), opened()
    state.put_many("n", {"a": b"1"})
    file.unlink()
    assert state.get("n", "a") is None
    state.put_many("n", {"b": b"2"})
    assert other.all("n") == {"b": b"2"}
    shutil.rmtree(file.parent)
    other.add_events([Event(1.0, "A/a", "R", "m")])
    assert len(state.events()) == 1
    assert [path.name for path in file.parent.iterdir()] == ["state.db"]


def test_a_file_deleted_in_the_middle_of_a_write_costs_only_that_try(opened: Open, file: Path) -> None:
    state = opened()
    tries = []

    def work(session: database.Session) -> None:
        tries.append(1)
        if len(tries) == 1:
            file.unlink()
        session.write_cache("", "n", [(b"a", b"1")], 1.0)

    state.database.write(work)
    assert len(tries) == 2
    assert opened().get("n", "a") == b"1"


def test_a_newer_schema_is_refused_and_left_alone(opened: Open, file: Path) -> None:
    opened().close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(MlopsError, match=r"schema 99.*Upgrade") as caught:
        opened()
    assert str(file) in str(caught.value)
    assert file.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(opened: Open, file: Path) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(MlopsError, match="another program's file"):
        opened()
    assert file.read_bytes() == before


def test_an_older_schema_is_migrated_and_keeps_what_it_holds(
    opened: Open, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as state:
        state.put_many("n", {"a": b"1"})
    newer = (*database.MIGRATIONS, ("CREATE TABLE mlops_more (x {blob})",))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    monkeypatch.setattr(driver, "MIGRATIONS", newer)
    with opened() as state:
        assert state.get("n", "a") == b"1"
        assert state.database.read(lambda s: s.rows("SELECT count(*) FROM mlops_more")) == [(0,)]
    monkeypatch.undo()
    with pytest.raises(MlopsError, match=f"schema {len(newer)}"):
        opened()


def test_a_migration_that_fails_changes_nothing(
    opened: Open, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as state:
        state.put_many("n", {"a": b"1"})
    broken = (
        *database.MIGRATIONS,
        ("CREATE TABLE mlops_more (x {blob})", "CREATE TABLE mlops_more (x {blob})"),
    )
    monkeypatch.setattr(driver, "MIGRATIONS", broken)
    with pytest.raises(MlopsError, match="refused a statement"):
        opened()
    monkeypatch.undo()
    assert opened().get("n", "a") == b"1"


def test_a_locked_file_is_waited_for_within_bounds(opened: Open, file: Path) -> None:
    state = opened(timeout=0.1)
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    for call in (
        lambda: state.get("n", "a"),
        lambda: state.put_many("n", {"a": b"1"}),
        lambda: opened(timeout=0.1),
    ):
        with pytest.raises(Transient, match="locked by another process"):
            call()
    blocker.execute("COMMIT")
    blocker.close()
    state.put_many("n", {"a": b"1"})
    assert state.get("n", "a") == b"1"


CONCURRENT = """
import sys, time
from pathlib import Path
from mlops.state import Event, open_state
print("ready", flush=True)
sys.stdin.readline()
with open_state("sqlite:///.mlops/state.db", base=Path("."), now=time.time, timeout=30) as state:
    for number in range(10):
        state.put_many("n", {f"{sys.argv[1]}-{number}": b"1"})
        state.add_events([Event(time.time(), "Model/m", "Tick", "same")])
print("fine", *state.warnings)
"""


def test_eight_processes_open_a_new_file_at_once(opened: Open, python: Python) -> None:
    children = [python(CONCURRENT, str(number)) for number in range(8)]
    _start_together(children)
    assert [child.communicate()[0] for child in children] == ["fine\n"] * 8
    state = opened()
    assert len(state.all("n")) == 80
    assert [event.count for event in state.events()] == [80]


def _start_together(children: list[subprocess.Popen[str]]) -> None:
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()


DAMAGED = """
import sys, time
from pathlib import Path
from mlops.state import open_state
print("ready", flush=True)
sys.stdin.readline()
with open_state("sqlite:///.mlops/state.db", base=Path("."), now=time.time, timeout=30) as state:
    state.put_many("n", {sys.argv[1]: b"1"})
"""


def test_four_processes_that_meet_a_damaged_file_set_it_aside_once(
    opened: Open, python: Python, file: Path
) -> None:
    file.parent.mkdir()
    file.write_bytes(b"damaged" * 1000)
    children = [python(DAMAGED, str(number)) for number in range(4)]
    _start_together(children)
    assert [child.communicate()[0] for child in children] == [""] * 4
    state = opened()
    assert sorted(state.all("n")) == ["0", "1", "2", "3"]
    assert len(list(file.parent.glob("*.corrupt-*"))) == 1
    assert len(state.events()) == 1


def test_a_file_that_another_process_makes_while_it_is_looked_at_is_no_other_program_s(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overtaken(sqlite3.Connection):
        def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:  # type: ignore[override]
            if sql == "PRAGMA user_version" and not overtaken:
                overtaken.append(sql)
                with suppress(Transient):  # it waits for this one instead
                    driver.SqliteDatabase(file, timeout=0.1).close()
            return super().execute(sql, *arguments)

    overtaken: list[str] = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *a, **k: connect(*a, **k, **({} if overtaken else {"factory": Overtaken})),
    )
    database = driver.SqliteDatabase(file, timeout=5)
    assert overtaken
    database.write(lambda session: None)
    database.close()


WRITES_FOR_EVER = """
import itertools, time
from pathlib import Path
from mlops.state import open_state
state = open_state("sqlite:///.mlops/state.db", base=Path("."), now=time.time)
for number in itertools.count():
    state.replace("n", {str(key): str(number).encode() * 500 for key in range(200)})
    if number == 3:
        print("going", flush=True)
"""


def test_a_writer_killed_at_any_instant_leaves_one_whole_generation(opened: Open, python: Python) -> None:
    for _ in range(3):
        child = python(WRITES_FOR_EVER)
        assert child.stdout is not None
        assert child.stdout.readline() == "going\n"
        child.kill()
        child.wait()
        state = opened()
        values = state.all("n")
        assert len(values) == 200
        assert len(set(values.values())) == 1
        assert state.warnings == []


FULL = """
import os, resource, sys, time
from pathlib import Path
from mlops.errors import Transient
from mlops.state import open_state
base = Path(sys.argv[1])
state = open_state("sqlite:///.mlops/state.db", base=base, now=time.time)
state.put_many("n", {"a": b"1"})
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    state.put_many("n", {f"k{n}": os.urandom(4096) for n in range(1000)})
except Transient as error:
    print(error)
print(state.all("n") == {"a": b"1"}, state.get("n", "a"), state.warnings)
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
state.put_many("n", {"b": b"2"})
print(sorted(state.all("n")))
"""


def test_a_write_over_the_quota_is_transient_and_harms_nothing(python: Python, tmp_path: Path) -> None:
    lines = python(FULL, str(tmp_path), "limit").communicate()[0].splitlines()
    assert "disk or quota is full" in lines[0]
    assert lines[1:] == ["True b'1' []", "['a', 'b']"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if (
        os.getuid()
        or not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_transient_and_harms_nothing(python: Python, small_disk: Path) -> None:
    lines = python(FULL, str(small_disk), "disk").communicate()[0].splitlines()
    assert "disk that holds the state database is full" in lines[0]
    assert lines[1:] == ["True b'1' []", "['a', 'b']"]


def test_a_state_that_cannot_be_made_on_a_full_disk_says_so(
    small_disk: Path, clock: Callable[[], float]
) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(b"x" * 2**20)
    with pytest.raises(Transient, match=r"full|cannot be made"):
        open_state("sqlite:///state.db", base=small_disk, now=clock)


READ_ONLY = """
import os, sys, time
from pathlib import Path
from mlops.errors import MlopsError
from mlops.state import Event, Holder, acquire, open_state
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
state = open_state("sqlite:///.mlops/state.db", base=Path(sys.argv[1]), now=time.time)
print(state.writable, len(state.warnings), "is not remembered" in state.warnings[0])
print(state.get("n", "a"), len(state.events()))
state.put_many("n", {"b": b"2"})
state.replace("m", {"b": b"2"})
state.add_events([Event(1.0, "A/a", "R", "m")])
state.namespace("n").put_many({"c": b"3"})
print(state.prune().entries, sorted(state.all("n")))
try:
    acquire(state, "p", Holder.current("mlops apply", now=time.time()))
except MlopsError as error:
    print(error)
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user may enter but not write to."""
    folder = Path(tempfile.mkdtemp(prefix="state-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("there", [True, False])
def test_a_project_that_cannot_be_written_is_still_planned(
    there: bool, public_folder: Path, python: Python, clock: Callable[[], float]
) -> None:
    if there:
        with open_state("sqlite:///.mlops/state.db", base=public_folder, now=clock) as state:
            state.put_many("n", {"a": b"1"})
            state.add_events([Event(1.0, "A/a", "R", "m")])
        (public_folder / ".mlops" / "state.db").chmod(0o444)
        (public_folder / ".mlops").chmod(0o555)
    public_folder.chmod(0o555)
    before = sorted(public_folder.rglob("*"))
    lines = python(READ_ONLY, str(public_folder)).communicate()[0].splitlines()
    if there:
        assert lines[:3] == ["False 1 True", "b'1' 1", "0 ['a']"]
    else:
        assert lines[:3] == ["True 1 True", "None 0", "0 ['b', 'c']"]
    assert "nowhere to record who writes" in lines[3]
    assert sorted(public_folder.rglob("*")) == before


def test_opening_needs_no_heavy_library() -> None:
    code = "import sys, mlops.state, mlops.redaction; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"sqlalchemy", "psycopg", "mlflow", "psutil", "pydantic"} & set(loaded)
