"""How gates judge a promotion in a plan: by the evidence that there is, with a step for each check that is wanting."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlops.observation.observed import ObservedVersion
from mlops.observation.policies import ObservedPolicy, PolicyRecord
from mlops.planning.cases import (
    Subject,
    case_of,
    in_stage,
    loading,
    predecessor,
    soaking_of,
    standing_soak,
)
from mlops.planning.context import Context
from mlops.planning.evidence import Check, Scoring
from mlops.planning.gates import GateResult, evaluate, load_block
from mlops.planning.models import source_run
from mlops.planning.plan import UNKNOWN, Block, Change, Step
from mlops.planning.soaking import Soaking
from mlops.planning.stays import History, history
from mlops.resources import ModelVersion, MonitoringPolicy, Promotion, Stage


@dataclass(frozen=True, slots=True)
class Judgement:
    """The gates of a version that is asked for, the steps that make what they lack, and the ids of all such steps."""

    gates: tuple[GateResult, ...]
    steps: tuple[Step, ...] = ()
    needs: tuple[str, ...] = ()
    unloadable: Block | None = None


def judge(
    context: Context, resource: Promotion, stage: Stage, target: ModelVersion, bound: ObservedVersion | None
) -> Judgement:
    """Judge by the evidence that there is. What is evaluated for one promotion is not evaluated again for the next."""
    name, retried = stage.metadata.name, context.options.retry_stalled
    load = loading(bound, name) if bound is not None else None
    if not stage.spec.gates and load is None:
        return Judgement(())
    if bound is not None:
        subject = Subject.of_version(bound, context.run(bound.run_id))
    else:
        subject = Subject.of_declared(target, source_run(context, target))
    found = in_stage(context.versions_by_model.get(context.registered_name(resource.spec.model), ()), name)
    champion = Subject.of_version(found[0], context.run(found[0].run_id)) if found is not None else None
    case = case_of(
        subject,
        champion,
        declared=context.desired.resources,
        datasets=context.datasets,
        soaking=_soaking(context, resource, stage, target, bound),
        returns=bound is not None and history(bound.tags, name).was_here,
        retried=retried,
    )
    gates = evaluate(stage, case)
    context.wakes += [gate.passes_at for gate in gates if gate.passes_at is not None]
    lacks: list[tuple[bool, Check]] = [lack for gate in gates for lack in gate.lacks]
    unloadable = None
    if load is not None and case.model is not None:
        seen = case.model.evidence(load)
        unloadable = load_block(resource.key, subject.shown, seen)
        lacks += [(False, load)] if seen is None else []
    steps: list[Step] = []
    needs: dict[str, None] = {}
    binding = context.made[target.key].steps if bound is None else ()
    trained = tuple(
        need for step in binding if step.action == "bind" for need in step.needs if need.startswith("train:")
    )
    for of_champion, check in lacks if bound is not None or binding else ():
        one = champion if of_champion else subject
        if one is None or resource.spec.suspend or stage.spec.suspend:
            continue
        work = one.work(check, target.spec.source.experiment, again=retried)
        step_id = f"evaluate:{one.name}@{check.label}"
        if context.evaluating.setdefault(step_id, work).check != check:  # other metrics of the same data
            step_id += f"#{check.identity[-1]}"
        needs[step_id] = None
        if context.evaluating.setdefault(step_id, work) is work:
            before = () if of_champion else trained
            where = f"on {check.dataset}" if isinstance(check, Scoring) else f"for its {check.label}"
            reason = f"{one.shown} is not looked at yet {where}, as {name} asks"
            what = [Change("evidence", None, UNKNOWN)]
            if isinstance(check, Scoring):  # other data is another step
                what.append(Change("data", None, check.data))
            steps.append(Step(step_id, str(resource.key), "evaluate", reason, work, tuple(what), before))
    return Judgement(gates, tuple(steps), tuple(needs), unloadable)


def as_promoted(
    context: Context, resource: Promotion, stage: Stage, bound: ObservedVersion, past: History
) -> tuple[GateResult, ...]:
    """The gates of a version in its stage, by the evidence that is at hand: against the one that it came after."""
    if not stage.spec.gates or past.open is None:
        return ()
    name, stay = stage.metadata.name, past.open
    before = predecessor(context.versions_by_model.get(bound.model, ()), name, stay)
    case = case_of(
        Subject.of_version(bound, context.run(bound.run_id)),
        Subject.of_version(before, context.run(before.run_id)) if before is not None else None,
        declared=context.desired.resources,
        datasets=context.datasets,
        soaking=standing_soak(history(bound.tags, stage.spec.after or ""), stay.since),
        returns=len(past.stays) > 1 or past.older is not None,
    )

    def settled(gate: GateResult) -> GateResult:
        if gate.status not in ("pending", "error"):
            return gate
        what = f"it is in the stage; what was seen then is in its evidence {stay.evidence or ''}".rstrip()
        return replace(gate, status="skipped", observed=None, message=what)

    return tuple(settled(gate) for gate in evaluate(stage, case))


def _soaking(
    context: Context, resource: Promotion, stage: Stage, target: ModelVersion, bound: ObservedVersion | None
) -> Soaking:
    before = stage.spec.after
    if before is None or bound is None:
        return Soaking(now=context.now)
    monitors = (
        (policy, context.policies.get(policy.metadata.name) or ObservedPolicy(PolicyRecord(), due=True), seen)
        for policy in context.monitors.get((resource.spec.model, before), ())
        for seen in [_has_data(context, policy)]
    )
    return soaking_of(history(bound.tags, before), target.spec.version, monitors, context.now)


def _has_data(context: Context, policy: MonitoringPolicy) -> bool:
    seen = context.datasets.get(policy.spec.data.predictions)
    return seen is not None and seen.digest is not None
