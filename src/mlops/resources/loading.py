"""All resources of a project at a revision, and everything that is wrong with them, in one pass.

Files come from a snapshot in batches, never through a checkout. A file without problems is kept in a cache
under its blob id, so that an unchanged file is parsed once; what holds between documents is checked each time.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from mlops.errors import Location
from mlops.resources.built import Built
from mlops.resources.dataset import Dataset
from mlops.resources.documents import FileContent, Record
from mlops.resources.fields import find, steps
from mlops.resources.key import Key
from mlops.resources.places import normal_path
from mlops.resources.problem import Finding, Problem, field_name
from mlops.resources.project import Project
from mlops.resources.project_files import PROJECT_FILE, Entry, ParseCache, ProjectFiles, Snapshot, batches
from mlops.resources.relations import check_relations
from mlops.resources.surroundings import check_surroundings, lists_of
from mlops.resources.yaml_places import LocatedDocument, read_documents

__all__ = ["PROJECT_FILE", "Entry", "Loaded", "ParseCache", "Snapshot", "load"]

DEFAULT_FOLDERS = ("resources",)
_FOLDERS = steps("spec.resources.*")
_SETTLED = frozenset({"Dataset", "Experiment", "Model", "ModelVersion"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a revision declares.

    Where `project` is None, the folders of resources may not be the ones that were meant: then nothing that
    is absent here may be taken for removed. The last three fields are as `last_good.hold` leaves them.
    """

    project: Project | None
    resources: Built  # the valid ones, the Project among them
    problems: tuple[Problem, ...]  # sorted by place
    invalid: frozenset[Key]  # declared, but broken
    unreadable: tuple[str, ...]  # files that may declare more than is known
    locations: Mapping[Key, Location]  # where each document begins, also of invalid ones
    _snapshot: Snapshot = field(repr=False, compare=False)
    _indexes: Mapping[Key, int] = field(repr=False, compare=False)
    records: tuple[Record, ...] = field(repr=False, compare=False)  # its documents, broken ones among them
    kept: frozenset[Key] = frozenset()  # those of `resources` that are as they were at the last good revision
    why: Mapping[Key, str] = field(
        default_factory=dict
    )  # why each is kept, or is `invalid` though well-formed
    kept_data: Mapping[str, Dataset] = field(default_factory=dict)  # by name: as kept experiments know them

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with it: then what it does not declare was removed."""
        return not self.problems and not self.unreadable

    def settled(self) -> Loaded:
        """The same without the plain values of what is valid and most numerous: its resources say it all.

        For whoever keeps it for long. Projects, Stages and Promotions stay as they are written, too.
        """
        settled = {
            id(record): record._replace(values=self.resources[key], resource=self.resources[key])
            for key, record in self.resources.records.items()
            if key.kind in _SETTLED and (record.resource is None or record.values is not record.resource)
        }
        records = {key: settled.get(id(one), one) for key, one in self.resources.records.items()}
        return replace(
            self,
            resources=Built(records, self.resources),
            records=tuple(settled.get(id(record), record) for record in self.records),
        )

    def without_resources(self, snapshot: Snapshot) -> Loaded:
        """What is left to be known once a plan was made, for whoever keeps it for hours."""
        return replace(
            self,
            resources=Built({}),
            problems=(),
            locations={},
            why={},
            records=(),
            _indexes={},
            _snapshot=snapshot,
        )

    @property
    def place(self) -> str:
        """The revision, as messages name it."""
        return "the working tree" if self._snapshot.dirty else self._snapshot.revision[:12]

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


def load(snapshot: Snapshot, cache: ParseCache | None = None, before: Loaded | None = None) -> Loaded:
    """Read, validate and check all resources of a project; never raises for what they hold.

    Args:
        snapshot: the files at a revision.
        cache: where parsed files are kept; None parses everything.
        before: another revision, whose documents are shared as far as their files are the same.
    """
    with without_garbage_collection():
        unchanged = _unchanged(before, snapshot) if before is not None else {}
        return _load(ProjectFiles(snapshot, cache, unchanged), before)


def _unchanged(before: Loaded, snapshot: Snapshot) -> dict[str, FileContent]:
    """What the files hold that are as they were and had nothing wrong in them."""
    then, now = before._snapshot.entries(), snapshot.entries()
    by_file: dict[str, list[Record]] = {}
    for record in before.records:
        by_file.setdefault(record.file, []).append(record)
    for problem in before.problems:
        by_file.pop(problem.location.file, None)
    return {
        file: FileContent(tuple(records))
        for file, records in by_file.items()
        if file in then and file in now and then[file].blob and then[file].blob == now[file].blob
    }


def _load(files: ProjectFiles, before: Loaded | None) -> Loaded:
    contents = files.project_file()
    projects = [record for content in contents for record in content.records if record.key.kind == "Project"]
    contents += files.files(files.resource_files(_folders(projects)))
    everything = [record for content in contents for record in content.records]
    records = [record for record in everything if record.file == PROJECT_FILE or record.key.kind != "Project"]
    found = [
        *_second_projects(projects),
        *check_relations(records, files.nearest),
        *check_surroundings(records, lists_of(projects), files.tree, files.nearest),
    ]
    found = [(record, finding) for record, finding in found if finding.path not in record.wrong]
    misplaced = list(_misplaced_projects(everything))
    problems = [*files.problems, *_with_places(files.snapshot, [*found, *misplaced])]
    problems += [problem for content in contents for problem in content.problems]
    if not projects and PROJECT_FILE not in files.unreadable:
        problems.append(_no_project(PROJECT_FILE in files.entries))
        files.unreadable.add(PROJECT_FILE)

    broken = {record.key for record, _ in found}
    broken |= {record.key for record in records if not record.valid and record.ordinal >= 0}
    valid = {record.key: record for record in records if record.valid and record.key not in broken}
    # What broken text seemed to declare may have been read after all, before the text broke off.
    broken |= {record.key for record in records if record.ordinal < 0 and record.key not in valid}
    resources = Built(valid, before.resources if before is not None else None)
    project = next((resources[key] for key in valid if key.kind == "Project"), None)
    return Loaded(
        project=cast(Project | None, project),
        resources=resources,
        problems=tuple(sorted(problems, key=lambda problem: problem.place)),
        invalid=frozenset(broken),
        unreadable=tuple(sorted(files.unreadable)),
        locations={record.key: record.location for record in reversed(records)},
        _snapshot=files.snapshot,
        _indexes={record.key: record.ordinal for record in reversed(records)},
        records=tuple(records),
    )


def _folders(projects: list[Record]) -> tuple[str, ...]:
    """The folders of resources, also of a broken Project as far as they can be read."""
    if not projects:
        return DEFAULT_FOLDERS
    folders: list[str] = []
    listed = find(projects[0].values, _FOLDERS)
    for _, folder in listed:
        try:
            folders.append(normal_path(folder if isinstance(folder, str) else ""))
        except ValueError:
            continue  # reported as a problem of the Project
    return tuple(folders) if listed else DEFAULT_FOLDERS


def _misplaced_projects(records: list[Record]) -> Iterator[tuple[Record, Finding]]:
    """Projects in other files, which count for nothing."""
    for record in records:
        if record.key.kind == "Project" and record.file != PROJECT_FILE and record.ordinal >= 0:
            yield record, Finding(("kind",), f"stands in {PROJECT_FILE} only", "Remove it, or move it there.")


def _second_projects(projects: list[Record]) -> Iterator[tuple[Record, Finding]]:
    together = [record for record in projects if record.ordinal >= 0]
    if len(together) > 1:
        for record in together:
            yield record, Finding(("kind",), "stands more than once", "Keep one Project in a repository.")


def _no_project(there: bool) -> Problem:
    what = "declares no Project" if there else "is missing"
    fix = "Add a document of kind Project, as `mlops init` writes it."
    return Problem(Location(PROJECT_FILE, 1, 1), None, None, what, fix)


def _with_places(snapshot: Snapshot, found: list[tuple[Record, Finding]]) -> list[Problem]:
    """The problems that these findings are, with line and column; reads their files again."""
    by_file: dict[str, list[tuple[Record, Finding]]] = defaultdict(list)
    for record, finding in found:
        by_file[record.file].append((record, finding))
    entries = snapshot.entries()
    problems: list[Problem] = []
    for batch in batches(list(by_file), entries):
        for file, documents in _located(snapshot, batch).items():
            for record, finding in by_file[file]:
                at = documents[record.ordinal].find(finding.path, on_key=finding.on_key)
                name = field_name(finding.path)
                problems.append(
                    Problem(Location(file, *at), str(record.key), name, finding.what, finding.fix)
                )
    return problems


def _located(snapshot: Snapshot, files: Iterable[str]) -> dict[str, list[LocatedDocument]]:
    contents = snapshot.read(files)
    return {file: read_documents(data.decode("utf-8-sig"))[0] for file, data in contents.items()}


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Building tens of thousands of values makes the collector look at them again and again for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
