"""What must not end the daemon, or a thread of it."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from mlops.daemon.following import RemoteBranch
from mlops.errors import MlopsError
from mlops.workspace import Mirrored, Workspace


class FullOnce:
    """A mirror on a disk that has no space the first time."""

    brought = False

    def __init__(self) -> None:
        self.asked = 0

    def fetch(self, branch: str) -> str:
        self.asked += 1
        if self.asked == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "mirror.git/fetch")
        return "1" * 40

    def close(self) -> None:
        pass


class Repository:
    def tip(self, branch: str) -> str | None:
        return None


def test_a_full_disk_does_not_end_the_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.daemon.retries.FIRST", 0.01)
    told: list[str] = []
    moved, mirror = threading.Event(), FullOnce()
    repository: Any = Repository()
    following = RemoteBranch(
        mirror,  # type: ignore[arg-type]
        repository,
        "main",
        interval=0.01,
        fetched=lambda seconds, error: told.append(str(error)),
    )
    following.start(lambda reason: moved.set() if mirror.asked > 1 else None)
    try:
        assert moved.wait(20)
    finally:
        following.close()
    assert "No space left on device" in told[0]
    assert told[1] == "None"


def test_a_project_is_found_where_a_commit_took_its_file_away(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with pytest.raises(MlopsError, match=r"no mlops\.yaml"):
        Workspace.find(tmp_path)
    (tmp_path / ".mlops").mkdir()
    (tmp_path / "a").touch()
    with Workspace.find(tmp_path) as found:
        assert found.root == tmp_path
        with pytest.raises(MlopsError, match=r"mlops\.yaml was deleted. `git restore`"):
            found.open(found.snapshot(working_tree=True))
        subprocess.run(["git", "-C", str(tmp_path), "add", "a"], check=True)
        who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
        subprocess.run(["git", "-C", str(tmp_path), *who, "commit", "-q", "-m", "one"], check=True)
        with pytest.raises(MlopsError, match=r"mlops\.yaml is not in commit .* Revert the commit"):
            found.open(found.snapshot())


def test_a_home_that_is_known_is_not_written_again(tmp_path: Path) -> None:
    mirrored = Mirrored(tmp_path / "source.git", "models")
    mirrored.write(tmp_path / "home")
    note = tmp_path / "home" / "mirror.json"
    before = note.stat()
    mirrored.write(tmp_path / "home")
    assert (note.stat().st_ino, note.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert Mirrored.read(tmp_path / "home") == mirrored
