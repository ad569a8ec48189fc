"""Files on this machine's disk: found without leaving their fence, hashed so that no change is missed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mlops.data.members import CHUNK, LFS_LARGEST, FileSet, Hashed, refuse_lfs_pointer
from mlops.data.patterns import Pattern, Positions, everything_below, is_ignored
from mlops.data.request import Clock, Problem, printable

# As in git's "racily clean" rule: what changed this near to its hashing may change again with the same stat.
_RACY_NS = 2_000_000_000
_ATTEMPTS = 3
_MOST_ENTRIES = 1_000_000


@dataclass(frozen=True, slots=True)
class Signature:
    """What the file system says about a file; ctime cannot be set back, so a restored mtime hides nothing."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """The signature in a stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def settled_before(self, at_ns: int) -> bool:
        """Whether the last change was clearly before `at_ns`."""
        return max(self.mtime_ns, self.ctime_ns) < at_ns - _RACY_NS

    def __str__(self) -> str:
        return f"{self.size}:{self.mtime_ns}:{self.ctime_ns}:{self.inode}"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file on disk as it was at one moment."""

    relative: str
    path: Path
    shown: str
    signature: Signature

    @property
    def size(self) -> int:
        """In bytes."""
        return self.signature.size

    @property
    def key(self) -> str:
        """Path, size, mtime, ctime and inode."""
        return f"file:{self.signature}:{printable(str(self.path))}"

    def recall(self, entry: Mapping[str, Any]) -> str | None:
        """The file's sha256, if it was hashed clearly after its last change."""
        sha256, at = entry.get("sha256"), entry.get("at")
        if isinstance(sha256, str) and isinstance(at, int) and self.signature.settled_before(at):
            return sha256
        return None

    def hash(self, now: Clock) -> Hashed:
        """Read and hash it; a file that changes meanwhile is read again, up to three times."""
        for _ in range(_ATTEMPTS):
            at = int(now() * 1e9)
            with reading(self.shown):
                signature, sha256 = self._read_once()
            if signature is not None:
                member = LocalFile(self.relative, self.path, self.shown, signature)
                settled = signature.settled_before(at)
                return Hashed(sha256, member, {"sha256": sha256, "at": at} if settled else None, settled)
        raise _changing(self.shown)

    def open(self) -> BinaryIO:
        """Open it; refused if it is no longer the file that was hashed."""
        with reading(self.shown):
            file = _open_regular(self.path, self.shown)
        if Signature.of(os.fstat(file.fileno())) != self.signature:
            file.close()
            raise _changing(self.shown)
        return file

    def check_unchanged(self) -> None:
        """Raise Problem if it is no longer the file that was hashed."""
        with reading(self.shown):
            if Signature.of(self.path.stat()) != self.signature:
                raise _changing(self.shown)

    def _read_once(self) -> tuple[Signature | None, str]:
        with _open_regular(self.path, self.shown) as file:
            before = Signature.of(os.fstat(file.fileno()))
            hasher = hashlib.sha256()
            read = 0
            while chunk := file.read(CHUNK):
                if read == 0:
                    refuse_lfs_pointer(chunk[:LFS_LARGEST], before.size, self.shown)
                read += len(chunk)
                if read > before.size:  # grows while it is read: it might never end
                    return None, ""
                hasher.update(chunk)
            after = Signature.of(os.fstat(file.fileno()))
        same = before == after == Signature.of(self.path.stat()) and read == before.size
        return (before if same else None), hasher.hexdigest()


def local_file(path: Path, *, fence: Path | None, name: str, shown: str) -> LocalFile | None:
    """The file at `path`, or None if it is a folder.

    Args:
        path: absolute.
        fence: a resolved folder that the file may not lie outside of, links followed; None: anywhere.
        name: the member's relative path.
        shown: for messages.
    Raises:
        Problem: nothing there, outside the fence, not a regular file, or not permitted.
    """
    with reading(shown):
        if fence is not None:
            _keep_within(fence, path, shown)
        status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return None
    _refuse_special(status, shown)
    return LocalFile(name, path, shown, Signature.of(status))


def local_folder(folder: Path, pattern: Pattern | None, *, fence: Path, shown: str) -> FileSet:
    """All files below `folder` (those that `pattern` matches), links followed within `fence` only.

    Raises:
        Problem: no file, a link that leaves the fence or loops, a FIFO or device, or not permitted.
    """
    matched = everything_below("") if pattern is None else pattern
    with reading(shown):
        _keep_within(fence, folder, shown)
        status = folder.stat()
        found = list(_walk(folder, matched, fence, shown, (status.st_dev, status.st_ino)))
    if not found:
        raise Problem(
            "NotFound", f"{shown} has no files", fix="Hidden files and _SUCCESS markers do not count."
        )
    found.sort(key=lambda member: member.relative)
    glob = None if pattern is None else "/".join(pattern.parts)
    return FileSet(folder.name or "data", tuple(found), single=False, outside=True, pattern=glob)


@contextmanager
def reading(shown: str) -> Iterator[None]:
    """Turn what the operating system refuses into a Problem that names `shown` and no other path."""
    try:
        yield
    except FileNotFoundError as error:
        raise not_found(shown) from error
    except PermissionError as error:
        raise Problem(
            "Unreadable",
            f"{shown} may not be read: permission denied",
            fix="Allow the reconciler to read it.",
        ) from error
    except NotADirectoryError as error:
        raise not_found(shown) from error
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: pathlib's way to report a link loop
        loop = isinstance(error, RuntimeError) or getattr(error, "errno", None) == errno.ELOOP
        why = "its links loop" if loop else os.strerror(getattr(error, "errno", None) or errno.EIO)
        raise Problem("Unreadable", f"{shown} cannot be read: {why}") from error


def not_found(shown: str) -> Problem:
    """The Problem of a dataset that is not there."""
    return Problem("NotFound", f"{shown} does not exist", fix="Commit or create it, or mend spec.uri.")


def _walk(
    folder: Path, pattern: Pattern, fence: Path, shown: str, identity: tuple[int, int]
) -> Iterator[LocalFile]:
    seen = 0
    pending: list[tuple[str, Positions, frozenset[tuple[int, int]]]] = [
        ("", pattern.start(), frozenset({identity}))
    ]
    while pending:
        below, positions, ancestors = pending.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                seen += 1
                if seen > _MOST_ENTRIES:
                    raise Problem(
                        "Unreadable",
                        f"{shown} has more than {_MOST_ENTRIES} entries",
                        fix="Name a narrower one.",
                    )
                after = Positions() if is_ignored(entry.name) else pattern.step(positions, entry.name)
                if not after:
                    continue
                relative = f"{below}/{entry.name}" if below else entry.name
                named = f"{shown}: {printable(relative)}"
                if entry.is_symlink():
                    _keep_within(fence, Path(entry.path), named)
                with reading(named):
                    status = entry.stat()
                if stat.S_ISDIR(status.st_mode):
                    here = (status.st_dev, status.st_ino)
                    if here in ancestors:
                        raise Problem("Unreadable", f"{named} links back to a folder above it")
                    pending.append((relative, after, ancestors | {here}))
                elif pattern.accepts(after):
                    _refuse_special(status, named)
                    yield LocalFile(relative, Path(entry.path), named, Signature.of(status))


def _keep_within(fence: Path, path: Path, shown: str) -> None:
    with reading(shown):
        resolved = path.resolve(strict=True)
    if not resolved.is_relative_to(fence):
        raise Problem(
            "Invalid",
            f"{shown} is a link that leaves its folder or the project",
            fix="Declare the place that it points to as an absolute file:// URI.",
        )


def _refuse_special(status: os.stat_result, shown: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Problem(
            "Unreadable", f"{shown} is not a regular file", fix="Pipes, sockets and devices are no data."
        )


def _open_regular(path: Path, shown: str) -> BinaryIO:
    _refuse_special(path.stat(), shown)  # before opening: opening some devices does something
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    file = os.fdopen(descriptor, "rb", buffering=0)
    try:
        _refuse_special(os.fstat(descriptor), shown)
    except Problem:
        file.close()
        raise
    return file


def _changing(shown: str) -> Problem:
    return Problem(
        "Unreadable",
        f"{shown} changes while it is read",
        fix="Write it under another name and rename it when it is complete.",
    )
