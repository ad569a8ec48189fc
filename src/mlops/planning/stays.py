"""The record of a version's stays in a stage, kept as tags of the version itself.

`mlops.stage.<stage>.{base,since,until,revision,approvedBy,evidence}` describe the latest stay;
`mlops.stage.<stage>.history` is a JSON list of all of them, oldest first, so that no return overwrites
history. Beyond `HISTORY_LIMIT` characters the oldest move into an artifact that the first entry names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from mlops.planning.canonical import canonical

MOST_REMEMBERED: Final = 16_384  # records of stays, of about a kilobyte
HISTORY_LIMIT: Final = 4500  # characters; registries allow 5,000 in a tag
_PREFIX: Final = "mlops.stage."
_ENDED: Final = re.compile(r'"until":"[^"\\\\]+"}\]\Z')  # the last row of a list says when it ended
_TEXTS: Final = ("promotion", "alias", "since", "revision", "until", "base", "evidence", "digest")


@dataclass(frozen=True, slots=True)
class Stay:
    """One time that a version was in a stage; times are ISO 8601 in UTC, `until` None while it lasts."""

    promotion: str
    alias: str
    since: str
    revision: str
    until: str | None = None
    base: str | None = None
    evidence: str | None = None
    digest: str | None = None
    approved_by: tuple[Mapping[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "promotion": self.promotion,
            "alias": self.alias,
            "since": self.since,
            "until": self.until,
            "revision": self.revision,
            "base": self.base,
            "evidence": self.evidence,
            "digest": self.digest,
            "approvedBy": [dict(approval) for approval in self.approved_by],
        }
        return {name: value for name, value in row.items() if value not in (None, [])}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Stay:
        """Read what `to_json` wrote; raises ValueError for anything else, as a tag can be edited by hand."""
        approvals = row.get("approvedBy", [])
        if not all(isinstance(row.get(name, ""), str) for name in _TEXTS):
            raise ValueError("a stay holds something else than text")
        if not isinstance(approvals, list) or not all(isinstance(one, dict) for one in approvals):
            raise ValueError("a stay's approvals are no list of objects")
        for moment in (row.get("since", ""), row.get("until")):
            if moment is not None:
                datetime.fromisoformat(moment)
        return cls(
            promotion=row.get("promotion", ""),
            alias=row.get("alias", ""),
            since=row["since"],
            revision=row.get("revision", ""),
            until=row.get("until"),
            base=row.get("base"),
            evidence=row.get("evidence"),
            digest=row.get("digest"),
            approved_by=tuple(approvals),
        )


@dataclass(frozen=True, slots=True)
class History:
    """All stays of one version in one stage. `older` names the artifact that holds those moved out."""

    stays: tuple[Stay, ...] = ()
    older: str | None = None
    legible: bool = True  # false when somebody wrote something else into the tag
    written: str | None = field(default=None, compare=False)  # what it was read from, if that is its text

    @property
    def open(self) -> Stay | None:
        """The stay that lasts, if there is one."""
        return self.stays[-1] if self.stays and self.stays[-1].until is None else None

    @property
    def was_here(self) -> bool:
        return bool(self.stays or self.older)

    def opened(self, stay: Stay) -> History:
        """With a new stay begun; the one that lasted is closed at its start."""
        closed = self.closed(stay.since)
        return replace(closed, stays=(*closed.stays, stay), written=None)

    def closed(self, until: str) -> History:
        """With the lasting stay ended, if there is one; not before it began, though the clock went back since."""
        if self.open is None:
            return self
        ended = replace(self.open, until=max(until, self.open.since))
        return replace(self, stays=(*self.stays[:-1], ended), written=None)

    def text(self) -> str:
        if self.written is not None:
            return self.written
        rows: list[dict[str, Any]] = [stay.to_json() for stay in self.stays]
        if self.older:
            rows.insert(0, {"older": self.older})
        return canonical(rows)

    def tags(self, stage: str) -> dict[str, str | None]:
        """The version tags that say this; None where a tag is to be absent."""
        prefix = f"{_PREFIX}{stage}."
        last = self.stays[-1] if self.stays else None
        approved = canonical([dict(a) for a in last.approved_by]) if last and last.approved_by else None
        return {
            base_tag(stage): last.base if last else None,
            prefix + "since": last.since if last else None,
            prefix + "until": last.until if last else None,
            prefix + "revision": last.revision if last else None,
            prefix + "approvedBy": approved,
            prefix + "evidence": last.evidence if last else None,
            prefix + "history": self.text() if self.was_here else None,
        }


def history(tags: Mapping[str, str], stage: str) -> History:
    """Read a version's stays in `stage` from its tags."""
    text = tags.get(f"{_PREFIX}{stage}.history")
    if text is None:
        return History()
    return _history(text)


def lasting(tags: Mapping[str, str], stage: str) -> Stay | None:
    """The stay in `stage` that lasts. That of an old version has ended: then its record is not even read."""
    text = tags.get(f"{_PREFIX}{stage}.history")
    if text is None or (_ENDED.search(text) and '"older"' not in text):
        return None
    return _history(text).open


@lru_cache(maxsize=MOST_REMEMBERED)
def _history(text: str) -> History:
    """Old versions keep what is written on them for years, and every plan looks at all of them."""
    try:
        found = read_history(text)
    except ValueError:
        return History(legible=False)
    return replace(found, written=text) if found.text() == text else found


def base_tag(stage: str) -> str:
    """The tag that names the base of a version's promotion to `stage`, also before its first stay there."""
    return f"{_PREFIX}{stage}.base"


def read_history(text: str | bytes) -> History:
    """Read what `History.text` wrote, of a tag or of an artifact; raises ValueError for anything else."""
    try:
        rows: Any = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is no list of stays")
    older = rows[0].get("older") if rows else None
    if older is not None and not isinstance(older, str):
        raise ValueError("it names no artifact")
    return History(tuple(Stay.from_json(row) for row in rows if "older" not in row), older)


def stages(tags: Mapping[str, str]) -> tuple[str, ...]:
    """The stages that a version's tags tell a history of, sorted."""
    return _stages(tuple(tags))


@lru_cache(maxsize=1024)
def _stages(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same by the tags' names, which most versions have in common."""
    ends = sorted(name for name in names if name.startswith(_PREFIX) and name.endswith(".history"))
    return tuple(name[len(_PREFIX) : -len(".history")] for name in ends)
