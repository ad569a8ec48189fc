"""Judge a version at the moment it moves: what was planned may have changed since, the champion above all."""

from __future__ import annotations

from mlops.applying.evaluate import evaluate as look_into
from mlops.applying.outcomes import Failed
from mlops.applying.world import World
from mlops.observation.observed import ObservedVersion
from mlops.observation.policies import ObservedPolicy, PolicyRecord
from mlops.planning.cases import Subject, case_of, in_stage, loading, soaking_of
from mlops.planning.context import VERSION_TAG
from mlops.planning.evidence import Check
from mlops.planning.gates import GateResult, evaluate, gate_block, load_block
from mlops.planning.plan import Block, Step
from mlops.planning.soaking import Soaking
from mlops.planning.stays import history
from mlops.planning.work import MoveAlias
from mlops.resources import Key, Model, MonitoringPolicy, Stage
from mlops.resources.stage import ChampionGate


def judge(
    world: World, step: Step, work: MoveAlias, stage: Stage, version: ObservedVersion
) -> tuple[tuple[GateResult, ...], Block | None]:
    """The gates of `version` as they stand now, and what does not let it pass.

    Where the champion is another one by now, the evidence is made again; who must not be kept waiting leaves that to
    the next pass.
    """
    key = Key.parse(step.resource)
    gates, block, lacks = _judged(world, key, work, stage, version)
    if lacks and world.patient:
        for subject, check in lacks:
            asked = subject.work(check, None, again=False)
            outcome = look_into(world, step, asked)
            if isinstance(outcome, Failed):
                raise outcome.error
        gates, block, _ = _judged(world, key, work, stage, version)
    return gates, block


def _judged(
    world: World, key: Key, work: MoveAlias, stage: Stage, version: ObservedVersion
) -> tuple[tuple[GateResult, ...], Block | None, list[tuple[Subject, Check]]]:
    load = loading(version, work.stage)
    if not stage.spec.gates and load is None:
        return (), None, []
    run = world.run(version.run_id) if version.run_id else None
    subject = Subject.of_version(version, run)
    champion = _champion(world, work, stage)
    case = case_of(
        subject,
        champion,
        declared=world.desired.resources,
        datasets=world.observed.datasets,
        soaking=_soaking(world, stage, version),
        returns=history(version.tags, work.stage).was_here,
    )
    gates = evaluate(stage, case)
    lacks = [
        (one, check)
        for gate in gates
        for of_champion, check in gate.lacks
        if (one := champion if of_champion else subject) is not None
    ]
    unloadable = None
    if load is not None:
        seen = subject.evidence(load)
        unloadable = load_block(key, subject.shown, seen)
        lacks += [(subject, load)] if seen is None else []
        if seen is None:
            what = f"{subject.shown} was in this stage before, and it is not known whether it can still be loaded"
            unloadable = Block(str(key), "Ready", "GatePending", what)
    return gates, gate_block(key, gates, moving=True) or unloadable, lacks


def _champion(world: World, work: MoveAlias, stage: Stage) -> Subject | None:
    """The version in the stage by its record as it is in the registry now."""
    found = in_stage(world.versions_of(work.registered_name), work.stage)
    if not any(isinstance(gate, ChampionGate) for gate in stage.spec.gates):
        return None
    if found is not None:
        now = world.tracker.version(found[0].model, found[0].number)
        if now is None or in_stage([now], work.stage) is None:  # somebody else moved meanwhile
            places = [(one.model, one.number) for one in world.versions_of(work.registered_name)]
            for one in world.tracker.versions_again(places):
                world.remember(one)
            found = in_stage(world.versions_of(work.registered_name), work.stage)
        else:
            found = now, found[1]
    if found is None:
        return None
    run_id = found[0].run_id
    return Subject.of_version(found[0], world.run(run_id) if run_id else None)


def _registered(world: World, model: str) -> str:
    found = world.desired.resources.get(Key("Model", model))
    return found.registered_name if isinstance(found, Model) else model


def _soaking(world: World, stage: Stage, version: ObservedVersion) -> Soaking:
    before = stage.spec.after
    if before is None:
        return Soaking(now=world.now())
    number = version.tags.get(VERSION_TAG) or f"v{version.number}"
    policies = [
        (one, world.observed.policies.get(one.metadata.name) or ObservedPolicy(PolicyRecord(), due=True))
        for one in world.desired.resources.values()
        if isinstance(one, MonitoringPolicy)
        and one.spec.stage == before
        and _registered(world, one.spec.model) == version.model
    ]
    datasets = world.observed.datasets

    def has_data(policy: MonitoringPolicy) -> bool:
        seen = datasets.get(policy.spec.data.predictions)
        return seen is not None and seen.digest is not None

    monitors = ((policy, seen, has_data(policy)) for policy, seen in policies)
    return soaking_of(history(version.tags, before), number, monitors, world.now())
