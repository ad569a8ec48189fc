"""The one place that writes status and events: once per resource per pass, on every way out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mlops.applying.apply import Applied
from mlops.applying.outcomes import Blocked, Done, Failed, Left
from mlops.applying.promote import timestamp
from mlops.planning.conditions import Assessment
from mlops.redaction import Redactor
from mlops.resources import Key
from mlops.state import Event, State, StateReader

NAMESPACE: Final = "status"

_REASONS: Final = {
    "train": "Trained",
    "register": "Registered",
    "bind": "Bound",
    "promote": "Promoted",
    "demote": "Demoted",
    "heal": "Healed",
    "update": "Updated",
    "monitor": "Monitored",
    "archive": "Archived",
    "delete": "Deleted",
    "propose": "Proposed",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A resource's status as it was last written: since when each condition holds, and at which revision."""

    revision: str
    since: Mapping[str, tuple[str, str, str]]  # condition type → (status, reason, ISO time)


def standings(state: StateReader) -> dict[str, Standing]:
    """What was written before, by `Kind/name`; empty when the state was lost."""
    found = {}
    for name, raw in state.all(NAMESPACE).items():
        row = json.loads(raw)
        found[name] = Standing(row["revision"], {t: tuple(v) for t, v in row["since"].items()})
    return found


def conditions_json(
    assessment: Assessment, standing: Standing | None, revision: str, now: str
) -> list[dict[str, Any]]:
    """The conditions with `since`: kept while status and reason stay the same."""
    rows = []
    for condition in assessment.conditions:
        before = standing.since.get(condition.type) if standing else None
        same = before is not None and before[:2] == (condition.status, condition.reason)
        rows.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "since": before[2] if same and before else now,
                "revision": revision,
            }
        )
    return rows


def write_status(state: State, assessments: Mapping[Key, Assessment], *, revision: str, now: float) -> None:
    """Write every resource's conditions as they stand at `revision`; `now` in seconds since the epoch."""
    before = standings(state)
    moment = timestamp(now)
    rows: dict[str, bytes] = {}
    for key, assessment in assessments.items():
        conditions = conditions_json(assessment, before.get(str(key)), revision, moment)
        since = {row["type"]: [row["status"], row["reason"], row["since"]] for row in conditions}
        rows[str(key)] = json.dumps({"revision": revision, "since": since}).encode()
    state.replace(NAMESPACE, rows)


def write_events(state: State, applied: Applied, redactor: Redactor, *, now: float) -> None:
    """Write an event for each step that ended and for each thing that was blocked."""
    state.add_events(replace(e, message=redactor.redact(e.message)) for e in _events(applied, now))


def _events(applied: Applied, now: float) -> Iterable[Event]:
    revision = applied.plan.revision
    for block in applied.plan.blocked:
        yield Event(now, block.resource, block.reason, block.message, "warning", revision, last_at=now)
    for step in applied.plan.steps:
        outcome = applied.outcomes.get(step.id)
        match outcome:
            case Done(detail=detail):
                changes = "; ".join(f"{c.field}: {c.before} → {c.after}" for c in step.changes[:4])
                reason, message, warning = _REASONS[step.action], detail or changes, False
            case Failed(error=error):
                reason, message, warning = f"{_REASONS[step.action]}Failed", str(error), True
            case Blocked(block=block):
                reason, message, warning = block.reason, block.message, True
            case Left(detail=detail):
                reason, message, warning = "LeftRunning", detail, False
            case None:
                continue
        yield Event(
            at=now,
            resource=step.resource,
            reason=reason,
            message=message,
            severity="warning" if warning else "normal",
            revision=revision,
            step=step.id,
            duration=applied.seconds.get(step.id),
            cause=step.reason,
            last_at=now,
        )
