"""The story of a team of three: it runs to its end, and tells who is missing, what failed, and who approved."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/team"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where the demo ran, and what it printed."""
    home = tmp_path_factory.mktemp("team") / "run"
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "demo.py"), str(home)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return home, done.stdout + done.stderr


pytestmark = pytest.mark.slow


def test_the_data_are_what_the_script_makes(tmp_path: Path) -> None:
    script = (EXAMPLE / "data/prepare.py").read_text()
    (tmp_path / "prepare.py").write_text(script)
    subprocess.run([sys.executable, str(tmp_path / "prepare.py")], check=True, timeout=120)
    for name in ("train.csv", "test.csv"):
        assert (tmp_path / name).read_text() == (EXAMPLE / "data" / name).read_text()


def test_history_says_who_approved_what_on_what_evidence(told: tuple[Path, str]) -> None:
    home, _ = told
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mlops"), "history", "diagnosis", "-o", "json"],
        cwd=home / "controller",
        env={"PATH": "/usr/bin:/bin", "CLINIC_MLFLOW": f"sqlite:///{home / 'mlflow.db'}", "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout)["promotions"] if row["stage"] == "production"]
    assert [row["version"] for row in rows] == ["1.0.0", "1.1.0", "1.0.0"]
    assert [[one["who"] for one in row["approvedBy"]] for row in rows[1:]] == [
        ["cleo@clinic.example"],
        ["ben@clinic.example"],
    ]
    assert all(row["digest"].startswith("sha256:") and row["evidence"] for row in rows)


def test_it_tells_who_is_missing_and_which_gate_failed(told: tuple[Path, str]) -> None:
    text = re.sub(r"\s+", " ", told[1])
    assert "1 approval of leads missing" in text
    assert "author" in text
    assert "GateFailed" in text
