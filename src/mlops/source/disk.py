"""Files of a working tree, opened without ever following a symbolic link."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_CHUNK = 1024 * 1024
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # the last two: a link where a folder was


class Moved(OSError):
    """A file is not what it was a moment ago."""


def kind_of(top: bytes, path: bytes) -> os.stat_result | None:
    """What stands at `path` below `top`: a regular file or a link; None for anything else or nothing.

    A path that runs through a linked folder is nothing: git does not follow it either.
    """
    try:
        with _parent(top, path) as (descriptor, name):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError as problem:
        if problem.errno in _ABSENT or isinstance(problem, Moved):
            return None
        raise
    return found if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) else None


def mode_of(found: os.stat_result) -> str:
    """The mode that git records for a file."""
    if stat.S_ISLNK(found.st_mode):
        return "120000"
    return "100755" if found.st_mode & stat.S_IXUSR else "100644"


def read(top: bytes, path: bytes) -> bytes:
    """A file's bytes, or a link's text.

    Raises:
        OSError: it is neither, is gone, or changed while it was read.
    """
    with _parent(top, path) as (descriptor, name):
        if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
            return os.readlink(name, dir_fd=descriptor)
        with _opened(descriptor, name) as (file, size):
            data = b"".join(iter(lambda: os.read(file, _CHUNK), b""))
            if len(data) != size:
                raise Moved("it changed while it was read")
            return data


def blob_id(data: bytes, algorithm: str) -> str:
    """The id that git gives to these bytes: the hash of `blob <length>\\0<bytes>`."""
    digest = hashlib.new(algorithm, b"blob %d\0" % len(data), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


def blob_of(top: bytes, path: bytes, algorithm: str) -> tuple[str, int, str]:
    """Mode, size in bytes and blob id of what stands at `path`; a file of any size in constant memory.

    Raises:
        OSError: it is neither file nor link, is gone, or changed while it was read.
    """
    with _parent(top, path) as (descriptor, name):
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            text = os.readlink(name, dir_fd=descriptor)
            return mode_of(found), len(text), blob_id(text, algorithm)
        with _opened(descriptor, name) as (file, size):
            digest = hashlib.new(algorithm, b"blob %d\0" % size, usedforsecurity=False)
            seen = 0
            while chunk := os.read(file, _CHUNK):
                digest.update(chunk)
                seen += len(chunk)
            if seen != size:
                raise Moved("it changed while it was read")
            return mode_of(found), size, digest.hexdigest()


@contextmanager
def _parent(top: bytes, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The folder that holds `path`, opened step by step so that no link on the way is followed."""
    *folders, name = path.split(b"/")
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            if folder in (b"", b".", b".."):
                raise Moved("its path leaves the folder")
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(folder, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor, name
    finally:
        os.close(descriptor)


@contextmanager
def _opened(descriptor: int, name: bytes) -> Iterator[tuple[int, int]]:
    """A regular file and its size; O_NONBLOCK so that a named pipe put in its place cannot hang us."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise Moved("it is no longer a regular file")
        yield file, found.st_size
    finally:
        os.close(file)
