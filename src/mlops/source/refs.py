"""Branches read from git's own files: no process, so it may be done several times a second."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mlops.errors import MlopsError
from mlops.source.git import shown

_SHA = re.compile(rb"[0-9a-f]{40}([0-9a-f]{24})?")
_NAME_LIMIT = 1024
_LINE_LIMIT = 4096  # bytes; a ref is one short line


class NotPlain(Exception):
    """A ref is not to be read from a file here: git has to be asked."""


def branch_ref(branch: str) -> str:
    """The full name of a branch's ref.

    Raises:
        MlopsError: git takes no such name for a branch.
    """
    parts = branch.split("/")
    if (
        not branch
        or len(branch) > _NAME_LIMIT
        or branch.startswith("-")
        or branch == "@"
        or "@{" in branch
        or ".." in branch
        or any(char in branch for char in " ~^:?*[\\\x7f")
        or any(ord(char) < 32 for char in branch)
        or any(not part or part[0] == "." or part.endswith((".", ".lock")) for part in parts)
    ):
        raise MlopsError(
            f"{shown(branch[:80])!r} is not a name that git takes for a branch", fix="Name another."
        )
    return f"refs/heads/{branch}"


def common_dir(git_dir: Path) -> Path:
    """The folder of a repository that its linked worktrees share: refs, objects, configuration."""
    try:
        pointer = (git_dir / "commondir").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return git_dir
    return Path(os.path.normpath(git_dir / os.fsdecode(pointer.rstrip(b"\n"))))


def read_ref(common: Path, ref: str) -> str | None:
    """The sha that a ref names, None if there is no such ref.

    Args:
        common: the folder that `common_dir` gives.
        ref: its full name, as `branch_ref` gives it.

    Raises:
        NotPlain: it is kept in another format, is symbolic or damaged.
    """
    if (common / "reftable").is_dir():
        raise NotPlain(ref)
    # The loose file first: git writes packed-refs before it takes the loose one away.
    line = _first_line(common / ref)
    if line is not None:
        if not _SHA.fullmatch(line):
            raise NotPlain(ref)
        return line.decode()
    try:
        packed = (common / "packed-refs").read_bytes()
    except FileNotFoundError:
        if not (common / "HEAD").exists():
            raise NotPlain(ref) from None  # no repository at all, which git says better
        return None
    end = packed.find(b" " + os.fsencode(ref) + b"\n")
    if end < 0:
        return None
    sha = packed[packed.rfind(b"\n", 0, end) + 1 : end]
    if not _SHA.fullmatch(sha):
        raise NotPlain(ref)
    return sha.decode()


def read_head(git_dir: Path) -> str:
    """What HEAD holds: the full name of a ref, or a sha where it is detached.

    Raises:
        NotPlain: git has to be asked.
    """
    line = _first_line(git_dir / "HEAD")
    if line is None or (common_dir(git_dir) / "reftable").is_dir():
        raise NotPlain("HEAD")
    if line.startswith(b"ref:"):
        return os.fsdecode(line.removeprefix(b"ref:").strip())
    if not _SHA.fullmatch(line):
        raise NotPlain("HEAD")
    return line.decode()


def _first_line(file: Path) -> bytes | None:
    """The line that a small file holds, None if it is not there."""
    try:
        with file.open("rb") as opened:
            return opened.read(_LINE_LIMIT).rstrip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as problem:
        raise NotPlain(file.name) from problem
