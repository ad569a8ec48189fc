"""Who wrote what asks for a promotion: every author and committer of a commit that touched one of its documents.

Unsigned e-mails can be forged: this is as strong as `source.verify: signatures`, or as the reviews of a forge.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from mlops.resources import Key
from mlops.resources.documents import read_file
from mlops.resources.nearest import Nearest
from mlops.source.git import run
from mlops.source.objects import read_objects
from mlops.source.repository import Repository

MOST_COMMITS: Final = 5_000  # since a base that are looked at
_LARGEST: Final = 16 << 20  # bytes of a file of resources
_YAML: Final = (":(icase,glob)**/*.yaml", ":(icase,glob)**/*.yml")


@dataclass(frozen=True, slots=True)
class _Change:
    sha: str
    parents: tuple[str, ...]
    people: frozenset[str]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wrote:
    """Who touched a document, e-mails in lower case, and the newest commit that did."""

    people: frozenset[str] = frozenset()
    last: str | None = None


def authors(
    repository: Repository, base: str | None, revision: str, folder: str, keys: Collection[Key]
) -> Mapping[Key, Wrote]:
    """Who touched documents between `base` and `revision`.

    Two processes of git, however many documents and commits there are.

    Args:
        repository: where the commits are.
        base: what was in force before; None for all of history.
        revision: what asks.
        folder: the project's in the repository, "" for its root.
        keys: the documents.

    Raises:
        MlopsError: git failed, or has no such commit.
    """
    changes = tuple(_changes(repository, base, revision, folder))
    names = {
        f"{sha}:{file}": None
        for change in changes
        for file in change.files
        for sha in (change.sha, *change.parents)
        if "\n" not in file
    }
    texts: dict[str, bytes] = {}
    for name, found in zip(names, read_objects(repository.root, names, limit=_LARGEST), strict=True):
        texts[name] = found.data if found.kind == "blob" else b""
    wrote = dict.fromkeys(keys, Wrote())
    for change in changes:
        for file in change.files:
            now = _documents(texts.get(f"{change.sha}:{file}", b""))
            before = [_documents(texts.get(f"{parent}:{file}", b"")) for parent in change.parents] or [{}]
            for key, known in wrote.items():
                if all(_differs(now, then, key) for then in before):
                    wrote[key] = Wrote(known.people | change.people, known.last or change.sha)
    return wrote


def _changes(repository: Repository, base: str | None, revision: str, folder: str) -> Iterator[_Change]:
    """Commits with the YAML files that they changed; of a merge those that differ from all of its parents."""
    mark = secrets.token_hex(16)  # nobody can name a file so that it reads like another commit
    command = [
        "log", "-z", "-c", "--name-only", "--no-renames", f"--max-count={MOST_COMMITS}",
        f"--format={mark}%H%x02%P%x02%ae%x02%ce%x02", "--end-of-options", revision,
        *([f"^{base}"] if base is not None else []), "--", *_YAML,
    ]  # fmt: skip
    globs = {"GIT_LITERAL_PATHSPECS": "0"}
    out = run(command, repository.root, extra=globs).stdout.decode("utf-8", "surrogateescape")
    for row in out.split(mark)[1:]:
        sha, parents, author, committer, files = row.split("\x02", 4)
        kept = tuple(f.strip("\n") for f in files.split("\0") if f.strip("\n").startswith(folder))
        people = {author.lower()} | ({committer.lower()} if " " not in parents else set())
        yield _Change(sha, tuple(parents.split()), frozenset(people), kept)


@lru_cache(maxsize=256)
def _documents(text: bytes) -> Mapping[Key | None, object]:
    """Documents by key; under None what cannot be read, which may be any of them."""
    if not text:
        return {}
    content = read_file("", text, Nearest())
    return {record.key: record.values for record in content.records}


def _differs(now: Mapping[Key | None, object], before: Mapping[Key | None, object], key: Key) -> bool:
    return now.get(key) != before.get(key) or now.get(None) != before.get(None)
