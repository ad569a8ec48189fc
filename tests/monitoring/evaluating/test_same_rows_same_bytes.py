"""The same rows give the same evaluations to the byte: in any order, however cut, after a kill anywhere."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scored_loans import loans, only
from scored_tables import COLUMNS, Memory, assessed, known, spec, subject, table, written

from mlops.monitoring.evaluating import Assessed, Subject
from mlops.resources.dataset import Columns

CHECKS = [
    {"name": "upstream", "type": "upstreamChange"},
    {"name": "inputs", "type": "dataDrift", "multivariate": "domainClassifier"},
    {"name": "target", "type": "targetDrift"},
    {"name": "concept", "type": "conceptDrift", "metric": "accuracy", "maxDrop": "3%"},
]
POLICY = spec(checks=CHECKS, slices=["country"], task="binary")


def cut(folder: Path, rows: dict[str, Any], pieces: int, seed: int) -> list[Path]:
    """All rows in files in a random order."""
    whole = pa.table(rows)
    order = np.random.default_rng(seed).permutation(whole.num_rows)
    return [
        written(folder, f"{place:02}.parquet", whole.take(pa.array(part)))
        for place, part in enumerate(np.array_split(order, pieces))
    ]


def watched(train: Path, paths: list[Path]) -> Subject:
    return subject(POLICY, table("train", [train]), table("scored", paths))


def lines(found: Assessed) -> list[str]:
    return [one.to_json() for one in found.evaluations]


@pytest.mark.parametrize("pieces", [2, 7])
def test_one_file_or_several_in_any_order_give_the_same_bytes(tmp_path: Path, pieces: int) -> None:
    train = written(tmp_path, "train.parquet", loans(1, 2_000))
    rows = loans(2, 1_500, 10, 4)
    whole = assessed(watched(train, cut(tmp_path / "one", rows, 1, 0)))
    parts = cut(tmp_path / "many", rows, pieces, 3)
    random.Random(1).shuffle(parts)
    several = assessed(watched(train, parts))
    assert len(whole.evaluations) == 3
    assert lines(several) == lines(whole)
    assert several.records == whole.records


def test_files_one_at_a_time_end_in_the_bytes_of_all_at_once(tmp_path: Path) -> None:
    train = written(tmp_path, "train.parquet", loans(1, 2_000))
    paths = cut(tmp_path / "many", loans(2, 1_500, 10, 4), 4, 3)
    at_once = {one.start: one for one in assessed(watched(train, paths)).evaluations}
    memory, stored, newest = Memory(), {}, {}
    for count in range(1, 5):
        found = assessed(watched(train, paths[:count]), memory, stored=stored)
        stored = known(found, stored)
        newest |= {one.start: one for one in found.evaluations}
    assert {start: one.key for start, one in newest.items()} == {
        start: one.key for start, one in at_once.items()
    }
    assert [newest[start].checks for start in sorted(newest)] == [
        at_once[start].checks for start in sorted(at_once)
    ]
    assert {one.revision for one in newest.values()} == {3}


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


class KilledAt(Memory):
    """Ends the process, as it were, after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def put_many(self, entries: Any) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        super().put_many(entries)


def test_a_kill_at_any_write_ends_in_the_same_bytes(tmp_path: Path) -> None:
    train = written(tmp_path, "train.parquet", loans(1, 1_000))
    paths = cut(tmp_path / "many", loans(2, 900, 10, 3), 2, 3)
    expected = lines(assessed(watched(train, paths)))
    writes = 0
    while True:
        memory = KilledAt(writes)
        try:
            assert lines(assessed(watched(train, paths), memory)) == expected
            break
        except Killed:
            pass
        memory.left = 1_000_000
        assert lines(assessed(watched(train, paths), memory)) == expected
        writes += 1
    assert writes > 5


def test_any_part_of_the_store_may_be_forgotten_or_damaged(tmp_path: Path) -> None:
    train = written(tmp_path, "train.parquet", loans(1, 1_000))
    paths = cut(tmp_path / "many", loans(2, 900, 10, 3), 2, 3)
    memory = Memory()
    expected = lines(assessed(watched(train, paths), memory))
    kinds = {key.partition(":")[0]: key for key in memory.entries}
    assert set(kinds) == {
        "plan",
        "reference",
        "sample",
        "rows",
        "index",
        "window",
        "sums",
        "joined",
        "performed",
    }
    for key in kinds.values():
        for value in (None, memory.entries[key][:-3]):
            broken = Memory()
            broken.entries = dict(memory.entries)
            if value is None:
                del broken.entries[key]
            else:
                broken.entries[key] = value
            assert lines(assessed(watched(train, paths), broken)) == expected, key


def test_csv_and_parquet_of_the_same_rows_are_judged_alike(tmp_path: Path) -> None:
    rows = loans(2, 1_500, 10, 3)
    types = table("t", [written(tmp_path, "t.parquet", rows)]).types
    train = loans(1, 2_000)
    binary = subject(
        POLICY,
        table("train", [written(tmp_path, "train.parquet", train)]),
        table("scored", [written(tmp_path, "rows.parquet", rows)]),
    )
    text = subject(
        POLICY,
        table("train", [written(tmp_path, "train.csv", train)], types),
        table("scored", [written(tmp_path, "rows.csv", rows)], types),
    )
    mixed = subject(
        POLICY,
        table("train", [written(tmp_path, "train.parquet", train)]),
        table("scored", [written(tmp_path, "rows.csv", rows)], types),
    )
    first, second, third = (assessed(one).evaluations for one in (binary, text, mixed))
    assert [one.verdict for one in first] == ["quiet", "quiet"]
    assert [one.checks for one in second] == [one.checks for one in first]
    assert [one.checks for one in third] == [one.checks for one in first]


def test_labels_in_files_of_their_own_may_come_in_any_order(tmp_path: Path) -> None:
    train = written(tmp_path, "train.parquet", loans(1, 2_000))
    rows = loans(2, 1_500, 10, 4)
    scored = {name: values for name, values in rows.items() if name != "default"}
    columns = COLUMNS.model_copy(update={"target": None})
    policy = spec(
        checks=CHECKS, task="binary", data={"predictions": "scored", "labels": {"dataset": "outcomes"}}
    )

    def of(pieces: int, seed: int) -> list[str]:
        folder = tmp_path / f"{pieces}-{seed}"
        paths = cut(folder / "scored", scored, pieces, seed)
        outcomes = cut(folder / "outcomes", only(rows, "id", "default"), pieces, seed + 1)
        labels = table("outcomes", outcomes, columns=Columns(target="default", id="id"))
        found = assessed(
            subject(policy, table("train", [train]), table("scored", paths, columns=columns), labels=labels)
        )
        return lines(found)

    assert of(1, 0) == of(5, 7)
    assert '"conceptDrift","value":null' not in of(1, 0)[0]
