"""The declared datasets as they are, by name: those git tracks at the revision, and those outside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path

from mlops.data import DatasetRequest, DigestCache, Materialised, materialise, observe_all
from mlops.errors import MlopsError
from mlops.observation.observed import ObservedDataset
from mlops.planning.desired import Desired
from mlops.resources import Dataset
from mlops.source.snapshot import Snapshot


class Inside:
    """The regular files of a snapshot, as datasets see them; links are left out."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @cached_property
    def files(self) -> Mapping[str, tuple[str, int]]:
        """Path → (blob id, size in bytes)."""
        entries = self._snapshot.entries().values()
        return {
            entry.path: (entry.blob, entry.size) for entry in entries if entry.mode in ("100644", "100755")
        }

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of files at the revision."""
        return self._snapshot.read(paths)


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


def observe_datasets(
    desired: Desired,
    snapshot: Snapshot,
    *,
    root: Path,
    substitute: Callable[[str], str],
    cache: DigestCache,
    now: Callable[[], float],
    names: Collection[str] | None = None,
) -> dict[str, ObservedDataset]:
    """Observe all datasets of a revision, or those named; a bad one has a reason and stops no other."""
    requests = []
    refused: dict[str, ObservedDataset] = {}
    for resource in desired.resources.values():
        if not isinstance(resource, Dataset) or (names is not None and resource.metadata.name not in names):
            continue
        try:
            requests.append(request(resource, substitute))
        except MlopsError as error:  # a variable that is not allowed or not set
            name = resource.metadata.name
            refused[name] = ObservedDataset(
                name, resource.spec.uri, None, outside=True, reason="Invalid", message=str(error)
            )
    return refused | observe_all(requests, base=root, inside=Inside(snapshot), cache=cache, now=now)
