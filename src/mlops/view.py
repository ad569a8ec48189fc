"""A view: one revision seen against what is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlops.observation.held import Held
from mlops.observation.observed import Observed
from mlops.planning.context import APPLIED_GOOD, APPLIED_REVISION, Options, marked, revision_in_force
from mlops.resources import Dataset, Key, Loaded, Project
from mlops.source.snapshot import GitSnapshot, Snapshot

if TYPE_CHECKING:
    from mlops.planning.desired import Desired
    from mlops.planning.plan import Step
    from mlops.planning.planner import Planned


@dataclass(frozen=True, slots=True)
class View:
    """One revision seen against what is: everything that a plan, a status or an apply starts from."""

    snapshot: Snapshot
    held: Held
    desired: Desired
    observed: Observed
    planned: Planned
    options: Options
    refused: str | None = None  # why the revision that was asked for does not come into force
    asked: str | None = None  # that revision, where this is the one in force instead

    @property
    def project(self) -> Project:
        """The Project that counts."""
        return self.held.project

    @property
    def loaded(self) -> Loaded:
        """The resources that are to be, and what is wrong with their documents."""
        return self.held.loaded

    @property
    def good(self) -> str | None:
        """The last revision in force that was whole: what the next one breaks is read from there."""
        return marked(self._marks, APPLIED_GOOD)

    @property
    def edited_mark(self) -> str | None:
        """What somebody wrote in the place of the revision in force; None where it names one, or none is."""
        edited = revision_in_force(self._marks) is not None and marked(self._marks, APPLIED_REVISION) is None
        return self._marks.get(APPLIED_REVISION, "") if edited else None

    @property
    def _marks(self) -> Mapping[str, str]:
        project = self.observed.ledger.experiments.get(self.desired.project)
        return project.tags if project is not None else {}

    def snapshot_of(self, key: Key) -> Snapshot:
        """The files that a resource stands among: of the revision, or of the last good one."""
        kept = self.held.good if key in self.desired.kept else None
        return kept or self.snapshot

    def dataset_of(self, experiment: str, name: str) -> tuple[Dataset, Snapshot] | None:
        """A Dataset as an Experiment sees it, and the files that it stands among; None if there is none."""
        if Key("Experiment", experiment) in self.desired.kept and name in self.desired.kept_data:
            assert self.held.good is not None
            return self.desired.kept_data[name], self.held.good
        key = Key("Dataset", name)
        found = self.desired.resources.get(key)
        return (found, self.snapshot_of(key)) if isinstance(found, Dataset) else None

    @property
    def held_back(self) -> str | None:
        """Why the revision does not come into force: it is emptied, or rewrites the history of the one that is."""
        return self.desired.prune_refused if self.planned.plan.base is not None else None

    @property
    def coming(self) -> bool:
        """Whether the revision may come into force and is not written down as the one that is."""
        from mlops.applying.apply import in_force

        held_back = self.held_back is not None or self.refused is not None
        return not held_back and not in_force(self.desired, self.observed.ledger)

    def answers(self, observed: Observed, desired: Desired, options: Options) -> bool:
        """Whether planning the revision again, with these, could only come to this view."""
        unread = any(not rules.readable for rules in self.desired.rules.values())  # git may have them by now
        same = self.observed is observed and self.desired.prune_refused == desired.prune_refused
        same = same and self.desired.decisions == desired.decisions
        return same and self.options == options and not unread

    def around(self, step: Step) -> View:
        """This view as far as one step needs it, so that a long one does not keep all of it in memory."""
        from mlops.planning.around import around

        desired, observed, planned = around(self.desired, self.observed, self.planned, step)
        snapshot = _again(self.snapshot)
        good = _again(self.held.good) if self.held.good is not None else None
        held = Held(self.loaded.without_resources(snapshot), good)
        return replace(
            self, snapshot=snapshot, held=held, desired=desired, observed=observed, planned=planned
        )


def _again(snapshot: Snapshot) -> Snapshot:
    """The same files, not listed yet; a working tree stays the one that was listed."""
    if isinstance(snapshot, GitSnapshot):
        return GitSnapshot(snapshot.repository, snapshot.revision, snapshot.root)
    return snapshot
