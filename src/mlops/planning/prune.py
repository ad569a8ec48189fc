"""What MLflow still holds of resources that left git: aliases go, runs, versions and bytes stay.

Nothing is pruned from a revision that could not be read whole, nor when the guard against an emptied or
rewritten repository says no: the block then says so.
"""

from __future__ import annotations

from mlops.planning.conditions import Assessment, assess
from mlops.planning.context import ARCHIVED_TAG, POLICY_TAG, PROJECT_TAG, RESOURCE_TAG, VERSION_TAG, Context
from mlops.planning.plan import Block, Change, Step
from mlops.planning.stays import lasting, stages
from mlops.planning.work import (
    DeleteVersion,
    MoveAlias,
    TakeAliasAway,
    UpdateExperiment,
    UpdateModel,
    UpdateVersion,
    Work,
)
from mlops.resources import Key, Promotion


def prune(context: Context) -> Assessment:
    """The steps for everything of this project that the revision no longer declares."""
    key = Key("Project", context.desired.project)
    demotions = _demotions(context)
    steps = [*demotions, *_versions(context, demotions), *_objects(context)]
    if not steps or not context.desired.prune:
        return assess(key)
    refused = context.desired.prune_refused
    if not context.desired.whole:
        refused = "the revision has broken documents, so nothing counts as removed; mend them first"
    if refused is not None:
        blocks = tuple(
            Block(step.resource, "Pruned", "PruneRefused", f"{step.action} put off: {refused}")
            for step in steps
        )
        return assess(key, blocks=blocks)
    return assess(key, steps=tuple(steps))


def _gone(context: Context, resource: str | None) -> bool:
    if resource is None or "/" not in resource:
        return False
    kind, name = resource.split("/", 1)
    return Key(kind, name) not in context.desired.resources and Key(kind, name) not in context.desired.invalid


def _demotions(context: Context) -> list[Step]:
    """Stays that last although no Promotion asks for anything in that stage."""
    wanted = {(context.registered_name(model), stage) for model, stage in context.graph.promotions}
    unasked: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for name, versions in context.versions_by_model.items():
        for version in versions:
            if version.tags.get(PROJECT_TAG) != context.desired.project:
                continue
            for stage in stages(version.tags):
                stay = lasting(version.tags, stage)
                if stay is None or (name, stage) in wanted or _held(context, stay.promotion):
                    continue
                unasked.setdefault((name, stage), []).append((version.number, stay.alias, stay.promotion))
    steps = []
    for (name, stage), rows in sorted(unasked.items()):
        alias, promotion = rows[-1][1], rows[-1][2]
        live = context.ledger.models.get(name)
        current = live.aliases.get(alias) if live else None
        kept = (name, context.stage_of_alias.get(alias)) in wanted  # another stage has the alias now
        # Also where somebody moved it by hand: it is ours as long as the stay lasts.
        taken = current is not None and not kept
        left = _gone(context, f"Promotion/{promotion}")
        steps.append(
            Step(
                id=f"demote:Promotion/{promotion}:{name}/{stage}",
                resource=f"Promotion/{promotion}",
                action="demote",
                reason="the Promotion left git" if left else f"it asks for nothing in {stage} any more",
                work=TakeAliasAway(name, stage, alias if taken else None, tuple(row[0] for row in rows)),
                changes=(Change(f"alias.{alias}", current, current if kept else None),),
            )
        )
    return steps


def _held(context: Context, promotion: str) -> bool:
    """Whether a stay is left alone: its Promotion is broken or frozen, or the Model of it is broken."""
    key = Key("Promotion", promotion)
    resource = context.desired.resources.get(key)
    if not isinstance(resource, Promotion):
        return key in context.desired.invalid
    return resource.spec.suspend or Key("Model", resource.spec.model) in context.desired.invalid


def _versions(context: Context, demotions: list[Step]) -> list[Step]:
    freed = {
        (step.work.registered_name, step.work.alias): step.id
        for step in (*demotions, *(step for made in context.made.values() for step in made.steps))
        if isinstance(step.work, TakeAliasAway | MoveAlias)
    }
    bound = {(version.model, version.number) for version in context.numbers.values()}
    steps = []
    for versions in context.versions_by_model.values():
        for version in versions:
            if ARCHIVED_TAG in version.tags and version.tags.get(POLICY_TAG) != "Delete":
                continue  # first: there may be many, of all the years
            if (version.model, version.number) in bound:
                continue  # declared, whatever somebody wrote into its tags
            resource = version.tags.get(RESOURCE_TAG, "")
            if version.tags.get(PROJECT_TAG) != context.desired.project or not _gone(context, resource):
                continue
            if version.tags.get(VERSION_TAG) in context.graph.versions.get(
                _model_of(context, version.model), {}
            ):
                continue  # the resource was renamed, not removed
            live = context.ledger.models.get(version.model)
            aliases = sorted(a for a, n in (live.aliases.items() if live else ()) if n == version.number)
            if version.tags.get(POLICY_TAG) == "Delete" and all((version.model, a) in freed for a in aliases):
                work: Work = DeleteVersion(version.model, version.number)
                changes = (Change("mlflowVersion", version.number, None),)
                needs = tuple(freed[version.model, alias] for alias in aliases)
                steps.append(
                    Step(
                        f"delete:{resource}:v{version.number}",
                        resource,
                        "delete",
                        "deletionPolicy: Delete",
                        work,
                        changes,
                        needs,
                    )
                )
            elif ARCHIVED_TAG not in version.tags:
                work = UpdateVersion(version.model, version.number, {ARCHIVED_TAG: context.desired.revision})
                steps.append(_archive(resource, work, context.desired.revision, f"v{version.number}"))
    return steps


def _model_of(context: Context, registered: str) -> str:
    """The Model's name behind a registered name."""
    live = context.ledger.models.get(registered)
    resource = live.tags.get(RESOURCE_TAG, "") if live else ""
    return resource.removeprefix("Model/") if resource.startswith("Model/") else registered


def _objects(context: Context) -> list[Step]:
    """Experiments and registered models are marked, never deleted: their runs and versions stay."""
    declared = context.desired.resources
    experiments = {context.desired.ledger_name(key.name) for key in declared if key.kind == "Experiment"}
    models = {context.registered_name(key.name) for key in declared if key.kind == "Model"}
    steps = []
    for name, found in sorted(context.ledger.experiments.items()):
        if name in experiments:
            continue
        resource = found.tags.get(RESOURCE_TAG)
        ours = found.tags.get(PROJECT_TAG) == context.desired.project and ARCHIVED_TAG not in found.tags
        if resource and resource.startswith("Experiment/") and ours and _gone(context, resource):
            work: Work = UpdateExperiment(name, {ARCHIVED_TAG: context.desired.revision})
            steps.append(_archive(resource, work, context.desired.revision, name))
    for name, model in sorted(context.ledger.models.items()):
        if name in models:
            continue
        resource = model.tags.get(RESOURCE_TAG)
        ours = model.tags.get(PROJECT_TAG) == context.desired.project and ARCHIVED_TAG not in model.tags
        if resource and ours and _gone(context, resource):
            work = UpdateModel(name, None, {ARCHIVED_TAG: context.desired.revision})
            steps.append(_archive(resource, work, context.desired.revision, name))
    return steps


def _archive(resource: str, work: Work, revision: str, which: str) -> Step:
    return Step(
        id=f"archive:{resource}:{which}",
        resource=resource,
        action="archive",
        reason="left git; its runs and bytes stay",
        work=work,
        changes=(Change(f"tags.{ARCHIVED_TAG}", None, revision),),
    )
