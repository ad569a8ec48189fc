"""A broken revision as it counts: with the last good text of what is broken in it, read from git."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlops.errors import MlopsError
from mlops.resources import Loaded, Project
from mlops.resources.last_good import hold
from mlops.source.snapshot import Snapshot

Read = Callable[[str], tuple[Snapshot, Loaded]]


@dataclass(frozen=True, slots=True)
class Held:
    """The resources that are to be, with the files of what is kept as it was at the last good revision."""

    loaded: Loaded
    good: Snapshot | None = None
    problem: str | None = None  # why the last good revision cannot be read

    @property
    def project(self) -> Project:
        """The Project that counts; without one nothing is held."""
        assert self.loaded.project is not None
        return self.loaded.project


def held(loaded: Loaded, project: str, good: str | None, read: Read) -> Held:
    """What counts of a revision.

    Args:
        project: the Project's name.
        good: the sha of the last revision in force that was whole, as the ledger tells; None for none.
        read: gives the files and the resources of a commit; raises MlopsError.
    """
    if loaded.whole or good is None:
        return Held(loaded)
    try:
        snapshot, before = read(good)
    except MlopsError as error:
        return Held(loaded, problem=f"the last good revision, {good[:12]}, cannot be read: {error.what}")
    if snapshot.revision != good:  # the tag was written by hand
        return Held(loaded, problem="the ledger names no commit as the last good revision")
    if not before.whole or before.project is None or before.project.metadata.name != project:
        return Held(loaded, problem=f"the last good revision, {good[:12]}, is not what it was")
    return Held(hold(loaded, before), snapshot)
