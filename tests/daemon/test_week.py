"""A week of a daemon's life in a minute: nothing leaks, nothing piles up, history is kept as long as it is to be."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import week

MB = 10**6
WORK, WEEKEND = range(5), range(5, 7)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the daemon held at the end of each day; in a process of its own, so that nothing else is counted."""
    done = subprocess.run(
        [sys.executable, str(Path(week.__file__)), str(tmp_path_factory.mktemp("week"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


pytestmark = pytest.mark.slow


def test_every_minute_of_the_week_has_its_pass(days: list[dict[str, Any]]) -> None:
    assert [day["day"] for day in days] == [*WORK, *WEEKEND]
    # Without the hours in which MLflow is away, and the minutes until it is looked for again.
    assert days[-1]["passes"] > 7 * 24 * 60 - 5 * 70 - 10


def test_what_was_to_happen_has_happened_each_working_day(days: list[dict[str, Any]]) -> None:
    told = days[-1]["events told"]
    assert told["Bound"] == told["Promoted"] == len(WORK)
    assert told["Trained"] >= 3 * len(WORK)  # a model's, a slow one's, one that was mended
    assert told["TrainedFailed"] == 2 * len(WORK)  # killed in both attempts, and again when somebody asked
    assert told["Healed"] == 2 * len(WORK)  # an alias and a description
    assert told["Invalid"] >= len(WORK)
    assert told["Updated"] == 2 * len(WORK)


def test_each_day_ends_as_git_says(days: list[dict[str, Any]]) -> None:
    assert [(day["in force"], day["steps left"]) for day in days] == [(True, 0)] * len(days)


def test_no_descriptor_no_thread_and_no_process_is_left_behind(days: list[dict[str, Any]]) -> None:
    for day in days[1:]:
        assert day["children"] == 0
        assert day["threads"] <= days[0]["threads"] + 1
        assert day["descriptors"] <= days[0]["descriptors"] + 3  # connections of MLflow's pool


def test_memory_does_not_grow_with_passes(days: list[dict[str, Any]]) -> None:
    """On a Sunday there are 1,440 passes and 24 requests, and nothing to remember of them.

    The allocator keeps a few megabytes more or less for itself; what a pass would leave behind is objects.
    """
    saturday, sunday = days[WEEKEND[0]], days[WEEKEND[1]]
    assert sunday["rss"] - saturday["rss"] < 8 * MB
    assert sunday["objects"] - saturday["objects"] < 500


def test_memory_grows_with_what_is_in_mlflow_and_not_with_what_happened(days: list[dict[str, Any]]) -> None:
    """A day of work leaves runs and a version, of which the picture of MLflow holds a few hundred objects.

    SQLite and MLflow keep what they read last, each up to a bound of its own that a week does not reach.
    """
    tuesday, friday = days[1], days[WORK[-1]]
    worked = WORK[-1] - 1
    assert (friday["objects"] - tuesday["objects"]) / worked < 1_000
    assert (friday["rss"] - tuesday["rss"]) / worked < 3 * MB


def test_no_rows_pile_up(days: list[dict[str, Any]]) -> None:
    for before, day in pairwise(days[1:]):
        rows = day["rows"]
        assert "state.db requests" not in rows
        assert rows["state.db answers"] <= 2  # what was answered within the hour
        for name in ("digests", "ledger", "status", "mlops_lease"):
            assert rows[f"state.db {name}"] == before["rows"][f"state.db {name}"]


def test_events_are_kept_for_two_days_as_the_project_says(days: list[dict[str, Any]]) -> None:
    events = [day["rows"]["state.db mlops_event"] for day in days]
    assert events[1] > 1.5 * events[0]
    assert max(events[2:5]) <= events[1] * 1.1
    assert events[6] < events[5] < events[4]  # nothing happens on the weekend, and what happened grows old


def test_no_files_pile_up(days: list[dict[str, Any]]) -> None:
    first, last = days[1]["files"], days[-1]["files"]
    artifacts = last.pop("artifacts") - first.pop("artifacts")  # MLflow's, of the runs there are
    assert artifacts < 60 * len(WORK)
    assert last == first
    assert last["jobs"] == last["work"] == 0
