"""What an apply says meanwhile where nobody looks at a terminal."""

from __future__ import annotations

import pytest

from mlops.applying.outcomes import Done
from mlops.cli.progress import Lines
from mlops.planning.plan import Step
from mlops.planning.work import MonitorPolicy

MONITOR = Step("s1", "MonitoringPolicy/loan", "monitor", "new data", MonitorPolicy("loan", "1", "x"))


def test_a_step_that_counts_its_files_says_so_once_in_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [100.0]
    lines = Lines(lambda: clock[0])
    lines.started(MONITOR)
    for number in range(250):  # a file every eighth of a second
        lines.says(MONITOR, f"day-{number}.csv ({number + 1} of 250)")
        clock[0] += 0.125
    lines.ended(MONITOR, Done("3 windows evaluated, Healthy"), 25.0)
    told = capsys.readouterr().err.splitlines()
    assert [line.rpartition("(")[2] for line in told[:-1]] == ["81 of 250)", "161 of 250)", "241 of 250)"]
    assert told[-1] == "✓ monitor MonitoringPolicy/loan (25.0 s): 3 windows evaluated, Healthy"


def test_what_happened_is_always_said(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(lambda: 0.0)
    lines.started(MONITOR)
    lines.says(MONITOR, "attempt 1 failed: out of memory")
    lines.says(MONITOR, "attempt 2 failed: out of memory")
    assert len(capsys.readouterr().err.splitlines()) == 2
