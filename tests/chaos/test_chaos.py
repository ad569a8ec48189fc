"""A daemon under a little of everything that can go wrong; `make chaos` is the long form (docs/chaos.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.faults import FAULTS

ROOT = Path(__file__).parents[2]
FAULTS_IN_ALL = 78  # in three episodes: a checkout, MLflow's server, a mirror


@pytest.mark.slow
def test_a_daemon_survives_a_little_of_everything(tmp_path: Path) -> None:
    told = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.chaos", "--seed", "7", "--json", str(told)]
    command += ["--faults", str(FAULTS_IN_ALL), "--length", str(FAULTS_IN_ALL // 3)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    report = json.loads(told.read_text())
    assert report["diverged"] is None
    assert sum(report["survived"].values()) == FAULTS_IN_ALL
    # All but a few that found nothing to hit: a job that had just ended, a daemon that was dead already.
    assert len(report["survived"]) >= len(FAULTS) - 4
