"""The one place that writes status and events: once per resource per pass, on every way out.

Only what changed is written, so that an idle pass over ten thousand resources writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mlops.applying.apply import Applied
from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.applying.promote import timestamp
from mlops.errors import Stalled
from mlops.planning.conditions import Assessment, Condition
from mlops.planning.plan import Block, Plan, Step
from mlops.planning.wording import restored
from mlops.redaction import Redactor
from mlops.resources import Key
from mlops.state import Event, State, StateReader

NAMESPACE: Final = "status"
_REVISION: Final = "revision"  # the row that says at which one everything was reconciled; no resource's name
_MOST_UNWRITTEN: Final = 10_000  # events kept while the state cannot be written
_MOST_CHANGES: Final = 4  # of a step, in the text of its event

_REASONS: Final = {
    "train": "Trained",
    "register": "Registered",
    "bind": "Bound",
    "evaluate": "Evaluated",
    "promote": "Promoted",
    "demote": "Demoted",
    "heal": "Healed",
    "update": "Updated",
    "monitor": "Monitored",
    "archive": "Archived",
    "delete": "Deleted",
    "propose": "Proposed",
}
STEP_FAILED: Final = frozenset(f"{reason}Failed" for reason in _REASONS.values())


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step of a resource did not come about when it was last tried; `stalled` asks for a human.

    Without a step it is about the resource itself, whatever is planned for it.
    """

    step: str
    reason: str
    message: str
    stalled: bool

    @classmethod
    def of(cls, step: Step, outcome: Outcome) -> Failure | None:
        """What `outcome` says against `step`, if anything."""
        match outcome:
            case Failed(error=error):
                reason = f"{_REASONS[step.action]}Failed"
                return cls(step.id, reason, str(error), isinstance(error, Stalled))
            case Blocked(block=block):
                return cls(step.id, block.reason, block.message, False)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Standing:
    """A resource's status as it was last written: since when each condition holds, and at which revision."""

    revision: str
    since: Mapping[str, tuple[str, str, str]]  # condition type → (status, reason, ISO time)
    failure: Failure | None = None


def standings(state: StateReader) -> dict[str, Standing]:
    """What was written before, by `Kind/name`; empty when the state was lost."""
    rows = state.all(NAMESPACE)
    revision = rows.pop(_REVISION, b"").decode()
    return {name: _standing(row, revision) for name, row in rows.items()}


def _standing(row: bytes, revision: str) -> Standing:
    plain = json.loads(row)
    failure = Failure(**plain["failure"]) if "failure" in plain else None
    return Standing(revision, {t: tuple(v) for t, v in plain["since"].items()}, failure)


def with_failure(made: Assessment, failure: Failure | None) -> Assessment:
    """`made` with what came of its step when it was tried; as it is where that step is not planned any more."""
    if failure is None or made.blocks:
        return made
    if failure.step and failure.step not in {step.id for step in made.steps}:
        return made
    summed = {
        "Ready": Condition("Ready", "False", failure.reason, failure.message),
        "Stalled": Condition("Stalled", "True" if failure.stalled else "False", failure.reason),
    }
    conditions = tuple(summed.get(condition.type, condition) for condition in made.conditions)
    return replace(made, health="Degraded", conditions=conditions)


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


@dataclass(slots=True)
class Recorder:
    """Writes status and events of one project, as long as this process is its one writer.

    Args:
        told: is given each event that is written, redacted.
    """

    state: State
    redactor: Redactor
    now: Callable[[], float]
    told: Callable[[Event], None] = lambda event: None
    _written: dict[str, bytes] | None = None
    _assessed: Mapping[Key, Assessment] = field(default_factory=dict)
    _failures: Mapping[str, Failure] = field(default_factory=dict)
    _blocked: frozenset[Block] = frozenset()
    _unwritten: list[Event] = field(default_factory=list)

    @property
    def failures(self) -> Mapping[str, Failure]:
        """What was written last of steps that did not come about, by `Kind/name`."""
        return self._failures

    def steps(self, ended: Iterable[tuple[Step, str, Outcome, float | None]]) -> None:
        """Record steps that ended: the step, the revision of its plan, its outcome, the seconds it took."""
        self.events(_of_step(self.now(), *one) for one in ended if not isinstance(one[2], Left))

    def tell(self, ended: Iterable[tuple[Step, str, Outcome, float | None]]) -> None:
        """Only tell of steps that were done: for a process that may not write any more."""
        for one in ended:
            if isinstance(one[2], Done):
                self.told(self._clean(_of_step(self.now(), *one)))

    def applied(self, applied: Applied) -> None:
        """Record what an apply did, and what was left to go on."""
        now, revision = self.now(), applied.plan.revision
        self.events(
            _of_step(now, step, revision, applied.outcomes[step.id], applied.seconds.get(step.id))
            for step in applied.plan.steps
            if step.id in applied.outcomes
        )

    def blocks(self, plan: Plan) -> None:
        """Record what `plan` could not do; what the plan before it could not do either is not said again."""
        new = [block for block in plan.blocked if block not in self._blocked]
        self._blocked = frozenset(plan.blocked)
        now = self.now()
        self.events(
            Event(now, b.resource, b.reason, b.message, "warning", plan.revision, last_at=now) for b in new
        )

    def events(self, events: Iterable[Event]) -> None:
        """Write events, without secrets."""
        clean = [self._clean(event) for event in events]
        for event in clean:
            self.told(event)
        self._unwritten = [*self._unwritten, *clean][-_MOST_UNWRITTEN:]
        if self._unwritten:
            self.state.add_events(self._unwritten)  # where that fails, they are written with the next ones
            self._unwritten = []

    def _clean(self, event: Event) -> Event:
        return replace(event, message=self.redactor.redact(event.message))

    def status(
        self,
        assessments: Mapping[Key, Assessment],
        *,
        revision: str,
        failures: Mapping[str, Failure] | None = None,
    ) -> None:
        """Write every resource's conditions as they stand at `revision`, and its failure by `Kind/name`."""
        failures = failures or {}
        if self._written is None:
            self._written = self.state.all(NAMESPACE)
        rows = {_REVISION: revision.encode()}
        if assessments is self._assessed and failures == self._failures:
            rows = {**self._written, **rows}
        else:
            moment = timestamp(self.now())
            for key, made in assessments.items():
                name = str(key)
                row, failure = self._written.get(name), failures.get(name)
                if row is None or failure != self._failures.get(name) or self._assessed.get(key) != made:
                    row = self._row(made, failure, row, moment)
                rows[name] = row
        changed = {name: row for name, row in rows.items() if self._written.get(name) != row}
        gone = self._written.keys() - rows.keys()
        if changed:
            self.state.put_many(NAMESPACE, changed)
        if gone:
            self.state.delete_many(NAMESPACE, gone)
        self._written, self._assessed, self._failures = rows, assessments, dict(failures)

    def _row(self, made: Assessment, failure: Failure | None, written: bytes | None, moment: str) -> bytes:
        before = _standing(written, "") if written is not None else None
        conditions = conditions_json(with_failure(made, failure), before, "", moment)
        row: dict[str, Any] = {
            "since": {one["type"]: (one["status"], one["reason"], one["since"]) for one in conditions}
        }
        if failure is not None:
            plain = replace(failure, message=self.redactor.redact(failure.message))
            row["failure"] = {name: getattr(plain, name) for name in Failure.__dataclass_fields__}
        return json.dumps(row).encode()


def _of_step(now: float, step: Step, revision: str, outcome: Outcome, seconds: float | None) -> Event:
    shown, more = step.changes[:_MOST_CHANGES], len(step.changes) - _MOST_CHANGES
    healed = step.action == "heal"
    texts = [restored(c) if healed else f"{c.field}: {c.before} → {c.after}" for c in shown]
    changes = "; ".join(texts + ([f"and {more} more"] if more > 0 else []))
    match outcome:
        case Done(detail=detail):
            # Of what was changed by hand it is said what was found and what was restored.
            reason, message, warning = _REASONS[step.action], changes if healed else detail or changes, False
        case Failed(error=error):
            reason, message, warning = f"{_REASONS[step.action]}Failed", str(error), True
        case Blocked(block=block):
            reason, message, warning = block.reason, block.message, True
        case Left(detail=detail):
            reason, message, warning = "LeftRunning", detail, False
    return Event(
        at=now,
        resource=step.resource,
        reason=reason,
        message=message,
        severity="warning" if warning else "normal",
        revision=revision,
        step=step.id,
        duration=seconds,
        cause=step.reason,
        last_at=now,
    )
