"""Real files, real git revisions, a cache that counts and a clock that the test moves."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops.data import DatasetRequest, observe_all
from mlops.observation.observed import ObservedDataset


class CountingCache:
    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.looks = 0

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        self.looks += 1
        return {key: self.entries[key] for key in keys if key in self.entries}

    def put_many(self, entries: Mapping[str, bytes]) -> None:
        self.entries.update(entries)


class GitFiles:
    """The files of a commit of a real repository."""

    def __init__(self, repository: Path, revision: str = "HEAD") -> None:
        self._repository = repository
        self.files: dict[str, tuple[str, int]] = {}
        self.reads: list[str] = []
        for line in git(repository, "ls-tree", "-r", "-l", "-z", revision).split(b"\0"):
            if line:
                described, _, path = line.partition(b"\t")
                _, _, blob, size = described.split()
                self.files[os.fsdecode(path)] = (blob.decode(), int(size))

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        wanted = list(paths)
        self.reads += wanted
        return {path: git(self._repository, "cat-file", "blob", self.files[path][0]) for path in wanted}


class GivenFiles:
    """A revision that claims to hold what git itself would refuse, such as `..` in a tree."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents
        self.files = {p: (hashlib.sha1(c).hexdigest(), len(c)) for p, c in contents.items()}

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        return {path: self._contents[path] for path in paths}


def git(repository: Path, *arguments: str) -> bytes:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


@dataclass
class ExpectedColumn:
    type: str | None = None
    min: Any = None
    max: Any = None
    max_null: float | None = None


@dataclass
class Expected:
    min_rows: int | None = None
    columns: Mapping[str, ExpectedColumn] = field(default_factory=dict)
    max_rows: int | None = None


@dataclass
class Place:
    """A project folder with everything that an observation needs."""

    base: Path
    cache: CountingCache = field(default_factory=CountingCache)
    inside: GitFiles | GivenFiles | None = None
    seconds: float = field(default_factory=lambda: time.time() + 60)

    def now(self) -> float:
        return self.seconds

    def write(self, path: str, content: bytes | str) -> Path:
        target = self.base / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def commit(self, message: str = "change") -> GitFiles:
        if not (self.base / ".git").exists():
            git(self.base, "init", "-q", "-b", "main")
        git(self.base, "add", "-A")
        git(self.base, "commit", "-q", "--allow-empty", "-m", message)
        files = GitFiles(self.base)
        self.inside = files
        return files

    @property
    def around(self) -> dict[str, Any]:
        return {"base": self.base, "inside": self.inside, "cache": self.cache, "now": self.now}

    def look(self, uri: str, format: Any = None, **asked: Any) -> ObservedDataset:
        return observe_all([DatasetRequest("d", uri, format, **asked)], **self.around)["d"]
