"""All resources of a project at a revision, and everything that is wrong with them, in one pass.

Files come from a snapshot in batches, never through a checkout. A file without problems is kept in a cache
under its blob id, so that an unchanged file is parsed once; what holds
between documents is checked each time.
"""

from __future__ import annotations

import gc
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from mlops.errors import Location
from mlops.resources.core_schema import MAX_BYTES, MAX_TOTAL_BYTES
from mlops.resources.documents import FileContent, Record, from_payload, read_file, refused_file
from mlops.resources.engine import engine_version
from mlops.resources.fields import find, steps
from mlops.resources.key import Key
from mlops.resources.kinds import Resource
from mlops.resources.nearest import Nearest
from mlops.resources.places import normal_path
from mlops.resources.problem import Finding, Problem, field_name
from mlops.resources.project import Project
from mlops.resources.relations import check_relations
from mlops.resources.surroundings import LINK, SUBMODULE, Tree, check_surroundings, lists_of
from mlops.resources.yaml_places import LocatedDocument, read_documents

PROJECT_FILE = "mlops.yaml"
DEFAULT_FOLDERS = ("resources",)
_SUFFIXES = (".yaml", ".yml")
_BATCH_BYTES = 16 << 20
_FOLDERS = steps("spec.resources.*")


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


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a revision declares.

    Where `project` is None, the folders of resources may not be the ones that were meant: then nothing that
    is absent here may be taken for removed.
    """

    project: Project | None
    resources: Mapping[Key, Resource]  # the valid ones, the Project among them
    problems: tuple[Problem, ...]  # sorted by place
    invalid: frozenset[Key]  # declared, but broken
    unreadable: tuple[str, ...]  # files that may declare more than is known
    locations: Mapping[Key, Location]  # where each document begins, also of invalid ones
    _snapshot: Snapshot = field(repr=False, compare=False)
    _indexes: Mapping[Key, int] = field(repr=False, compare=False)

    def locate(self, key: Key, *path: str | int) -> Location:
        """Line and column of a field, such as `locate(key, "spec", "datasets", "train")`.

        Of a field that is not there, those of the nearest one around it. Reads the file again.
        Raises KeyError if there is no such document.
        """
        location = self.locations[key]
        documents = _located(self._snapshot, {location.file}).get(location.file, [])
        index = self._indexes[key]
        if not 0 <= index < len(documents):
            return location
        return Location(location.file, *documents[index].find(path))


def load(snapshot: Snapshot, cache: ParseCache | None = None) -> Loaded:
    """Read, validate and check all resources of a project; never raises for what they hold.

    Args:
        snapshot: the files at a revision.
        cache: where parsed files are kept; None parses everything.
    """
    with _without_garbage_collection():
        return _load(_Reading(snapshot, cache))


def _load(reading: _Reading) -> Loaded:
    contents = reading.project_file()
    projects = [record for content in contents for record in content.records if record.key.kind == "Project"]
    contents += reading.files(reading.resource_files(_folders(projects)))
    records = [record for content in contents for record in content.records]
    found = [
        *_misplaced_projects(records),
        *check_relations(records, reading.nearest),
        *check_surroundings(
            records, lists_of(projects[0].view if projects else None), reading.tree, reading.nearest
        ),
    ]
    found = [(record, finding) for record, finding in found if finding.path not in record.wrong]
    problems = [*reading.problems, *_with_places(reading.snapshot, found)]
    problems += [problem for content in contents for problem in content.problems]
    if not projects:
        problems.append(_no_project(contents))
        reading.unreadable.add(PROJECT_FILE)

    broken = {record.key for record, _ in found}
    broken |= {record.key for record in records if not record.valid and record.index >= 0}
    resources = {
        record.key: record.resource for record in records if record.resource and record.key not in broken
    }
    # What broken text seemed to declare may have been read after all, before the text broke off.
    broken |= {record.key for record in records if record.index < 0 and record.key not in resources}
    project = next((r for r in resources.values() if isinstance(r, Project)), None)
    return Loaded(
        project=project,
        resources=resources,
        problems=tuple(sorted(problems, key=lambda problem: problem.place)),
        invalid=frozenset(broken),
        unreadable=tuple(sorted(reading.unreadable)),
        locations={record.key: record.location for record in reversed(records)},
        _snapshot=reading.snapshot,
        _indexes={record.key: record.index for record in reversed(records)},
    )


class _Reading:
    """Reads the files of one snapshot."""

    def __init__(self, snapshot: Snapshot, cache: ParseCache | None) -> None:
        self.snapshot = snapshot
        self.cache = cache
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
        known = self._cached(paths)
        fresh: dict[str, bytes] = {}
        for batch in _batches([path for path in paths if path not in known], self.entries):
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
        found: dict[str, FileContent] = {}
        for path, key in keys.items():
            if key in payloads and (content := from_payload(path, payloads[key])):
                found[path] = content
        return found

    def _cache_key(self, path: str) -> str:
        return f"{engine_version()}:{self.entries[path].blob}"


def _batches(paths: list[str], entries: Mapping[str, Entry]) -> Iterator[list[str]]:
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


def _folders(projects: list[Record]) -> tuple[str, ...]:
    """The folders of resources, also of a broken Project as far as they can be read."""
    if not projects:
        return DEFAULT_FOLDERS
    folders: list[str] = []
    listed = find(projects[0].view, _FOLDERS)
    for _, folder in listed:
        try:
            folders.append(normal_path(folder if isinstance(folder, str) else ""))
        except ValueError:
            continue  # reported as a problem of the Project
    return tuple(folders) if listed else DEFAULT_FOLDERS


def _misplaced_projects(records: list[Record]) -> Iterator[tuple[Record, Finding]]:
    projects = [record for record in records if record.key.kind == "Project" and record.index >= 0]
    for record in projects:
        if record.file != PROJECT_FILE:
            yield record, Finding(("kind",), f"stands in {PROJECT_FILE} only", "Remove it, or move it there.")
        elif len([each for each in projects if each.file == PROJECT_FILE]) > 1:
            yield record, Finding(("kind",), "stands more than once", "Keep one Project in a repository.")


def _no_project(contents: list[FileContent]) -> Problem:
    what = "declares no Project" if contents else "is missing"
    fix = "Add a document of kind Project, as `mlops init` writes it."
    return Problem(Location(PROJECT_FILE, 1, 1), None, None, what, fix)


def _with_places(snapshot: Snapshot, found: list[tuple[Record, Finding]]) -> list[Problem]:
    """The problems that these findings are, with line and column; reads their files again."""
    by_file: dict[str, list[tuple[Record, Finding]]] = defaultdict(list)
    for record, finding in found:
        by_file[record.file].append((record, finding))
    entries = snapshot.entries()
    problems: list[Problem] = []
    for batch in _batches(list(by_file), entries):
        for file, documents in _located(snapshot, batch).items():
            for record, finding in by_file[file]:
                at = documents[record.index].find(finding.path, on_key=finding.on_key)
                name = field_name(finding.path)
                problems.append(
                    Problem(Location(file, *at), str(record.key), name, finding.what, finding.fix)
                )
    return problems


def _located(snapshot: Snapshot, files: Iterable[str]) -> dict[str, list[LocatedDocument]]:
    contents = snapshot.read(files)
    return {file: read_documents(data.decode("utf-8-sig"))[0] for file, data in contents.items()}


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Building tens of thousands of values makes the collector look at them again and again for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
