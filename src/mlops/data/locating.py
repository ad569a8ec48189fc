"""From a declared URI to the files or the table that it names: in the revision, on disk or in a store."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

from mlops.data.delta import LOG, DeltaTableAt, table_on_disk
from mlops.data.local import LocalFile, local_file, local_folder, not_found, reading
from mlops.data.members import Blob, FileSet
from mlops.data.patterns import Pattern, everything_below, is_pattern, parse_pattern
from mlops.data.places import InProject, InStore, OnDisk, parse_place
from mlops.data.remote import remote_files
from mlops.data.request import DatasetRequest, Inside, Problem

Located = FileSet | DeltaTableAt


class Tracked:
    """The files that git tracks, sorted once, so that a folder costs a search and not a scan."""

    def __init__(self, inside: Inside | None) -> None:
        self.inside = inside
        self._sorted: list[str] | None = None

    def blob(self, path: str, relative: str) -> Blob | None:
        """The tracked file at `path`, or None."""
        if self.inside is None or (found := self.inside.files.get(path)) is None:
            return None
        return Blob(relative, path, found[0], found[1], self.inside)

    def below(self, folder: str) -> Iterator[str]:
        """Paths of all tracked files below `folder`, sorted; those of the whole project for ""."""
        if self.inside is None:
            return
        if self._sorted is None:
            self._sorted = sorted(self.inside.files)
        prefix = f"{folder}/" if folder else ""
        for index in range(bisect_left(self._sorted, prefix), len(self._sorted)):
            if not self._sorted[index].startswith(prefix):
                return
            yield self._sorted[index]

    def matched(self, pattern: Pattern) -> tuple[Blob, ...]:
        """The tracked files that a pattern matches, sorted by their path below its prefix."""
        cut = len(pattern.prefix) + 1 if pattern.prefix else 0
        found = (
            self.blob(path, path[cut:]) for path in self.below(pattern.prefix) if pattern.matches(path[cut:])
        )
        return tuple(blob for blob in found if blob is not None)


def locate(request: DatasetRequest, base: Path, tracked: Tracked) -> Located:
    """Find what a dataset consists of.

    Raises:
        Problem: `Invalid`, `NotFound`, `Unreadable`, `Unreachable` or `MissingExtra`.
    """
    if request.version is not None and request.format not in (None, "delta"):
        raise Problem(
            "Invalid", f"{request.display}: version is for Delta tables", fix="Remove spec.version."
        )
    place = parse_place(request.uri, request.display)
    match place:
        case InProject():
            return _in_project(request, place.path, base, tracked)
        case OnDisk():
            return _on_disk(request, place.path, None)
        case InStore():
            if request.format == "delta" or request.version is not None:
                name = place.uri.rstrip("/").rsplit("/", 1)[-1]
                return DeltaTableAt(place.uri, name, request.display, request.version)
            return remote_files(place, request.display)


def _in_project(request: DatasetRequest, path: str, base: Path, tracked: Tracked) -> Located:
    name = path.rsplit("/", 1)[-1]
    if (blob := tracked.blob(path, name)) is not None:
        _refuse_file_as_table(request)
        return FileSet(name, (blob,), single=True, outside=False)
    cut = len(path) + 1 if path else 0
    log = f"{path}/{LOG}" if path else LOG
    if request.format != "csv" and request.format != "parquet" and any(True for _ in tracked.below(log)):
        blobs = [tracked.blob(file, file[cut:]) for file in tracked.below(path)]
        table = tuple(blob for blob in blobs if blob is not None)
        return DeltaTableAt("", name or "data", request.display, request.version, blobs=table)
    if members := tracked.matched(everything_below(path)):
        _refuse_file_as_table(request)
        return FileSet(name or "data", members, single=False, outside=False)
    if is_pattern(path):
        pattern = parse_pattern(path, request.display)
        if members := tracked.matched(pattern):
            _refuse_file_as_table(request)
            folder = pattern.prefix.rsplit("/", 1)[-1] or "data"
            return FileSet(folder, members, False, False, "/".join(pattern.parts))
    with reading("the project's folder"):
        fence = base.resolve(strict=True)
    return _on_disk(request, fence / path, fence)


def _on_disk(request: DatasetRequest, path: Path, fence: Path | None) -> Located:
    shown = request.display
    found: LocalFile | None
    try:
        found = local_file(path, fence=fence, name=path.name, shown=shown)
    except Problem as problem:
        if problem.reason == "NotFound" and is_pattern(str(path)):
            return _on_disk_glob(request, path, fence)
        raise
    if found is not None:
        _refuse_file_as_table(request)
        return FileSet(path.name, (found,), single=True, outside=True)
    has_log = (path / LOG).is_dir()
    if request.format == "delta" or request.version is not None or (request.format is None and has_log):
        if not has_log:
            raise Problem("NotFound", f"{shown} is not a Delta table", fix="Mend spec.uri or format.")
        return table_on_disk(path, shown=shown, version=request.version)
    with reading(shown):
        within = path.resolve(strict=True) if fence is None else fence
    return local_folder(path, None, fence=within, shown=shown)


def _on_disk_glob(request: DatasetRequest, path: Path, fence: Path | None) -> FileSet:
    _refuse_file_as_table(request)
    pattern = parse_pattern(path.as_posix(), request.display)
    folder = Path(pattern.prefix or "/")
    if not folder.is_dir():
        raise not_found(request.display)
    with reading(request.display):
        within = folder.resolve(strict=True) if fence is None else fence
    return local_folder(folder, pattern, fence=within, shown=request.display)


def _refuse_file_as_table(request: DatasetRequest) -> None:
    if request.format == "delta" or request.version is not None:
        what = f"{request.display} is not a Delta table"
        raise Problem("Unreadable", what, fix="Name the folder that holds _delta_log, or mend spec.format.")
