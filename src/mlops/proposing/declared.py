"""A revision as proposals need it: its resources, the text they stand in, and edits of that text, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from mlops.errors import Stalled
from mlops.resources.documents import read_file
from mlops.resources.key import Key
from mlops.resources.kinds import Resource
from mlops.resources.loading import Loaded, load
from mlops.resources.nearest import Nearest
from mlops.resources.problem import Problem
from mlops.source.editing import Edit, with_document, with_fields
from mlops.source.snapshot import Entry, Snapshot

R = TypeVar("R", bound=Resource)


def declared(loaded: Loaded, kind: type[R], name: str) -> R:
    """A resource as it is declared now.

    Raises:
        Stalled: it is not there, or broken.
    """
    key = Key(kind.__name__, name)
    resource = loaded.resources.get(key)
    if isinstance(resource, kind) and key not in loaded.kept:
        return resource
    broken = key in loaded.invalid or key in loaded.kept
    what = f"{key} is broken" if broken else f"there is no {key}"
    raise Stalled(what, where=loaded.locations.get(key), fix="Mend it." if broken else "Declare it.")


class Draft:
    """Files with edits.

    Args:
        loaded: what the revision declares.
        texts: the text of the files that it is declared in, by path.
    """

    def __init__(self, loaded: Loaded, texts: Mapping[str, str]) -> None:
        self._loaded = loaded
        self._texts = texts
        self._edited: dict[str, str] = {}

    def edit(self, edits: Iterable[Edit]) -> None:
        """Sets and removes fields. Raises Stalled when that cannot be done without changing anything else."""
        for edit in edits:
            file = self._loaded.locations[edit.resource].file
            self._edited[file] = with_fields(self._text(file), [edit], where=file)

    def add(self, document: str, file: str) -> None:
        """Adds a document to a file, which is made where it is absent."""
        self._edited[file] = with_document(self._text(file, ""), document, where=file)

    def files(self) -> dict[str, str]:
        """The files that differ.

        Raises:
            Stalled: one of them is no longer valid, which an edit that was meant is not.
        """
        nearest = Nearest()
        changed = {file: text for file, text in self._edited.items() if text != self._texts.get(file)}
        for file, text in changed.items():
            before = {_gist(problem) for problem in _problems(file, self._texts.get(file, ""), nearest)}
            for problem in _problems(file, text, nearest):
                if _gist(problem) not in before:
                    raise Stalled(f"the edit would break it: {problem}", where=file, fix="Edit it by hand.")
        return changed

    def _text(self, file: str, otherwise: str | None = None) -> str:
        text = self._edited.get(file, self._texts.get(file, otherwise))
        if text is None:
            raise Stalled("its text was not read", where=file, fix="Read every file that is declared in.")
        return text


@dataclass(frozen=True, slots=True)
class _Edited:
    """A snapshot with other texts in it."""

    snapshot: Snapshot
    files: Mapping[str, str]
    revision: str = ""
    dirty: bool = True

    def entries(self) -> dict[str, Entry]:
        entries = dict(self.snapshot.entries())
        for path, text in self.files.items():
            entry = entries.get(path) or Entry(path, "100644", "", 0)
            entries[path] = replace(entry, blob="", size=len(text.encode("utf-8", "surrogateescape")))
        return entries

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        wanted = set(paths)
        found = self.snapshot.read(wanted - self.files.keys())
        edited = {path: self.files[path] for path in wanted & self.files.keys()}
        return found | {path: text.encode("utf-8", "surrogateescape") for path, text in edited.items()}


def check_whole(loaded: Loaded, snapshot: Snapshot, files: Mapping[str, str]) -> None:
    """See that a revision is no more broken with edits than without: references, graph and all.

    Args:
        loaded: what the revision declares.
        snapshot: its files.
        files: the new text of some of them, by path.

    Raises:
        Stalled: something is wrong then that was not before.
    """
    before = {_gist(problem) for problem in loaded.problems}
    for problem in load(_Edited(snapshot, files), before=loaded).problems:
        if _gist(problem) not in before:
            raise Stalled(f"the edit would break it: {problem}", fix="Nothing was written.")


def _problems(file: str, text: str, nearest: Nearest) -> tuple[Problem, ...]:
    return read_file(file, text.encode(), nearest).problems


def _gist(problem: Problem) -> tuple[str | None, ...]:
    """What stays of a problem when lines above it come or go."""
    return (problem.resource, problem.field, problem.what)
