"""Projects for the tests of the whole way: revision to status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forking import Forks
from git_project import GitProject, clean_environ, empty_database


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    keep = clean_environ()
    for name in set(os.environ) - set(keep):
        monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path: Path) -> GitProject:
    """The small lifecycle, committed and not applied."""
    return GitProject(tmp_path / "project").with_store()


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., GitProject]:
    """Makes a project of given documents."""

    def make(documents: list[dict[str, Any]], name: str = "project", **settings: Any) -> GitProject:
        return GitProject(tmp_path / name, documents, **settings).with_store()

    return make


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Commands as processes that cost no import."""
    with Forks(tmp_path_factory.mktemp("forks"), clean_environ()) as parent:
        yield parent


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database that holds nothing yet; to be copied."""
    place = tmp_path_factory.mktemp("empty-store") / "mlflow.db"
    place.write_bytes(empty_database())
    return place
