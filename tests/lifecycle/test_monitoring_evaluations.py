"""Policies on a real project: what is evaluated, when, and what data of all kinds comes to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forking import Forks
from monitored import SHIFT, Watched, documents, policy, rows, scored


@pytest.fixture
def watched(tmp_path: Path, forks: Forks, empty_store: Path) -> Callable[..., Watched]:
    def make(*more: Any, name: str = "project", days: int = 0) -> Watched:
        return Watched.make(tmp_path / name, forks, documents(*more), store=empty_store, days=days)

    return make


def test_an_apply_evaluates_and_leaves_nothing_to_do_and_only_new_windows_are_evaluated(
    watched: Callable[..., Watched],
) -> None:
    it = watched(days=3)
    assert "2 windows evaluated" in it.apply()
    assert it.verdicts() == ["quiet", "quiet"]
    it.at_rest()
    before = it.told()
    assert len(before) == 2
    assert "monitor" not in it.apply()
    it.score(3, SHIFT)
    it.score(4, SHIFT)
    assert "2 windows evaluated" in it.apply()
    assert it.verdicts() == ["quiet", "quiet", "quiet", "violated"]
    assert before.items() <= it.told().items()
    it.at_rest()


def test_files_one_by_one_all_at_once_or_shuffled_with_the_state_lost_give_the_same_evaluations(
    watched: Callable[..., Watched],
) -> None:
    shifts = [0.0, 0.0, SHIFT, SHIFT]
    whole = watched(name="whole")
    for day, shift in enumerate(shifts):
        whole.score(day, shift)
    whole.apply()
    parts = watched(name="parts")
    for day, shift in enumerate(shifts):
        lines = rows(day, shift)
        parts.put(f"{day}-a.csv", scored(lines[1::2]))  # one day in two files, which come out of order
        parts.put(f"{day}-b.csv", scored(lines[0::2]))
        parts.apply()
        if day == 2:
            parts.lose_state()
    expected = whole.told()
    assert len(expected) == 3
    assert parts.told() == expected
    assert parts.verdicts() == whole.verdicts()


def test_late_rows_make_a_new_revision_and_trigger_nothing_twice(watched: Callable[..., Watched]) -> None:
    it = watched(policy(actions=[{"on": ["inputs"], "rollback": "propose", "severity": "info"}]))
    for day in range(6):
        it.score(day, 0.0 if day < 2 else SHIFT)
    it.apply()
    before = it.told()
    actions = it.status()["actions"]
    assert [one["type"] for one in actions] == ["rollback"]
    it.score(3, SHIFT, seed=7).rename(it.root / "data/scored/late.csv")
    it.score(3, SHIFT)
    it.apply()
    new = [one for key, one in it.told().items() if key not in before]
    assert [(one["revision"], one["rows"]) for one in new] == [(1, 240)]  # revisions count from 0
    assert it.status()["actions"] == actions
    it.at_rest()


def test_a_file_that_is_rewritten_in_place_is_noticed_and_so_is_one_that_is_gone(
    watched: Callable[..., Watched],
) -> None:
    it = watched(days=4)
    it.apply()
    path = it.root / "data/scored/01.csv"
    size, stat = path.stat().st_size, path.stat()
    text = scored(rows(1, SHIFT)[:-1]).rstrip("\n")
    path.write_text(text.ljust(size - 1, "0") + "\n")
    assert path.stat().st_size == size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as rsync -t leaves it
    it.apply()
    assert it.verdicts() == ["quiet", "violated", "quiet"]
    path.unlink()
    it.apply()
    assert it.verdicts() == ["quiet", "noData", "quiet"]
    it.at_rest()


def test_a_file_that_cannot_be_read_is_named_until_it_is_mended_and_the_rest_is_evaluated(
    watched: Callable[..., Watched],
) -> None:
    it = watched(days=4)
    it.put("01.csv", 't,x,c,y,p\n"2026-01-02T00:00:00,1\n')
    for _ in range(2):
        assert "01.csv" in it.apply(code=1)
        windows = {one["start"][:10]: one["verdict"] for one in it.status()["windows"]}
        assert windows["2026-01-01"] == windows["2026-01-03"] == "quiet"
    ended = it.run("monitor", "run", "watch")
    assert (ended.code, "01.csv" in ended.stdout + ended.stderr) == (1, True), ended.stderr
    it.score(1)
    it.apply()
    assert it.verdicts() == ["quiet"] * 3
    it.at_rest()


def test_a_lost_state_is_rebuilt_from_mlflow(watched: Callable[..., Watched]) -> None:
    it = watched(days=4)
    it.apply()
    before, runs = it.status(), it.told()
    it.lose_state()
    after = it.status()
    assert after["windows"] == before["windows"]
    it.apply()
    assert it.status() == before
    assert it.told() == runs
    it.at_rest()


def test_two_policies_on_one_model_and_one_that_is_suspended(watched: Callable[..., Watched]) -> None:
    it = watched(
        policy("one"), policy("other", window={"rows": 100}), policy("resting", suspend=True), days=3
    )
    it.apply()
    assert it.verdicts("one") == ["quiet"] * 2
    assert it.verdicts("other") == ["quiet"] * 3
    assert it.verdicts("resting") == []
    it.at_rest()


def _with(day: int, **fields: str) -> str:
    names = ["t", "x", "c", "y"]
    lines = []
    for line in rows(day):
        values = dict(zip(names, line.split(","), strict=True)) | fields
        lines.append(",".join(values[name] for name in names))
    return "t,x,c,y,p\n" + "".join(f"{line},1.0\n" for line in lines)


def test_hostile_data_comes_to_a_verdict_or_a_reason(watched: Callable[..., Watched]) -> None:
    it = watched()
    header = "t,x,c,y,p\n"
    days = {
        0: scored(rows(0)),
        1: _with(1, x="nan"),
        2: _with(2, x="inf"),
        3: _with(3, x="", c="", y=""),
        4: _with(4, x="7"),
        5: _with(5, x="many"),
        6: scored(rows(6)).replace("t,x,c,y,p", "t,price,c,y,p"),
        7: "t,c,y,p\n" + "".join(f"{line.split(',')[0]},a,1,1\n" for line in rows(7)),
        8: header,
        9: header + f"{rows(9)[0]},1\n",
        10: scored(line.replace(",", "+05:00,", 1) for line in rows(10)),
        11: scored(rows(200_000)[:3]),  # in five hundred years
        12: header
        + "".join(f"{line},1\n" for line in rows(12)).replace(",a,", ",<script>alert(1)</script>,"),
        13: scored(rows(13)),
        14: scored(rows(14)),
    }
    for day, text in days.items():
        it.put(f"{day:02}.csv", text)
    said = it.apply()
    windows = {one["start"][:10]: one for one in it.status()["windows"]}
    assert windows["2026-01-01"]["verdict"] == windows["2026-01-14"]["verdict"] == "quiet", said
    for start in ("02", "03", "04", "05", "06", "07", "08", "13"):
        assert windows[f"2026-01-{start}"]["verdict"] == "violated", (start, windows[f"2026-01-{start}"])
    assert windows["2026-01-09"]["verdict"] in ("noData", "insufficient")
    assert "3 rows from the future" in it.run("monitor", "status", "watch").stdout
    it.at_rest()
    pages = [path.read_text() for path in it.root.glob("**/artifacts/report.html")]
    assert pages
    assert not [page for page in pages if "<script>alert" in page]
