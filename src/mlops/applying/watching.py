"""What a policy watches: the version in its stage, and the tables that the engine reads for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mlops.applying.monitored import Kept, Reference
from mlops.applying.world import NOW, World
from mlops.errors import Stalled
from mlops.observation.history import parse_time
from mlops.observation.observed import ObservedVersion
from mlops.planning.context import RESOURCE_TAG, REVISION_TAG, VERSION_TAG
from mlops.planning.runs import DATASET_DIGEST
from mlops.planning.stays import Stay, lasting
from mlops.resources import Experiment, Key, Model, MonitoringPolicy

if TYPE_CHECKING:  # the monitoring room stands on numpy: it is imported by the functions that evaluate
    from mlops.monitoring.evaluating import Subject, Table

_TRAIN: Final = "train"


@dataclass(frozen=True, slots=True)
class Watching:
    """The version in a policy's stage as this apply left it, its stay, and its number as people call it."""

    resource: MonitoringPolicy
    version: ObservedVersion
    stay: Stay
    number: str

    @property
    def policy(self) -> str:
        """The name of the policy."""
        return self.resource.metadata.name

    @property
    def promoted_at(self) -> float:
        """Since when it is in the stage: seconds since 1970 UTC."""
        return parse_time(self.stay.since).timestamp()


def watching(world: World, resource: MonitoringPolicy) -> Watching:
    """What a policy watches now.

    Raises:
        Stalled: no version is in its stage.
    """
    spec = resource.spec
    model = world.desired.resources.get(Key("Model", spec.model))
    registered = (model.spec.registered_name if isinstance(model, Model) else None) or spec.model
    stays = [
        (stay.since, version.number, version, stay)
        for version in world.versions_of(registered)
        if (stay := lasting(version.tags, spec.stage)) is not None
    ]
    if not stays:
        raise Stalled(f"no version of {spec.model} is in {spec.stage} any more", fix="Promote one")
    _, _, version, stay = max(stays, key=lambda row: row[:2])
    return Watching(resource, version, stay, version.tags.get(VERSION_TAG) or f"v{version.number}")


def subject_of(world: World, watched: Watching, kept: Kept) -> tuple[Subject, dict[str, str]]:
    """What the engine is given, and the digests of the data as it is read, by name of the Dataset."""
    from mlops.monitoring.evaluating import Subject

    spec = watched.resource.spec
    predictions = _table(world, spec.data.predictions)
    labels = _table(world, spec.data.labels.dataset) if spec.data.labels is not None else None
    source = spec.reference.source
    read = [predictions, *([labels] if labels else [])]
    reference: Table | None = None
    if source == "training":
        reference = _training_data(world, watched, kept)
    elif hasattr(source, "dataset"):
        reference = _table(world, source.dataset)
        read.append(reference)
    subject = Subject(
        spec=spec,
        policy=watched.policy,
        version=watched.number,
        predictions=predictions,
        labels=labels,
        reference=reference,
        promoted_at=watched.promoted_at,
    )
    return subject, {table.name: table.digest or "" for table in read}


def _table(world: World, name: str, digest: str | None = None, revision: str | None = None) -> Table:
    """A Dataset with its files; with `digest` and `revision` as it was there and then."""
    from mlops.monitoring.evaluating import DataFile, Table

    dataset, rows = world.rows(name, digest, revision)
    files = tuple(DataFile(one.digest, one.name, at, one.batches) for at, one in enumerate(rows.files))
    spec = dataset.spec
    return Table(name, rows.digest, rows.types, files, spec.columns, rows.text, spec.expect)


def _training_data(world: World, watched: Watching, kept: Kept) -> Table:
    """What the version was trained on: the experiment's dataset `train`, or its only one."""
    run = world.run(watched.version.run_id) if watched.version.run_id else None
    name = (run.tags.get(RESOURCE_TAG, "") if run is not None else "").partition("/")[2]
    experiment = world.desired.resources.get(Key("Experiment", name))
    if run is None or not isinstance(experiment, Experiment):
        raise Stalled(
            f"it is not known on what {watched.number} was trained",
            where=f"MonitoringPolicy/{watched.policy}",
            fix="Name a Dataset in spec.reference.source",
        )
    roles = experiment.spec.datasets
    role = _TRAIN if _TRAIN in roles else next(iter(roles), None)
    if role is None or (role != _TRAIN and len(roles) > 1):
        raise Stalled(
            f"Experiment/{name} has no dataset named train, and not just one",
            where=f"MonitoringPolicy/{watched.policy}",
            fix="Name a Dataset in spec.reference.source",
        )
    digest = run.tags.get(f"{DATASET_DIGEST}{role}")
    try:
        table = _table(world, roles[role], digest, run.tags.get(REVISION_TAG))
    except Stalled as error:
        known = kept.references.get(digest or "")
        if known is None:
            raise
        return _grown(world, roles[role], digest or "", known, error)
    if table.digest is not None:
        listed = tuple((file.name, file.digest) for file in table.files)
        kept.references[table.digest] = Reference(dict(table.types), table.text, listed)
    return table


def _grown(world: World, name: str, digest: str, known: Reference, error: Stalled) -> Table:
    """The training data as it was, of a dataset that has changed since: most often it only has more files.

    What is gone of it may be summed up already; only if it has to be read again `error` is raised.
    """

    from mlops.monitoring.evaluating import DataFile

    def gone(columns: object) -> Iterator[Any]:
        raise error

    now = _table(world, name, NOW)
    there = {(file.name, file.digest): file for file in now.files}
    files = tuple(
        there[one] if one in there else DataFile(one[1], one[0], at, gone)
        for at, one in enumerate(known.files)
    )
    return replace(now, digest=digest, types=known.types, text=known.text, files=files)
