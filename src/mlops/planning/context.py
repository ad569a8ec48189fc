"""What every part of the planner reads, and what the parts before it found out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mlops.approvals import Asked, Decision, People, decide
from mlops.notifying.rows import Standing
from mlops.observation.observed import (
    Ledger,
    Observed,
    ObservedDataset,
    ObservedRun,
    ObservedVersion,
)
from mlops.observation.policies import ObservedPolicy
from mlops.planning.authority import Rules
from mlops.planning.conditions import Assessment
from mlops.planning.desired import Desired
from mlops.planning.graph import Graph
from mlops.planning.plan import Block
from mlops.planning.runs import RunIndex, TrialState
from mlops.planning.work import EvaluateModel
from mlops.resources import Key, Model, MonitoringPolicy, Stage

PROJECT_TAG = "mlops.project"
RESOURCE_TAG = "mlops.resource"
LABEL_PREFIX = "mlops.label."
DECLARED_TAG = "mlops.declared"
ARCHIVED_TAG = "mlops.archived"
VERSION_TAG = "mlops.version"
DIGEST_TAG = "mlops.digest"
BOUND_TAG = "mlops.bound"
REVISION_TAG = "mlops.revision"
DIRTY_TAG = "mlops.dirty"
POLICY_TAG = "mlops.deletionPolicy"
SOURCE_TAG = "mlops.source"
DESCRIPTION_TAG = "mlflow.note.content"
APPLIED_REVISION = "mlops.applied.revision"
APPLIED_GOOD = "mlops.applied.good"
APPLIED_AT = "mlops.applied.at"
APPLIED_FOLDER = "mlops.applied.folder"
_SHA: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def marked(tags: Mapping[str, str], tag: str) -> str | None:
    """The commit that a tag of the Project's MLflow experiment names; None where anything else stands there."""
    value = tags.get(tag, "")
    return value if _SHA.fullmatch(value) else None


def revision_in_force(tags: Mapping[str, str]) -> str | None:
    """The revision in force by these tags; the last good one where somebody edited the mark of it."""
    return marked(tags, APPLIED_REVISION) or marked(tags, APPLIED_GOOD)


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for beside the revision.

    `retry_stalled` asks for all trials whose attempts are used up, `retry` for those of these steps. `refresh`
    names experiments to train on moved data, `base` a revision to plan against instead of the one in force.
    `accept` is a revision that somebody accepts although it rewrites history; `refused` says why another one
    was not taken, and this one, in force, is looked at in its place. `scheduled` leaves the data of policies alone
    until their schedule asks for another look.
    """

    retry_stalled: bool = False
    retry: frozenset[str] = frozenset()
    refresh: frozenset[str] = frozenset()
    base: str | None = None
    accept: str | None = None
    refused: str | None = None
    scheduled: bool = False


@dataclass(slots=True)
class Context:
    """The inputs of one planning, and the assessments made so far (dependencies come first)."""

    desired: Desired
    ledger: Ledger
    datasets: Mapping[str, ObservedDataset]
    kept_data: Mapping[str, ObservedDataset]  # the same as kept experiments see them
    options: Options
    base: str | None
    index: RunIndex
    versions_by_model: Mapping[str, tuple[ObservedVersion, ...]]
    graph: Graph
    stage_of_alias: Mapping[str, str]  # loading has refused two stages with one alias
    registered: Mapping[str, str]  # by Model name: what MLflow calls it
    policies: Mapping[str, ObservedPolicy]  # by MonitoringPolicy name
    notifiers: Mapping[str, Standing]  # by Notifier name
    now: float  # seconds since the epoch
    monitors: Mapping[tuple[str, str], tuple[MonitoringPolicy, ...]]  # by the Model and Stage they watch
    training: dict[str, str] = field(
        default_factory=dict
    )  # fingerprint → the step of this plan that trains it
    evaluating: dict[str, EvaluateModel] = field(default_factory=dict)  # what steps of this plan evaluate
    wakes: list[float] = field(default_factory=list)  # moments at which a gate passes by itself
    bases: set[str] = field(default_factory=set)  # revisions whose rules were asked for
    asking: set[Asked] = field(default_factory=set)  # promotions that need approvals
    asked: dict[Key, str] = field(default_factory=dict)  # the base of each promotion that is not in force
    made: dict[Key, Assessment] = field(default_factory=dict)
    trials: dict[str, tuple[TrialState, ...]] = field(default_factory=dict)  # by Experiment name
    numbers: dict[str, ObservedVersion] = field(default_factory=dict)  # bound ones, by ModelVersion name

    @classmethod
    def of(cls, desired: Desired, observed: Observed, options: Options) -> Context:
        """Index the inputs, so that each resource is planned in a time that does not grow with the others."""
        versions: dict[str, list[ObservedVersion]] = {}
        for model, number in sorted(observed.ledger.versions):
            versions.setdefault(model, []).append(observed.ledger.versions[model, number])
        project = observed.ledger.experiments.get(desired.project)
        monitors: dict[tuple[str, str], list[MonitoringPolicy]] = {}
        for one in desired.resources.values():
            if isinstance(one, MonitoringPolicy):
                monitors.setdefault((one.spec.model, one.spec.stage), []).append(one)
        return cls(
            desired=desired,
            ledger=observed.ledger,
            datasets=observed.datasets,
            kept_data=observed.seen(kept=True),
            options=options,
            base=options.base or (revision_in_force(project.tags) if project else None),
            index=RunIndex.of(observed.ledger.runs.values()),
            versions_by_model={name: tuple(found) for name, found in versions.items()},
            graph=Graph.of(desired.resources),
            stage_of_alias={
                one.spec.alias or one.metadata.name: one.metadata.name
                for one in desired.resources.values()
                if isinstance(one, Stage)
            },
            registered={
                key.name: one.spec.registered_name or key.name
                for key, one in desired.resources.items()
                if isinstance(one, Model)
            },
            policies=observed.policies,
            notifiers=observed.notifiers,
            now=observed.now,
            monitors={place: tuple(found) for place, found in monitors.items()},
        )

    @property
    def authority(self) -> str:
        """The revision whose rules count: the one in force, or the first one for itself."""
        return self.base or self.desired.revision

    def rules(self, base: str) -> Rules | None:
        """The rules of a promotion's base; None where that is this very revision, or was not read yet."""
        if base == self.desired.revision and (self.base is None or not self.desired.dirty):
            return None
        self.bases.add(base)
        return self.desired.rules.get(base)

    def decision(self, asked: Asked) -> Decision:
        """Who approved what is asked; nobody as long as it was not looked at."""
        self.asking.add(asked)
        found = self.desired.decisions.get(asked)
        return found if found is not None else decide(asked, People(), (), ())

    def registered_name(self, model: str) -> str:
        return self.registered.get(model, model)

    def run(self, run_id: str | None) -> ObservedRun | None:
        return self.ledger.runs.get(run_id) if run_id else None

    def data_of(self, experiment: Key) -> Mapping[str, ObservedDataset]:
        """The datasets as that experiment sees them: one that is kept sees them as they were."""
        return self.kept_data if experiment in self.desired.kept else self.datasets

    def obstacle(self, key: Key, *dependencies: Key) -> Block | None:
        """The block that a broken or blocked dependency puts on `key`, if one does."""
        for dependency in dependencies:
            if dependency in self.desired.invalid:
                why = "its document is broken; mend the errors that `mlops validate` names"
            elif (made := self.made.get(dependency)) is not None and made.blocks:
                why = made.blocks[0].message
            elif dependency not in self.desired.resources:
                why = "it is not declared"
            else:
                continue
            return Block(str(key), "Ready", "DependencyFailed", f"{dependency}: {why}")
        return None
