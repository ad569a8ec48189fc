"""What has to hold between documents and what is around them: the Project's lists and the files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mlops.resources.documents import Record
from mlops.resources.fields import find, steps, text_at, value_at
from mlops.resources.nearest import Nearest
from mlops.resources.places import variables_in
from mlops.resources.problem import FieldPath, Finding, shown

LINK = "120000"
SUBMODULE = "160000"
_MOST_SUGGESTED = 2_000  # among more files than these no name is near

_VARIABLES = steps("spec.variables.*")
_URIS = {
    "Dataset": [steps("spec.uri")],
    "Project": [steps("spec.tracking.uri"), steps("spec.tracking.artifacts"), steps("spec.state.uri")],
    "Notifier": [steps("spec.urls.*")],
}
_FROM = steps("spec.approvals.from.*")
_SOURCE = steps("spec.source.path")
_REQUIREMENTS = steps("spec.environment.requirements")
_ENTRY_POINT = steps("spec.entryPoint")


@dataclass(frozen=True, slots=True)
class Lists:
    """What a Project lists that other documents may use; None where the Project does not say."""

    variables: frozenset[str] | None = None
    groups: frozenset[str] | None = None


def lists_of(projects: Sequence[Record]) -> Lists:
    """The lists of the first Project, also of a broken one as far as they can be read."""
    values = projects[0].values if projects and projects[0].ordinal >= 0 else None
    spec = values.get("spec") if isinstance(values, dict) else None
    if not isinstance(spec, dict):
        return Lists()
    variables, groups = spec.get("variables", []), spec.get("groups", {})
    return Lists(
        frozenset(filter(_is_text, variables)) if isinstance(variables, list) else None,
        frozenset(groups) if isinstance(groups, dict) else None,
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


class Tree:
    """The files of a snapshot: which paths are files, folders, links.

    Args:
        modes: git's mode of every file, by path.
    """

    def __init__(self, modes: Mapping[str, str]) -> None:
        self.modes = modes

    @cached_property
    def folders(self) -> Collection[str]:
        """Every folder that holds a file, and `.`, the root."""
        folders = {"."}
        for path in self.modes:
            folder = path.rpartition("/")[0]
            while folder and folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        return folders

    def kind(self, path: str) -> str | None:
        """ "file", "folder", "link", "submodule", or None if there is nothing."""
        mode = self.modes.get(path)
        if mode is not None:
            return {LINK: "link", SUBMODULE: "submodule"}.get(mode, "file")
        return "folder" if path in self.folders else None


def check_surroundings(
    records: Iterable[Record], lists: Lists, tree: Tree, nearest: Nearest
) -> Iterator[tuple[Record, Finding]]:
    """Everything that a document asks of the Project's lists and of the files, and does not get.

    Args:
        records: documents, of which broken ones are checked, too.
        lists: what the Project allows.
        tree: the files.
        nearest: suggests names.
    """
    for record in records:
        if record.ordinal < 0:
            continue
        yield from check_lists(record, lists, nearest)
        if record.key.kind == "Experiment":
            yield from _code(record, tree, nearest)


def check_lists(record: Record, lists: Lists, nearest: Nearest) -> Iterator[tuple[Record, Finding]]:
    """Everything that one document uses and the Project does not list."""
    kind, view = record.key.kind, record.values
    for pattern in _URIS.get(kind, ()):
        for path, uri in find(view, pattern):
            for name in variables_in(uri) if isinstance(uri, str) else ():
                yield from _variable(record, path, name, lists, nearest)
    if kind == "Experiment":
        for path, name in find(view, _VARIABLES):
            if isinstance(name, str):
                yield from _variable(record, path, name, lists, nearest)
    elif kind == "Stage" and lists.groups:
        for path, name in find(view, _FROM):
            if isinstance(name, str) and name not in lists.groups:
                near = nearest.nearest(name, lists.groups)
                fix = f"Did you mean {near}?" if near else "Add it to the Project's spec.groups."
                yield record, Finding(path, f"there is no group {shown(name, 'of that name')}", fix)


def _variable(
    record: Record, path: FieldPath, name: str, lists: Lists, nearest: Nearest
) -> Iterator[tuple[Record, Finding]]:
    if lists.variables is not None and name not in lists.variables:
        near = nearest.nearest(name, lists.variables)
        fix = f"Did you mean {near}?" if near else "Add it to that list, or do without it."
        yield (
            record,
            Finding(path, f"{shown(name, 'the variable')} is not in the Project's spec.variables", fix),
        )


def _code(record: Record, tree: Tree, nearest: Nearest) -> Iterator[tuple[Record, Finding]]:
    source = text_at(record.values, _SOURCE)
    if source is not None:
        folder = source.rstrip("/").removeprefix("./") or "."
        found = tree.kind(folder)
        if found != "folder":
            fix = _nearest_path(folder, tree.folders, nearest) or "Name a folder that git tracks."
            yield record, Finding(("spec", "source", "path"), _instead("folder", found), fix)
        elif value_at(record.values, _ENTRY_POINT) is not None:
            manifest = "MLproject" if folder == "." else f"{folder}/MLproject"
            if tree.kind(manifest) != "file":
                what = f"needs a file {shown(manifest, 'MLproject')}, and there is none"
                yield record, Finding(("spec", "entryPoint"), what, "Add it, or use spec.command.")
    requirements = text_at(record.values, _REQUIREMENTS)
    if requirements is not None:
        found = tree.kind(requirements.removeprefix("./"))
        if found != "file":
            fix = _nearest_path(requirements, tree.modes, nearest) or "Name a file that git tracks."
            yield record, Finding(("spec", "environment", "requirements"), _instead("file", found), fix)


def _instead(wanted: str, found: str | None) -> str:
    if found is None:
        return f"there is no such {wanted} in this revision"
    return f"is a {found}, not a {wanted}" + (
        ", and is not followed" if found in ("link", "submodule") else ""
    )


def _nearest_path(path: str, known: Collection[str], nearest: Nearest) -> str | None:
    if len(known) > _MOST_SUGGESTED:
        return None
    near = nearest.nearest(path, known)
    return f"Did you mean {near}?" if near else None
