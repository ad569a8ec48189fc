"""Planning: a revision and a picture of what is go in, a frozen plan comes out. Nothing is written or run.

Resources are taken in the order of the graph (datasets, experiments, models, versions by their number,
promotions by the depth of their stage), then what git no longer declares. One comparator orders everything,
so the same inputs give byte-equal plans whatever the order of files, keys or workers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from mlops.approvals import Asked
from mlops.observation.observed import Observed, ObservedVersion
from mlops.planning import experiments, models, policies, promotions
from mlops.planning.conditions import Assessment, Condition, assess
from mlops.planning.context import Context, Options
from mlops.planning.desired import Desired
from mlops.planning.graph import Graph
from mlops.planning.plan import Block, Plan, Step
from mlops.planning.prune import prune
from mlops.planning.runs import TrialState
from mlops.planning.sightings import sightings
from mlops.planning.wording import deviation
from mlops.planning.work import EvaluateModel
from mlops.resources import (
    Dataset,
    Experiment,
    Key,
    Model,
    ModelVersion,
    MonitoringPolicy,
    Notifier,
    Project,
    Promotion,
    Resource,
    Stage,
    semver_key,
)

KIND_ORDER: Final = (
    *("Project", "Dataset", "Experiment", "Model", "Stage", "ModelVersion", "Promotion"),
    *("Notifier", "MonitoringPolicy"),
)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and how each resource stands by it (those that left git are told by their steps)."""

    plan: Plan
    graph: Graph
    assessments: Mapping[Key, Assessment] = field(default_factory=dict)
    trials: Mapping[str, tuple[TrialState, ...]] = field(default_factory=dict)  # by Experiment name
    bound: Mapping[str, ObservedVersion] = field(default_factory=dict)  # by ModelVersion name
    bases: frozenset[str] = frozenset()  # revisions whose rules decide about a promotion in this plan
    asking: frozenset[Asked] = frozenset()  # promotions in this plan that need approvals
    by_model: Mapping[str, tuple[ObservedVersion, ...]] = field(default_factory=dict)  # by registered name
    asked: Mapping[Key, str] = field(default_factory=dict)  # the base of each promotion that is not in force
    wakes_at: float | None = None  # when a gate passes by itself next, in seconds since the epoch

    def versions_of(self, model: str) -> tuple[ObservedVersion, ...]:
        """The versions of a registered model that were observed, oldest first."""
        return self.by_model.get(model, ())


def make_plan(desired: Desired, observed: Observed, options: Options | None = None) -> Planned:
    """Compare what git declares with what is; the one function behind plan, apply, daemon and action."""
    context = Context.of(desired, observed, options or Options())
    depth = _stage_depths(desired)
    for resource in sorted(desired.resources.values(), key=lambda r: _order(r, depth)):
        made = _isolated(context, resource)
        context.made[resource.key] = made if desired.self_heal else _only_reported(made)
    pruned = prune(context)
    steps: list[Step] = []
    blocked: list[Block] = []
    for made in (*context.made.values(), pruned):
        steps += made.steps
        blocked += made.blocks
    for key in sorted(desired.invalid - set(context.made)):
        block = _broken(desired, key)
        blocked.append(block)
        context.made[key] = assess(key, blocks=(block,), unknown=True)
    for key in sorted(desired.kept):  # last: what depends on it goes on with its last good text
        block = Block(str(key), "Ready", "Invalid", desired.why[key])
        blocked.append(block)
        context.made[key] = _blocked(context.made[key], (block, *context.made[key].blocks))
    plan = Plan(
        desired.revision, context.base, tuple(steps), tuple(blocked), sightings(context, steps, blocked)
    )
    return Planned(
        plan,
        context.graph,
        context.made,
        context.trials,
        context.numbers,
        frozenset(context.bases),
        frozenset(context.asking),
        context.versions_by_model,
        context.asked,
        min(context.wakes, default=None),
    )


def only(planned: Planned, targets: Collection[Key]) -> Planned:
    """The part of a plan that `targets` need: their own steps and those of all they depend on."""
    wanted = {str(key) for key in planned.graph.closure(targets)}
    plan = planned.plan
    needed: set[str] = set()
    for step in reversed(plan.steps):  # a promotion needs the one to the stage before, which it does not name
        if step.resource in wanted or step.id in needed:
            if not isinstance(step.work, EvaluateModel):  # evidence is shared, and asks for nothing else
                wanted.add(step.resource)
            needed.update(step.needs)
    steps = tuple(step for step in plan.steps if step.resource in wanted or step.id in needed)
    blocked = tuple(block for block in plan.blocked if block.resource in wanted)
    seen = {name: value for name, value in plan.observed.items() if name in wanted}
    return replace(planned, plan=Plan(plan.revision, plan.base, steps, blocked, seen))


def only_training(planned: Planned, names: Collection[str]) -> Planned:
    """The training that a plan holds, of the experiments named (all, if none is), and what gates ask of its models."""
    plan = planned.plan
    wanted = {f"Experiment/{name}" for name in names}

    def is_wanted(step: Step) -> bool:
        if isinstance(step.work, EvaluateModel):
            return not wanted or step.work.experiment in names
        return step.action == "train" and (not wanted or step.resource in wanted)

    steps = tuple(step for step in plan.steps if is_wanted(step))
    blocked = tuple(
        b
        for b in plan.blocked
        if b.resource.startswith(("Experiment/", "Dataset/")) and (not wanted or b.resource in wanted)
    )
    return replace(planned, plan=Plan(plan.revision, plan.base, steps, blocked, plan.observed))


def _isolated(context: Context, resource: Resource) -> Assessment:
    """The assessment of one resource; one that cannot be made stops only itself, pass after pass."""
    try:
        return _assess(context, resource)
    except Exception as error:  # a defect of this program, met in something that somebody put into MLflow
        what = (
            f"planning it failed ({type(error).__name__}: {error}). This is a defect of mlops: report it with the "
            "resource and its objects in MLflow"
        )
        return assess(resource.key, blocks=(Block(str(resource.key), "Ready", "Defect", what),), stalled=True)


def _assess(context: Context, resource: Resource) -> Assessment:
    match resource:
        case Dataset():
            return experiments.dataset(context, resource)
        case Experiment():
            return experiments.experiment(context, resource)
        case Model():
            return models.model(context, resource)
        case ModelVersion():
            return models.model_version(context, resource)
        case Promotion():
            return promotions.promotion(context, resource)
        case Notifier():
            return policies.notifier(context, resource)
        case MonitoringPolicy():
            return policies.policy(context, resource)
        case Stage():
            return assess(resource.key, suspended=resource.spec.suspend, message=_stage_summary(resource))
        case Project():
            held = context.base == context.desired.revision
            message = f"revision {context.base[:12]} is in force" if context.base else "never applied"
            refused = context.desired.prune_refused
            if refused is not None and context.base is not None:
                force = Condition("InForce", "False", "RevisionRefused", refused)
                message += f"; {refused}"
            else:
                force = Condition("InForce", "True" if held else "False", "Revision", message)
            return assess(resource.key, conditions=(force,), message=message, exists=context.base is not None)
        case _:
            assert_never(resource)


def _broken(desired: Desired, key: Key) -> Block:
    """The block of a resource that has no text to go by: its own is broken, or needs one that is."""
    if key in desired.why:
        return Block(str(key), "Ready", "DependencyFailed", desired.why[key])
    what = "its document is broken; mend the errors that `mlops validate` names"
    if desired.not_held is not None:
        what += f" ({desired.not_held})"
    return Block(str(key), "Ready", "Invalid", what)


def _only_reported(made: Assessment) -> Assessment:
    """With `selfHeal: false`: what was changed by hand is said and left as it is."""
    heals = [step for step in made.steps if step.action == "heal"]
    if not heals:
        return made
    blocks = [*made.blocks]
    for step in heals:
        found = "; ".join(map(deviation, step.changes[:4]))
        message = f"{found}. It was changed outside git, and Project.spec.selfHeal is false"
        blocks.append(Block(str(made.key), "InSync", "SelfHealOff", message))
    kept = tuple(step for step in made.steps if step.action != "heal")
    return _blocked(replace(made, steps=kept), tuple(blocks))


def _blocked(made: Assessment, blocks: tuple[Block, ...]) -> Assessment:
    """The same with other blocks, summed up anew."""
    return assess(
        made.key,
        steps=made.steps,
        blocks=blocks,
        conditions=tuple(c for c in made.conditions if c.type not in ("Ready", "Reconciling", "Stalled")),
        status=made.status,
        exists=made.health != "Missing",
        suspended=made.health == "Suspended",
        stalled=any(c.type == "Stalled" and c.status == "True" for c in made.conditions),
    )


def _order(resource: Resource, depth: Mapping[str, int]) -> tuple[object, ...]:
    kind, name = KIND_ORDER.index(resource.kind), resource.metadata.name
    match resource:
        case Promotion():
            return kind, depth.get(resource.spec.stage, 0), name
        case ModelVersion():  # they are bound in this order, so that MLflow's numbers grow with the versions
            return kind, resource.spec.model, semver_key(resource.spec.version), name
        case _:
            return kind, name


def _stage_depths(desired: Desired) -> dict[str, int]:
    """How many stages come before each; loading has refused cycles, a broken `after` counts as none."""
    after = {r.metadata.name: r.spec.after for r in desired.resources.values() if isinstance(r, Stage)}
    depths: dict[str, int] = {}
    for name in after:
        depth, at = 0, after[name]
        while at is not None and depth <= len(after):
            depth, at = depth + 1, after.get(at)
        depths[name] = depth
    return depths


def _stage_summary(stage: Stage) -> str:
    gates = len(stage.spec.gates)
    return f"alias {stage.spec.alias or stage.metadata.name}, {gates} gate{'s' if gates != 1 else ''}"
