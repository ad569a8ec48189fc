"""The files of a project at one moment: a commit, or the working tree as it stands."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mlops.errors import MlopsError, Transient
from mlops.source import disk
from mlops.source.git import failure, run, shown
from mlops.source.objects import OBJECT_LIMIT, read_objects
from mlops.source.paths import folder, parents
from mlops.source.repository import Repository

_SUBMODULE = "160000"
_LINK = "120000"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. `mode` is git's (100644, 100755, or 120000 for a link), `size` is in bytes."""

    path: str
    mode: str
    blob: str
    size: int

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link; its content is the link's text."""
        return self.mode == _LINK

    @property
    def is_executable(self) -> bool:
        """Whether it carries the exec bit."""
        return self.mode == "100755"


class Snapshot(ABC):
    """The files that the loader, the fingerprints and the export see.

    Paths are relative to the project's root and in posix form; bytes in them that are no UTF-8 are
    surrogates, and a hostile tree may hold `..` or `.git`: only `export` puts them on a disk, checked.

    Args:
        repository: where the files are.
        root: the project's folder in it, relative to its root; "" for all of it.
    """

    def __init__(self, repository: Repository, root: str = "") -> None:
        self.repository = repository
        self.root = folder(root)

    @property
    @abstractmethod
    def revision(self) -> str:
        """The sha of the commit that it shows or stands on, "" if there is none."""

    @property
    @abstractmethod
    def dirty(self) -> bool:
        """Whether it holds anything else than that commit."""

    @abstractmethod
    def entries(self) -> Mapping[str, Entry]:
        """All files of the project by path. Submodules are not files."""

    @abstractmethod
    def submodules(self) -> frozenset[str]:
        """The paths of submodules, whose content is never read."""

    @abstractmethod
    def stream(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The bytes of files, one at a time, a link's being its text; what is not there is left out."""

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of files by path, as `stream` gives them."""
        return dict(self.stream(paths))

    def tracked(self, path: str) -> bool:
        """Whether there is a file at a path, or below it if it is a folder."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if path.startswith("/") or ".." in parts:
            return False
        plain = "/".join(parts)
        return plain in self.entries() or plain in self._folders or (not plain and bool(self.entries()))

    def _below(self) -> list[str | bytes]:
        return ["--", f"{self.root}/".encode("utf-8", "surrogateescape")] if self.root else []

    @cached_property
    def _folders(self) -> frozenset[str]:
        return parents(self.entries())


class GitSnapshot(Snapshot):
    """A project at a commit, read from git's store; no checkout, no filters.

    Args:
        repository: where the commit is.
        commit_sha: its full sha, as `Repository.resolve` gives it.
        root: the project's folder in the repository.
    """

    def __init__(self, repository: Repository, commit_sha: str, root: str = "") -> None:
        super().__init__(repository, root)
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit_sha):
            message = f"{shown(commit_sha[:80])!r} is not the full sha of a commit"
            raise MlopsError(message, fix="Resolve the revision first.")
        self._sha = commit_sha

    @property
    def revision(self) -> str:
        """The commit's sha."""
        return self._sha

    @property
    def dirty(self) -> bool:
        """Never: it is the commit."""
        return False

    def entries(self) -> Mapping[str, Entry]:
        """All files of the project by path; empty if the commit has no such folder."""
        return self._tree[0]

    def submodules(self) -> frozenset[str]:
        """The paths of submodules, whose content is never read."""
        return self._tree[1]

    def stream(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The bytes of files, one at a time, all by one git process.

        Raises:
            MlopsError: an object is missing, as in a partial clone, or is too large.
        """
        entries = self.entries()
        by_blob: dict[str, list[str]] = {}
        for path in dict.fromkeys(paths):
            entry = entries.get(path)
            if entry is None:
                continue
            if entry.size > OBJECT_LIMIT:
                raise MlopsError(
                    f"{shown(path)} has {entry.size} bytes, too many to be read from git",
                    fix="Keep large data outside of git.",
                )
            by_blob.setdefault(entry.blob, []).append(path)
        if not by_blob:
            return
        found = read_objects(self.repository.root, by_blob)
        for (_, sharing), item in zip(by_blob.items(), found, strict=True):
            if item.kind != "blob":
                raise MlopsError(
                    f"the content of {shown(sharing[0])} is missing from the repository",
                    where=shown(str(self.repository.root)),
                    fix="Clone it without --filter, or see what `git fsck` says.",
                )
            for path in sharing:
                yield path, item.data

    @cached_property
    def _tree(self) -> tuple[Mapping[str, Entry], frozenset[str]]:
        below = self._below()
        command = ["ls-tree", "-r", "-z", "-l", "--full-tree", self._sha, *below]
        answer = run(command, self.repository.root, accept=(0, 128))
        if answer.status:
            self.repository.resolve(self._sha)  # says that it is missing, and what there is instead
            raise failure("ls-tree", answer.status, answer.stderr, self.repository.root)
        printed = answer.stdout.decode("utf-8", "surrogateescape")
        cut = len(self.root) + 1 if self.root else 0
        entries: dict[str, Entry] = {}
        modules: set[str] = set()
        for line in printed.split("\0")[:-1]:
            head, _, path = line.partition("\t")
            mode, kind, blob, size = head.split()
            if kind == "blob":
                # A promised object that a partial clone lacks has no size; reading it says what is wrong.
                entries[path[cut:]] = Entry(path[cut:], mode, blob, int(size) if size.isdigit() else 0)
            else:
                modules.add(path[cut:])
        return entries, frozenset(modules)


class WorkingTreeSnapshot(Snapshot):
    """A project as its working tree stands: what git tracks, and what is new and not ignored.

    The list of files is taken once; a file is hashed when its entry is first asked for, so that nobody waits
    for data that nobody needs. Bytes are as they are on the disk: no filter runs, no line end is changed.

    Args:
        repository: one with a working tree.
        root: the project's folder in it.
    """

    def __init__(self, repository: Repository, root: str = "") -> None:
        super().__init__(repository, root)
        if repository.bare:
            raise MlopsError(
                "a bare repository has no working tree",
                where=shown(str(repository.root)),
                fix="Leave out --working-tree, or use a clone that is not bare.",
            )
        self._top = str(repository.root / self.root).encode("utf-8", "surrogateescape")

    @cached_property
    def revision(self) -> str:
        """HEAD's sha, "" while there is no commit."""
        return self.repository.head() or ""

    @cached_property
    def dirty(self) -> bool:
        """Whether anything below the project's folder differs from HEAD."""
        return self.repository.dirty(self.root)

    def entries(self) -> Mapping[str, Entry]:
        """All files of the project by path; an entry raises Transient if its file changes meanwhile."""
        return self._listing[0]

    def submodules(self) -> frozenset[str]:
        """The paths of submodules, whose content is never read."""
        return self._listing[1]

    def stream(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The bytes of files, one at a time.

        Raises:
            Transient: a file is no longer what its entry says.
        """
        listed = self._listing[0]
        for path in dict.fromkeys(paths):
            if path not in listed:
                continue
            try:
                data = disk.read(self._top, path.encode("utf-8", "surrogateescape"))
            except OSError as problem:
                raise _unreadable(path, problem) from problem
            known = listed.known(path)
            if known and disk.blob_id(data, self.repository.object_format) != known.blob:
                raise _unreadable(path, disk.Moved("it changed since it was first read"))
            yield path, data

    @cached_property
    def _listing(self) -> tuple[_Hashed, frozenset[str]]:
        below = self._below()
        # -t marks each line, so that no untracked name can pass for a tracked one.
        listing = ["ls-files", "-z", "-t", "--stage", "--cached", "--others", "--exclude-standard"]
        printed = run([*listing, "--full-name", *below], self.repository.root).stdout
        cut = len(self.root.encode("utf-8", "surrogateescape")) + 1 if self.root else 0
        paths: list[str] = []
        modules: set[str] = set()
        for line in dict.fromkeys(printed.split(b"\0")[:-1]):
            tag, _, rest = line.partition(b" ")
            head, _, raw = (b"", b"", rest) if tag == b"?" else rest.partition(b"\t")
            path = raw[cut:].decode("utf-8", "surrogateescape")
            if head.startswith(_SUBMODULE.encode()) or path.endswith("/"):  # the latter: a repository inside
                modules.add(path.rstrip("/"))
            else:
                paths.append(path)
        try:
            there = [p for p in paths if disk.kind_of(self._top, p.encode("utf-8", "surrogateescape"))]
        except OSError as problem:
            raise _unreadable(self.root or ".", problem) from problem
        return _Hashed(self._top, there, self.repository.object_format), frozenset(modules)


class _Hashed(Mapping[str, Entry]):
    """Entries that are hashed when first asked for."""

    def __init__(self, top: bytes, paths: Iterable[str], algorithm: str) -> None:
        self._top = top
        self._algorithm = algorithm
        self._entries: dict[str, Entry | None] = dict.fromkeys(sorted(set(paths)))

    def __getitem__(self, path: str) -> Entry:
        entry = self._entries[path]
        if entry is None:
            try:
                found = disk.blob_of(self._top, path.encode("utf-8", "surrogateescape"), self._algorithm)
            except OSError as problem:
                raise _unreadable(path, problem) from problem
            mode, size, blob = found
            entry = self._entries[path] = Entry(path, mode, blob, size)
        return entry

    def __contains__(self, path: object) -> bool:
        return path in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def known(self, path: str) -> Entry | None:
        """The entry if it was hashed already."""
        return self._entries.get(path)


def _unreadable(path: str, problem: OSError) -> MlopsError:
    if isinstance(problem, PermissionError):
        return MlopsError(
            "it cannot be read: permission denied", where=shown(path), fix="Mend its permissions."
        )
    why = str(problem) if isinstance(problem, disk.Moved) else "it went away while it was read"
    return Transient(why, where=shown(path), fix="Try again when nothing writes to the working tree.")
