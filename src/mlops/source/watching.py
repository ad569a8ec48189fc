"""Being told that a repository's refs or a folder's files changed, instead of looking again and again.

What is told may be too much and is never the last word: whoever is called looks for himself. A folder that is
deleted and made again is watched again as soon as its parent, if that is watched, tells of it.
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mlops.errors import MlopsError
from mlops.source.git import shown
from mlops.source.refs import branch_ref, common_dir
from mlops.source.repository import Repository

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import ObservedWatch

_Identity = tuple[int, int]
Places = Callable[[], Iterator[tuple[str, bool]]]
"""Gives the folders to watch that may be there now, and whether also all below."""
Matters = Callable[[str, bool], bool]
"""Whether something at this path counts; the flag says that it went away, which is how a lock file ends."""


def watch_refs(repository: Repository, branch: str, on_change: Callable[[], None]) -> Watch:
    """Tells when the branch, HEAD or an approval tag may have moved.

    Args:
        repository: a local one; a linked worktree is watched with what it shares.
        branch: its short name; it need not exist.
        on_change: called by a thread of the watch, also when nothing of it moved after all.

    Raises:
        MlopsError: the system does not watch as many folders; look at `Repository.tip` now and then instead.
    """
    own, common = os.path.realpath(repository.git_dir), os.path.realpath(common_dir(repository.git_dir))
    ref = branch_ref(branch)
    exact = {f"{own}/HEAD", f"{common}/HEAD", f"{common}/packed-refs", f"{common}/{ref}"}
    for path in (ref, "refs/tags/approve", "reftable"):  # a folder on the way to them may come and go
        while path:
            exact.add(f"{common}/{path}")
            path = path.rpartition("/")[0]
    below = (f"{common}/refs/tags/approve/", f"{common}/reftable/")

    def places() -> Iterator[tuple[str, bool]]:
        yield common, False
        if own != common:
            yield own, False
        yield f"{common}/refs", True
        yield f"{common}/reftable", True

    def matters(path: str, gone: bool) -> bool:
        if path.endswith(".lock"):
            if not gone:
                return False
            path = path.removesuffix(".lock")
        return path in exact or path.startswith(below)

    return Watch(places, matters, on_change)


def watch_files(root: Path, on_change: Callable[[], None], *, ignore: Collection[str]) -> Watch:
    """Tells when a file below a folder may have changed.

    Args:
        root: the folder.
        on_change: called by a thread of the watch, for every change of every file.
        ignore: names of folders whose content does not count, wherever they stand.

    Raises:
        MlopsError: the system does not watch as many folders; look at the files now and then instead.
    """
    top, ignored = os.path.realpath(root), frozenset(ignore)

    def places() -> Iterator[tuple[str, bool]]:
        yield top, False
        with suppress(OSError), os.scandir(top) as found:  # the folder is gone; it is watched when it is back
            for entry in found:
                if entry.name not in ignored and entry.is_dir(follow_symlinks=False):
                    yield entry.path, True

    def matters(path: str, gone: bool) -> bool:
        return ignored.isdisjoint(path.removeprefix(top).split("/"))

    return Watch(places, matters, on_change)


class Watch:
    """Calls back on changes until it is closed; a context manager.

    Attributes:
        problem: why something is no longer watched, None while all is.
    """

    def __init__(self, places: Places, matters: Matters, on_change: Callable[[], None]) -> None:
        from watchdog.events import FileSystemEventHandler

        self.problem: MlopsError | None = None
        self._places = places
        self._matters = matters
        self._on_change = on_change
        self._armed: dict[str, tuple[_Identity, ObservedWatch]] = {}
        self._lock = threading.RLock()
        self._closed = False
        watch = self

        class Handler(FileSystemEventHandler):
            def dispatch(self, event: FileSystemEvent) -> None:
                watch._saw(event)

        self._handler = Handler()
        # It says so whenever nested folders are made at once, and does what is right.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        try:
            from watchdog.observers import Observer

            self._observer = Observer()
        except OSError as problem:
            raise _limited(problem) from problem
        try:
            self._observer.start()
            self._arm()
            self._probe()
        except OSError as problem:
            self.close()
            raise _limited(problem) from problem

    def close(self) -> None:
        """Stops watching; returns when no thread of it is left, unless one of them called it."""
        with self._lock:
            self._closed = True
        self._observer.stop()
        if self._observer.is_alive() and self._observer is not threading.current_thread():
            self._observer.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _saw(self, event: FileSystemEvent) -> None:
        gone = event.event_type in ("deleted", "moved")
        paths = [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]
        if not any(self._matters(path, gone) for path in paths):
            return
        if event.is_directory:
            try:
                if gone:  # what is made again in its place may have its inode number, too
                    self._let_go(paths[0])
                self._arm()
            except OSError as problem:  # whoever polls beside it notices; who asks is told
                self.problem = _limited(problem)
        self._on_change()  # after the arming, so that nothing falls between the two

    def _arm(self) -> None:
        """Watches what is there now, and lets go of what is not."""
        with self._lock:
            if self._closed:
                return
            wanted = {path: (recursive, _identity(path)) for path, recursive in self._places()}
            for path, (armed, _) in list(self._armed.items()):
                if wanted.get(path, (False, None))[1] != armed:
                    self._let_go(path)
            for path, (recursive, identity) in wanted.items():
                if identity is not None and path not in self._armed:
                    self._schedule(path, recursive, identity)

    def _let_go(self, path: str) -> None:
        with self._lock:
            if path in self._armed and not self._closed:
                self._observer.unschedule(self._armed.pop(path)[1])

    def _schedule(self, path: str, recursive: bool, identity: _Identity) -> None:
        try:
            watch = self._observer.schedule(self._handler, path, recursive=recursive, event_filter=_changes())
        except (FileNotFoundError, NotADirectoryError):  # it went away just now
            return
        self._armed[path] = identity, watch

    def _probe(self) -> None:
        """Whether one more folder could be watched: folders inside of others fail in silence."""
        with tempfile.TemporaryDirectory(prefix="mlops-watch-") as folder:
            self._observer.unschedule(self._observer.schedule(self._handler, folder, event_filter=_changes()))


def _changes() -> list[type[FileSystemEvent]]:
    """Changes only: reading a file would wake us, too, and we read these files all the time."""
    from watchdog import events

    kinds = [
        events.FileCreatedEvent,
        events.FileModifiedEvent,
        events.FileMovedEvent,
        events.FileDeletedEvent,
    ]
    attributes = getattr(events, "FileAttribEvent", None)  # the exec bit; older releases call it modified
    folders = [events.DirCreatedEvent, events.DirMovedEvent, events.DirDeletedEvent]
    return [*kinds, *([attributes] if attributes else []), *folders]


def _identity(path: str) -> _Identity | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _limited(problem: OSError) -> MlopsError:
    return MlopsError(
        f"changes of files cannot be watched: {shown(problem.strerror or str(problem))}",
        fix="Raise fs.inotify.max_user_watches or max_user_instances (sysctl), or leave it: "
        "without watching, changes are found a little later.",
    )
