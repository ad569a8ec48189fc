"""What is read and what is judged again: no more than what is new, and the same whatever way it came."""

from __future__ import annotations

from pathlib import Path

import pytest
from scored_loans import loans
from scored_tables import Memory, Opened, assessed, known, spec, subject, table, written


def days(folder: Path, count: int, first: int = 10, **rest: float) -> list[Path]:
    return [
        written(folder, f"day-{day:03}.parquet", loans(day, 400, day, **rest))
        for day in range(first, first + count)
    ]


def reference(folder: Path) -> Path:
    return written(folder, "train.parquet", loans(1, 3_000))


def test_a_shift_of_a_column_is_found_in_its_window_only(tmp_path: Path) -> None:
    paths = [*days(tmp_path, 3), *days(tmp_path, 1, 13, shift=1.0), *days(tmp_path, 1, 14)]
    found = assessed(subject(spec(), table("train", [reference(tmp_path)]), table("scored", paths)))
    assert [(one.start, one.verdict) for one in found.evaluations] == [
        (10 * 86400, "quiet"),
        (11 * 86400, "quiet"),
        (12 * 86400, "quiet"),
        (13 * 86400, "violated"),
    ]
    (moved,) = [one for one in found.evaluations[3].checks[0].columns if one.verdict == "violated"]
    assert (moved.column, moved.detector) == ("income", "psi")
    assert found.waiting == 1
    assert found.windows == 4
    assert found.files[13 * 86400][0][0] == "day-013.parquet"


def test_another_engine_judges_again_what_is_kept_and_opens_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, opened = Memory(), Opened()
    watched = subject(
        spec(),
        table("train", [reference(tmp_path)], opened=opened),
        table("scored", days(tmp_path, 3), opened=opened),
    )
    first = assessed(watched, memory)
    opened.names.clear()
    monkeypatch.setattr("mlops.monitoring.evaluating.assessing.ENGINE", 1_000)
    again = assessed(watched, memory, stored=known(first))
    assert [one.start for one in again.evaluations] == [one.start for one in first.evaluations]
    assert [one.revision for one in again.evaluations] == [0, 0]
    assert {one.key for one in again.evaluations}.isdisjoint(one.key for one in first.evaluations)
    assert opened.names == []


def test_nothing_new_opens_no_file_and_decodes_no_window(tmp_path: Path) -> None:
    memory, opened = Memory(), Opened()
    train = reference(tmp_path)
    paths = days(tmp_path, 5)

    def watched(count: int):  # type: ignore[no-untyped-def]
        return subject(
            spec(), table("train", [train], opened=opened), table("scored", paths[:count], opened=opened)
        )

    first = assessed(watched(4), memory)
    stored = known(first)
    opened.names.clear()
    memory.reads.clear()
    again = assessed(watched(4), memory, stored=stored)
    assert again.evaluations == ()
    assert opened.names == []
    assert not [key for key in memory.reads if key.startswith("window:")]
    more = assessed(watched(5), memory, stored=stored)
    assert [one.start for one in more.evaluations] == [13 * 86400]
    assert opened.names == ["day-014.parquet"]
    read = [key for key in memory.reads if key.startswith("window:")]
    assert len(read) < 5


@pytest.mark.parametrize("window", [{"size": "1d"}, {"rows": 400}])
def test_a_reference_that_thresholds_are_calibrated_on_is_read_once(
    tmp_path: Path, window: dict[str, object]
) -> None:
    checks = [
        {"name": "inputs", "type": "dataDrift", "thresholds": "calibrated"},
        {"name": "upstream", "type": "upstreamChange"},
    ]
    policy, memory, opened = spec(checks=checks, window=window), Memory(), Opened()
    train = table("train", [written(tmp_path, "train.parquet", loans(1, 4_000, 0, 10))], opened=opened)
    paths = days(tmp_path, 5)
    first = assessed(subject(policy, train, table("scored", paths[:4])), memory)
    opened.names.clear()
    five = subject(policy, train, table("scored", paths))
    more = assessed(five, memory, stored=known(first))
    assert more.evaluations
    assert opened.names == []
    afresh = assessed(five).evaluations
    assert {one.start: one for one in afresh} == {
        one.start: one for one in (*first.evaluations, *more.evaluations)
    }
    for lost in [key for key in memory.entries if key.startswith("own:")]:
        for value in (b"", memory.entries[lost][:-3]):
            broken = Memory()
            broken.entries = {**memory.entries, lost: value}
            assert assessed(five, broken).evaluations == afresh
