"""Whether a promotion is approved: a pure function of what is asked, who people are, and the proofs there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from mlops.approvals.people import People

How = Literal["tag", "review", "earlier"]
MOST_TOLD: Final = 5  # refusals that are shown


@dataclass(frozen=True, slots=True)
class Asked:
    """A promotion that needs approvals, with the rule of its base."""

    promotion: str
    model_version: str
    version: str
    digest: str | None  # None: not bound, so there are no bytes to approve yet
    stage: str
    required: int
    groups: tuple[str, ...]
    allow_author: bool
    base: str
    revision: str  # that asks for it
    note: str = ""  # whose rule it is, where the revision that asks does not say so


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody says of a promotion, verified: a signed tag, or a review of the pull request that was merged.

    `who` is None where no key or login of the base's approvers made it; `wrong` says why it says nothing.
    """

    how: How
    reference: str
    who: str | None
    by: str  # the key or the login, for messages
    promotion: str = ""
    version: str = ""
    digest: str = ""
    approves: bool = True  # False: CHANGES_REQUESTED
    wrong: str | None = None
    commit: str = ""  # that a tag names
    at: int = 0  # when it was given, in seconds of Unix time


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval that counts."""

    who: str
    how: How
    reference: str

    def to_json(self) -> dict[str, str]:
        """As `approvedBy` has it."""
        return {"who": self.who, "how": self.how, "reference": self.reference}


@dataclass(frozen=True, slots=True)
class Decision:
    """Who approved, and why other proofs do not count."""

    required: int
    groups: tuple[str, ...]
    approvals: tuple[Approval, ...] = ()
    refused: tuple[str, ...] = ()
    unavailable: str | None = None  # why it cannot be known now
    fix: str = ""
    note: str = ""

    @property
    def approved(self) -> bool:
        """Whether enough people did."""
        return len(self.approvals) >= self.required

    @property
    def message(self) -> str:
        """What is missing, of whom, what was refused and why, and how to approve."""
        have = ", ".join(approval.who for approval in self.approvals)
        if self.approved:
            return f"approved by {have}" if have else "none required"
        missing = self.required - len(self.approvals)
        plural = "s" if missing > 1 else ""
        parts = [f"{missing} approval{plural} of {', '.join(self.groups)} missing{self.note}"]
        if have:
            parts.append(f"approved by {have}")
        parts += self.refused[:MOST_TOLD]
        if len(self.refused) > MOST_TOLD:
            parts.append(f"and {len(self.refused) - MOST_TOLD} more that do not count")
        if self.unavailable:
            parts.append(self.unavailable)
        return "; ".join(parts) + (f". {self.fix}" if self.fix else "")


def decide(asked: Asked, people: People, proofs: Iterable[Proof], authors: Collection[str]) -> Decision:
    """Count the people whose proof is for this promotion, this version and these bytes.

    Args:
        asked: the promotion and the rule of its base.
        people: those of the base.
        proofs: verified ones; those given at the same moment in the order in which they were given.
        authors: e-mails of everybody who wrote what asks for it.
    """
    members = people.members(asked.groups)
    wrote = {email.lower() for email in authors}
    counted: dict[str, Approval] = {}
    refused: list[str] = []
    for proof in sorted(proofs, key=lambda proof: proof.at):
        name = proof.who or proof.by
        if proof.who is not None and not proof.approves:
            if counted.pop(proof.who, None) is not None or proof.who in members:
                refused.append(f"{name} asked for changes ({proof.reference})")
            continue
        why = _refusal(asked, proof, members, wrote)
        if why is not None:
            refused.append(f"{proof.reference} does not count: {why}")
        elif proof.who is not None:
            counted[proof.who] = Approval(proof.who, proof.how, proof.reference)
    fix = "" if len(counted) >= asked.required else how_to(asked)
    return Decision(
        asked.required,
        asked.groups,
        tuple(counted[who] for who in sorted(counted)),
        tuple(refused),
        fix=fix,
        note=asked.note,
    )


def how_to(asked: Asked) -> str:
    """How to give an approval that is missing."""
    if asked.digest is None:
        return "There is something to approve once the version is bound"
    return f"One of them: `mlops approve {asked.promotion}`, then push the tag it makes"


def as_before(asked: Asked, stays: Iterable[Mapping[str, object]]) -> Decision | None:
    """The decision about a version that was in this stage, with these bytes, and was approved for it then."""
    for stay in stays:
        rows = stay.get("approvedBy")
        if (
            stay.get("digest") != asked.digest
            or asked.digest is None
            or not isinstance(rows, list)
            or not rows
        ):
            continue
        found = tuple(
            Approval(str(row.get("who", "")), "earlier", str(row.get("reference", "")))
            for row in rows
            if isinstance(row, Mapping)
        )
        return Decision(min(asked.required, len(found)), asked.groups, found)
    return None


def _refusal(asked: Asked, proof: Proof, members: Collection[str], wrote: Collection[str]) -> str | None:
    if proof.wrong is not None:
        return proof.wrong
    if proof.who is None:
        kind = "the key" if proof.how == "tag" else "the login"
        return f"{kind} {proof.by} is no approver's at revision {asked.base[:12]}, whose rules decide"
    if proof.how == "tag":
        if proof.promotion != asked.promotion:
            return f"it approves {proof.promotion}"
        if proof.version != asked.version:
            return f"it approves version {proof.version}, not {asked.version}"
        if asked.digest is None:
            return "the version is not bound yet, so nobody can have seen its bytes"
        if proof.digest != asked.digest:
            return f"it approves other bytes, {proof.digest[:19]}…, than {asked.digest[:19]}…"
    if proof.who not in members:
        return f"{proof.who} is not in {', '.join(asked.groups)} at revision {asked.base[:12]}"
    if not asked.allow_author and proof.who in wrote:
        return f"{proof.who} is an author of the change"
    return None


def unavailable(decision: Decision, why: str) -> Decision:
    """The same where reviews cannot be looked at now; what is enough without them stays enough."""
    return decision if decision.approved else replace(decision, unavailable=why)
