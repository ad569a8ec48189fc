"""Whose rules decide about a promotion: those of its base, the revision in force when it was first asked for.

Otherwise the commit that asks for a promotion could take away the approval that it needs. The base is kept
as a tag of the version or, until that is bound, of the registered model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlops.approvals import Asked, Decision, People
from mlops.observation.observed import ObservedModel, ObservedVersion
from mlops.planning.plan import Block
from mlops.planning.stays import base_tag, history
from mlops.resources import Key, ModelVersion, Promotion, Stage
from mlops.resources.stage import Approvals


@dataclass(frozen=True, slots=True)
class Rules:
    """The approvals that a revision asks for, by stage name and by alias, as a renamed stage keeps its alias.

    `unknown` names stages of which nothing can be known there; `readable` is false where git has no such
    revision. `origins` names the revision that a rule is from, where a stage was kept as it was there. `people` are
    those whom its Project names.
    """

    required: Mapping[str, int] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    readable: bool = True
    origins: Mapping[str, str] = field(default_factory=dict)
    approvals: Mapping[str, Approvals] = field(default_factory=dict)  # where any are required
    people: People = field(default_factory=People)

    @classmethod
    def of(cls, stages: Mapping[Key, Stage], people: People | None = None) -> Rules:
        """The rules that these stages state."""
        required: dict[str, int] = {}
        approvals: dict[str, Approvals] = {}
        for stage in stages.values():
            rule = stage.spec.approvals
            count = rule.required if rule else 0
            for name in (stage.metadata.name, stage.spec.alias or stage.metadata.name):
                required[name] = max(count, required.get(name, 0))
                if rule is not None:
                    approvals[name] = _stricter(rule, approvals.get(name))
        return cls(required, approvals=approvals, people=people or People())

    def stricter(self, other: Rules) -> Rules:
        """The same with what `other` requires beyond it."""
        names = self.required.keys() | other.required.keys()
        more = {name: max(self.required.get(name, 0), other.required.get(name, 0)) for name in names}
        rules = {**other.approvals}
        for name, rule in self.approvals.items():
            rules[name] = _stricter(rule, other.approvals.get(name))
        return replace(self, required=more, approvals=rules)

    def approvals_of(self, stage: Stage) -> Approvals | None:
        """What is required of those who want into `stage`, under its name or its alias."""
        found = None
        for name in sorted({stage.metadata.name, stage.spec.alias or stage.metadata.name}):
            if (rule := self.approvals.get(name)) is not None:
                found = _stricter(rule, found)
        return found

    def origin(self, stage: Stage, base: str) -> str:
        """The revision to remember as the base of a promotion: the one whose text of the stage rules."""
        names = sorted({stage.metadata.name, stage.spec.alias or stage.metadata.name})
        ruling = max(names, key=lambda name: (self.required.get(name, 0), name in self.origins))
        return self.origins.get(ruling, base)


def asked_tag(stage: str, version: str) -> str:
    """The registered model's tag that names the base of a promotion whose version is not bound yet."""
    return f"mlops.asked.{stage}.{version}"


def base_of(
    stage: str,
    target: ModelVersion,
    bound: ObservedVersion | None,
    model: ObservedModel | None,
    in_force: str,
) -> str:
    """The base of a promotion: as it was written down when it was first asked for, else what is in force now."""
    if bound is not None and base_tag(stage) in bound.tags and not history(bound.tags, stage).was_here:
        return bound.tags[base_tag(stage)]
    tag = asked_tag(stage, target.spec.version)
    return model.tags[tag] if model is not None and tag in model.tags else in_force


def _stricter(one: Approvals, other: Approvals | None) -> Approvals:
    """The rule that asks for more people, without authors if either says so."""
    if other is None:
        return one
    more = other if other.required > one.required else one
    if more.allow_author and not (one.allow_author and other.allow_author):
        return more.model_copy(update={"allow_author": False})
    return more


def unreadable_block(key: Key, stage: Stage, base: str, rules: Rules | None) -> Block | None:
    """The block of a promotion of whose base nobody can know what it asked for."""
    names = {stage.metadata.name, stage.spec.alias or stage.metadata.name}
    if rules is None or (rules.readable and not names & rules.unknown):
        return None
    what = (
        f"what stage {stage.metadata.name} asked for at {base[:12]}, the base of this promotion, cannot be "
        "read. Fetch that revision (git fetch --unshallow), or mend its document and ask again"
    )
    return Block(str(key), "Approved", "BaseUnreadable", what)


def asked_of(
    resource: Promotion,
    stage: Stage,
    target: ModelVersion,
    digest: str | None,
    base: str,
    revision: str,
    rules: Rules | None,
) -> Asked | None:
    """What a promotion needs approvals for; None where it needs none.

    The rule is that of the base. One that the revision itself adds or makes stricter counts, too: it was read by
    whoever approves; whose keys count stays a matter of the base.
    """
    then = rules.approvals_of(stage) if rules is not None else None
    now = stage.spec.approvals
    rule = now if then is None else _stricter(then, now)
    if rule is None:
        return None
    return Asked(
        resource.metadata.name,
        target.metadata.name,
        target.spec.version,
        digest,
        stage.metadata.name,
        rule.required,
        then.from_ if then is not None else rule.from_,
        rule.allow_author,
        base,
        revision,
        f" (as revision {base[:12]} says, under which this was asked for)"
        if then is not None and (now is None or now.required < then.required)
        else "",
    )


def approval_block(key: Key, decision: Decision) -> Block | None:
    """The block of a promotion that is not approved, with who is missing."""
    if decision.approved:
        return None
    reason = "ForgeUnavailable" if decision.unavailable else "ApprovalPending"
    return Block(str(key), "Approved", reason, decision.message)
