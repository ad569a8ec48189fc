"""Monitoring policies: a step where there is something to evaluate, and one for each proposal that is due."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mlops.monitoring.engine import ENGINE
from mlops.notifying.rows import Standing
from mlops.observation.observed import ObservedDataset, ObservedVersion
from mlops.observation.policies import ObservedPolicy, PolicyAction, PolicyRecord
from mlops.planning import cases
from mlops.planning.canonical import sha256_of
from mlops.planning.conditions import Assessment, Condition, Truth, assess
from mlops.planning.context import VERSION_TAG, Context
from mlops.planning.plan import UNKNOWN, Block, Change, Step
from mlops.planning.stays import Stay
from mlops.planning.work import MonitorPolicy, MoveAlias, ProposeChange
from mlops.resources import Key, ModelVersion, MonitoringPolicy, Notifier

_HEALTHY: Final[dict[str, Truth]] = {"Healthy": "True", "Degraded": "False"}


def notifier(context: Context, resource: Notifier) -> Assessment:
    """How messages went: nothing is to be done about a Notifier itself."""
    key, urls = resource.key, len(resource.spec.urls)
    standing = context.notifiers.get(key.name) or Standing()
    status: dict[str, Any] = {
        "sent": standing.sent,
        "pending": standing.pending,
        "failed": standing.failed,
        "error": standing.error,
    }
    message = f"{urls} address{'es' if urls != 1 else ''}, from severity {resource.spec.min_severity} on"
    if standing.pending:
        message += f"; {standing.pending} waiting"
    if standing.healthy:
        condition = Condition("Delivering", "True", "Delivered")
        return assess(
            key, conditions=(condition,), status=status, suspended=resource.spec.suspend, message=message
        )
    condition = Condition("Delivering", "False", "DeliveryFailed", standing.error or "")
    made = assess(
        key,
        conditions=(condition,),
        status=status,
        suspended=resource.spec.suspend,
        message=f"{message}; {standing.error or 'a message failed'}",
    )
    return made if resource.spec.suspend else replace(made, health="Degraded")


def policy(context: Context, resource: MonitoringPolicy) -> Assessment:
    """What is to be evaluated and proposed, and how the version that is watched stands."""
    key, spec = resource.key, resource.spec
    seen = context.policies.get(key.name) or ObservedPolicy(PolicyRecord(), due=True)
    record = seen.record
    status: dict[str, Any] = {
        "verdict": record.verdict,
        "version": record.version,
        "windows": [],
        "actions": [action.to_json() for action in record.actions],
    }
    datasets = [Key("Dataset", name) for name in _datasets(resource)]
    obstacle = context.obstacle(key, Key("Model", spec.model), Key("Stage", spec.stage))
    obstacle = obstacle or _unusable(context, key, datasets)
    if spec.suspend:
        return assess(key, conditions=(_healthy(record),), status=status, suspended=True)
    if obstacle is not None:
        return assess(key, blocks=(obstacle,), conditions=(_healthy(record),), status=status)
    steps: list[Step] = []
    watched, needs = _watched(context, resource)
    if watched is None:
        nothing = replace(record, verdict="Unknown", reason="NothingPromoted", version=None)
        status |= {"verdict": "Unknown", "version": None}
        message = f"no version of {spec.model} is in {spec.stage}"
        return assess(
            key, conditions=(_healthy(replace(nothing, message=message)),), status=status, message=message
        )
    absent = [one.name for one in datasets if _data(context, one.name).digest is None]
    if not absent:
        digests = {one.name: _data(context, one.name).digest or "" for one in datasets}
        inputs = inputs_of(resource, watched, digests)
        changes = _changes(record, watched, inputs)
        asked = seen.due or not context.options.scheduled or record.version != watched or record.unfinished
        if inputs != record.seen and asked:
            reason = (
                f"{watched} is watched from now on" if record.version != watched else "data or policy changed"
            )
            work = MonitorPolicy(key.name, watched, inputs)
            steps.append(Step(f"monitor:{key}", str(key), "monitor", reason, work, changes, needs))
    elif not record.seen:
        record = replace(record, message=f"{absent[0]} is not there yet")
    for action in record.actions:
        steps += _proposal(key, action, seen)
    made = assess(
        key,
        steps=tuple(steps),
        conditions=(_healthy(record), *_proposing(seen)),
        status=status,
        message=_summary(record),
    )
    if record.verdict == "Degraded":
        return replace(made, health="Degraded")
    # The resource is as git says; nothing is known of what it watches.
    return replace(made, health="Unknown") if not steps and record.verdict == "Unknown" else made


def inputs_of(resource: MonitoringPolicy, version: str, digests: dict[str, str]) -> str:
    """The digest of all that an evaluation goes by: the policy, the version that it watches, its data."""
    spec = resource.spec.model_dump(mode="json", by_alias=True, exclude={"suspend"})
    return sha256_of([ENGINE, spec, version, digests])


def _datasets(resource: MonitoringPolicy) -> list[str]:
    """The Datasets that are looked at; the training data of the version is fixed by its digest."""
    spec = resource.spec
    names = [spec.data.predictions]
    if spec.data.labels is not None:
        names.append(spec.data.labels.dataset)
    if not isinstance(spec.reference.source, str) and hasattr(spec.reference.source, "dataset"):
        names.append(spec.reference.source.dataset)
    return names


def _data(context: Context, name: str) -> ObservedDataset:
    return context.datasets.get(name) or ObservedDataset(name, "", None, reason="NotFound")


def _unusable(context: Context, key: Key, datasets: list[Key]) -> Block | None:
    """The block of a Dataset that is broken; one that is not there yet is no fault, and violations are judged."""
    for one in datasets:
        if one in context.desired.invalid or one not in context.desired.resources:
            return Block(str(key), "Ready", "DependencyFailed", f"{one}: its document is broken or not there")
        seen = _data(context, one.name)
        if seen.digest is None and seen.reason not in (None, "NotFound"):
            return Block(str(key), "Ready", seen.reason, f"{one}: {seen.message or seen.reason}")
    return None


def _watched(context: Context, resource: MonitoringPolicy) -> tuple[str | None, tuple[str, ...]]:
    """The version (its number) that is in the stage, or that this plan promotes there, and that step."""
    spec = resource.spec
    promotion = context.graph.promotions.get((spec.model, spec.stage))
    made = context.made.get(promotion.key) if promotion is not None else None
    for step in made.steps if made is not None else ():
        target = (
            context.desired.resources.get(Key("ModelVersion", step.work.model_version))
            if isinstance(step.work, MoveAlias)
            else None
        )
        if step.action == "promote" and isinstance(target, ModelVersion):
            return target.spec.version, (step.id,)
    found = in_stage(context, spec.model, spec.stage)
    return (found[0].tags.get(VERSION_TAG) or f"v{found[0].number}", ()) if found is not None else (None, ())


def in_stage(context: Context, model: str, stage: str) -> tuple[ObservedVersion, Stay] | None:
    """The version of a Model whose stay in a stage lasts, and that stay; of several the one that began last."""
    return cases.in_stage(context.versions_by_model.get(context.registered_name(model), ()), stage)


def _changes(record: PolicyRecord, watched: str, inputs: str) -> tuple[Change, ...]:
    changes = [Change("windows", record.windows or None, UNKNOWN)]
    if record.version != watched:
        changes.insert(0, Change("version", record.version, watched))
    return tuple(changes)


def _proposal(key: Key, action: PolicyAction, seen: ObservedPolicy) -> list[Step]:
    """The step of a proposal: to write its branch, publish it with what came of the training, renew or withdraw it."""
    moved, run_id = seen.moved.get(action.id), seen.trained.get(action.id)
    if action.type == "alert":
        return []
    if action.state == "moot":
        reason = action.message
    elif moved is not None:
        reason, run_id = moved, None
    elif run_id is not None:
        reason = f"{action.version} is trained"
    elif action.state == "due":
        reason = f"{action.check} fired"
    else:
        return []
    what = Change("branch", action.branch, action.branch or UNKNOWN)
    work = ProposeChange(key.name, action.id, run_id)
    return [Step(f"propose:{key}:{action.id[:12]}", str(key), "propose", reason, work, (what,))]


def _healthy(record: PolicyRecord) -> Condition:
    return Condition("Healthy", _HEALTHY.get(record.verdict, "Unknown"), record.reason, record.message)


def _proposing(seen: ObservedPolicy) -> tuple[Condition, ...]:
    """A condition for the newest proposal that is under way or could not be made."""
    for action in reversed(seen.record.actions):
        if action.type != "alert" and action.state in ("training", "failed", "proposed"):
            truth: Truth = "True" if action.state == "proposed" else "False"
            stuck = seen.stuck.get(action.id)
            text = stuck or action.message or f"{action.type} for {action.check} on {action.branch}"
            reason = "TrainingStuck" if stuck else action.state.capitalize()
            return (Condition("Proposed", truth, reason, text),)
    return ()


def _summary(record: PolicyRecord) -> str:
    if not record.version:
        return record.message or "not evaluated yet"
    fired = f"; firing: {', '.join(record.fired)}" if record.fired else ""
    return f"{record.version}: {record.verdict}, {record.windows} windows{fired}"
