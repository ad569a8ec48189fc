"""Real repositories, made by the real git, away from the configuration of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Git = Callable[..., str]


@pytest.fixture(autouse=True)
def _own_git_configuration(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("EMAIL", raising=False)


@pytest.fixture
def git() -> Git:
    """Runs git in a folder and gives what it printed, without the last newline."""

    def call(folder: Path, *arguments: str | bytes, feed: bytes = b"") -> str:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=folder, input=feed, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    return call


@pytest.fixture
def project(tmp_path: Path, git: Git) -> Path:
    """A repository with one commit on main: `mlops.yaml`, `training/train.py`, `training/run.sh` (exec)."""
    root = tmp_path / "project"
    (root / "training").mkdir(parents=True)
    (root / "mlops.yaml").write_text("kind: Project\n")
    (root / "training/train.py").write_text("print('trained')\n")
    (root / "training/run.sh").write_text("#!/bin/sh\n")
    (root / "training/run.sh").chmod(0o755)
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "Declare the project")
    return root
