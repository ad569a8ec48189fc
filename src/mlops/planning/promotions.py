"""Promotions: a stage's alias names the version that git asks for, or something is said to stand in the way."""

from __future__ import annotations

from typing import Any

from mlops.approvals import Decision, as_before
from mlops.observation.observed import ObservedModel, ObservedVersion
from mlops.planning.authority import approval_block, asked_of, base_of, unreadable_block
from mlops.planning.conditions import Assessment, Condition, Truth, assess
from mlops.planning.context import DIGEST_TAG, VERSION_TAG, Context
from mlops.planning.gates import GateResult, gate_block
from mlops.planning.judging import as_promoted, judge
from mlops.planning.plan import UNKNOWN, Action, Block, Change, Step
from mlops.planning.stays import History, Stay, base_tag, history, lasting
from mlops.planning.work import MoveAlias, RememberBase, RestoreAlias
from mlops.resources import Key, ModelVersion, Promotion, Stage


def promotion(context: Context, resource: Promotion) -> Assessment:
    """Compare the alias and its record with what git asks for; gates and approvals decide a move."""
    key, spec = resource.key, resource.spec
    stage = context.desired.resources.get(Key("Stage", spec.stage))
    target = context.graph.promoted(resource)
    obstacle = context.obstacle(key, Key("Stage", spec.stage), Key("Model", spec.model))
    if obstacle is None and target is None:
        what = f"no ModelVersion {spec.version} of {spec.model} is declared"
        broken = sorted(str(key) for key in context.desired.invalid if key.kind == "ModelVersion")
        if broken:
            what = (
                f"no ModelVersion {spec.version} of {spec.model} can be read; {broken[0]} is broken: mend it"
            )
        obstacle = Block(str(key), "Ready", "DependencyFailed", what)
    if obstacle is not None or not isinstance(stage, Stage) or target is None:
        blocks = (obstacle,) if obstacle else ()
        return assess(key, blocks=blocks, status={"version": spec.version}, exists=False)
    registered = context.registered_name(spec.model)
    live = context.ledger.models.get(registered)
    alias = stage.spec.alias or stage.metadata.name
    current = live.aliases.get(alias) if live else None
    bound = context.numbers.get(target.metadata.name)
    status: dict[str, Any] = {
        "version": target.spec.version,
        "mlflowVersion": bound.number if bound else None,
        "previous": current if bound is None or current != bound.number else None,
        "gates": [],
        "approvals": [],
    }
    if bound is not None and live is not None:
        past = history(bound.tags, stage.metadata.name)
        if past.open is not None:
            return _standing(context, resource, stage, target, bound, past, live, status)
    return _move(context, resource, stage, target, bound, current, status)


def _standing(
    context: Context,
    resource: Promotion,
    stage: Stage,
    target: ModelVersion,
    bound: ObservedVersion,
    past: History,
    live: ObservedModel,
    status: dict[str, Any],
) -> Assessment:
    """The version was promoted here before and its stay lasts: the alias and the record are kept right."""
    key, name = resource.key, stage.metadata.name
    alias = stage.spec.alias or name
    stay = past.open
    changes = []
    if live.aliases.get(alias) != bound.number:
        changes.append(Change(f"alias.{alias}", live.aliases.get(alias), bound.number))
    renamed = stay is not None and stay.alias not in ("", alias)
    if renamed and stay is not None:
        changes.append(Change("alias", stay.alias, alias))
    retired = _retired(context, resource, stage, live)
    changes += [Change(f"alias.{old}", live.aliases[old], None) for old in retired]
    for tag, value in sorted(past.tags(name).items()):
        if bound.tags.get(tag) != value:
            changes.append(Change(f"tags.{tag}", bound.tags.get(tag), value))
    for other in others_open(context, bound, name):
        changes.append(Change(f"stay.{other.number}", "lasting", "ended"))
    gates = as_promoted(context, resource, stage, bound, past)
    status["gates"] = [gate.to_json() for gate in gates]
    in_sync = Condition("InSync", "False" if changes else "True", "AliasMoved" if changes else "InSync")
    conditions = (in_sync, *_standing_conditions(gates, stay))
    message = f"{alias} → v{bound.number} ({target.spec.version})"
    if resource.spec.suspend or stage.spec.suspend:
        return assess(key, conditions=conditions, status=status, suspended=True)
    if not changes:
        return assess(key, conditions=conditions, status=status, message=message)
    action: Action = "update" if renamed else "heal"
    work = MoveAlias(
        resource.metadata.name,
        target.metadata.name,
        bound.model,
        name,
        alias,
        retired,
        stay.base if stay else None,
    )
    reason = "the stage's alias has a new name" if renamed else "changed outside git"
    step = Step(f"{action}:{key}", str(key), action, reason, work, tuple(changes))
    return assess(key, steps=(step,), conditions=conditions, status=status)


def _retired(
    context: Context, resource: Promotion, stage: Stage, live: ObservedModel | None
) -> tuple[str, ...]:
    """Names that the stage's alias had before, and that still point at a version that was here under them.

    One that another stage of this model has now is moved, not taken away; which stages there are is only known
    of a revision without broken documents.
    """
    name = stage.metadata.name
    strays = {
        alias: number
        for alias, number in (live.aliases.items() if live is not None and context.desired.whole else ())
        if (resource.spec.model, context.stage_of_alias.get(alias)) not in context.graph.promotions
    }
    if live is None or not strays:
        return ()
    had = {
        (stay.alias, version.number)
        for version in context.versions_by_model.get(live.name, ())
        for stay in history(version.tags, name).stays
    }
    return tuple(sorted(alias for alias, number in strays.items() if (alias, number) in had))


def others_open(context: Context, bound: ObservedVersion, stage: str) -> list[ObservedVersion]:
    """Other versions of the same model whose stay in `stage` was never ended."""
    return [
        version
        for version in context.versions_by_model.get(bound.model, ())
        if version.number != bound.number and lasting(version.tags, stage) is not None
    ]


def _standing_conditions(gates: tuple[GateResult, ...], stay: Stay | None) -> tuple[Condition, Condition]:
    who = ", ".join(row.get("who", "") for row in stay.approved_by) if stay is not None else ""
    passed = f"{len(gates)} gate{'' if len(gates) == 1 else 's'}"
    return (
        Condition("GatesPassed", "True", "PassedWhenPromoted", passed),
        Condition("Approved", "True", "ApprovedWhenPromoted", f"by {who}" if who else "none required"),
    )


def _move(
    context: Context,
    resource: Promotion,
    stage: Stage,
    target: ModelVersion,
    bound: ObservedVersion | None,
    current: int | None,
    status: dict[str, Any],
) -> Assessment:
    """The version is not in the stage: it goes there when it is bound and nothing stands in the way."""
    key, name = resource.key, stage.metadata.name
    judged = judge(context, resource, stage, target, bound)
    gates = judged.gates
    status["gates"] = [gate.to_json() for gate in gates]
    after = _after(context, resource, stage, target, bound)
    registered = context.registered_name(resource.spec.model)
    live = context.ledger.models.get(registered)
    base = base_of(name, target, bound, live, context.authority)
    rules = context.rules(base)
    digest = bound.tags.get(DIGEST_TAG) if bound is not None else None
    asked = asked_of(resource, stage, target, digest, base, context.desired.revision, rules)
    decision = None
    if asked is not None:
        stays = history(bound.tags, name).stays if bound is not None else ()
        decision = as_before(asked, (stay.to_json() for stay in stays)) or context.decision(asked)
        status["approvals"] = [approval.to_json() for approval in decision.approvals]
    approval = unreadable_block(key, stage, base, rules)
    if approval is None and decision is not None:
        approval = approval_block(key, decision)
    base = context.asked[key] = rules.origin(stage, base) if rules is not None else base
    blocks = [
        block
        for block in (
            context.obstacle(key, target.key) or _never_bound(context, key, target, bound),
            after if isinstance(after, Block) else None,
            gate_block(key, gates),
            judged.unloadable,
            approval,
        )
        if block is not None
    ]
    gates_passed: Truth = "False" if any(g.status in ("failed", "error") for g in gates) else "True"
    if any(gate.status == "pending" for gate in gates) and gates_passed == "True":
        gates_passed = "Unknown"
    conditions = (
        Condition(
            "InSync", "False", "NotPromoted", f"{resource.spec.model} {target.spec.version} is not in {name}"
        ),
        Condition("GatesPassed", gates_passed, "Evaluated", "; ".join(gate.message for gate in gates)),
        _approved(approval, decision),
    )
    exists = current is not None
    if resource.spec.suspend or stage.spec.suspend:
        who = str(key) if resource.spec.suspend else str(stage.key)
        block = Block(
            str(key), "Ready", "Suspended", f"{who} is suspended; `mlops resume {who}` lets it go on"
        )
        return assess(
            key, blocks=(block,), conditions=conditions, status=status, suspended=True, exists=exists
        )
    tag = base_tag(name)
    binds = tuple(step.id for step in context.made[target.key].steps if step.action == "bind")
    if blocks:
        steps = [*judged.steps]
        # Now, and not when it is bound already: by then this revision is itself the one in force.
        if tag not in bound.tags if bound is not None else binds:
            work = RememberBase(target.metadata.name, name, base)
            changes = (Change(f"tags.{tag}", None, base),)
            reason = "first asked for: the rules of this base decide about it"
            steps.append(Step(f"update:{key}", str(key), "update", reason, work, changes, binds))
        steps += _restored(context, key, stage, live)
        return assess(
            key, steps=tuple(steps), blocks=tuple(blocks), conditions=conditions, status=status, exists=exists
        )
    alias = stage.spec.alias or name
    needs = [*binds, after] if isinstance(after, str) else [*binds]
    needs += judged.needs
    retired = _retired(context, resource, stage, live)
    returns = bound is not None and history(bound.tags, name).was_here
    step = Step(
        id=f"promote:{key}",
        resource=str(key),
        action="promote",
        reason=f"{target.spec.version} {'returns to' if returns else 'is asked for in'} {name}",
        work=MoveAlias(
            resource.metadata.name,
            target.metadata.name,
            registered,
            name,
            alias,
            retired,
            base,
            asked,
        ),
        changes=(
            Change(f"alias.{alias}", current, bound.number if bound else UNKNOWN),
            Change("version", version_of(context, registered, current), target.spec.version),
            *(Change(f"alias.{old}", live.aliases[old] if live else None, None) for old in retired),
            *(Change(f"gates.{gate.name}", None, gate.shown) for gate in gates),
            *([Change("approvals", None, decision.message)] if decision is not None else ()),
        ),
        needs=tuple(needs),
    )
    return assess(key, steps=(*judged.steps, step), conditions=conditions, status=status, exists=exists)


def _approved(block: Block | None, decision: Decision | None) -> Condition:
    if block is not None:
        truth: Truth = "Unknown" if block.reason == "ForgeUnavailable" else "False"
        return Condition("Approved", truth, block.reason, block.message)
    if decision is None:
        return Condition("Approved", "True", "NoneRequired")
    return Condition("Approved", "True", "Approved", decision.message)


def _restored(context: Context, key: Key, stage: Stage, live: ObservedModel | None) -> list[Step]:
    """The step that puts the alias back to the version in the stage while the one asked for may not go there.

    Else moving it by hand would be a way past the gates.
    """
    name = stage.metadata.name
    standing = [
        (stay.since, version.number, stay, version)
        for version in (context.versions_by_model.get(live.name, ()) if live is not None else ())
        if (stay := history(version.tags, name).open) is not None
    ]
    if live is None or not standing:
        return []
    _, number, stay, version = max(standing, key=lambda row: row[:2])
    if context.stage_of_alias.get(stay.alias, name) != name:  # another stage has the alias now
        return []
    changes = []
    if live.aliases.get(stay.alias) != number:
        changes.append(Change(f"alias.{stay.alias}", live.aliases.get(stay.alias), number))
    for tag, value in sorted(history(version.tags, name).tags(name).items()):
        if version.tags.get(tag) != value:
            changes.append(Change(f"tags.{tag}", version.tags.get(tag), value))
    if not changes:
        return []
    work = RestoreAlias(live.name, name, stay.alias, number)
    return [Step(f"heal:{key}", str(key), "heal", "changed outside git", work, tuple(changes))]


def _never_bound(
    context: Context, key: Key, target: ModelVersion, bound: ObservedVersion | None
) -> Block | None:
    """The block of a version that is not bound and that nothing in this plan binds: it is suspended."""
    if bound is not None or any(step.action == "bind" for step in context.made[target.key].steps):
        return None
    what = f"{target.key} is suspended and not bound yet; `mlops resume {target.key}` lets it go on"
    return Block(str(key), "Ready", "DependencyFailed", what)


def version_of(context: Context, registered: str, number: int | None) -> str | None:
    """The declared version behind an MLflow version number, as far as its tags know."""
    version = context.ledger.versions.get((registered, number)) if number is not None else None
    return version.tags.get(VERSION_TAG, f"MLflow version {number}") if version else None


def _after(
    context: Context, resource: Promotion, stage: Stage, target: ModelVersion, bound: ObservedVersion | None
) -> Block | str | None:
    """The step that promotes to the stage before this one, a block when nothing will, None when it was there."""
    before = stage.spec.after
    if before is None or (bound is not None and history(bound.tags, before).was_here):
        return None
    earlier = context.graph.promotions.get((resource.spec.model, before))
    if earlier is not None and earlier.key in context.made:
        for step in context.made[earlier.key].steps:
            match step.work:
                case MoveAlias(model_version=name) if (
                    step.action == "promote" and name == target.metadata.name
                ):
                    return step.id
    what = (
        f"{target.spec.version} has not been in stage {before}, which comes before {stage.metadata.name}. "
        f"Promote it there first"
    )
    return Block(str(resource.key), "Ready", "StageOrder", what)
