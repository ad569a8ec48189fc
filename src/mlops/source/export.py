"""Chosen files of a snapshot, written to a folder: whole or not at all, and nothing out of it.

The entries come from a repository that may be hostile. Names and links are judged before the first byte is
written, files are created exclusively and links last, so that nothing is ever written through a link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlops.errors import MlopsError, Stalled
from mlops.source import disk
from mlops.source.git import shown
from mlops.source.paths import is_safe, parents
from mlops.source.snapshot import Entry, Snapshot

_HOPS = 40  # links that may follow each other, as in Linux
_LINK_TEXT = 4095  # bytes


def export(snapshot: Snapshot, paths: Iterable[str], destination: Path) -> None:
    """Writes files of a snapshot below `destination`, which appears complete or not at all.

    Does nothing if `destination` holds these files already. Links are kept if they stay within the exported
    tree, whether or not what they name was chosen.

    Args:
        snapshot: where the files come from.
        paths: which ones, relative to the project's root; they keep these paths below `destination`.
        destination: a folder that is not there yet, or is empty.

    Raises:
        Stalled: a path is absent, a submodule or unsafe, or a link leaves the tree.
        Transient: the working tree changed meanwhile.
        MlopsError: `destination` is something else, or cannot be written.
    """
    chosen = _chosen(snapshot, paths)
    destination = destination.absolute()
    if _complete(destination, chosen):
        return
    links = {p: t.decode("utf-8", "surrogateescape") for p, t in snapshot.stream(_links_in(chosen))}
    for path in links:
        _judge(path, links)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _sweep(destination)
        with _beside(destination) as building:
            _write(snapshot, chosen, links, building)
            try:
                building.rename(destination)
            except OSError as problem:
                if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                _complete(destination, chosen)  # another export was faster; it raises if that is not this one
    except OSError as problem:
        what = problem.strerror or "it cannot be written"
        raise MlopsError(
            f"the files cannot be exported: {what}",
            where=shown(str(destination)),
            fix="See that the folder may be written and its disk has room.",
        ) from problem


def _chosen(snapshot: Snapshot, paths: Iterable[str]) -> dict[str, Entry]:
    """The entries asked for, none of them unsafe, none below another."""
    entries = snapshot.entries()
    chosen: dict[str, Entry] = {}
    for path in dict.fromkeys(paths):
        if not is_safe(path):
            raise Stalled(
                "a file of this name is not exported",
                where=shown(path),
                fix="Rename it: absolute paths, `..` and `.git` are refused.",
            )
        if path in entries:
            chosen[path] = entries[path]
        elif path in snapshot.submodules():
            raise Stalled(
                "it is a submodule, which is not exported",
                where=shown(path),
                fix="Commit the files themselves, or install them as a package.",
            )
        else:
            raise Stalled("there is no such file in the revision", where=shown(path), fix="Commit it.")
    clash = parents(chosen) & chosen.keys()
    if clash:
        raise Stalled("it is both a file and a folder", where=shown(min(clash)), fix="Rewrite this commit.")
    return chosen


def _is_link(found: os.stat_result) -> bool:
    return disk.mode_of(found) == "120000"


def _links_in(chosen: Mapping[str, Entry]) -> list[str]:
    return [path for path, entry in chosen.items() if entry.is_link]


def _complete(destination: Path, chosen: Mapping[str, Entry]) -> bool:
    """Whether the files are there already; False if there is nothing at all."""
    if not os.path.lexists(destination):
        return False
    top = os.fsencode(destination)
    if destination.is_symlink() or not destination.is_dir():
        found = "it is not a folder"
    elif not chosen or next(destination.iterdir(), None) is None:
        return not chosen
    else:
        for path, entry in chosen.items():
            there = disk.kind_of(top, path.encode("utf-8", "surrogateescape"))
            if there is None or there.st_size != entry.size or _is_link(there) != entry.is_link:
                found = f"{shown(path)} is missing or differs"
                break
        else:
            return True
    raise MlopsError(
        f"the export's folder holds something else: {found}",
        where=shown(str(destination)),
        fix="Remove it if nothing in it is needed, and try again.",
    )


def _judge(path: str, links: Mapping[str, str]) -> None:
    """Follows a link as the kernel would, within the exported tree; raises Stalled if it leaves it."""
    here = path.split("/")[:-1]
    todo = [path.rpartition("/")[2]]
    hops = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise _bad_link(path, "leaves the exported files")
            here.pop()
            continue
        here.append(part)
        text = links.get("/".join(here))
        if text is None:
            continue
        hops += 1
        if hops > _HOPS:
            raise _bad_link(path, "goes round in circles")
        if not text or "\0" in text or len(text.encode("utf-8", "surrogateescape")) > _LINK_TEXT:
            raise _bad_link(path, "has no usable text")
        if text.startswith("/"):
            raise _bad_link(path, "is absolute")
        here.pop()
        todo.extend(reversed(text.split("/")))
    if any(not is_safe(part) for part in here):
        raise _bad_link(path, "points into git's own folder")


def _bad_link(path: str, why: str) -> Stalled:
    return Stalled(
        f"this symbolic link {why}",
        where=shown(path),
        fix="Make it a relative link to a file in the same source folder, or a file.",
    )


def _write(snapshot: Snapshot, chosen: Mapping[str, Entry], links: Mapping[str, str], building: Path) -> None:
    top = os.fsencode(building)
    for folder in sorted(parents(chosen)):
        _at(top, folder).mkdir()
    for path, data in snapshot.stream(path for path in chosen if path not in links):
        mode = 0o777 if chosen[path].is_executable else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(_at(top, path), flags, mode)
        with open(file, "wb") as opened:
            opened.write(data)
    for path, text in links.items():
        _at(top, path).symlink_to(os.fsdecode(text.encode("utf-8", "surrogateescape")))


def _at(top: bytes, path: str) -> Path:
    """A place below `top` whose name has git's bytes, whatever the locale makes of them."""
    return Path(os.fsdecode(top + b"/" + path.encode("utf-8", "surrogateescape")))


@contextmanager
def _beside(destination: Path) -> Iterator[Path]:
    """A new folder next to `destination`, locked while it is written, removed unless it was renamed."""
    while True:
        building = destination.with_name(f".{destination.name}.{os.urandom(8).hex()}.partial")
        building.mkdir()
        lock = os.open(building, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_SH)
        if building.is_dir():
            break
        os.close(lock)  # another export swept it away before it was locked
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)
        os.close(lock)


def _sweep(destination: Path) -> None:
    """Removes what killed exports to the same place left: nobody holds their lock."""
    start, end = f".{destination.name}.", ".partial"
    for left in destination.parent.iterdir():
        if not (left.name.startswith(start) and left.name.endswith(end)) or left.is_symlink():
            continue
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its export has just renamed it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            continue  # it is being written
        finally:
            os.close(lock)
