"""How long a project keeps its history is the Project's say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from mlops.state import Event
from mlops.workspace import Workspace

PROJECT = """\
apiVersion: mlops/v1
kind: Project
metadata: {name: kept}
spec: {state: {keepEvents: 1d}}
"""
DAY = 86_400.0


def test_events_are_kept_as_long_as_the_project_says(tmp_path: Path, clock: Callable[[], float]) -> None:
    (tmp_path / "mlops.yaml").write_text(PROJECT)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with Workspace(tmp_path, environ={}, now=clock) as workspace:
        project = workspace.open(workspace.snapshot(working_tree=True))
        workspace.state.add_events([Event(clock(), "Model/m", "Tick", "old")])
        clock.time += 0.9 * DAY  # type: ignore[attr-defined]
        workspace.prune(project)
        assert len(workspace.state.events()) == 1
        clock.time += 0.2 * DAY  # type: ignore[attr-defined]
        workspace.prune(project)
        assert workspace.state.events() == []
