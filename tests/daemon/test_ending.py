"""A signal ends the daemon wherever it comes in."""

from __future__ import annotations

import subprocess
import sys

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
