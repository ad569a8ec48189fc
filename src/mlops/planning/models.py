"""Models and their versions: registered once, bound once, and kept as they were bound."""

from __future__ import annotations

from typing import Final

from mlops.observation.observed import ObservedModel, ObservedRun, ObservedVersion
from mlops.planning.binding import bound_with, read_bound
from mlops.planning.conditions import Assessment, Condition, assess
from mlops.planning.context import (
    BOUND_TAG,
    DECLARED_TAG,
    DIGEST_TAG,
    POLICY_TAG,
    PROJECT_TAG,
    RESOURCE_TAG,
    SOURCE_TAG,
    VERSION_TAG,
    Context,
)
from mlops.planning.experiments import TAGS_TAG, best_run, declared_tags, mend
from mlops.planning.plan import UNKNOWN, Block, Change, Step
from mlops.planning.runs import FINGERPRINT, why_none_is_best
from mlops.planning.work import BindVersion, RegisterModel, UpdateModel, UpdateVersion
from mlops.resources import Experiment, Key, Model, ModelVersion

MOST_NAMES: Final = 4500  # characters: registries allow 5,000 in a tag


def model(context: Context, resource: Model) -> Assessment:
    """A registered model with the description and tags that git declares."""
    key, name = resource.key, context.registered_name(resource.metadata.name)
    live = context.ledger.models.get(name)
    want = model_tags(context.desired.project, resource)
    status = {"registeredName": name, "versions": len(context.versions_by_model.get(name, ()))}
    if resource.spec.suspend:
        return assess(key, suspended=True, exists=live is not None, status=status)
    if live is None:
        step = Step(
            id=f"register:{key}",
            resource=str(key),
            action="register",
            reason="no registered model has this name",
            work=RegisterModel(name, resource.spec.description or "", want),
            changes=(Change("registeredName", None, name),),
        )
        return assess(key, steps=(step,), exists=False, status=status)
    owner = live.tags.get(PROJECT_TAG)
    if owner is not None and owner != context.desired.project:
        block = Block(
            str(key),
            "Ready",
            "OwnedByAnotherProject",
            f"registered model {name} belongs to project {owner}; choose another spec.registeredName",
        )
        return assess(key, blocks=(block,), status=status)
    return assess(key, steps=tuple(_mend_model(resource, live, want)), status=status, message=name)


def model_tags(project: str, resource: Model) -> dict[str, str]:
    """The tags of a Model's registered model."""
    more = {str(name): str(value) for name, value in resource.spec.tags.items()}
    if more:
        more[TAGS_TAG] = ",".join(sorted(more))[:MOST_NAMES]
    if resource.spec.owners:
        more["mlops.owners"] = ",".join(resource.spec.owners)
    return declared_tags(project, resource, more, described=resource.spec.description or "")


def _mend_model(resource: Model, live: ObservedModel, want: dict[str, str]) -> list[Step]:
    described = resource.spec.description or ""
    changes = () if live.description == described else (Change("description", live.description, described),)
    return mend(
        resource,
        live.tags,
        want,
        lambda tags: UpdateModel(live.name, described if changes else None, tags),
        changes,
    )


def model_version(context: Context, resource: ModelVersion) -> Assessment:
    """Bound once, when its source run has finished; from then on only its tags are kept right."""
    key, spec = resource.key, resource.spec
    registered = context.registered_name(spec.model)
    bound = bound_version(context, resource)
    if bound is not None:
        context.numbers[resource.metadata.name] = bound
        return _bound(context, resource, bound)
    if spec.suspend:
        return assess(key, suspended=True, exists=False, conditions=(_unbound("Suspended", "not bound yet"),))
    sources = [Key("Model", spec.model)]
    if spec.source.experiment is not None:
        sources.append(Key("Experiment", spec.source.experiment))
    obstacle = context.obstacle(key, *sources) or _source_problem(context, resource)
    if obstacle is not None:
        return assess(
            key,
            blocks=(obstacle,),
            exists=False,
            conditions=(_unbound(obstacle.reason, obstacle.message),),
            status={"runId": None, "digest": None, "mlflowVersion": None},
        )
    needs = [step.id for source in sources for step in context.made[source].steps if step.action != "update"]
    run_id: str | None = spec.source.run_id
    if run_id is None and (winner := source_run(context, resource)) is not None:
        run_id = winner.run_id
    source = f"Experiment/{spec.source.experiment}" if spec.source.experiment else f"run {spec.source.run_id}"
    step = Step(
        id=f"bind:{key}",
        resource=str(key),
        action="bind",
        reason=f"not bound yet; {source} gives its run",
        work=BindVersion(resource.metadata.name, registered, spec.source.experiment, spec.source.run_id),
        changes=(
            Change("version", None, spec.version),
            Change("runId", None, run_id or UNKNOWN),
            Change("digest", None, spec.digest or UNKNOWN),
        ),
        needs=tuple(needs),
    )
    return assess(
        key,
        steps=(step,),
        exists=False,
        conditions=(_unbound("SourcePending", step.reason),),
        status={"runId": None, "digest": None, "mlflowVersion": None},
    )


def source_run(context: Context, resource: ModelVersion) -> ObservedRun | None:
    """The run that a version which is not bound yet comes from; None as long as training may still change that."""
    name = resource.spec.source.experiment
    if name is None:
        return context.run(resource.spec.source.run_id)
    made = context.made.get(Key("Experiment", name))
    if made is None or made.blocks or any(step.id.startswith("train:") for step in made.steps):
        return None
    winner: ObservedRun | None = best_run(_experiment(context, name), context.trials.get(name, ()))
    return winner


def bound_version(context: Context, resource: ModelVersion) -> ObservedVersion | None:
    """The registered version that carries this resource's number, if it was bound before."""
    registered = context.registered_name(resource.spec.model)
    for version in context.versions_by_model.get(registered, ()):
        if version.tags.get(VERSION_TAG) == resource.spec.version and version.tags.get(PROJECT_TAG) in (
            None,
            context.desired.project,
        ):
            return version
    for version in context.versions_by_model.get(registered, ()):  # its version tag was changed by hand
        if version.tags.get(RESOURCE_TAG) == str(resource.key) and _edited(context, resource, version):
            return version
    return None


def _edited(context: Context, resource: ModelVersion, version: ObservedVersion) -> bool:
    """Whether a version of another number, or none, was registered for this text, and not for one before it."""
    tags = version.tags
    want = version_tags(context.desired.project, resource, tags.get(FINGERPRINT))
    return VERSION_TAG not in tags or tags.get(DECLARED_TAG) == want[DECLARED_TAG]


def version_tags(project: str, resource: ModelVersion, fingerprint: str | None) -> dict[str, str]:
    """The tags of a registered version that follow from git and from its run."""
    more = {VERSION_TAG: resource.spec.version, POLICY_TAG: resource.spec.deletion_policy}
    more[SOURCE_TAG] = source_of(resource)
    if fingerprint:
        more[FINGERPRINT] = fingerprint
    return declared_tags(
        project, resource, more, described=resource.metadata.annotations.get("description", "")
    )


def source_of(resource: ModelVersion) -> str:
    """Where a version was declared to come from, as one string that can be compared."""
    source = resource.spec.source
    origin = f"Experiment/{source.experiment}" if source.experiment else f"run/{source.run_id}"
    return f"{origin}#{source.artifact}"


def _bound(context: Context, resource: ModelVersion, bound: ObservedVersion) -> Assessment:
    key, spec = resource.key, resource.spec
    record = read_bound(bound.tags)
    digest = (record or bound.tags).get(DIGEST_TAG)
    status = {"runId": bound.run_id, "digest": digest, "mlflowVersion": bound.number}
    was = bound.tags.get(SOURCE_TAG, source_of(resource))
    if spec.source.run_id is not None and bound.run_id not in (None, spec.source.run_id):
        was = f"run/{bound.run_id}"  # registered by hand, whatever its tags say
    # Pinned to the very run that it was bound from, it comes from where it came from.
    pinned = spec.source.run_id in (bound.run_id or "",) and was.endswith(f"#{spec.source.artifact}")
    edited = was != source_of(resource) and not pinned
    if edited or (spec.digest is not None and digest is not None and spec.digest != digest):
        what = (
            f"it was bound from {was}, not from {source_of(resource)}"
            if edited
            else f"it was bound with digest {digest}, not {spec.digest}"
        )
        block = Block(
            str(key),
            "Bound",
            "Immutable",
            f"version {spec.version} of {spec.model} is bound for ever: {what}. "
            "Restore its source, or declare a new ModelVersion",
        )
        return assess(key, blocks=(block,), status=status, stalled=True, suspended=spec.suspend)
    run = context.run(bound.run_id)
    witness = record or (run.tags if run is not None else bound.tags)
    want = version_tags(context.desired.project, resource, witness.get(FINGERPRINT))
    if pinned:
        want[SOURCE_TAG] = was
    if digest is not None:
        known = record or {**bound.tags, **want}
        want |= {**(record or {}), BOUND_TAG: bound_with(known)}
    described = resource.metadata.annotations.get("description", "")
    changes = () if bound.description == described else (Change("description", bound.description, described),)
    if digest is None:
        changes = (*changes, Change(f"tags.{DIGEST_TAG}", None, UNKNOWN))
    steps = (
        []
        if spec.suspend
        else mend(
            resource,
            bound.tags,
            want,
            lambda tags: UpdateVersion(
                bound.model,
                bound.number,
                tags,
                described if bound.description != described else None,
                recompute_digest=digest is None,
            ),
            changes,
        )
    )
    return assess(
        key,
        steps=tuple(steps),
        conditions=(Condition("Bound", "True", "Bound", f"version {bound.number} of {bound.model}"),),
        status=status,
        message=f"{bound.model} v{bound.number}, run {(bound.run_id or '')[:8]}",
        suspended=spec.suspend,
    )


def _source_problem(context: Context, resource: ModelVersion) -> Block | None:
    """Why nothing can be bound: the model is frozen before it was made, or the source gives no run."""
    key, spec = resource.key, resource.spec
    model = Key("Model", spec.model)
    if context.registered_name(spec.model) not in context.ledger.models and not context.made[model].steps:
        what = f"{model} is suspended and not registered yet; `mlops resume {model}` lets it go on"
        return Block(str(key), "Bound", "DependencyFailed", what)
    if spec.source.experiment is not None and key in context.desired.kept:
        origin = Key("Experiment", spec.source.experiment)
        if origin not in context.desired.kept:  # a version is bound for ever
            what = f"{origin} may have changed since; it is bound when its own document is mended"
            return Block(str(key), "Bound", "DependencyFailed", what)
    if spec.source.run_id is not None:
        run = context.run(spec.source.run_id)
        if run is None:
            what = f"MLflow has no run {spec.source.run_id}. Check spec.source.runId and the tracking URI"
            return Block(str(key), "Bound", "RunMissing", what)
        if run.status != "FINISHED":
            what = f"run {run.run_id} is {run.status}; a version is bound when its run has finished"
            return Block(str(key), "Bound", "RunNotFinished", what)
        return None
    name = str(spec.source.experiment)
    states = context.trials.get(name, ())
    if any(state.state != "finished" for state in states):
        return None
    source = _experiment(context, name)
    if best_run(source, states) is not None:
        return None
    if source.spec.objective is None:
        what = f"Experiment/{name} has {len(states)} trials and no spec.objective to choose by. Add one"
        return Block(str(key), "Bound", "ObjectiveMissing", what)
    runs = [state.run for state in states if state.run is not None]
    what = why_none_is_best(f"Experiment/{name}", runs, source.spec.objective.metric)
    return Block(str(key), "Bound", "ObjectiveMissing", what)


def _experiment(context: Context, name: str) -> Experiment:
    resource = context.desired.resources[Key("Experiment", name)]
    assert isinstance(resource, Experiment)
    return resource


def _unbound(reason: str, message: str) -> Condition:
    return Condition("Bound", "False", reason, message)
