"""Evaluate a policy: read what is new, judge, decide, and write down what is to be done about it.

Evaluations, decisions and messages to be sent are one transaction of the state; then each evaluation becomes a run in
MLflow, found by its key. Killed anywhere, the next pass evaluates the same bytes again, decides the same, and finds
what was done by the ids of the decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mlops.applying.decided import Evaluated, folded, recorded, restore, with_earlier
from mlops.applying.monitored import Kept, Window
from mlops.applying.outcomes import Done, Outcome
from mlops.applying.predicting import predicting
from mlops.applying.telling import executed_of, experiment_of, log, messages
from mlops.applying.watching import Watching, subject_of, watching
from mlops.applying.world import World
from mlops.errors import Stalled
from mlops.observation.policies import RECORDS, UNFINISHED, PolicyRecord
from mlops.planning.plan import Step
from mlops.planning.policies import inputs_of
from mlops.planning.work import MonitorPolicy
from mlops.resources import Key, MonitoringPolicy, Notifier

if TYPE_CHECKING:  # the monitoring room stands on numpy: it is imported by the functions that evaluate
    from mlops.monitoring.deciding import Decision, Watched
    from mlops.monitoring.evaluating import Assessed

SUMMARIES: Final = "summaries"  # namespace of the state


def monitor(world: World, step: Step, work: MonitorPolicy) -> Outcome:
    """Evaluate the windows of a policy that are new or changed, and decide about all of them."""
    resource = world.desired.resources[Key("MonitoringPolicy", work.policy)]
    assert isinstance(resource, MonitoringPolicy)
    watched = replace(watching(world, resource), number=work.version)
    record = PolicyRecord.decode(world.state.get(RECORDS, work.policy))
    kept = Kept.read(world.state, work.policy)
    if not record.seen and not kept.windows:
        world.check_lease()
        restore(world.state, world.tracker, world.desired.project, resource)
        record = PolicyRecord.decode(world.state.get(RECORDS, work.policy))
        kept = Kept.read(world.state, work.policy)
    return _Evaluating(world, step, watched, kept, record).run()


def evaluated(world: World, step: Step, resource: MonitoringPolicy, *, afresh: bool = False) -> Evaluated:
    """Evaluate a policy and write nothing; `afresh`: as if it had never been, over all the data there is."""
    name = resource.metadata.name
    kept = Kept() if afresh else Kept.read(world.state, name)
    record = PolicyRecord() if afresh else PolicyRecord.decode(world.state.get(RECORDS, name))
    return _Evaluating(world, step, watching(world, resource), kept, record).evaluate()


def unread(policy: str, assessed: Assessed) -> Stalled:
    """The error of data files that could not be read."""
    first = assessed.unread[0]
    more = f" and {len(assessed.unread) - 1} more" if len(assessed.unread) > 1 else ""
    return Stalled(
        f"{first.file} of Dataset/{first.table}{more} could not be read: {first.error.what}",
        where=f"MonitoringPolicy/{policy}",
        fix="The rest was evaluated. Mend or remove the file; it is looked at again when it changes",
    )


@dataclass(slots=True)
class _Evaluating:
    world: World
    step: Step
    watching: Watching
    kept: Kept
    record: PolicyRecord

    def evaluate(self) -> Evaluated:
        """Read, judge and decide; writes nothing but the cache of summaries."""
        from mlops.monitoring.alibi.worker import Worker
        from mlops.monitoring.evaluating import assess
        from mlops.monitoring.windows import RowOrder

        world, watching = self.world, self.watching
        resource, number = watching.resource, watching.number
        subject, digests = subject_of(world, watching, self.kept)
        tables = subject.reference, subject.predictions
        about = world, self.step, resource, watching.version, number
        with predicting(*about, *tables) as predict, Worker() as alibi:
            assessed = assess(
                replace(subject, predict=predict),
                world.state.namespace(SUMMARIES),
                self.kept.stored(number),
                now=world.now(),
                order=RowOrder(self.record.rows),
                progress=self._says,
                alibi=alibi.measure,
            )
        self.kept.promoted = watching.promoted_at
        changed = tuple(self._window(one.start, assessed) for one in assessed.evaluations)
        self.kept.windows |= {window.key: window for window in changed}
        watched = self._watched()
        decision = self._decide(watched)
        record = recorded(
            self.record,
            watching,
            self.kept,
            decision,
            assessed,
            inputs=inputs_of(resource, number, digests),
            at=world.now(),
        )
        shown = with_earlier(decision, self.kept, number)
        return Evaluated(watching, tuple(self.kept.of(number)), changed, shown, record, watched, assessed)

    def run(self) -> Outcome:
        """Evaluate, and write all of it down."""
        found = self.evaluate()
        world, policy = self.world, self.watching.policy
        world.check_lease()
        untold = [window for window in found.windows if window.run_id is None]
        whole = unfinished = found.record
        if untold or found.assessed.unread:  # until it is, the next apply goes on with it
            unfinished = replace(whole, seen=f"{UNFINISHED}{whole.seen}")
        self.kept.write(world.state, policy, unfinished, found.changed, puts=messages(world, found))
        if untold:
            self._tell(untold, found, unfinished if found.assessed.unread else whole)
        if found.assessed.unread:
            raise unread(policy, found.assessed)
        return Done(f"{len(found.changed)} windows evaluated, {whole.verdict}")

    def _says(self, done: int, todo: int, name: str) -> None:
        if self.world.stop.is_set():
            raise Stalled("stopped while it was evaluated", fix="It goes on where it was")
        if name:
            self.world.progress.says(self.step, f"{name} ({done + 1} of {todo})")

    def _window(self, start: float, assessed: Assessed) -> Window:
        evaluation = next(one for one in assessed.evaluations if one.start == start)
        time = assessed.times.get(start) if assessed.times is not None else None
        files = assessed.files.get(start, ())
        return Window(self.watching.number, evaluation, assessed.records[start], files, None, time)

    def _watched(self) -> Watched:
        """From where on windows are this version's own; noted when it is first watched."""
        from mlops.monitoring.deciding import Watched

        number = self.watching.number
        known = self.kept.watched.get(number)
        if known is None:
            others = [one.evaluation.end for one in self.kept.windows.values() if one.version != number]
            proposed = any(
                one.version == number and one.state in ("proposed", "merged") for one in self.record.actions
            )
            known = Watched(number, max(others, default=None), proposed)
            self.kept.watched[number] = known
        return known

    def _decide(self, watched: Watched) -> Decision:
        notifiers = [one for one in self.world.desired.resources.values() if isinstance(one, Notifier)]
        decision = folded(self.watching.resource, notifiers, self.kept, watched)
        self.kept.decided |= {one.id: one for one in (*decision.transitions, *decision.actions)}
        return decision

    def _tell(self, untold: list[Window], found: Evaluated, record: PolicyRecord) -> None:
        """Log evaluations as runs; the newest, and each that violates, with a report."""
        world = self.world
        world.check_lease()
        experiment = experiment_of(world, self.watching.policy)
        logged = []
        executed = executed_of(world.state, found.record)
        newest = untold[-1].evaluation.start
        for number, window in enumerate(untold):
            world.check_lease()
            self._says(number, len(untold), f"writing down window {number + 1}")
            shown = window.evaluation.start == newest or window.evaluation.verdict == "violated"
            run_id = log(world, experiment, found, self.kept, window, executed if shown else None)
            logged.append(replace(window, run_id=run_id))
        self.kept.windows |= {window.key: window for window in logged}
        world.check_lease()
        self.kept.write(world.state, self.watching.policy, record, logged)
