"""The declared datasets as they are, by name: those git tracks at the revision, and those outside."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from mlops.data import (
    DatasetRequest,
    DigestCache,
    Materialised,
    Problem,
    RowFiles,
    materialise,
    observe_all,
    row_files,
)
from mlops.data.request import printable
from mlops.errors import MlopsError
from mlops.observation.observed import ObservedDataset
from mlops.resources import Dataset
from mlops.source.snapshot import Snapshot

MOST_LINKS: Final = 40  # as Linux follows in a path


class Inside:
    """The files of a snapshot as datasets see them: a link is the file that it leads to."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.files: Mapping[str, tuple[str, int]] = _Files(snapshot)

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of files at the revision."""
        leads = {path: _target(self._snapshot, path) for path in paths}
        content = self._snapshot.read(set(leads.values()))
        return {path: content[target] for path, target in leads.items() if target in content}


class _Files(Mapping[str, tuple[str, int]]):
    """Path → (blob id, size in bytes); a file of a working tree is hashed when it is looked up, not before."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __getitem__(self, path: str) -> tuple[str, int]:
        entries = self._snapshot.entries()
        entry = entries[path]
        if entry.is_link:
            entry = entries[_target(self._snapshot, path)]
        return entry.blob, entry.size

    def __contains__(self, path: object) -> bool:
        return path in self._snapshot.entries()

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot.entries())

    def __len__(self) -> int:
        return len(self._snapshot.entries())


def _target(snapshot: Snapshot, path: str) -> str:
    """The file that a path leads to, through links within the project; raises Problem for any other link."""
    entries = snapshot.entries()
    at = path
    for _ in range(MOST_LINKS):
        if at not in entries:
            break
        if not entries[at].is_link:
            return at
        text = snapshot.read([at])[at].decode("utf-8", "surrogateescape")
        if text.startswith("/"):
            break
        at = posixpath.normpath(posixpath.join(posixpath.dirname(at), text))
    what = f"{printable(path)} is a link that does not lead to a file of the project"
    raise Problem("Unreadable", what, fix="Put the file itself there, or declare where it is as the URI.")


def request(dataset: Dataset, substitute: Callable[[str], str]) -> DatasetRequest:
    """What is asked about a declared dataset, its `${VAR}` replaced."""
    spec = dataset.spec
    return DatasetRequest(
        name=dataset.metadata.name,
        uri=substitute(spec.uri),
        format=spec.format,
        version=spec.version,
        pin=spec.digest,
        expect=spec.expect,
        shown=spec.uri,
    )


def materialise_dataset(
    dataset: Dataset,
    digest: str,
    snapshot: Snapshot,
    *,
    root: Path,
    substitute: Callable[[str], str],
    cache: DigestCache,
    copies: Path,
    now: Callable[[], float],
) -> Materialised:
    """Where a job finds the data that it was planned with; raises MlopsError when it moved or is gone."""
    return materialise(
        request(dataset, substitute),
        digest,
        base=root,
        inside=Inside(snapshot),
        cache_dir=copies,
        cache=cache,
        now=now,
    )


def rows_of(
    dataset: Dataset,
    snapshot: Snapshot,
    *,
    root: Path,
    substitute: Callable[[str], str],
    cache: DigestCache,
    now: Callable[[], float],
    digest: str | None = None,
) -> RowFiles:
    """The files of a dataset, to be read one by one; with `digest` only if it still is, or has, that content."""
    return row_files(
        request(dataset, substitute),
        base=root,
        inside=Inside(snapshot),
        cache=cache,
        now=now,
        digest=digest,
    )


def observe_datasets(
    datasets: Iterable[tuple[Dataset, Snapshot]],
    *,
    root: Path,
    substitute: Callable[[str], str],
    cache: DigestCache,
    now: Callable[[], float],
) -> dict[str, ObservedDataset]:
    """Observe datasets, each among the files of a revision; a bad one has a reason and stops no other."""
    requests: dict[Snapshot, list[DatasetRequest]] = {}
    found: dict[str, ObservedDataset] = {}
    for resource, snapshot in datasets:
        try:
            requests.setdefault(snapshot, []).append(request(resource, substitute))
        except MlopsError as error:  # a variable that is not allowed or not set
            name = resource.metadata.name
            found[name] = ObservedDataset(
                name, resource.spec.uri, None, outside=True, reason="Invalid", message=str(error)
            )
    for snapshot, asked in requests.items():
        found |= observe_all(asked, base=root, inside=Inside(snapshot), cache=cache, now=now)
    return found


def observe_again(
    before: Mapping[str, ObservedDataset],
    observe: Callable[[Collection[str]], Mapping[str, ObservedDataset]],
) -> Mapping[str, ObservedDataset]:
    """The datasets of a commit that were seen before; `before` itself where nothing differs.

    What the commit holds stays as it is: only what is outside, or could not be used, is given to `observe`.
    """
    names = [name for name, one in before.items() if one.outside or one.reason is not None]
    found = observe(names) if names else {}
    return before if all(before[name] == one for name, one in found.items()) else {**before, **found}
