"""A project folder for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dataset_place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    base = tmp_path / "project"
    base.mkdir()
    return Place(base)


@pytest.fixture
def new_place(tmp_path: Path) -> Callable[[str], Place]:
    def make(name: str) -> Place:
        base = tmp_path / name
        base.mkdir(parents=True)
        return Place(base)

    return make
