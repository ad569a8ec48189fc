"""The files of a project that hold resources: which they are, and what is in them, from a cache or read."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from mlops.errors import Location
from mlops.resources.core_schema import MAX_BYTES, MAX_TOTAL_BYTES
from mlops.resources.documents import FileContent, from_payloads, read_file, refused_file
from mlops.resources.engine import engine_version
from mlops.resources.nearest import Nearest
from mlops.resources.problem import Problem
from mlops.resources.surroundings import LINK, SUBMODULE, Tree

PROJECT_FILE = "mlops.yaml"
_SUFFIXES = (".yaml", ".yml")
_BATCH_BYTES = 16 << 20


class Entry(Protocol):
    """One file of a snapshot."""

    @property
    def path(self) -> str:
        """Relative to the project root, with `/`."""

    @property
    def mode(self) -> str:
        """Git's: `100644`, `100755`, `120000` (a link), `160000` (a submodule)."""

    @property
    def blob(self) -> str:
        """Git's id of the content; empty if it has none."""

    @property
    def size(self) -> int:
        """Bytes."""


class Snapshot(Protocol):
    """The files under the project root at a revision, or in the working tree."""

    @property
    def revision(self) -> str:
        """The commit."""

    @property
    def dirty(self) -> bool:
        """Whether it holds changes that are in no commit."""

    def entries(self) -> Mapping[str, Entry]:
        """All files, by path."""

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of these files, in one batch."""


class ParseCache(Protocol):
    """Keeps what files held, by an opaque key; may forget anything at any time."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """What is there of these."""

    def put_many(self, items: Mapping[str, bytes]) -> None:
        """Keep these."""


class ProjectFiles:
    """Reads the files of one snapshot; what is known of files beforehand is not read again."""

    def __init__(
        self, snapshot: Snapshot, cache: ParseCache | None, known: Mapping[str, FileContent] | None = None
    ) -> None:
        self.snapshot = snapshot
        self.cache = cache
        self.known = known or {}
        self.entries = snapshot.entries()
        self.tree = Tree({path: entry.mode for path, entry in self.entries.items()})
        self.nearest = Nearest()
        self.problems: list[Problem] = []
        self.unreadable: set[str] = set()

    def project_file(self) -> list[FileContent]:
        """What `mlops.yaml` holds."""
        kind = self.tree.kind(PROJECT_FILE)
        if kind == "file":
            return self.files([PROJECT_FILE])
        if kind is not None:
            self._refuse(PROJECT_FILE, kind)
        return []

    def resource_files(self, folders: tuple[str, ...]) -> list[str]:
        """The YAML files under `folders`, sorted; what is not followed is noted as a problem."""
        for folder in folders:
            parts = folder.split("/")
            for depth in range(1, len(parts) + 1):
                ancestor = "/".join(parts[:depth])
                if (kind := self.tree.kind(ancestor)) in ("link", "submodule"):
                    self._refuse(ancestor, kind)
        prefixes = tuple(f"{folder}/" for folder in folders)
        everything = "." in folders
        chosen: list[str] = []
        links: list[str] = []
        for path, mode in self.tree.modes.items():
            if not (everything or path.startswith(prefixes) or path in folders) or path == PROJECT_FILE:
                continue
            yaml = path.endswith(_SUFFIXES)
            if mode == SUBMODULE or (mode == LINK and yaml):
                self._refuse(path, "submodule" if mode == SUBMODULE else "link")
            elif mode == LINK:
                links.append(path)
            elif yaml:
                chosen.append(path)
        self._refuse_links_to_folders(links)
        return self._within_total(sorted(chosen))

    def _refuse(self, path: str, kind: str) -> None:
        what = f"is a {'symbolic link' if kind == 'link' else kind}, which is not followed"
        if path not in self.unreadable:
            self.unreadable.add(path)
            self.problems.append(
                Problem(Location(path, 1, 1), None, None, what, "Put the files themselves here.")
            )

    def _refuse_links_to_folders(self, links: list[str]) -> None:
        """A link to a folder hides the files in it; a link to any other file is none of our business."""
        for path, target in self.snapshot.read(links).items() if links else ():
            joined = posixpath.join(posixpath.dirname(path), target.decode("utf-8", "surrogateescape"))
            resolved = posixpath.normpath(joined)
            if resolved.startswith(("/", "..")) or resolved in self.tree.folders:
                self._refuse(path, "link")

    def _within_total(self, paths: list[str]) -> list[str]:
        chosen: list[str] = []
        total = 0
        for path in paths:
            total += min(self.entries[path].size, MAX_BYTES)
            if total > MAX_TOTAL_BYTES:
                what = f"is beyond the {MAX_TOTAL_BYTES >> 20} MiB that all resource files may have together"
                self._take(refused_file(path, what, "Move what is no resource out of these folders."), path)
            else:
                chosen.append(path)
        return chosen

    def _take(self, content: FileContent, path: str) -> None:
        self.problems += content.problems
        if content.unreadable:
            self.unreadable.add(path)

    def files(self, paths: list[str]) -> list[FileContent]:
        """What these files hold, in their order; from the cache where it knows them."""
        known = {path: self.known[path] for path in paths if path in self.known}
        known |= self._cached([path for path in paths if path not in known])
        fresh: dict[str, bytes] = {}
        for batch in batches([path for path in paths if path not in known], self.entries):
            data = self.snapshot.read(batch)
            for path in batch:
                if path not in data:
                    content = refused_file(path, "cannot be read", "Look whether it is still there.")
                else:
                    content = read_file(path, data[path], self.nearest)
                known[path] = content
                if content.payload is not None and self.entries[path].blob:
                    fresh[self._cache_key(path)] = content.payload
        if fresh and self.cache is not None:
            self.cache.put_many(fresh)
        for path in paths:
            if known[path].unreadable:
                self.unreadable.add(path)
        return [known[path] for path in paths]

    def _cached(self, paths: list[str]) -> dict[str, FileContent]:
        if self.cache is None:
            return {}
        keys = {path: self._cache_key(path) for path in paths if self.entries[path].blob}
        payloads = self.cache.get_many(list(dict.fromkeys(keys.values())))
        return from_payloads({path: payloads[key] for path, key in keys.items() if key in payloads})

    def _cache_key(self, path: str) -> str:
        return f"{engine_version()}:{self.entries[path].blob}"


def batches(paths: list[str], entries: Mapping[str, Entry]) -> Iterator[list[str]]:
    """Paths in groups whose files together are of a bounded size; a file that is too large is never read."""
    batch: list[str] = []
    size = 0
    for path in paths:
        if batch and size + entries[path].size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += entries[path].size
    if batch:
        yield batch
