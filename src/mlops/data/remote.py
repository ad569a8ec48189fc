"""Files in object stores, through fsspec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from mlops.data.local import not_found
from mlops.data.members import CHUNK, LFS_LARGEST, FileSet, Hashed, refuse_lfs_pointer
from mlops.data.patterns import Pattern, everything_below, is_pattern, parse_pattern
from mlops.data.places import EXTRAS, InStore
from mlops.data.request import Clock, Problem, printable

_ATTEMPTS = 3
_MOST_OBJECTS = 1_000_000
# A value that changes with the content; the first one found counts, and those that listings give come first.
_VALIDATORS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "VersionId", "version_id", "checksum")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An object in a store as it was at one moment; `validator` is None where the store gives none."""

    relative: str
    path: str  # as the file system wants it
    shown: str
    size: int
    validator: str | None
    files: Any  # the fsspec file system
    scheme: str

    @property
    def key(self) -> str | None:
        """Address, size and the store's validator; without one the object is hashed at each observation."""
        if self.validator is None:
            return None
        return f"remote:{self.scheme}:{self.size}:{self.validator}:{printable(self.path)}"

    def recall(self, entry: Mapping[str, Any]) -> str | None:
        """The object's sha256: a strong validator names the content."""
        sha256 = entry.get("sha256")
        return sha256 if isinstance(sha256, str) else None

    def hash(self, now: Clock) -> Hashed:
        """Read and hash it in pieces; an object that changes meanwhile is read again, up to three times."""
        for _ in range(_ATTEMPTS):
            with answering(self.scheme, self.shown):
                before = self._again()
                sha256, read = self._read_once()
                after = self._again()
            if before == after and read == before.size:
                entry = {"sha256": sha256} if before.validator is not None else None
                return Hashed(sha256, before, entry)
        raise _changing(self.shown)

    def open(self) -> BinaryIO:
        """Open it for reading."""
        with answering(self.scheme, self.shown):
            return cast(BinaryIO, self.files.open(self.path, "rb"))

    def check_unchanged(self) -> None:
        """Raise Problem if it is no longer the object that was hashed, as far as the store tells."""
        with answering(self.scheme, self.shown):
            again = self._again()
            if (again.size, again.validator) != (self.size, self.validator):
                raise _changing(self.shown)

    def _again(self) -> RemoteFile:
        self.files.invalidate_cache()
        info = self.files.info(self.path)
        return _from_info(info, self.relative, self.shown, self.files, self.scheme)

    def _read_once(self) -> tuple[str, int]:
        hasher = hashlib.sha256()
        read = 0
        with self.files.open(self.path, "rb") as file:
            while chunk := file.read(CHUNK):
                if read == 0:
                    refuse_lfs_pointer(chunk[:LFS_LARGEST], self.size, self.shown)
                hasher.update(chunk)
                read += len(chunk)
        return hasher.hexdigest(), read


def remote_files(place: InStore, shown: str) -> FileSet:
    """The object at a URI, or all objects of the folder or glob that it names.

    Raises:
        Problem: `MissingExtra` without the store's library, `NotFound`, or `Unreachable`.
    """
    with answering(place.scheme, shown):
        files, path = _opened(place, shown)
        files.invalidate_cache()
        if is_pattern(path):
            pattern = parse_pattern(path, shown)
            return _folder(files, place.scheme, pattern, shown, "/".join(pattern.parts))
        info = files.info(path)
        if info.get("type") == "directory":
            return _folder(files, place.scheme, everything_below(path), shown, None)
        name = path.rsplit("/", 1)[-1]
        member = _from_info(info, name, shown, files, place.scheme)
        return FileSet(name, (member,), single=True, outside=True)


@contextmanager
def answering(scheme: str, shown: str) -> Iterator[None]:
    """Turn what a store's library raises into a Problem without its text, which may hold credentials."""
    try:
        yield
    except Problem:
        raise
    except FileNotFoundError as error:
        raise not_found(shown) from error
    except ImportError as error:
        raise missing_extra(EXTRAS.get(scheme, "all"), f"{shown} needs a library") from error
    except PermissionError as error:
        raise Problem(
            "Unreachable",
            f"{shown}: the store refuses access",
            fix="Give the reconciler credentials that may read it.",
        ) from error
    except Exception as error:  # each store's library has exceptions of its own, without a base in common
        raise Problem(
            "Unreachable",
            f"{shown}: the store did not answer as expected ({type(error).__name__})",
            fix="Check the URI, the credentials and the network; it is asked again at the next pass.",
        ) from error


def missing_extra(extra: str, what: str) -> Problem:
    """The Problem of a library that is not installed."""
    fix = f'Install it where the reconciler runs: pip install "mlops-controller[{extra}]".'
    return Problem("MissingExtra", f"{what} that is not installed", fix=fix)


def _opened(place: InStore, shown: str) -> tuple[Any, str]:
    """The file system of a URI, with the account that the URI names, and the path in it."""
    import fsspec

    try:
        fsspec.get_filesystem_class(place.scheme)
    except (ImportError, ValueError) as error:  # ValueError: a scheme that only the missing library knows
        raise missing_extra(EXTRAS.get(place.scheme, "all"), f"{shown} needs a library") from error
    files, path = fsspec.core.url_to_fs(place.uri, use_listings_cache=False)
    return files, str(path).rstrip("/")


def _folder(files: Any, scheme: str, pattern: Pattern, shown: str, glob: str | None) -> FileSet:
    prefix = pattern.prefix
    if scheme != "memory" and not prefix.strip("/"):
        raise Problem("Invalid", f"{shown} names no bucket", fix="Write the bucket without a glob character.")
    found = files.find(prefix, maxdepth=pattern.depth, detail=True)
    if len(found) > _MOST_OBJECTS:
        raise Problem(
            "Unreadable", f"{shown} has more than {_MOST_OBJECTS} objects", fix="Name a narrower one."
        )
    members = []
    for path, info in found.items():
        relative = path.removeprefix(prefix).strip("/")
        if info.get("type") == "file" and relative and pattern.matches(relative):
            named = f"{shown}: {printable(relative)}"
            members.append(_from_info({**info, "name": path}, relative, named, files, scheme))
    if not members:
        raise Problem(
            "NotFound", f"{shown} has no files", fix="Hidden files and _SUCCESS markers do not count."
        )
    members.sort(key=lambda member: member.relative)
    name = prefix.rstrip("/").rsplit("/", 1)[-1] or "data"
    return FileSet(name, tuple(members), single=False, outside=True, pattern=glob)


def _from_info(info: Mapping[str, Any], relative: str, shown: str, files: Any, scheme: str) -> RemoteFile:
    size = info.get("size")
    return RemoteFile(
        relative,
        str(info["name"]),
        shown,
        int(size) if size is not None else -1,
        _validator(info),
        files,
        scheme,
    )


def _validator(info: Mapping[str, Any]) -> str | None:
    for name in _VALIDATORS:
        value = info.get(name)
        if isinstance(value, str | int) and value and not str(value).startswith("W/") and value != "null":
            return printable(f"{name}={value}")
    return None


def _changing(shown: str) -> Problem:
    return Problem("Unreadable", f"{shown} changes while it is read", fix="Write it whole, then let it be.")
