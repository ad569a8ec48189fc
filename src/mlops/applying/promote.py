"""Move a stage's alias together with the record of the stay.

The evidence is stored first. Then, in one transaction where the registry is a database, the stays that this
one follows end, this one is recorded, and the alias moves; elsewhere in that order. Killed between any two
writes, the next plan finds what is left to do; a stay that was begun is gone on with, not begun again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlops.applying.judging import judge
from mlops.applying.outcomes import Blocked, Done, Outcome
from mlops.applying.world import World
from mlops.approvals import Decision, as_before
from mlops.errors import Stalled
from mlops.observation.observed import ObservedVersion
from mlops.planning.authority import approval_block
from mlops.planning.canonical import canonical, sha256_of
from mlops.planning.context import DIGEST_TAG, VERSION_TAG
from mlops.planning.gates import GateResult
from mlops.planning.plan import Step
from mlops.planning.runs import DATASET_DIGEST, FINGERPRINT
from mlops.planning.stays import HISTORY_LIMIT, History, Stay, base_tag, history
from mlops.planning.work import MoveAlias, RememberBase, RestoreAlias, TakeAliasAway
from mlops.resources import Key, Stage


def move(world: World, step: Step, work: MoveAlias) -> Outcome:
    """Put the version that git asks for into the stage, or put back what was moved by hand."""
    stage = world.desired.resources[Key("Stage", work.stage)]
    assert isinstance(stage, Stage)
    version = _bound(world, work.model_version)
    past = history(version.tags, work.stage)
    gates: tuple[GateResult, ...] = ()
    if past.open is None:
        decision = _decision(world, work, version)
        gates, block = judge(world, step, work, stage, version)
        if block is None and decision is not None:
            block = approval_block(Key.parse(step.resource), decision)
        if block is not None:
            _remember_base(world, version, work.stage, work.base)
            return Blocked(block, gates)
        approved = tuple(approval.to_json() for approval in decision.approvals) if decision else ()
        evidence = _evidence(world, work, version, gates, approved)
        stay = Stay(
            promotion=work.promotion,
            alias=work.alias,
            since=timestamp(world.now()),
            revision=world.desired.revision,
            base=work.base,
            evidence=evidence,
            digest=version.tags.get(DIGEST_TAG),
            approved_by=approved,
        )
        _point(world, version, work, past.opened(stay))
        _retire(world, work)
    else:
        if work.retired_aliases:  # planning knows them by the record: it changes when they are gone
            world.check_lease()
            world.tracker.move_alias(work.registered_name, work.alias, version.number, tags={})
            _retire(world, work)
        stay = replace(past.open, alias=work.alias)
        _point(world, version, work, History((*past.stays[:-1], stay), past.older))
    return Done(f"{work.alias} → {work.registered_name} v{version.number}")


def _decision(world: World, work: MoveAlias, version: ObservedVersion) -> Decision | None:
    """Who approved it, as it is now: a tag may have gone since planning, and bytes are approved, not names."""
    if work.asked is None:
        return None
    asked = replace(work.asked, digest=version.tags.get(DIGEST_TAG))
    stays = history(version.tags, work.stage).stays
    return as_before(asked, (stay.to_json() for stay in stays)) or world.decision(asked)


def restore(world: World, work: RestoreAlias) -> Outcome:
    """Put a stage's alias and the record of the stay back as they were; nothing is promoted by it."""
    version = world.tracker.version(work.registered_name, work.number)
    if version is None:
        raise Stalled(f"{work.registered_name} has no v{work.number} any more", fix="Promote another version")
    wrong = _wrong(world, version, work.stage, history(version.tags, work.stage))
    world.check_lease()
    tags = {work.number: wrong} if wrong else {}
    world.tracker.move_alias(work.registered_name, work.alias, work.number, tags=tags)
    return Done(f"{work.alias} → {work.registered_name} v{work.number}")


def take_away(world: World, work: TakeAliasAway) -> Outcome:
    """Remove the alias of a Promotion that left git, and end the stays: last, as planning knows it by them."""
    if work.alias is not None:
        world.check_lease()
        world.tracker.delete_alias(work.registered_name, work.alias)
    until = timestamp(world.now())
    for number in work.numbers:
        version = world.tracker.version(work.registered_name, number)
        if version is not None:
            _record(world, version, work.stage, history(version.tags, work.stage).closed(until))
    return Done()


def remember_base(world: World, work: RememberBase) -> Outcome:
    """Write down under which revision's rules a blocked promotion was first asked for."""
    _remember_base(world, _bound(world, work.model_version), work.stage, work.base)
    return Done()


def timestamp(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds, of seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bound(world: World, model_version: str) -> ObservedVersion:
    """The version as it is now: fresh from this apply, or as planning saw it."""
    known = world.version(model_version)
    if known is None:
        raise Stalled(f"ModelVersion/{model_version} is not bound", fix="Apply again")
    return known


def _remember_base(world: World, version: ObservedVersion, stage: str, base: str | None) -> None:
    tag = base_tag(stage)
    if tag in version.tags or base is None:
        return
    world.check_lease()
    world.tracker.tag_version(version.model, version.number, {tag: base})
    world.remember(replace(version, tags={**version.tags, tag: base}))


def _point(world: World, version: ObservedVersion, work: MoveAlias, past: History) -> None:
    """End the stays that this one follows, record it as `past` says, and point the alias at the version."""
    assert past.open is not None
    until = past.open.since
    writes: list[tuple[ObservedVersion, dict[str, str | None]]] = []
    for other in world.versions_of(work.registered_name):
        before = history(other.tags, work.stage)
        if other.number != version.number and before.open is not None:
            closed = before.closed(max(until, before.open.since))
            writes.append((other, _wrong(world, other, work.stage, closed)))
    writes.append((version, _wrong(world, version, work.stage, past)))
    world.check_lease()
    world.tracker.move_alias(
        work.registered_name,
        work.alias,
        version.number,
        tags={written.number: wrong for written, wrong in writes if wrong},
    )
    for written, wrong in writes:
        world.remember(_tagged(written, wrong))


def _retire(world: World, work: MoveAlias) -> None:
    """Take away what the stage's alias was called before, where it still points at a version that was here."""
    if not work.retired_aliases:
        return
    live = world.tracker.aliases(work.registered_name)
    for version in world.versions_of(work.registered_name):
        had = {stay.alias for stay in history(version.tags, work.stage).stays}
        for alias in work.retired_aliases:
            if alias in had and live.get(alias) == version.number:
                world.check_lease()
                world.tracker.delete_alias(work.registered_name, alias)


def _record(world: World, version: ObservedVersion, stage: str, past: History) -> None:
    """Make the version's tags say `past`."""
    if wrong := _wrong(world, version, stage, past):
        world.check_lease()
        world.tracker.tag_version(version.model, version.number, wrong)
        world.remember(_tagged(version, wrong))


def _wrong(world: World, version: ObservedVersion, stage: str, past: History) -> dict[str, str | None]:
    """The tags that do not say `past` yet; the oldest stays move to an artifact when they grow too long."""
    while len(past.text()) > HISTORY_LIMIT and len(past.stays) > 1 and version.run_id:
        past = _move_out(world, version, stage, past)
    return {tag: value for tag, value in past.tags(stage).items() if version.tags.get(tag) != value}


def _tagged(version: ObservedVersion, tags: Mapping[str, str | None]) -> ObservedVersion:
    merged = {tag: value for tag, value in {**version.tags, **tags}.items() if value is not None}
    return replace(version, tags=merged)


def _move_out(world: World, version: ObservedVersion, stage: str, past: History) -> History:
    half = max(1, len(past.stays) // 2)
    rows: list[Any] = [{"older": past.older}] if past.older else []
    rows += [stay.to_json() for stay in past.stays[:half]]
    data = canonical(rows).encode()
    path = f"mlops/history/{version.model}-v{version.number}-{stage}-{sha256_of(rows)[:16]}.json"
    world.check_lease()
    world.tracker.write_artifact(str(version.run_id), path, data)
    return History(past.stays[half:], path)


def _evidence(
    world: World,
    work: MoveAlias,
    version: ObservedVersion,
    gates: tuple[GateResult, ...],
    approved: tuple[Mapping[str, str], ...],
) -> str | None:
    """Store what was observed as an artifact named by its own hash; equal observations are one artifact."""
    run = world.run(version.run_id) if version.run_id else None
    if run is None:
        return None
    seen: Mapping[str, Any] = {
        "promotion": work.promotion,
        "model": version.model,
        "stage": work.stage,
        "mlflowVersion": version.number,
        "version": version.tags.get(VERSION_TAG),
        "digest": version.tags.get(DIGEST_TAG),
        "runId": run.run_id,
        "fingerprint": run.tags.get(FINGERPRINT),
        "metrics": {name: repr(value) for name, value in run.metrics.items()},
        "datasets": {
            t.removeprefix(DATASET_DIGEST): v for t, v in run.tags.items() if t.startswith(DATASET_DIGEST)
        },
        "gates": [gate.to_json() for gate in gates],
        "approvedBy": [dict(approval) for approval in approved],
        "base": work.base,
        "revision": world.desired.revision,
    }
    digest = sha256_of(seen)
    world.check_lease()
    world.tracker.write_artifact(run.run_id, f"mlops/evidence/{digest}.json", canonical(seen).encode())
    return f"sha256:{digest}"
