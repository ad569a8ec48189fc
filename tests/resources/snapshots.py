"""A folder on disk as the loader sees it: what git would list, with git's own blob ids."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileEntry:
    path: str
    mode: str
    blob: str
    size: int


class FolderSnapshot:
    """Files as they are on disk, read in batches; counts what is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.revision = ""
        self.dirty = True
        self.batches: list[list[str]] = []
        self._entries: dict[str, FileEntry] | None = None

    def entries(self) -> Mapping[str, FileEntry]:
        if self._entries is None:
            self._entries = {}
            for folder, names, files in os.walk(self.root):
                if ".git" in names:
                    names.remove(".git")
                links = [name for name in names if (Path(folder) / name).is_symlink()]
                for name in sorted([*files, *links]):
                    path = Path(folder) / name
                    data = self._bytes(path)
                    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
                    mode = "120000" if path.is_symlink() else "100644"
                    relative = path.relative_to(self.root).as_posix()
                    self._entries[relative] = FileEntry(relative, mode, blob, len(data))
        return self._entries

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        batch = list(paths)
        self.batches.append(batch)
        return {path: self._bytes(self.root / path) for path in batch}

    def _bytes(self, path: Path) -> bytes:
        return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


class CommitSnapshot:
    """The tree of a commit in a real git repository, read with git's plumbing."""

    def __init__(self, repository: Path, revision: str = "HEAD") -> None:
        self.repository = repository
        self.revision = self._git("rev-parse", revision).decode().strip()
        self.dirty = False

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        command = ["git", "-C", str(self.repository), *arguments]
        return subprocess.run(command, check=True, input=stdin, stdout=subprocess.PIPE).stdout

    def entries(self) -> Mapping[str, FileEntry]:
        entries = {}
        for line in self._git("ls-tree", "-r", "-l", "-z", self.revision).decode().split("\0")[:-1]:
            meta, _, path = line.partition("\t")
            mode, _, blob, size = meta.split()
            entries[path] = FileEntry(path, mode, blob, int(size) if size != "-" else 0)
        return entries

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        return {path: self._git("show", f"{self.revision}:{path}") for path in paths}


class MemoryCache:
    """Keeps everything; counts hits."""

    def __init__(self) -> None:
        self.items: dict[str, bytes] = {}
        self.hits = 0

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        found = {key: self.items[key] for key in keys if key in self.items}
        self.hits += len(found)
        return found

    def put_many(self, items: Mapping[str, bytes]) -> None:
        self.items.update(items)
