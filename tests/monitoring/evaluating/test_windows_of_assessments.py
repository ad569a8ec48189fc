"""Which windows are judged, when, and again: lateness, gaps, files that change or go, where to begin."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from scored_loans import loans, without
from scored_tables import DAY, Memory, assessed, data_file, known, spec, subject, table, written

from mlops.errors import Stalled
from mlops.monitoring.evaluating import Assessed, Subject, Table
from mlops.monitoring.windows import RowOrder


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table("train", [written(tmp_path_factory.mktemp("train"), "train.parquet", loans(1, 2_000))])


def day(folder: Path, number: int, rows: int = 300, **rest: Any) -> Path:
    return written(folder, f"day-{number:03}.parquet", loans(number, rows, number, **rest))


def starts(found: Assessed) -> list[float]:
    return [one.start / DAY for one in found.evaluations]


def test_late_rows_make_a_new_revision_of_their_window_only(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11, 12)]
    memory = Memory()
    first = assessed(subject(spec(), train, table("scored", paths)), memory)
    late = written(tmp_path, "late.parquet", loans(99, 50, 10))
    again = assessed(subject(spec(), train, table("scored", [*paths, late])), memory, stored=known(first))
    assert [(one.start / DAY, one.revision, one.rows) for one in again.evaluations] == [(10, 1, 350)]
    assert again.evaluations[0].key != first.evaluations[0].key


def test_lateness_keeps_a_window_open(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11)]
    policy = spec(window={"size": "1d", "lateness": "2d"})
    found = assessed(subject(policy, train, table("scored", paths)))
    assert (starts(found), found.waiting) == ([], 2)
    found = assessed(subject(policy, train, table("scored", [*paths, day(tmp_path, 13)])))
    assert starts(found) == [10]


def test_a_file_rewritten_in_place_makes_a_new_revision(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11, 12)]
    memory = Memory()
    first = assessed(subject(spec(), train, table("scored", paths)), memory)
    written(tmp_path, "day-010.parquet", loans(10, 300, 10, shift=1.5))
    again = assessed(subject(spec(), train, table("scored", paths)), memory, stored=known(first))
    assert [(one.start / DAY, one.revision, one.verdict) for one in again.evaluations] == [
        (10, 1, "violated")
    ]


def test_a_file_that_goes_takes_its_rows_with_it(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11, 12)]
    memory = Memory()
    first = assessed(subject(spec(), train, table("scored", paths)), memory)
    again = assessed(subject(spec(), train, table("scored", paths[1:])), memory, stored=known(first))
    assert [(one.start / DAY, one.revision, one.rows, one.verdict) for one in again.evaluations] == [
        (10, 1, 0, "noData")
    ]


def test_silence_between_windows_is_seen_and_bounded(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 14, 15)]
    found = assessed(subject(spec(), train, table("scored", paths)))
    assert [(one.start / DAY, one.verdict, one.rows) for one in found.evaluations] == [
        (10, "quiet", 300),
        (11, "noData", 0),
        (12, "noData", 0),
        (13, "noData", 0),
        (14, "quiet", 300),
    ]
    long_ago = [day(tmp_path, number) for number in (10, 9_000, 9_001)]
    found = assessed(subject(spec(), train, table("scored", long_ago)), now=9_100.0 * DAY)
    assert sum(one.verdict == "noData" for one in found.evaluations) == 1_000


def test_rows_from_the_future_close_nothing_and_are_told(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11, 5_000)]
    found = assessed(subject(spec(), train, table("scored", paths)), now=11.5 * DAY)
    assert starts(found) == [10]
    assert (found.future, found.waiting) == (300, 1)


def test_rows_without_a_time_are_told(tmp_path: Path, train: Table) -> None:
    rows = loans(10, 300, 10)
    times = rows["time"].to_pylist()
    rows["time"] = pa.array([None] * 20 + times[20:], pa.timestamp("us"))
    paths = [written(tmp_path, "a.parquet", rows), day(tmp_path, 11)]
    found = assessed(subject(spec(), train, table("scored", paths)))
    assert found.undated == 20
    assert found.evaluations[0].rows == 280
    gone = written(tmp_path, "b.parquet", without(loans(12, 70, 12), "time"))
    assert assessed(subject(spec(), train, table("scored", [*paths, gone]))).undated == 90


def test_times_with_zones_are_put_in_utc_windows(tmp_path: Path, train: Table) -> None:
    rows = loans(10, 300, 10)
    times = [f"{one.isoformat()}+05:00" for one in rows["time"].to_pylist()]
    zoned = written(tmp_path, "a.parquet", {**rows, "time": pa.array(times)})
    found = assessed(subject(spec(), train, table("scored", [zoned, day(tmp_path, 12)])))
    assert [one.start / DAY for one in found.evaluations if one.rows] == [9, 10]


@pytest.mark.parametrize(
    ("begin", "expected"), [("start", [10, 11, 12]), ("promotion", [12]), ("1970-01-12", [11, 12])]
)
def test_windows_begin_where_the_policy_says(
    tmp_path: Path, train: Table, begin: str, expected: list[int]
) -> None:
    paths = [day(tmp_path, number) for number in (10, 11, 12, 13)]
    policy = spec(window={"size": "1d", "from": begin})
    found = assessed(subject(policy, train, table("scored", paths), promoted_at=11.5 * DAY))
    assert starts(found) == expected


def test_another_threshold_is_another_evaluation_and_no_new_revision(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11)]
    memory = Memory()
    first = assessed(subject(spec(), train, table("scored", paths)), memory)
    check = {"name": "inputs", "type": "dataDrift", "thresholds": {"psi": 0.0001}}
    again = assessed(
        subject(spec(checks=[check]), train, table("scored", paths)), memory, stored=known(first)
    )
    assert [one.revision for one in again.evaluations] == [0]
    assert again.evaluations[0].key != first.evaluations[0].key


def test_severity_schedule_and_actions_decide_no_evaluation(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11)]
    memory = Memory()
    first = assessed(subject(spec(), train, table("scored", paths)), memory)
    check = {"name": "inputs", "type": "dataDrift", "severity": "critical"}
    other = spec(
        checks=[check],
        schedule="2h",
        decide={"fire": "1 of 1"},
        actions=[{"on": ["inputs"], "alert": ["team"]}],
    )
    again = assessed(subject(other, train, table("scored", paths)), memory, stored=known(first))
    assert again.evaluations == ()


def test_another_version_or_reference_judges_anew(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11)]
    first = subject(spec(), train, table("scored", paths))
    memory = Memory()
    stored = known(assessed(first, memory))
    assert len(assessed(replace(first, version="4"), memory, stored=stored).evaluations) == 1
    other = table("other", [written(tmp_path, "other.parquet", loans(5, 1_000))])
    assert len(assessed(replace(first, reference=other), memory, stored=stored).evaluations) == 1


class TestRowWindows:
    POLICY = spec(window={"rows": 250})

    def watched(self, train: Table, paths: list[Path], positions: list[int]) -> Subject:
        files = tuple(data_file(path, place) for path, place in zip(paths, positions, strict=True))
        return subject(self.POLICY, train, replace(table("scored", paths), files=files))

    def test_rows_are_counted_in_the_order_of_files_as_first_seen(self, tmp_path: Path, train: Table) -> None:
        paths = [day(tmp_path, number) for number in (10, 11, 12)]
        found = assessed(self.watched(train, paths, [2, 0, 1]))
        assert [(one.start, one.end) for one in found.evaluations] == [(0, 250), (250, 500), (500, 750)]
        assert found.order is not None
        assert found.order.total == 900
        assert found.waiting == 1
        assert found.times is not None
        assert 11 < found.times[0] / DAY < 12 < found.times[250] / DAY < 13
        assert found.files[0] == (("day-011.parquet", data_file(paths[1]).digest),)

    def test_a_closed_window_never_changes(self, tmp_path: Path, train: Table) -> None:
        paths = [day(tmp_path, number) for number in (10, 11)]
        memory = Memory()
        first = assessed(self.watched(train, paths, [0, 0]), memory)
        assert len(first.evaluations) == 2
        late = written(tmp_path, "a-late.parquet", loans(99, 200, 9))
        more = assessed(
            self.watched(train, [late, paths[1]], [5, 0]), memory, stored=known(first), order=first.order
        )
        assert [(one.start, one.rows) for one in more.evaluations] == [(500, 250)]
        assert more.order is not None
        assert more.order.total == 800

    def test_two_files_of_the_same_bytes_are_all_their_rows(self, tmp_path: Path, train: Table) -> None:
        path = day(tmp_path, 10)
        copy = tmp_path / "copy.parquet"
        copy.write_bytes(path.read_bytes())
        found = assessed(self.watched(train, [path, copy], [0, 0]))
        assert [one.rows for one in found.evaluations] == [250, 250]

    def test_without_any_time_windows_of_rows_are_judged(self, tmp_path: Path, train: Table) -> None:
        path = written(tmp_path, "a.parquet", without(loans(10, 600, 10), "time"))
        found = assessed(self.watched(train, [path], [0]))
        assert [one.verdict for one in found.evaluations] == ["quiet", "quiet"]
        assert found.times == {}

    def test_an_unreadable_file_gets_its_numbers_when_it_can_be_read(
        self, tmp_path: Path, train: Table
    ) -> None:
        paths = [day(tmp_path, number) for number in (10, 11)]
        whole = paths[0].read_bytes()
        paths[0].write_bytes(whole[:200])
        memory = Memory()
        first = assessed(self.watched(train, paths, [0, 0]), memory)
        assert [one.file for one in first.unread] == ["day-010.parquet"]
        assert first.order is not None
        assert first.order.total == 300
        paths[0].write_bytes(whole)
        again = assessed(self.watched(train, paths, [0, 0]), memory, stored=known(first), order=first.order)
        assert [one.start for one in again.evaluations] == [250]


def test_an_unreadable_file_is_told_and_the_rest_is_judged(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11, 12)]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(b"PAR1" + os.urandom(50))
    memory = Memory()
    first = assessed(subject(spec(), train, table("scored", paths)), memory)
    assert starts(first) == [11]
    assert [(one.table, one.file) for one in first.unread] == [("scored", "day-010.parquet")]
    paths[0].write_bytes(whole)
    again = assessed(subject(spec(), train, table("scored", paths)), memory, stored=known(first))
    assert (starts(again), again.unread) == ([10], ())


def test_a_forgotten_window_of_an_unreadable_file_keeps_its_verdict(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11, 12)]
    memory = Memory()
    first = assessed(subject(spec(), train, table("scored", paths)), memory)
    listed = table("scored", paths)
    paths[0].write_bytes(b"")
    for key in [key for key in memory.entries if key.startswith(("window:", "sums:"))]:
        del memory.entries[key]
    again = assessed(subject(spec(), train, listed), memory, stored=known(first))
    assert again.evaluations == ()
    assert {one.file for one in again.unread} == {"day-010.parquet"}


def test_an_unreadable_reference_stops_the_policy(tmp_path: Path) -> None:
    path = written(tmp_path, "train.parquet", loans(1, 500))
    broken = table("train", [path])
    path.write_bytes(b"PAR1")
    with pytest.raises(Stalled):
        assessed(subject(spec(), broken, table("scored", [day(tmp_path, 10), day(tmp_path, 11)])))


class TestRolling:
    POLICY = spec(reference={"source": {"rolling": "3d"}})

    def test_each_window_is_compared_with_those_before(self, tmp_path: Path) -> None:
        paths = [day(tmp_path, number) for number in range(10, 14)]
        moved = [day(tmp_path, number, shift=1.0) for number in range(14, 20)]
        found = assessed(subject(self.POLICY, None, table("scored", [*paths, *moved])))
        verdicts = {one.start / DAY: one.verdict for one in found.evaluations}
        assert [verdicts[number] for number in (10, 11, 12)] == ["insufficient"] * 3
        assert found.evaluations[0].checks[0].columns[0].note == (
            "the data does not yet go back as far as the rolling reference"
        )
        assert [verdicts[number] for number in (13, 14, 15)] == ["quiet", "violated", "violated"]
        assert [verdicts[number] for number in (17, 18)] == ["quiet", "quiet"]

    def test_the_order_of_files_does_not_matter(self, tmp_path: Path) -> None:
        paths = [day(tmp_path, number) for number in range(10, 16)]
        at_once = assessed(subject(self.POLICY, None, table("scored", paths)))
        memory, stored = Memory(), {}
        for chosen in (paths[3:], paths[1:], paths):
            found = assessed(subject(self.POLICY, None, table("scored", chosen)), memory, stored=stored)
            stored = known(found, stored)
        assert {start: one.key for start, one in stored.items()} == {
            start: one.key for start, one in known(at_once).items()
        }

    def test_late_rows_of_a_past_window_change_those_compared_with_it(self, tmp_path: Path) -> None:
        paths = [day(tmp_path, number) for number in range(10, 18)]
        memory = Memory()
        first = assessed(subject(self.POLICY, None, table("scored", paths)), memory)
        late = written(tmp_path, "late.parquet", loans(99, 50, 13))
        again = assessed(
            subject(self.POLICY, None, table("scored", [*paths, late])), memory, stored=known(first)
        )
        assert starts(again) == [13, 14, 15, 16]
        assert [one.revision for one in again.evaluations] == [1, 0, 0, 0]

    def test_windows_of_rows_have_no_rolling_reference(self, tmp_path: Path) -> None:
        policy = spec(window={"rows": 100}, reference={"source": {"rolling": "3d"}})
        with pytest.raises(Stalled, match="windows of event time"):
            assessed(subject(policy, None, table("scored", [day(tmp_path, 10)])))


def test_progress_is_told_and_may_end_it(tmp_path: Path, train: Table) -> None:
    paths = [day(tmp_path, number) for number in (10, 11, 12)]
    told: list[tuple[int, int, str]] = []
    memory = Memory()

    class Stop(Exception):
        pass

    def progress(done: int, of: int, name: str) -> None:
        told.append((done, of, name))
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        assessed(subject(spec(), train, table("scored", paths)), memory, progress=progress)
    assert told == [(0, 3, "day-010.parquet"), (1, 3, "day-011.parquet"), (2, 3, "day-012.parquet")]
    told.clear()
    assessed(subject(spec(), train, table("scored", paths)), memory, progress=lambda *one: told.append(one))
    assert told == [(0, 1, "day-012.parquet")]


def test_an_order_that_is_handed_in_stays(tmp_path: Path, train: Table) -> None:
    path = day(tmp_path, 10)
    order = RowOrder((("gone", 250),))
    policy = spec(window={"rows": 250})
    found = assessed(subject(policy, train, table("scored", [path])), order=order)
    assert [one.start for one in found.evaluations] == [250]
