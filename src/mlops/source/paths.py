"""Paths inside of a repository: posix text, relative, never leaving its top."""

from __future__ import annotations

from collections.abc import Iterable

from mlops.errors import MlopsError
from mlops.source.git import shown

# What HFS+ ignores in a name, so that `.g\u200cit` is `.git` there.
_IGNORED = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF], None
)


def folder(path: str) -> str:
    """A folder relative to some top, "" for the top itself, without `.` and needless slashes.

    Raises:
        MlopsError: it is absolute or leaves the top.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path:
        message = f"{shown(path)!r} leaves the folder it is relative to"
        raise MlopsError(message, fix="Write a path below it, without `..`.")
    return "/".join(parts)


def is_git_name(part: str) -> bool:
    """Whether a file system may take a path's part for git's own folder."""
    plain = part.translate(_IGNORED).rstrip(". ").casefold()
    return plain in (".git", "git~1")


def is_safe(path: str) -> bool:
    """Whether a path of a tree may be written to a disk: relative, below its top, not into git's folder."""
    if not path or path.startswith("/") or "\0" in path:
        return False
    return not any(part in ("", ".", "..") or is_git_name(part) for part in path.split("/"))


def parents(paths: Iterable[str]) -> frozenset[str]:
    """Every folder above any of the paths, the top itself left out."""
    found: set[str] = set()
    for path in paths:
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return frozenset(found)
