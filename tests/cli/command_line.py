"""The command line in processes of its own: in pipes, and on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

START = "from mlops.cli import main; main()"


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str


def child(*arguments: str, cwd: Path, **environ: str) -> Ran:
    """Run one command line in a process of its own, its output in pipes."""
    done = subprocess.run(
        [sys.executable, "-c", START, *arguments],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def on_a_terminal(*arguments: str, cwd: Path, **environ: str) -> str:
    """What a command writes when it is run on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", START, *arguments]
    full = {**os.environ, "TERM": "xterm-256color", **environ}
    with subprocess.Popen(command, cwd=cwd, env=full, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while chunk := _read(ours):
            written += chunk
        process.wait(60)
    os.close(ours)
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""
