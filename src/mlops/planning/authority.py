"""Whose rules decide about a promotion: those of its base, the revision in force when it was first asked for.

Otherwise the commit that asks for a promotion could take away the approval that it needs. The base is kept
as a tag of the version or, until that is bound, of the registered model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlops.observation.observed import ObservedModel, ObservedVersion
from mlops.planning.plan import Block
from mlops.planning.stays import base_tag, history
from mlops.resources import Key, ModelVersion, Stage


@dataclass(frozen=True, slots=True)
class Rules:
    """The approvals that a revision asks for, by stage name and by alias, as a renamed stage keeps its alias.

    `unknown` names stages of which nothing can be known there; `readable` is false where git has no such
    revision. `origins` names the revision that a rule is from, where a stage was kept as it was there.
    """

    required: Mapping[str, int] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    readable: bool = True
    origins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, stages: Mapping[Key, Stage]) -> Rules:
        """The rules that these stages state."""
        required: dict[str, int] = {}
        for stage in stages.values():
            count = stage.spec.approvals.required if stage.spec.approvals else 0
            for name in (stage.metadata.name, stage.spec.alias or stage.metadata.name):
                required[name] = max(count, required.get(name, 0))
        return cls(required)

    def stricter(self, other: Rules) -> Rules:
        """The same with what `other` requires beyond it."""
        names = self.required.keys() | other.required.keys()
        more = {name: max(self.required.get(name, 0), other.required.get(name, 0)) for name in names}
        return replace(self, required=more)

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


def approval_block(key: Key, stage: Stage, base: str, rules: Rules | None) -> Block | None:
    """A stage that asks for approvals, now or at the base, blocks: this release cannot check a proof of them.

    `rules` are those of the base; None where the base is the planned revision itself.
    """
    names = {stage.metadata.name, stage.spec.alias or stage.metadata.name}
    required = stage.spec.approvals.required if stage.spec.approvals else 0
    where = ""
    if rules is not None:
        if not rules.readable or names & rules.unknown:
            what = (
                f"what stage {stage.metadata.name} asked for at {base[:12]}, the base of this promotion, cannot be "
                "read. Fetch that revision (git fetch --unshallow), or mend its document and ask again"
            )
            return Block(str(key), "Approved", "BaseUnreadable", what)
        asked = max(rules.required.get(name, 0) for name in names)
        if asked > required:
            required, where = asked, f" (as revision {base[:12]} says, under which this was asked for)"
    if required < 1:
        return None
    groups = ", ".join(stage.spec.approvals.from_) if stage.spec.approvals else ""
    whose = f" of {groups}" if groups else ""
    what = (
        f"{required} approval{'s' if required > 1 else ''}{whose} missing{where}; this release cannot "
        f"check approvals, so stage {stage.metadata.name} stays closed. A stage without spec.approvals "
        "promotes when its gates pass"
    )
    return Block(str(key), "Approved", "ApprovalPending", what)
