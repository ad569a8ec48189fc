"""Executors are found by name; one that is not there is named with those that are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlops.errors import Stalled
from mlops.execution.local import LocalExecutor
from mlops.execution.registry import executor, installed


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that brings one executor that works and one that does not."""
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mlops.executors]\nremote = plugin_of_a_test:Remote\nbroken = plugin_that_is_not_there:X\n"
    )
    (tmp_path / "plugin_of_a_test.py").write_text(
        "class Remote:\n    def __init__(self, home): self.home = home\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plugin_of_a_test", raising=False)


def test_local_is_built_in(tmp_path: Path) -> None:
    assert isinstance(executor("local", tmp_path), LocalExecutor)
    assert "local" in installed()


@pytest.mark.usefixtures("plugins")
def test_an_installed_package_brings_executors(tmp_path: Path) -> None:
    assert {"broken", "local", "remote"} <= set(installed())
    assert executor("remote", tmp_path / "home").home == tmp_path / "home"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("plugins")
def test_an_executor_that_cannot_load_stops_only_its_jobs(tmp_path: Path) -> None:
    with pytest.raises(Stalled, match="could not be loaded: ModuleNotFoundError"):
        executor("broken", tmp_path)


def test_an_unknown_executor_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(Stalled, match=r"no executor 'moon'.*local"):
        executor("moon", tmp_path)
