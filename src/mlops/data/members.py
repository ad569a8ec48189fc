"""The files that a dataset consists of, and the one digest that stands for all their bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mlops.data.request import Clock, Inside, Problem, printable

CHUNK = 1 << 20  # bytes read at a time: a file's size never shows in memory
_LARGEST_BLOB = 1 << 30
_BLOB_BATCH = 64 << 20
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_LARGEST = 1024  # a pointer file is smaller than this, by the Git LFS specification


class Member(Protocol):
    """One file of a dataset that git does not hold: on disk or in a store."""

    @property
    def relative(self) -> str:
        """Posix path relative to the dataset's folder or fixed prefix; of a single file, its name."""

    @property
    def shown(self) -> str:
        """The path or URI for messages."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def key(self) -> str | None:
        """What identifies this content without reading it; None: nothing does."""

    def recall(self, entry: Mapping[str, Any]) -> str | None:
        """The file's sha256 if the cached entry can be trusted."""

    def hash(self, now: Clock) -> Hashed:
        """Read it all and hash it. Raises Problem if it cannot be read or keeps changing."""

    def open(self) -> BinaryIO:
        """Open it for reading. Raises Problem if it is no longer the file that was hashed."""

    def check_unchanged(self) -> None:
        """Raises Problem if it is no longer the file that was hashed."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of the revision; the working tree is never looked at for it."""

    relative: str
    path: str  # relative to the project root
    blob: str
    size: int
    inside: Inside

    @property
    def shown(self) -> str:
        """The path for messages."""
        return self.path

    @property
    def key(self) -> str:
        """The blob id names the content by itself."""
        return f"blob:{self.blob}"


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file's sha256 with the file as it was then; `entry` is what to remember, None: nothing.

    `settled` tells that no later change could look the same: only then is anything derived remembered.
    """

    sha256: str
    member: Blob | Member
    entry: Mapping[str, Any] | None
    settled: bool = True


@dataclass(frozen=True, slots=True)
class FileSet:
    """A dataset made of files: one, or all of a folder or glob, sorted by relative path.

    `name` is that of the file or of the folder; `pattern` a glob's part below its prefix.
    """

    name: str
    members: tuple[Blob | Member, ...]
    single: bool
    outside: bool
    pattern: str | None = None

    @property
    def size(self) -> int:
        """In bytes, all files together."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True, slots=True)
class Digested:
    """A file set with its digest, each member as it was hashed, and what to remember."""

    digest: str
    files: FileSet
    hashed: tuple[Hashed, ...]
    entries: Mapping[str, bytes]

    @property
    def settled(self) -> bool:
        """Whether no later change of any member could look the same."""
        return all(one.settled for one in self.hashed)


def digest_files(files: FileSet, known: Mapping[str, bytes], now: Clock) -> Digested:
    """Digest a file set, hashing only what the cache does not know.

    A single file's digest is the sha256 of its bytes; that of a folder or glob the sha256 of the canonical
    JSON of `[[relative path, sha256 of the file], …]` sorted by path, so neither the order of a listing
    nor the place of the folder matters.

    Args:
        files: what to digest.
        known: cached entries by key.
        now: seconds since the epoch.
    Raises:
        Problem: a file cannot be read, keeps changing or is a Git LFS pointer.
    """
    hashed: dict[int, Hashed] = {}
    blobs: dict[int, Blob] = {}
    for index, member in enumerate(files.members):
        entry = _entry(known, member.key)
        if isinstance(member, Blob):
            if entry is not None and isinstance(entry.get("sha256"), str):
                hashed[index] = Hashed(entry["sha256"], member, None)
            else:
                blobs[index] = member
        elif entry is not None and (recalled := member.recall(entry)) is not None:
            hashed[index] = Hashed(recalled, member, None)
        else:
            hashed[index] = member.hash(now)
    for index, content in read_blobs(blobs):
        hashed[index] = _hash_blob(blobs[index], content)
    in_order = tuple(hashed[index] for index in range(len(files.members)))
    sums = tuple(one.sha256 for one in in_order)
    refreshed = FileSet(
        files.name, tuple(one.member for one in in_order), files.single, files.outside, files.pattern
    )
    entries = {
        one.member.key: encode(one.entry) for one in in_order if one.entry is not None and one.member.key
    }
    return Digested(
        f"sha256:{sums[0] if files.single else _tree_digest(refreshed.members, sums)}",
        refreshed,
        in_order,
        entries,
    )


def read_blobs(blobs: Mapping[int, Blob]) -> Iterator[tuple[int, bytes]]:
    """Yield (index, content) of each blob, asking git for at most 64 MiB at a time.

    Raises:
        Problem: a blob is beyond 1 GiB, or git does not have it.
    """
    batch: list[int] = []
    total = 0
    for index, blob in blobs.items():
        if blob.size > _LARGEST_BLOB:
            raise Problem(
                "Unreadable",
                f"{blob.shown} is larger than git can reasonably hold",
                fix="Put the data outside git and declare its URI.",
            )
        if batch and total + blob.size > _BLOB_BATCH:
            yield from _read_batch(blobs, batch)
            batch, total = [], 0
        batch.append(index)
        total += blob.size
    if batch:
        yield from _read_batch(blobs, batch)


def write_blobs(blobs: Mapping[int, Blob], folder: Path) -> None:
    """Write each blob read-only to its relative path below `folder`.

    Raises:
        Problem: as `read_blobs`, or for a path that a hostile tree made to lead out of the folder.
        OSError: the disk is full, or may not be written.
    """
    for index, content in read_blobs(blobs):
        relative = blobs[index].relative
        if any(part in ("", ".", "..") for part in relative.split("/")):
            raise Problem("Invalid", f"{printable(relative)} is not a path that can be written")
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o444)


def _read_batch(blobs: Mapping[int, Blob], batch: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    contents = blobs[batch[0]].inside.read([blobs[index].path for index in batch])
    for index in batch:
        content = contents.get(blobs[index].path)
        if content is None:
            raise Problem(
                "Unreadable",
                f"{blobs[index].shown} is tracked at the revision, but git does not have its content",
                fix="Fetch the missing objects (git fetch --refetch, or a clone without a filter).",
            )
        yield index, content


def _hash_blob(blob: Blob, content: bytes) -> Hashed:
    refuse_lfs_pointer(content, len(content), blob.shown)
    sha256 = hashlib.sha256(content).hexdigest()
    return Hashed(sha256, blob, {"sha256": sha256})


def refuse_lfs_pointer(head: bytes, size: int, shown: str) -> None:
    """Raise Problem if a file of `size` bytes that begins with `head` is a Git LFS pointer."""
    if size < LFS_LARGEST and head.startswith(_LFS_POINTER):
        raise Problem(
            "Unreadable",
            f"{shown} is a Git LFS pointer, not the data itself",
            fix="Keep the data outside git (fetch it with git lfs pull and ignore it, or declare its URI).",
        )


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces, in ASCII, so that undecodable file names have one form too."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def encode(entry: Mapping[str, Any]) -> bytes:
    """What is kept in the cache for an entry."""
    return json.dumps(entry, separators=(",", ":")).encode("ascii")


def decode(value: bytes | None) -> dict[str, Any] | None:
    """Read what `encode` wrote; a cache entry that is broken is one that is not there."""
    if value is None:
        return None
    try:
        entry = json.loads(value)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _entry(known: Mapping[str, bytes], key: str | None) -> dict[str, Any] | None:
    return None if key is None else decode(known.get(key))


def _tree_digest(members: Sequence[Blob | Member], sums: Sequence[str]) -> str:
    rows = sorted([member.relative, sha256] for member, sha256 in zip(members, sums, strict=True))
    return hashlib.sha256(canonical(rows)).hexdigest()
