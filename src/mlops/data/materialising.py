"""What a training job is given: a verified read-only copy of what git holds, or the place of the rest."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops.data.delta import DeltaTableAt, version_in
from mlops.data.local import local_file
from mlops.data.members import Blob, FileSet, digest_files, write_blobs
from mlops.data.observing import Found, as_of, find
from mlops.data.places import InProject, InStore, OnDisk, parse_place
from mlops.data.request import Clock, DatasetRequest, DigestCache, Inside, Problem
from mlops.errors import Transient

_INCOMING = ".incoming-"
_ABANDONED_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Materialised:
    """Where a job finds a dataset, and what else it needs to know.

    `path_or_uri` is an absolute path (for a glob: the pattern itself, absolute) or the URI; `variables` go
    behind `MLOPS_DATASET_<NAME>_`, so {"VERSION": "12"} is `MLOPS_DATASET_<NAME>_VERSION=12`.
    """

    path_or_uri: str
    variables: Mapping[str, str] = field(default_factory=dict)


def materialise(
    request: DatasetRequest,
    digest: str,
    *,
    base: Path,
    inside: Inside | None,
    cache_dir: Path,
    cache: DigestCache,
    now: Clock,
) -> Materialised:
    """Make a dataset ready for a job that was planned with `digest`.

    Content of the revision is copied to `cache_dir/<hex>/<name>`, read-only, appearing whole or not at all;
    a copy that is there is verified and used again. Everything else stays where it is and is checked to
    still have the digest.

    Args:
        request: what is declared.
        digest: as observed for the plan; a Delta table is given in the version that it names.
        base: the project root.
        inside: the files that git tracks at the revision.
        cache_dir: of copies; shared by jobs, and safe to delete while none runs.
        cache: of digests.
        now: seconds since the epoch.
    Raises:
        Problem: why the dataset cannot be used.
        Transient: it moved since it was planned with, or the copy could not be written.
    """
    request = as_of(request, digest)
    found = find(request, base=base, inside=inside, cache=cache, now=now)
    if found.digest != digest:
        raise Transient(
            f"{request.display} moved since it was planned with: it was {digest} and is {found.digest}",
            fix="Plan again.",
        )
    variables = {"VERSION": str(version_in(digest))} if digest.startswith("delta:") else {}
    if found.outside:
        return Materialised(_place(request, base), variables)
    try:
        copy = _copy(found, cache_dir, cache, now)
    except OSError as error:
        what = f"{request.display} cannot be copied for the job: {os.strerror(error.errno or 0)}"
        raise Transient(
            what, where=str(cache_dir), fix="See that the disk has room and may be written."
        ) from error
    return Materialised(str(copy), variables)


def _place(request: DatasetRequest, base: Path) -> str:
    place = parse_place(request.uri, request.display)
    match place:
        case InProject():
            return str(base.absolute() / place.path)
        case OnDisk():
            return str(place.path)
        case InStore():
            return place.uri


def _copy(found: Found, cache_dir: Path, cache: DigestCache, now: Clock) -> Path:
    files, digest = _content(found, cache, now)
    home = cache_dir.absolute() / digest.removeprefix("sha256:")
    target = home / files.name
    result = target / files.pattern if files.pattern is not None else target
    if _is_whole(target, files, digest, cache, now):
        return result
    home.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(cache_dir, now)
    scratch = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=cache_dir))
    try:
        payload = scratch / files.name
        blobs = {index: member for index, member in enumerate(files.members) if isinstance(member, Blob)}
        write_blobs(blobs, scratch if files.single else payload)
        if not _is_whole(payload, files, digest, cache, now):
            raise OSError(errno.EIO, "what was written does not read back")
        try:
            payload.replace(target)
        except OSError:  # another process was first with a folder, or what is there is damaged
            if not _is_whole(target, files, digest, cache, now):
                target.rename(scratch / "damaged")
                payload.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # what stays is removed a day later
    return result


def _content(found: Found, cache: DigestCache, now: Clock) -> tuple[FileSet, str]:
    """The files to copy and the digest of their bytes; a Delta table's digest names a version, not bytes."""
    if isinstance(found.located, FileSet):
        return found.located, found.digest
    table: DeltaTableAt = found.located
    files = FileSet(table.name, table.blobs, single=False, outside=False)
    known = cache.get_many([blob.key for blob in table.blobs])
    done = digest_files(files, known, now)
    if done.entries:
        cache.put_many(done.entries)
    return files, done.digest


def _is_whole(copy: Path, files: FileSet, digest: str, cache: DigestCache, now: Clock) -> bool:
    """Whether the copy has exactly the files, with the digest; a job may have damaged it."""
    wanted = {"" if files.single else member.relative: member for member in files.members}
    try:
        if _names_below(copy) != wanted.keys():
            return False
        members = []
        for relative, member in wanted.items():
            path = copy / relative if relative else copy
            file = local_file(path, fence=None, name=member.relative, shown=member.shown)
            if file is None:
                return False
            members.append(file)
        again = FileSet(files.name, tuple(members), files.single, outside=True)
        done = digest_files(again, cache.get_many([member.key for member in members]), now)
    except Problem:  # missing or unreadable: it is written again
        return False
    if done.entries:
        cache.put_many(done.entries)
    return done.digest == digest


def _names_below(copy: Path) -> set[str]:
    """Relative paths of the regular files below a folder, {""} for a file; links are never part of a copy."""
    if copy.is_symlink() or not copy.exists():
        return set()
    if copy.is_file():
        return {""}
    names = set()
    for folder, _, found in os.walk(copy):
        for name in found:
            path = Path(folder, name)
            names.add(path.relative_to(copy).as_posix() if not path.is_symlink() else f"link:{name}")
    return names


def _remove_abandoned(cache_dir: Path, now: Clock) -> None:
    for path in cache_dir.glob(f"{_INCOMING}*"):
        try:
            abandoned = now() - path.stat().st_mtime > _ABANDONED_SECONDS
        except FileNotFoundError:
            continue  # its owner has just finished
        if abandoned:
            shutil.rmtree(path, ignore_errors=True)
