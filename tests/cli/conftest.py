"""The command line, in this process and in others, on small real projects."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "lifecycle"))  # where the small project is

from command_line import Ran
from git_project import GitProject, clean_environ


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
