"""Looking at MLflow again: everything that moved is seen, and nothing else is read."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from seeing import HANDS, Cache, Watched, at_first_sight, desired, populate

from mlops.observation.ledger import ARCHIVED_EVERY, KEEP_EVERY, METRICS_EVERY, WHOLE_EVERY
from mlops.tracking import Marks, Tracker
from mlops.tracking.marks import read_marks

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A project that nobody else uses: the store is shared."""
    return f"seen-{next(_numbers)}"


@pytest.fixture
def made(sqlite_tracker: Tracker, name: str) -> dict[str, str]:
    return populate(sqlite_tracker, name)


@pytest.mark.parametrize("hand", HANDS)
def test_what_anybody_changes_is_seen_by_the_next_look(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], hand: str
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    before = watched.look(at)
    assert watched.read_whole
    HANDS[hand](sqlite_tracker._client(), made)
    after = watched.look(at)
    assert after != before
    assert after == at_first_sight(sqlite_tracker, at)
    assert list(after.runs) == list(at_first_sight(sqlite_tracker, at).runs)
    assert watched.read_whole == (hand == "a renamed experiment")  # all its runs repeat its name
    watched.clock.time += METRICS_EVERY
    assert watched.look(at) is after
    assert watched.asked == []


def test_a_picture_in_which_nothing_differs_is_the_same_object(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    watched, at, client = Watched(sqlite_tracker), desired(name), sqlite_tracker._client()
    before = watched.look(at)
    other = client.create_experiment(f"{name}-of-others")  # the token moves, nothing of ours does
    client.log_metric(client.create_run(other).info.run_id, "rmse", 1.0)
    client.set_tag(made["ended"], "somebody.elses", "no matter")
    assert watched.look(at) is before
    assert watched.asked == []
    client.set_registered_model_tag(made["model"], "t", "1")
    client.delete_registered_model_tag(made["model"], "t")
    assert watched.look(at) is before


def test_after_a_write_of_ones_own_only_what_was_touched_is_read(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    before = watched.look(at)
    watched.tracker.move_alias(made["model"], "champion", 2, tags={1: {"t": "1"}, 2: {"t": "2"}})
    after = watched.look(at)
    assert watched.asked == ["reading models again", "reading model versions again"]
    assert after.models[made["model"]].aliases == {"champion": 2}
    assert after.versions[made["model"], 2].tags["t"] == "2"
    assert (after.runs is before.runs, after.experiments is before.experiments) == (True, True)


def test_named_models_and_runs_of_others_are_seen_as_long_as_they_are_named(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    client = sqlite_tracker._client()
    client.create_registered_model(f"{name}-theirs")
    theirs = client.create_run(client.create_experiment(f"{name}-elsewhere")).info.run_id
    watched, ours = Watched(sqlite_tracker), desired(name)
    assert not {f"{name}-theirs", theirs} & {*watched.look(ours).models, *watched.look(ours).runs}
    both = desired(name, [f"{name}-theirs", f"{name}-absent"], [theirs, "0" * 32])
    seen = watched.look(both)
    assert not watched.read_whole
    assert (f"{name}-theirs" in seen.models, theirs in seen.runs) == (True, True)
    client.set_registered_model_tag(f"{name}-theirs", "t", "1")
    client.set_tag(theirs, "mlops.outcome", "failed")
    assert watched.look(both) == at_first_sight(sqlite_tracker, both)
    client.create_registered_model(f"{name}-absent")
    assert f"{name}-absent" in watched.look(both).models
    assert watched.look(desired(name)) == at_first_sight(sqlite_tracker, ours)


@pytest.fixture
def archived(sqlite_tracker: Tracker, name: str, made: dict[str, str]) -> Watched:
    """Version 2 is archived, as is seen already, and has then been changed by hand."""
    watched, client = Watched(sqlite_tracker), sqlite_tracker._client()
    watched.look(desired(name))
    client.set_model_version_tag(made["model"], "2", "mlops.archived", "r2")
    assert "mlops.archived" in watched.look(desired(name)).versions[made["model"], 2].tags
    client.set_model_version_tag(made["model"], "2", "mlops.version", "7")
    return watched


def test_what_is_changed_in_an_archived_version_is_seen_within_the_hour(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], archived: Watched
) -> None:
    at = desired(name)
    assert archived.look(at).versions[made["model"], 2].tags["mlops.version"] == "2"
    assert archived.asked == []
    archived.clock.time += ARCHIVED_EVERY
    assert archived.look(at) == at_first_sight(sqlite_tracker, at)
    assert archived.asked == ["reading model versions again"]
    archived.clock.time += ARCHIVED_EVERY
    archived.look(at)
    assert archived.asked == []


@pytest.mark.parametrize(
    "hand",
    {
        "taken back": lambda c, m: c.delete_model_version_tag(m["model"], "2", "mlops.archived"),
        "deleted": lambda c, m: c.delete_model_version(m["model"], "2"),
        "promoted": lambda c, m: c.set_registered_model_alias(m["model"], "champion", "2"),
        "another": lambda c, m: c.set_model_version_tag(m["model"], "1", "t", "1"),
    }.items(),
    ids=lambda item: item[0],
)
def test_what_matters_of_an_archived_version_is_seen_at_once(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], archived: Watched, hand: tuple[str, Any]
) -> None:
    what, does = hand
    does(sqlite_tracker._client(), made)
    found, first = archived.look(desired(name)), at_first_sight(sqlite_tracker, desired(name))
    assert found.models == first.models
    stale = {(made["model"], 2)} if what in ("promoted", "another") else set()
    assert {place for place in first.versions if found.versions[place] != first.versions[place]} == stale
    assert found.versions.keys() == first.versions.keys()


def test_an_archived_version_that_is_declared_again_is_read_again(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], archived: Watched
) -> None:
    client = sqlite_tracker._client()
    client.set_model_version_tag(made["model"], "2", "mlops.resource", "ModelVersion/v0")
    archived.clock.time += ARCHIVED_EVERY
    archived.look(desired(name))
    client.set_model_version_tag(made["model"], "2", "mlops.version", "8")
    again = desired(name, [made["model"]], [made["ended"]])
    assert archived.look(again) == at_first_sight(sqlite_tracker, again)
    assert not archived.read_whole


@pytest.mark.slow
def test_any_run_of_changes_leaves_the_picture_that_a_first_sight_gives(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    from mlflow.exceptions import MlflowException

    chance, client = random.Random(7), sqlite_tracker._client()
    watched, at = Watched(sqlite_tracker), desired(name)
    watched.look(at)
    gone = {"a deleted model", "a deleted experiment", "a deleted run"}
    hands = [hand for hand in HANDS if hand not in gone and "renamed" not in hand]
    for _ in range(40):
        for hand in chance.sample(hands, chance.choice((0, 1, 1, 3))):
            with suppress(MlflowException):  # what was taken away already is not taken away again
                HANDS[hand](client, made)
        watched.clock.time += chance.choice((0.0, METRICS_EVERY))
        seen = watched.look(at)
        watched.clock.time += METRICS_EVERY
        assert watched.look(at) == at_first_sight(sqlite_tracker, at)
        assert {run_id: run.tags for run_id, run in seen.runs.items()} == {
            run_id: run.tags for run_id, run in watched.look(at).runs.items()
        }


WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for number in range(1, int(sys.argv[3]) + 1):
    database.execute("UPDATE registered_models SET description = ? WHERE name = ?", (str(number), sys.argv[2]))
    print(number, flush=True)
    sys.stdin.readline()
"""


def test_what_was_committed_before_a_look_is_in_it_while_another_process_writes(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    """The writer is let go on in the middle of each look, and never waits for the end of it."""
    watched, at = Watched(sqlite_tracker), desired(name)
    watched.look(at)
    path = str(sqlite_tracker.store.sqlite_path)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, path, made["model"], "60"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    places = itertools.cycle(("token", "marks", "models_again"))
    committed = 0
    while line := writer.stdout.readline():
        committed = int(line)
        with pytest.MonkeyPatch.context() as patch:
            place = next(places)
            original = getattr(watched.tracker, place)

            def then_write(*arguments: Any, call: Any = original, once: Any = patch) -> Any:
                found = call(*arguments)
                once.undo()
                writer.stdin.write("\n")  # type: ignore[union-attr]
                writer.stdin.flush()  # type: ignore[union-attr]
                return found

            patch.setattr(watched.tracker, place, then_write)
            seen = int(watched.look(at).models[made["model"]].description)
        assert seen >= committed
    assert writer.wait() == 0
    assert watched.look(at).models[made["model"]].description == "60"


@pytest.mark.parametrize("place", ["token", "marks", "observe"])
def test_what_is_committed_in_the_middle_of_reading_everything_is_seen_by_the_next_look(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    original = getattr(watched.tracker, place)

    def then_write(*arguments: Any) -> Any:
        found = original(*arguments)
        sqlite_tracker.tag_version(made["model"], 1, {"t": place})
        sqlite_tracker._client().create_registered_model(f"{name}-{place}", {"mlops.project": name})
        monkeypatch.undo()
        return found

    monkeypatch.setattr(watched.tracker, place, then_write)
    watched.look(at)
    assert watched.look(at) == at_first_sight(sqlite_tracker, at)
    assert watched.look(at).versions[made["model"], 1].tags["t"] == place


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_changed_in_the_middle_of_a_look_and_put_back_after_it_is_seen_as_it_is(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    sqlite_tracker.tag_version(made["model"], 1, {"t": "right"})
    if not whole:
        watched.look(at)
        sqlite_tracker.tag_version(made["model"], 1, {"other": "moved"})  # so that it is read again
    original = watched.tracker.marks

    def then_write(*arguments: Any) -> Any:
        found = original(*arguments)
        monkeypatch.undo()
        sqlite_tracker.tag_version(made["model"], 1, {"t": "by hand"})
        return found

    monkeypatch.setattr(watched.tracker, "marks", then_write)
    assert watched.look(at).versions[made["model"], 1].tags["t"] == "by hand"
    sqlite_tracker.tag_version(
        made["model"], 1, {"t": "right"}
    )  # as a heal does: its mark is the old one again
    assert watched.look(at).versions[made["model"], 1].tags["t"] == "right"
    assert watched.look(at) is watched.look(at)


def test_metrics_of_runs_that_go_on_are_read_rarely_and_those_of_ended_ones_at_once(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    watched, at, client = Watched(sqlite_tracker), desired(name), sqlite_tracker._client()
    before = watched.look(at)
    for step in range(3):
        client.log_metric(made["running"], "loss", 1.0 / (step + 1), step=step)
        assert watched.look(at) is before
    watched.clock.time += METRICS_EVERY  # nothing is written any more: it is still owed
    after = watched.look(at)
    assert after.runs[made["running"]].metrics == {"loss": 1 / 3}
    assert watched.asked == [f"reading run {made['running']}"]
    client.log_metric(made["running"], "loss", 0.1, step=9)
    assert watched.look(at) is after
    client.set_tag(made["running"], "mlops.outcome", "succeeded")
    assert watched.look(at).runs[made["running"]].metrics == {"loss": 0.1}


def test_the_metrics_that_a_command_shows_are_fresh(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    cache, at = Cache(), desired(name)
    Watched(sqlite_tracker, cache).look(at)
    sqlite_tracker.log_metrics(made["running"], {"loss": 0.5})
    assert Watched(sqlite_tracker, cache).look(at).runs[made["running"]].metrics == {"loss": 0.5}


def test_a_picture_on_disk_is_brought_up_to_date_by_the_next_process(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    cache, at = Cache(), desired(name)
    Watched(sqlite_tracker, cache).look(at)
    again = Watched(sqlite_tracker, cache)
    kept = again.look(at)
    assert again.asked == []
    sqlite_tracker.tag_version(made["model"], 2, {"t": "1"})
    last = Watched(sqlite_tracker, cache)
    assert last.look(at).versions[made["model"], 2].tags["t"] == "1"
    assert last.asked == ["reading model versions again"]
    assert last.look(at).models == kept.models
    wider = desired(name, [f"{name}-2"])  # another revision may name more
    assert Watched(sqlite_tracker, cache).look(wider) == at_first_sight(sqlite_tracker, wider)


def test_a_picture_is_written_to_disk_rarely(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    for number in range(3):
        sqlite_tracker.tag_version(made["model"], 2, {"t": str(number)})
        watched.look(at)
    assert watched.cache.writes == 1
    watched.clock.time += KEEP_EVERY
    sqlite_tracker.tag_version(made["model"], 2, {"t": "4"})
    watched.look(at)
    assert watched.cache.writes == 2
    sqlite_tracker.tag_version(made["model"], 2, {"t": "5"})
    watched.look(at)
    for _ in range(2):
        watched.sight.keep()
    assert watched.cache.writes == 3
    fresh = Watched(sqlite_tracker, watched.cache)
    assert fresh.look(at).versions[made["model"], 2].tags["t"] == "5"
    assert fresh.asked == []


def test_a_picture_that_moved_is_read_whole_once_a_day_and_one_that_did_not_is_not(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    first = watched.look(at)
    watched.clock.time += 3 * WHOLE_EVERY
    assert watched.look(at) is first
    assert not watched.read_whole
    sqlite_tracker.tag_version(made["model"], 2, {"t": "1"})
    watched.look(at)
    assert watched.read_whole
    sqlite_tracker.tag_version(made["model"], 2, {"t": "2"})
    watched.look(at)
    assert not watched.read_whole
    watched.clock.time -= 10 * WHOLE_EVERY  # a clock that was set back does not put it off
    sqlite_tracker.tag_version(made["model"], 2, {"t": "3"})
    watched.look(at)
    assert watched.read_whole


def test_where_tables_are_not_as_expected_everything_is_read(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_another_table(rows: Any, *arguments: Any) -> Marks:
        return read_marks(
            lambda sql, parameters: rows(sql.replace("model_versions", "model_editions"), parameters),
            *arguments,
        )

    monkeypatch.setattr("mlops.tracking.observing.read_marks", with_another_table)
    watched, at = Watched(sqlite_tracker), desired(name)
    before = watched.look(at)
    sqlite_tracker.tag_version(made["model"], 2, {"t": "1"})
    after = watched.look(at)
    assert watched.read_whole
    assert after.versions[made["model"], 2].tags["t"] == "1"
    sqlite_tracker.tag_version(made["model"], 2, {"t": None})
    sqlite_tracker.ensure_experiment(f"{name}-beside", description="", tags={})
    again = watched.look(at)
    assert again == before
    sqlite_tracker.ensure_experiment(f"{name}-besides", description="", tags={})
    assert watched.look(at) is again  # although all of it was read


def test_marks_that_do_not_cover_what_mlflow_shows_are_of_no_use(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    monkeypatch.setattr(watched.tracker, "marks", lambda *scope: Marks())
    watched.look(at)
    for number in ("1", "2"):
        sqlite_tracker.tag_version(made["model"], 2, {"t": number})
        assert watched.look(at).versions[made["model"], 2].tags["t"] == number
        assert watched.read_whole


def test_a_failed_look_leaves_the_picture_as_it_was(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    watched.look(at)
    sqlite_tracker.tag_version(made["model"], 2, {"t": "1"})

    def down(*arguments: Any) -> Any:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(watched.tracker, "versions_again", down)
        with pytest.raises(ConnectionError):
            watched.look(at)
    assert watched.look(at).versions[made["model"], 2].tags["t"] == "1"


def test_a_database_that_is_locked_for_a_moment_is_waited_for(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    watched, at = Watched(sqlite_tracker), desired(name)
    watched.look(at)
    sqlite_tracker.tag_version(made["model"], 2, {"t": "1"})
    path = sqlite_tracker.store.sqlite_path
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.5, lambda: other.execute("ROLLBACK"))
        timer.start()
        assert watched.look(at).versions[made["model"], 2].tags["t"] == "1"
        timer.join()
    assert not watched.read_whole


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_reading_marks_leaves_the_store_and_its_token_alone(
    sqlite_tracker: Tracker, name: str, made: dict[str, str], tmp_path: Path, journal: str
) -> None:
    with (
        closing(sqlite3.connect(str(sqlite_tracker.store.sqlite_path))) as shared,
        closing(sqlite3.connect(tmp_path / "copy.db", isolation_level=None)) as other,
    ):
        shared.backup(other)
        other.execute(f"PRAGMA journal_mode={journal}").fetchall()
        store = Tracker(f"sqlite:///{tmp_path}/copy.db", None, environ={}, now=time.time)
        watched, at = Watched(store), desired(name)
        first = watched.look(at)
        token = watched.tracker.token()
        for _ in range(3):
            assert watched.tracker.marks(name, [], []) is not None
        assert watched.tracker.token() == token
        assert watched.look(at) is first
        other.execute("UPDATE model_version_tags SET value = 'x' WHERE name = ?", (made["model"],))
        assert watched.look(at) == at_first_sight(store, at)
        assert not watched.read_whole


def test_no_text_in_a_tag_looks_like_another(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    """Who may write tags could otherwise hide one."""
    client, seen = sqlite_tracker._client(), set()
    tricks = [
        {"a": "1','b','2"},
        {"a": "1", "b": "2"},
        {"a": "1','b"},
        {"a": ""},
        {"a": "''"},
        {"a": "','"},
        {},
    ]
    for tags in tricks:
        for key, value in tags.items():
            client.set_model_version_tag(made["model"], "1", key, value)
        marks = sqlite_tracker.marks(name, [], [])
        assert marks is not None
        seen.add(marks.versions[made["model"], 1])
        for key in tags:
            client.delete_model_version_tag(made["model"], "1", key)
    assert len(seen) == len(tricks)


def test_marks_are_the_same_in_every_process(
    sqlite_tracker: Tracker, name: str, made: dict[str, str]
) -> None:
    code = (
        "import json, sys, time; from mlops.tracking import Tracker; "
        "t = Tracker(sys.argv[1], None, environ={}, now=time.time); "
        "print(json.dumps(t.marks(sys.argv[2], [], []).to_json())); assert 'mlflow' not in sys.modules"
    )
    run = [sys.executable, "-c", code, sqlite_tracker.store.uri, name]
    theirs = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    ours = sqlite_tracker.marks(name, [], [])
    assert ours is not None
    assert Marks.from_json(json.loads(theirs)) == ours


def test_a_server_is_read_whole_and_an_equal_picture_is_the_same_object(
    served_tracker: Tracker, name: str
) -> None:
    served_tracker.ensure_experiment(f"{name}/a", description="", tags={})
    served_tracker.ensure_model(f"{name}-1", description="", tags={"mlops.project": name})
    watched, at = Watched(served_tracker), desired(name)
    first = watched.look(at)
    assert watched.look(at) is first
    assert watched.read_whole
    served_tracker.update_model(f"{name}-1", description="by hand", tags={})
    assert watched.look(at).models[f"{name}-1"].description == "by hand"
