"""Real databases: SQLite files, and schemas of the PostgreSQL server that all tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops.state import State, open_state


class Clock:
    """A wall clock that stands where a test puts it."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request: pytest.FixtureRequest) -> str:
    """A database that does not exist yet, of either kind."""
    if request.param == "sqlite":
        return "sqlite:///.mlops/state.db"
    return str(request.getfixturevalue("cluster").new_schema())


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., State]]:
    """Opens states in tmp_path and closes them in the end."""
    states: list[State] = []

    def open_(uri: str = "sqlite:///.mlops/state.db", **options: object) -> State:
        states.append(open_state(uri, base=tmp_path, **{"now": clock, **options}))  # type: ignore[arg-type]
        return states[-1]

    yield open_
    for state in states:
        state.close()


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python children in tmp_path and kills what is left of them."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()
