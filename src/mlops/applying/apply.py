"""Apply a plan: walk its steps under the lease, one function a kind of work, and record what came of each."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from mlops.applying import bind, promote
from mlops.applying.evaluate import evaluate
from mlops.applying.monitor import monitor
from mlops.applying.outcomes import Done, Failed, Left, Outcome
from mlops.applying.propose import propose
from mlops.applying.train import train
from mlops.applying.walk import WORKERS, Claim, Claims, walk
from mlops.applying.world import World
from mlops.errors import MlopsError, Transient, as_mlops_error
from mlops.observation.observed import Ledger, ObservedVersion
from mlops.planning.authority import asked_tag
from mlops.planning.context import (
    APPLIED_AT,
    APPLIED_FOLDER,
    APPLIED_GOOD,
    APPLIED_REVISION,
    PROJECT_TAG,
    RESOURCE_TAG,
)
from mlops.planning.desired import Desired
from mlops.planning.evidence import Reproduction
from mlops.planning.plan import Plan, Step
from mlops.planning.work import (
    BindVersion,
    DeleteVersion,
    EvaluateModel,
    MonitorPolicy,
    MoveAlias,
    ProposeChange,
    RegisterModel,
    RememberBase,
    RestoreAlias,
    TakeAliasAway,
    TrainTrial,
    UpdateExperiment,
    UpdateModel,
    UpdateVersion,
)
from mlops.resources import Experiment, Key, Model
from mlops.state.lease import LeaseLost

DELAYS: Final = (0.5, 1.0, 2.0, 4.0)  # seconds before a step that a store put off is tried again
WRITERS: Final = 4  # steps that write to the ledger at a time, beside training
EVALUATING: Final = 2  # models that are loaded at a time
WAITING: Final = WORKERS - WRITERS  # jobs that are waited for at a time: who writes always finds a thread


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of each step, by its id, and how long it took in seconds."""

    plan: Plan
    outcomes: Mapping[str, Outcome]
    seconds: Mapping[str, float]

    def having(self, *kinds: type[Outcome]) -> list[tuple[Step, Outcome]]:
        """The steps that ended as one of `kinds`, in the order of the plan."""
        found = [(step, self.outcomes[step.id]) for step in self.plan.steps if step.id in self.outcomes]
        return [(step, outcome) for step, outcome in found if isinstance(outcome, kinds)]


def apply(world: World, plan: Plan) -> Applied:
    """Walk the steps of `plan`; an error of one stops only itself and what needs it."""
    seconds: dict[str, float] = {}

    def timed(step: Step) -> Outcome:
        began = world.monotonic()
        world.progress.started(step)
        outcome = execute(world, step)
        seconds[step.id] = world.monotonic() - began
        world.progress.ended(step, outcome, seconds[step.id])
        return outcome

    outcomes = walk(plan.steps, timed, lambda step: claims(world, step))
    return Applied(plan, _linked(world, plan, outcomes), seconds)


def _linked(world: World, plan: Plan, outcomes: Mapping[str, Outcome]) -> Mapping[str, Outcome]:
    error = link(world, [world.versions[model][number] for model, number in world.bound.values()])
    if error is None:
        return outcomes
    unlinked = {
        step.id: Done(f"{outcome.detail}; MLflow's page of the logged model lacks it: {error.what}")
        for step in plan.steps
        if isinstance(step.work, BindVersion) and isinstance(outcome := outcomes.get(step.id), Done)
    }
    return {**outcomes, **unlinked}


def link(world: World, versions: Collection[ObservedVersion]) -> MlopsError | None:
    """Link logged models to the versions made of them: for MLflow's pages only, so a fault undoes nothing."""
    if not versions:
        return None
    try:
        world.check_lease()
        world.tracker.link_versions((version.source, version.model, version.number) for version in versions)
    except MlopsError as error:
        return error
    return None


def in_force(desired: Desired, ledger: Ledger) -> bool:
    """Whether the revision is already written down as the one in force, so that an idle pass writes nothing."""
    known = ledger.experiments.get(desired.project)
    return known is not None and all(
        known.tags.get(tag) == value for tag, value in _in_force(desired).items()
    )


def record_asked(world: World) -> None:
    """Write down the base of each promotion whose version could not be bound, before the revision comes into force.

    From then on the revision itself would seem to be the base.
    """
    graph, asked = world.planned.graph, world.planned.asked
    in_force = world.planned.plan.base or world.desired.revision
    for promotion in graph.promotions.values():
        target = graph.promoted(promotion)
        if target is None or world.version(target.metadata.name) is not None:
            continue
        model = world.desired.resources.get(Key("Model", promotion.spec.model))
        known = world.observed.ledger.models.get(model.registered_name) if isinstance(model, Model) else None
        tag = asked_tag(promotion.spec.stage, target.spec.version)
        if known is not None and tag not in known.tags:
            base = asked.get(promotion.key, in_force)
            world.check_lease()
            world.tracker.update_model(known.name, description=None, tags={tag: base})


def record_revision(world: World) -> None:
    """Write down that the revision is in force, in MLflow, where it survives the loss of all else."""
    name = world.desired.project
    known = world.observed.ledger.experiments.get(name)
    tags = _in_force(world.desired) | {
        APPLIED_AT: promote.timestamp(world.now()),
        PROJECT_TAG: name,
        RESOURCE_TAG: f"Project/{name}",
    }
    world.check_lease()
    if known is None:
        world.tracker.ensure_experiment(name, description="", tags=tags)
    else:
        world.tracker.update_experiment(known.experiment_id, tags=tags)


def _in_force(desired: Desired) -> dict[str, str]:
    good = {APPLIED_GOOD: desired.revision} if desired.whole else {}
    return {APPLIED_REVISION: desired.revision, APPLIED_FOLDER: desired.folder, **good}


def execute(world: World, step: Step) -> Outcome:
    """Carry out one step; whatever goes wrong is its outcome."""
    if world.stop.is_set():
        return Left("stopped before it was begun")
    try:
        return _patiently(world, step)
    except Exception as error:  # one poison resource must not stop the others; shown whole with --debug
        return Failed(as_mlops_error(error, where=step.resource))


def _patiently(world: World, step: Step) -> Outcome:
    """Try again what a store put off; training has its own attempts and its own pauses."""
    for delay in () if isinstance(step.work, TrainTrial) else DELAYS[: None if world.patient else 1]:
        try:
            return _execute(world, step)
        except LeaseLost:
            raise
        except Transient as error:
            world.progress.says(step, f"{error.what}; again in {delay:g} seconds")
            if world.pause(world.stop, delay):
                raise
    return _execute(world, step)


def _execute(world: World, step: Step) -> Outcome:
    work = step.work
    match work:
        case TrainTrial():
            return train(world, step, work)
        case MonitorPolicy():
            return monitor(world, step, work)
        case ProposeChange():
            return propose(world, step, work)
        case RegisterModel():
            return bind.register(world, work)
        case UpdateModel():
            return bind.update_model(world, work)
        case BindVersion():
            return bind.bind(world, step, work)
        case UpdateVersion():
            return bind.update_version(world, work)
        case EvaluateModel():
            return evaluate(world, step, work)
        case UpdateExperiment():
            return _update_experiment(world, work)
        case MoveAlias():
            return promote.move(world, step, work)
        case RememberBase():
            return promote.remember_base(world, work)
        case RestoreAlias():
            return promote.restore(world, work)
        case TakeAliasAway():
            return promote.take_away(world, work)
        case DeleteVersion():
            world.check_lease()
            world.tracker.delete_version(work.registered_name, work.number)
            return Done()
        case _:
            assert_never(work)


def _update_experiment(world: World, work: UpdateExperiment) -> Outcome:
    known = world.observed.ledger.experiments[work.name]
    world.check_lease()
    world.tracker.update_experiment(known.experiment_id, tags=work.tags)
    return Done()


def claims(world: World, step: Step) -> Claims:
    """Trials of one experiment run `parallel` at a time, local jobs as the cores allow, ledger writes a few.

    However many jobs are waited for, a few threads are left to who writes.
    """
    match step.work:
        case TrainTrial(trial=trial):
            experiment = world.desired.resources[Key("Experiment", trial.experiment)]
            assert isinstance(experiment, Experiment)
            spec = experiment.spec
            share = Claim(step.resource, 1, spec.sweep.parallel if spec.sweep else 1)
            thread = Claim("jobs waited for", 1, WAITING)
            if spec.executor != "local":
                return share, thread
            cpu = (spec.resources.cpu if spec.resources else None) or 1
            return share, thread, Claim("local processors", cpu, os.cpu_count() or 1)
        case EvaluateModel(check=Reproduction()):
            processors = Claim("local processors", 1, os.cpu_count() or 1)
            return Claim("evaluating models", 1, EVALUATING), processors
        case EvaluateModel():
            return (Claim("evaluating models", 1, EVALUATING),)
        case MonitorPolicy() | ProposeChange():
            return (Claim("monitoring", 1, 1),)  # one policy at a time uses all processors
        case BindVersion(registered_name=model):  # one at a time, so that MLflow numbers them in their order
            return Claim("ledger", 1, WRITERS), Claim(f"versions of {model}", 1, 1)
        case _:
            return (Claim("ledger", 1, WRITERS),)
