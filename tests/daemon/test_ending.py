"""A signal ends the daemon wherever it comes in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HOLDING = """
import os, signal, threading, time
from mlops.cli.daemon import _on_signals

stopping = threading.Event()
_on_signals(stopping.set)
with stopping._cond:  # as in the middle of a wait for it
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
print("stopped" if stopping.wait(3) else "not stopped", flush=True)
"""


def test_a_signal_that_comes_while_the_loop_holds_a_lock_does_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLDING], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("stopped\n", 0), done.stderr


@pytest.mark.parametrize(
    ("arguments", "number", "code"),
    [
        (["daemon"], signal.SIGTERM, 0),
        (["--debug", "--project", "there", "daemon", "--stop-jobs"], signal.SIGINT, 0),
        (["--project", "daemon", "get", "daemon"], signal.SIGTERM, -signal.SIGTERM),
        (["apply"], signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_a_daemon_that_is_told_to_stop_while_it_is_still_imported_ends_well(
    tmp_path: Path, arguments: list[str], number: int, code: int
) -> None:
    slow = f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(30)\n"
    (tmp_path / "click.py").write_text(slow)  # the first import that takes time
    done = subprocess.run(
        [sys.executable, "-m", "mlops", *arguments],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
