"""What the gates of a stage look at, gathered alike from what planning sees and from what apply has at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from mlops.observation.observed import ObservedDataset, ObservedRun, ObservedVersion
from mlops.observation.policies import ObservedPolicy
from mlops.planning.binding import read_bound
from mlops.planning.context import DIGEST_TAG, RESOURCE_TAG, SOURCE_TAG, VERSION_TAG
from mlops.planning.evidence import Check, Evidence, Loading, find
from mlops.planning.gates import Case, Judged
from mlops.planning.soaking import Monitor, Soaking
from mlops.planning.stays import History, Stay, history, lasting
from mlops.planning.work import EvaluateModel
from mlops.resources import Dataset, Key, ModelVersion, MonitoringPolicy, Resource

_ARTIFACT = "model"  # what a logged model is called by those who say nothing else


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that can be looked into: a bound version, or what a version will be bound to once its run is known."""

    shown: str  # `1.1.0`
    name: str  # of the resource, or `<registered model>-v3`
    resource: str | None  # the name of its ModelVersion, where its run is not known yet
    run: ObservedRun | None
    run_id: str | None
    artifact: str
    digest: str | None
    tags: Mapping[str, str]  # of the version

    @classmethod
    def of_version(cls, version: ObservedVersion, run: ObservedRun | None) -> Subject:
        """A version that is bound, whether or not it is declared any longer."""
        kind, _, name = version.tags.get(RESOURCE_TAG, "").partition("/")
        return cls(
            shown=version.tags.get(VERSION_TAG) or f"v{version.number}",
            name=name if kind == "ModelVersion" and name else f"{version.model}-v{version.number}",
            resource=None,
            run=run,
            run_id=version.run_id,
            artifact=version.tags.get(SOURCE_TAG, "").partition("#")[2] or _ARTIFACT,
            digest=(read_bound(version.tags) or version.tags).get(DIGEST_TAG),
            tags=version.tags,
        )

    @classmethod
    def of_declared(cls, target: ModelVersion, run: ObservedRun | None) -> Subject:
        """A version that is not bound yet; `run` is what it would be bound to, None before that has finished."""
        name, source = target.metadata.name, target.spec.source
        run_id = run.run_id if run is not None else None
        return cls(target.spec.version, name, name, run, run_id, source.artifact, None, {})

    def evidence(self, check: Check) -> Evidence | None:
        """What is known of this check: written on the run, or on the version where the run is another project's."""
        places = (self.run.tags if self.run is not None else {}, self.tags)
        found = (find(tags, check, self.digest, self.artifact) for tags in places)
        return next((one for one in found if one is not None), None)

    def work(self, check: Check, experiment: str | None, *, again: bool) -> EvaluateModel:
        """What makes the evidence of a check."""
        return EvaluateModel(
            self.shown, self.resource, self.run_id, self.artifact, self.digest, check, experiment, again
        )


def case_of(
    subject: Subject,
    champion: Subject | None,
    *,
    declared: Mapping[Key, Resource],
    datasets: Mapping[str, ObservedDataset],
    soaking: Soaking,
    returns: bool,
    retried: bool = False,
) -> Case:
    """The case of a version that is asked for in a stage.

    Args:
        retried: whether evidence that only says why nothing could be found out counts as none.
    """

    def judged(one: Subject) -> Judged:
        def evidence(check: Check) -> Evidence | None:
            found = one.evidence(check)
            return None if retried and found is not None and found.error is not None else found

        return Judged(one.shown, evidence)

    return Case(
        run=subject.run,
        model=judged(subject),
        champion=judged(champion) if champion is not None else None,
        dataset=lambda name: _dataset(declared, name),
        datasets=datasets,
        soaking=soaking,
        returns=returns,
    )


def _dataset(declared: Mapping[Key, Resource], name: str) -> Dataset | None:
    found = declared.get(Key("Dataset", name))
    return found if isinstance(found, Dataset) else None


def in_stage(versions: Iterable[ObservedVersion], stage: str) -> tuple[ObservedVersion, Stay] | None:
    """The version whose stay in a stage lasts by its record, and that stay; of several the one that began last."""
    stays = [
        (stay.since, version.number, version, stay)
        for version in versions
        if (stay := lasting(version.tags, stage)) is not None
    ]
    return max(stays, key=lambda row: row[:2])[2:] if stays else None


def predecessor(versions: Iterable[ObservedVersion], stage: str, stay: Stay) -> ObservedVersion | None:
    """The version that was in a stage until `stay` began there."""
    return next(
        (
            version
            for version in versions
            if any(one.until == stay.since and one != stay for one in history(version.tags, stage).stays)
        ),
        None,
    )


def loading(version: ObservedVersion, stage: str) -> Loading | None:
    """The check that a version which goes back to a stage can still be loaded; None where nothing has to be loaded.

    A plain file that a run left is loaded by nobody here.
    """
    stays = history(version.tags, stage).stays
    plain = not version.source.startswith("models:/") and "." in version.source.rpartition("/")[2]
    if not stays or plain or not version.source:
        return None
    return Loading(stage, stays[-1].until or stays[-1].since)


def soaking_of(
    stays: History, number: str, monitors: Iterable[tuple[MonitoringPolicy, ObservedPolicy, bool]], now: float
) -> Soaking:
    """How a version stands in the stage before.

    Args:
        stays: there.
        number: of the version, as policies name it.
        monitors: that watch the stage, what is known of each, and whether it has data to judge by.
    """
    if stays.open is None:
        return Soaking(stays, (), now)
    return Soaking(
        stays,
        tuple(
            Monitor(policy.metadata.name, seen.record.verdict, seen.record.version == number)
            for policy, seen, has_data in monitors
            if not policy.spec.suspend and (has_data or seen.record.version == number)
        ),
        now,
    )


def standing_soak(stays: History, promoted: str) -> Soaking:
    """How it stood when it was promoted."""
    return Soaking(stays, (), datetime.fromisoformat(promoted).timestamp())
