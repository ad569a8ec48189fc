"""Projects on disk for the loader, made from a few texts."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from snapshots import FolderSnapshot

from mlops.resources import Loaded, load
from mlops.resources.loading import ParseCache

PROJECT = """\
apiVersion: mlops/v1
kind: Project
metadata: {name: bikes}
spec: {variables: [BUCKET], groups: {leads: [alice@example.com]}}
"""


class Declared:
    """A project in a folder; `load` reads it anew each time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("mlops.yaml", PROJECT)
        self.write("training/train.py", "print('training')\n")
        self.write("training/requirements.txt", "\n")

    def write(self, path: str, content: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def documents(self, path: str, *documents: str) -> None:
        """Documents without their apiVersion line, which is put in front of each."""
        self.write(path, "---\n".join(f"apiVersion: mlops/v1\n{dedent(text).lstrip()}" for text in documents))

    @property
    def snapshot(self) -> FolderSnapshot:
        return FolderSnapshot(self.root)

    def load(self, cache: ParseCache | None = None) -> Loaded:
        return load(self.snapshot, cache)

    def problems(self, *documents: str) -> list[str]:
        """What is wrong with these documents, in `resources/x.yaml`."""
        self.documents("resources/x.yaml", *documents)
        return [str(problem) for problem in self.load().problems]


@pytest.fixture
def declared(tmp_path: Path) -> Declared:
    return Declared(tmp_path)
