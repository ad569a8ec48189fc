"""Where the loop tells what it does: one line a happening in the log, and the metrics beside it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops.applying.outcomes import Failed, Outcome
from mlops.applying.status import Failure, with_failure
from mlops.applying.world import World
from mlops.daemon import logs
from mlops.errors import Defect, MlopsError
from mlops.planning.context import APPLIED_AT
from mlops.planning.plan import Step
from mlops.state import Event

if TYPE_CHECKING:
    from mlops.daemon.metrics import Metrics, Result
    from mlops.view import View


@dataclass(slots=True)
class Journal:
    """The daemon's log and metrics; a `Progress` for the steps that it walks."""

    metrics: Metrics
    alive: Callable[[], None] = lambda: None  # told when a step of a walk ends, which may have thousands
    _shown: Any = None  # the assessments that were counted last
    _failures: Mapping[str, Failure] = field(default_factory=dict)  # counted with them
    _outage: str = ""

    def say(self, event: str, message: str, *, warning: bool = False, **fields: Any) -> None:
        """One line."""
        logs.event(event, message, level=logging.WARNING if warning else logging.INFO, **fields)

    def event(self, event: Event) -> None:
        """A line for an event that was recorded."""
        self.metrics.event(event.reason)
        self.say(
            event.reason,
            event.message,
            warning=event.severity == "warning",
            resource=event.resource,
            revision=event.revision or None,
            step=event.step,
            seconds=event.duration,
            cause=event.cause,
        )

    def leads(self, leads: bool) -> None:
        """This process holds the lease from now on, or does not any more."""
        self.metrics.role(leader=leads)
        self.say(
            "Leading" if leads else "LeaseReleased", "this process writes" if leads else "others may write"
        )

    def began(self, step: Step, world: World) -> None:
        """A step beside the loop begins."""
        logs.event(
            "Begun",
            step.reason,
            level=logging.INFO if step.action == "train" else logging.DEBUG,
            resource=step.resource,
            step=step.id,
            revision=world.desired.revision,
        )

    def started(self, step: Step) -> None:
        """A step of the walk begins; what came of it is an event, or the next pass's to find out."""
        logs.event("Begun", step.reason, level=logging.DEBUG, resource=step.resource, step=step.id)

    def says(self, step: Step, message: str) -> None:
        logs.event("Progress", message, level=logging.DEBUG, resource=step.resource, step=step.id)

    def ended(self, step: Step, outcome: Outcome, seconds: float) -> None:
        self.alive()
        if isinstance(outcome, Failed) and isinstance(outcome.error, Defect):
            logs.event("Defect", str(outcome.error), error=outcome.error.__cause__, step=step.id)

    def passed(self, reasons: Collection[str], seconds: float, result: Result) -> None:
        """A pass is over."""
        for reason in reasons:
            self.metrics.wakeups(reason)
        self.metrics.reconciled(seconds, result)
        level = logging.DEBUG if result == "unchanged" else logging.INFO
        why = ", ".join(sorted(reasons))
        logs.event("Pass", f"{result}, because of {why}", level=level, seconds=seconds, result=result)

    def outage(self, error: MlopsError, pause: float, defect: Exception | None) -> None:
        """A pass could not be made; the same trouble is told once, as long as it lasts."""
        told, self._outage = self._outage, str(error)
        if told != self._outage or defect is not None:
            what = f"{str(error).rstrip('.')}; again in {pause:.0f} s"
            logs.event("PassFailed", what, level=logging.WARNING, error=defect or error, again=pause)

    @property
    def trouble(self) -> str:
        """Why passes cannot be made, as long as that lasts."""
        return self._outage

    def well(self) -> None:
        """A pass could be made; says so after an outage."""
        if self._outage:
            self.say("Recovered", "passes are made again")
        self._outage = ""

    def stands(self, view: View, failures: Mapping[str, Failure]) -> None:
        """How the resources stand, with what failed by `Kind/name`; counted when it changed."""
        made = view.planned.assessments
        if made is self._shown and failures == self._failures:
            return
        self._shown, self._failures = made, failures
        counts: Counter[tuple[str, str, str]] = Counter()
        for key, one in made.items():
            shown = with_failure(one, failures.get(str(key))) if failures else one
            counts[key.kind, shown.sync, shown.health] += 1
        self.metrics.resources(counts)
        for name, policy in view.observed.policies.items():
            self.metrics.drift(name, policy.record.verdict)
        project = view.observed.ledger.experiments.get(view.desired.project)
        if view.planned.plan.base is not None and project is not None:
            self.metrics.revision(view.planned.plan.base, _seconds(project.tags.get(APPLIED_AT)))

    def queue(self, *, running: int, waiting: int, steps: int) -> None:
        """What goes on beside the loop, what waits there for its turn, and what the plan still holds."""
        self.metrics.jobs(running=running, waiting=waiting)
        self.metrics.queue(steps)


def _seconds(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:  # somebody wrote something else into the tag
        return 0.0
