"""Daemons for the tests of the whole way: commit to alias, with real processes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "lifecycle"))  # where forking and the small project are

import running
from forking import Forks
from git_project import GitProject, clean_environ
from long_job import Long
from running import Daemons, declared


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Commands as processes that cost no import."""
    with Forks(tmp_path_factory.mktemp("forks"), clean_environ(), running.__file__) as parent:
        yield parent


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """An MLflow database that holds nothing yet; to be copied."""
    place = tmp_path_factory.mktemp("empty-store")
    assert forks.run("prepared", str(place)).code == 0
    return place / ".mlops/mlflow.db"


@pytest.fixture(scope="session")
def with_store(empty_store: Path) -> Callable[[Path], Path]:
    """Gives a folder its MLflow database, so that no daemon has to make one."""

    def give(root: Path) -> Path:
        (root / ".mlops").mkdir(parents=True)
        (root / ".mlops/.gitignore").write_text("*\n")
        shutil.copy(empty_store, root / ".mlops/mlflow.db")
        return root

    return give


@pytest.fixture
def make_project(tmp_path: Path, with_store: Callable[[Path], Path]) -> Callable[..., GitProject]:
    """Makes a project of given documents and settings, which is committed and asks git once an hour."""

    def make(
        documents: list[dict[str, Any]] | None = None, name: str = "project", **settings: Any
    ) -> GitProject:
        settings = {"source": {"interval": "1h"}, **settings}
        made = GitProject(tmp_path / name, declared() if documents is None else documents, **settings)
        with_store(made.root)
        return made

    return make


@pytest.fixture
def daemons(forks: Forks, tmp_path: Path) -> Iterator[Daemons]:
    """Starts daemons, and ends those that are left."""
    started = Daemons(forks, tmp_path)
    yield started
    started.close()


@pytest.fixture
def long(make_project: Callable[..., GitProject], tmp_path: Path) -> Iterator[Long]:
    """A project with a job of ten minutes, committed."""
    made = Long(make_project(), tmp_path)
    yield made
    made.close()
