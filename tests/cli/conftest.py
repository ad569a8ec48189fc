"""The command line, in this process and in others, on small real projects."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "lifecycle"))  # where the small project is

from git_project import GitProject, clean_environ

START = "from mlops.cli import main; main()"


@dataclass(frozen=True)
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(clean_environ()) | {"NO_COLOR", "FORCE_COLOR", "CLICOLOR"} & set(
        os.environ
    ):
        monkeypatch.delenv(name)


@pytest.fixture
def mlops(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run one command line in this process."""
    from mlops.cli import run

    def call(*arguments: str, cwd: Path | None = None) -> Ran:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        capsys.readouterr()
        code = run(list(arguments))
        return Ran(code, *capsys.readouterr())

    return call


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


@pytest.fixture
def project(tmp_path: Path) -> GitProject:
    """The small lifecycle, committed and not applied; nothing here needs MLflow."""
    return GitProject(tmp_path / "project")


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> GitProject:
    """The small lifecycle, applied once for all tests, which only read it."""
    from mlops.cli import run

    found = GitProject(tmp_path_factory.mktemp("applied") / "project")
    names: dict[str, Any] = {name: os.environ.pop(name) for name in set(os.environ) - set(clean_environ())}
    try:
        assert run(["--project", str(found.root), "apply"]) == 0
    finally:
        os.environ.update(names)
    return found
