"""Register models and bind versions: one call that creates a version with all its tags, searched for first."""

from __future__ import annotations

from mlops.applying.outcomes import Blocked, Done, Left, Outcome
from mlops.applying.world import World
from mlops.errors import Stalled
from mlops.observation.observed import ObservedRun, ObservedVersion
from mlops.planning.binding import bound_with
from mlops.planning.context import BOUND_TAG, DIGEST_TAG, REVISION_TAG
from mlops.planning.models import version_tags
from mlops.planning.plan import Block, Step
from mlops.planning.runs import FINGERPRINT, best, why_none_is_best
from mlops.planning.work import BindVersion, RegisterModel, UpdateModel, UpdateVersion
from mlops.resources import Experiment, Key, ModelVersion


def register(world: World, work: RegisterModel) -> Outcome:
    """Create the registered model."""
    world.check_lease()
    world.tracker.ensure_model(work.registered_name, description=work.description, tags=work.tags)
    return Done(work.registered_name)


def update_model(world: World, work: UpdateModel) -> Outcome:
    """Put a registered model's description and tags right."""
    world.check_lease()
    world.tracker.update_model(work.registered_name, description=work.description, tags=work.tags)
    return Done()


def bind(world: World, step: Step, work: BindVersion) -> Outcome:
    """Bind a ModelVersion to its run: from now on its bytes have this name."""
    resource = world.desired.resources[Key("ModelVersion", work.name)]
    assert isinstance(resource, ModelVersion)
    run = source_run(world, resource)
    if isinstance(run, Block):
        return Blocked(run)
    name = resource.spec.source.artifact
    artifact = world.artifact(run.run_id, name)
    if artifact is None:
        there = ", ".join(world.tracker.artifact_names(run.run_id)[:8]) or "nothing"
        what = (
            f"run {run.run_id} has no artifact {name!r} (it has: {there}). Log the model under that name "
            f"(mlflow.<flavor>.log_model(model, name={name!r})), or name another in spec.source.artifact"
        )
        return Blocked(Block(step.resource, "Bound", "ArtifactMissing", what))
    if resource.spec.digest is not None and resource.spec.digest != artifact.digest:
        what = f"the artifact's digest is {artifact.digest}, spec.digest says {resource.spec.digest}"
        return Blocked(Block(step.resource, "Bound", "DigestMismatch", what))
    tags = version_tags(world.desired.project, resource, run.tags.get(FINGERPRINT))
    tags |= {DIGEST_TAG: artifact.digest, REVISION_TAG: world.desired.revision}
    tags[BOUND_TAG] = bound_with(tags)
    description = resource.metadata.annotations.get("description", "")
    if world.stop.is_set():  # reading the bytes took its time
        return Left("stopped before it was bound")
    world.check_lease()
    number = world.tracker.create_version(
        work.registered_name,
        source_uri=artifact.uri,
        run_id=run.run_id,
        tags=tags,
        description=description,
    )
    version = ObservedVersion(work.registered_name, number, run.run_id, artifact.uri, description, tags)
    world.remember(version)
    world.bound[work.name] = (version.model, version.number)
    return Done(f"{work.registered_name} v{number} from run {run.run_id[:8]}")


def update_version(world: World, work: UpdateVersion) -> Outcome:
    """Put a version's tags and description right; a digest that was taken away is computed again."""
    tags = dict(work.tags)
    if work.recompute_digest:
        version = world.tracker.version(work.registered_name, work.number)
        artifact = _artifact_of(world, version.run_id, version.source) if version and version.run_id else None
        if artifact is None:
            raise Stalled(
                f"{work.registered_name} v{work.number} has no digest, and its source is no declared artifact",
                fix="Restore the artifact, name it in spec.source.artifact, or declare a new ModelVersion",
            )
        tags[DIGEST_TAG] = artifact
        after = {**(version.tags if version else {}), **tags}
        tags[BOUND_TAG] = bound_with({tag: value for tag, value in after.items() if value is not None})
    world.check_lease()
    world.tracker.tag_version(work.registered_name, work.number, tags, description=work.description)
    return Done()


def _artifact_of(world: World, run_id: str, source: str) -> str | None:
    for resource in world.desired.resources.values():
        if isinstance(resource, ModelVersion):
            name = resource.spec.source.artifact
            artifact = world.artifact(run_id, name)
            if artifact is not None and source in (artifact.uri, f"runs:/{run_id}/{name}"):
                return artifact.digest
    return None


def source_run(world: World, resource: ModelVersion) -> ObservedRun | Block:
    """The run that a version is bound to: the best that its experiment has by now, or the one that it names."""
    key, source = resource.key, resource.spec.source
    if source.run_id is not None:
        run = world.run(source.run_id)
        return run or Block(str(key), "Bound", "RunMissing", f"MLflow has no run {source.run_id}")
    experiment = world.desired.resources[Key("Experiment", str(source.experiment))]
    assert isinstance(experiment, Experiment)
    runs = world.runs_of(experiment.metadata.name)
    if experiment.spec.objective is None:
        if len(runs) == 1:
            return runs[0]
        what = f"{experiment.key} has {len(runs)} finished runs and no spec.objective to choose by"
        return Block(str(key), "Bound", "ObjectiveMissing", what)
    metric = experiment.spec.objective.metric
    winner = best(runs, metric, experiment.spec.objective.goal)
    if winner is None:
        what = why_none_is_best(str(experiment.key), runs, metric)
        return Block(str(key), "Bound", "ObjectiveMissing", what)
    return winner
