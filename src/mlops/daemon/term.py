"""A term: the time in which this process leads. What it remembers ends with it, and can be made again.

One pass: choose the revision, look, offer the slow steps to run beside, walk the quick ones, write down that the
revision is in force, look again if anything was done, and record status and events on every way out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from mlops.applying.apply import Applied, claims, execute, link
from mlops.applying.beside import Beside, Ended, Offer, is_slow
from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.applying.status import Failure, Recorder
from mlops.applying.world import Waits, World
from mlops.daemon import wakeups
from mlops.daemon.alerts import Alerts
from mlops.daemon.following import Following, Head
from mlops.daemon.journal import Journal
from mlops.daemon.retries import Rest, Retries
from mlops.daemon.tidying import Tidying
from mlops.daemon.wishes import Wishes
from mlops.errors import MlopsError, Transient
from mlops.observation.observed import ObservedRun
from mlops.planning.context import APPLIED_REVISION, DIRTY_TAG, RESOURCE_TAG, REVISION_TAG, Options
from mlops.planning.plan import Plan, Step, without
from mlops.planning.work import BindVersion, EvaluateModel, MonitorPolicy, ProposeChange, TrainTrial
from mlops.resources import Experiment, Key
from mlops.state import Event

if TYPE_CHECKING:
    from mlops.controller import Controller
    from mlops.daemon.metrics import Result
    from mlops.state import Lease
    from mlops.view import View

MOST_HURRIED: Final = 3  # passes in a row that give way to a newer commit; the next one goes through
SOON: Final = 1.0  # seconds after which a job that was told to end is looked at
TURN: Final = 30.0  # seconds before a revision that turned to another branch may do so again
LATER: Final = 10.0  # seconds after which one that goes on, and that no step waits for, is looked at


@dataclass(slots=True)
class Term:
    """One leadership of the daemon."""

    controller: Controller
    following: Following
    journal: Journal
    lease: Lease
    wake: Callable[[str], None]
    working_tree: bool = False
    interval: float = 60.0  # seconds between passes without another reason
    retries: Retries = field(default_factory=Retries)
    view: View | None = None  # what the last pass saw
    head: Head = field(default_factory=lambda: Head(None))
    recorder: Recorder = field(init=False)
    beside: Beside = field(init=False)
    wishes: Wishes = field(init=False)
    tidying: Tidying = field(init=False)
    alerts: Alerts = field(init=False)
    _world: World | None = None  # of the walk under way
    _ending: set[str] = field(default_factory=set)  # runs of jobs that are being ended, told once
    _tried: float = float("-inf")  # when the last pass tried what was due
    _obstacle: str | None = None  # to what is followed, as it was told last
    _broken: frozenset[str] = frozenset()  # mistakes of the revision that are told already
    _hurried: int = 0  # passes in a row that gave way to a newer commit
    _soon: float | None = None  # when to look again at what tells nobody that it ended
    _branch: str = ""  # that is followed
    _turned: dict[str, float] = field(
        default_factory=dict
    )  # until when a revision may not turn to another again
    _waiting: float | None = None  # when it may

    def __post_init__(self) -> None:
        controller = self.controller
        self.recorder = Recorder(
            controller.state, controller.redactor, controller.now, told=self.journal.event
        )
        self.beside = Beside(
            execute, self.journal.began, lambda: self.wake(wakeups.ENDED), controller.monotonic
        )
        self.wishes = Wishes(controller, self.following, self.beside, self.working_tree)
        self.tidying = Tidying(controller)
        self.alerts = Alerts(controller, lambda: self.wake(wakeups.ENDED))

    def outdated(self, head: str | None) -> bool:
        """Whether the walk under way gives way to `head`; where commits come all the time, not for ever."""
        newer = self._world is not None and head is not None and head != self.head.sha
        return newer and self._hurried < MOST_HURRIED

    @property
    def crowded(self) -> bool:
        """Whether steps wait for their turn beside the loop."""
        return not all(self.beside.taken().values())

    def interrupt(self) -> None:
        """Let the walk under way end after the steps that it is at."""
        if (world := self._world) is not None:
            world.stop.set()

    def glance(self) -> None:
        """Look at what cannot wake the loop; cheap, several times a second."""
        head = self.following.head()
        if head != self.head:
            self.wake(wakeups.REVISION)
        if self.controller.ledger_moved():
            self.wake(wakeups.LEDGER)
        if self.wishes.news():
            self.wake(wakeups.REQUEST)
        if self.view is not None:
            self.controller.tracker.open()  # MLflow takes seconds to import: not when a commit waits for it
            self.tidying.tidy(self.view.project)

    def close(self, *, cancel: bool, patience: float) -> None:
        """Leave the jobs to whoever leads next, or end them; what ended meanwhile is still recorded."""
        self.beside.close(cancel=cancel, patience=patience)
        self.alerts.close(mark=self.lease.held, patience=0.0)
        if self.lease.held:
            self._record_ended(self.beside.take_ended())

    def make_pass(self) -> Result:
        """One pass; gives what it came to."""
        controller = self.controller
        self.head = self.following.head()
        if self.wishes.take_up(self.head.sha or ""):
            self.retries.clear()  # somebody asks: nothing rests any longer
        if self.head.sha is None:
            raise MlopsError(self.head.problem or "there is nothing to follow", fix="It is looked for again")
        mark = self.beside.mark()
        ended = self.beside.take_ended()  # before looking: what ended is then seen as it was left
        self._record_ended(ended)
        view = self._look(self.wishes.options())
        trainings = controller.trainings
        self.wishes.look(view)
        if controller.trainings != trainings:  # the next plan shows what was trained
            self.wake(wakeups.UNSETTLED)
        self._settings(view)
        plan = view.planned.plan
        self._note_repeated(plan, {one.step.id: one.step for one in ended if isinstance(one.outcome, Done)})
        ended += (meanwhile := self.beside.take_ended())
        self._record_ended(meanwhile)  # before what follows from it
        world = self._surroundings(view, Waits(wait=False))
        world.unwanted = lambda run: self._is_unwanted(run, view)
        world.patient = False
        self._soon = None
        self._tried = controller.monotonic()
        resting = self._resting(plan, self._tried)
        if self.wishes.training or any(is_slow(step) for step in plan.steps):
            self.lease.check()
            controller.tracker.prepare()  # before any job: two that open a new store race in its migrations
        self._offer(view, plan, resting, mark)
        self.wishes.heard()
        beside = (step.work for step in self.beside.steps())
        busy = (
            work.trial.fingerprint if isinstance(work, TrainTrial) else work.run_id
            for work in beside
            if isinstance(work, TrainTrial | EvaluateModel)
        )
        world.busy = set(filter(None, busy))
        slow = {step.id for step in plan.steps if is_slow(step)}
        quick = without(plan, slow | resting.keys())
        applied, after = Applied(quick, {}, {}), None
        self._world = world
        try:
            if self.outdated(self.following.head().sha):
                world.stop.set()
            coming = view.coming and not self.working_tree
            applied = controller.carry_out(world, quick)
            if coming:
                controller.put_in_force(world)
            if coming or applied.having(Done):
                after = self._look(self.wishes.options())
        finally:
            self._world = None
            self._record(view, applied, after)
        self._hurried = self._hurried + 1 if world.stop.is_set() else 0
        self.view = after or view
        self.lease.check()
        self.alerts.tend(self.view)
        resting = self._resting(self.view.planned.plan, controller.monotonic())
        interrupted = world.stop.is_set()
        self.wishes.answer(self.view, resting, interrupted=interrupted, problem=self.head.problem)
        return self._result(self.view, applied, bool(ended), resting)

    def _look(self, options: Options) -> View:
        revision = None if self.working_tree else self.head.sha
        return self.controller.look_for(revision, working_tree=self.working_tree, options=options)

    def _settings(self, view: View) -> None:
        source = view.project.spec.source
        self.interval = source.interval
        self.following.follow(self._turn(source.branch, view.snapshot.revision), source.interval)
        self.recorder.redactor = self.controller.redactor
        base = view.planned.plan.base
        self.following.keep(*{sha for sha in (base, view.good, view.snapshot.revision) if sha})

    def _turn(self, branch: str, revision: str) -> str:
        """The branch to follow: what the revision names, but two that name each other in turns, not in a spin."""
        now = self.controller.monotonic()
        self._turned = {sha: until for sha, until in self._turned.items() if now < until}
        self._waiting = self._turned.get(revision) if branch != self._branch else None
        if branch != self._branch and self._waiting is None:
            self._turned[revision] = now + TURN
            self._branch = branch
        return self._branch

    def _resting(self, plan: Plan, now: float) -> Mapping[str, Rest]:
        others = (asked.planned.plan for asked in self.wishes.training.values())
        return self.retries.resting(plan, now, *others)

    def _offer(self, view: View, plan: Plan, resting: Collection[str], mark: int) -> None:
        """Hand over the slow steps that nothing stands before, and cancel what nobody wants any more."""
        ids: set[str] = set()
        offers: list[Offer] = []
        taken = self.beside.taken()
        for asked in (view, *self.wishes.training.values()):
            planned = {step.id for step in asked.planned.plan.steps}
            startable = [
                step
                for step in without(asked.planned.plan, resting).steps
                if is_slow(step) and planned.isdisjoint(step.needs) and not taken.get(step.id)
            ]
            ids |= planned
            offers += self._offers(asked, startable)
        declared = {
            (name, state.trial.fingerprint)
            for name, states in view.planned.trials.items()
            for state in states
        }

        def wanted(step: Step, revision: str) -> bool:
            if step.id in ids:
                return True
            if (
                isinstance(step.work, EvaluateModel | MonitorPolicy | ProposeChange)
                and revision == view.desired.revision
            ):
                return True  # what it writes is seen before it has ended
            if not isinstance(step.work, TrainTrial):
                return False
            trial = step.work.trial
            if (trial.experiment, trial.fingerprint) in declared:
                return True
            # What was trained for a pull request goes on by itself.
            return self.controller.repository.is_ancestor(revision, plan.revision) is not True

        def suspended(step: Step) -> bool:
            here = view.desired.resources.get(Key.parse(step.resource))
            return step.id not in ids and isinstance(here, Experiment) and here.spec.suspend

        for step in self.beside.offer(offers, wanted, mark, suspended=suspended):
            self._tell(step.resource, "Cancelled", plan.revision, step.id)

    def _offers(self, view: View, steps: Iterable[Step]) -> list[Offer]:
        shared = self._surroundings(view, Waits(wait=True))

        def world(step: Step) -> Callable[[], World]:
            if isinstance(step.work, TrainTrial):  # hours, maybe: it keeps no more than it needs
                return lambda: self._surroundings(view.around(step), Waits(wait=True))
            return lambda: replace(shared, stop=threading.Event(), cancel_jobs=False)

        revision = view.desired.revision
        return [Offer(step, claims(shared, step), world(step), revision) for step in steps]

    def _link(self, ended: Iterable[Ended]) -> None:
        """Show what was bound on MLflow's pages of the logged models, all in one go."""
        worlds = [(one.world, one.step.work) for one in ended if isinstance(one.outcome, Done)]
        bound = [
            (world, version)
            for world, work in worlds
            if world is not None
            and isinstance(work, BindVersion)
            and (version := world.version(work.name)) is not None
        ]
        if bound and (error := link(bound[0][0], [version for _, version in bound])) is not None:
            self.controller.on_warning(f"MLflow's pages of logged models lack versions: {error}")

    def _surroundings(self, view: View, waits: Waits) -> World:
        return self.controller.world(view, self.journal, self.lease.check, waits)

    def _is_unwanted(self, run: ObservedRun, view: View) -> bool:
        """Whether a job that no step waits for is of a revision that this one came after, and is to be ended.

        Another branch's, trained for a pull request, goes on, and so does one that was suspended while it ran.
        """
        revision, by = view.planned.plan.revision, run.tags.get(REVISION_TAG, "")
        now = self.controller.monotonic()
        if run.run_id not in self._ending:
            if (
                run.tags.get(DIRTY_TAG) == "true"
                or any(state.run == run for states in view.planned.trials.values() for state in states)
                or self.controller.repository.is_ancestor(by, revision) is not True
            ):
                self._soon = min(self._soon or now + LATER, now + LATER)
                return False
            self._ending.add(run.run_id)
            self._tell(
                run.tags.get(RESOURCE_TAG, ""), "Cancelled", revision, f"run {run.run_id} of {by[:12]}"
            )
        self._soon = now + SOON
        return True

    def _tell(self, resource: str, reason: str, revision: str, what: str) -> None:
        now = self.controller.now()
        message = f"{what} is ended: {revision[:12]} does not ask for it any more"
        self.recorder.events([Event(now, resource, reason, message, revision=revision, last_at=now)])

    def due(self) -> float | None:
        """When there is something to do that nobody wakes the loop for, on the monotonic clock."""
        moments = (
            self.retries.due(self._tried),
            self._soon,
            self._waiting,
            self.alerts.due(),
            self._soaked(),
        )
        return min((at for at in moments if at is not None), default=None)

    def _soaked(self) -> float | None:
        """When a gate passes that waits for nothing but time."""
        at = self.view.planned.wakes_at if self.view is not None else None
        if at is None:
            return None
        moment = self.controller.monotonic() + (at - self.controller.now())
        return moment if moment > self._tried else None  # else it has had its turn

    def _record_ended(self, ended: list[Ended]) -> None:
        self._link(ended)
        now = self.controller.monotonic()
        for one in ended:
            if one.wanted:
                self.retries.note(one.step, one.revision, one.outcome, now)
                self.wishes.count(one.step, one.revision, one.outcome)
        self.recorder.steps((one.step, one.revision, one.outcome, one.seconds) for one in ended if one.wanted)

    def _record(self, view: View, applied: Applied, after: View | None) -> None:
        """The one place that writes what a pass came to, on every way out.

        Args:
            after: what was seen after something was done; None where nothing was, or that look failed.
        """
        now = self.controller.monotonic()
        rows: list[tuple[Step, str, Outcome, float | None]] = []
        for step in applied.plan.steps:
            if (outcome := applied.outcomes.get(step.id)) is not None and not isinstance(outcome, Left):
                self.retries.note(step, applied.plan.revision, outcome, now)
                self.wishes.count(step, applied.plan.revision, outcome)
                rows.append((step, applied.plan.revision, outcome, applied.seconds.get(step.id)))
        before = view
        if after is not None:
            done = {step.id: step for step, _, outcome, _ in rows if isinstance(outcome, Done)}
            self._note_repeated(after.planned.plan, done)
            view = after
        plan = view.planned.plan
        if not self.lease.held:
            self.recorder.tell(rows)
        self.lease.check()
        self.recorder.steps(rows)
        self._tell_revision(before, view)
        self._tell_obstacle(view)
        self.recorder.blocks(plan)
        failures = self._failures(plan)
        if self.head.problem is not None:
            name = f"Project/{view.desired.project}"
            failures |= {name: Failure("", "SourceUnavailable", self.head.problem, stalled=False)}
        self.recorder.status(view.planned.assessments, revision=plan.revision, failures=failures)
        self.journal.stands(view, failures)

    def _tell_revision(self, before: View, view: View) -> None:
        """Say which revision came into force, and once what no resource says of it: broken files."""
        plan, name, now = view.planned.plan, f"Project/{view.desired.project}", self.controller.now()
        told = []
        if plan.base is not None and plan.base != before.planned.plan.base:
            what = f"revision {plan.base[:12]} is in force"
            told.append(Event(now, name, "InForce", what, revision=plan.base, last_at=now))
        elif (
            (edited := before.edited_mark) is not None and plan.base is not None and view.edited_mark is None
        ):
            found = repr(edited[:80]) if edited else "gone"
            what = f"the tag {APPLIED_REVISION} was {found}, and is {plan.base} again"
            told.append(Event(now, name, "Healed", what, revision=plan.base, last_at=now))
        broken = frozenset(str(problem) for problem in view.loaded.problems if problem.resource is None)
        for what in sorted(broken - self._broken):
            told.append(Event(now, name, "Invalid", what, "warning", plan.revision, last_at=now))
        self._broken = broken
        self.recorder.events(told)

    def _tell_obstacle(self, view: View) -> None:
        """Say why the head is refused or not known, once as long as that lasts."""
        why = view.refused or self.head.problem
        if why is not None and why != self._obstacle:
            reason = "RevisionRefused" if view.refused else "SourceUnavailable"
            name, now = f"Project/{view.desired.project}", self.controller.now()
            event = Event(now, name, reason, why, "warning", str(self.head.sha), last_at=now)
            self.recorder.events([event])
        self._obstacle = why

    def _note_repeated(self, plan: Plan, done: Mapping[str, Step]) -> None:
        """A step that was done and is planned again as it was is undone by somebody: it is not done in a loop."""
        for step in plan.steps:
            before = done.get(step.id)
            if before is not None and before.to_json() == step.to_json():
                what = "it was done, and has to be done again at once: something else changes it back"
                error = Transient(what, where=step.resource, fix="See what else writes to MLflow")
                self.retries.note(step, plan.revision, Failed(error), self.controller.monotonic())

    def _failures(self, plan: Plan) -> dict[str, Failure]:
        found: dict[str, Failure] = {}
        for step in plan.steps:
            rest = self.retries.rests.get(step.id)
            failure = Failure.of(step, rest.outcome) if rest is not None else None
            if failure is not None:
                found.setdefault(step.resource, failure)
        return found

    def _result(self, view: View, applied: Applied, ended: bool, resting: Collection[str]) -> Result:
        taken = self.beside.taken()
        left = without(view.planned.plan, {*taken, *resting})
        if left.steps or (view.coming and not self.working_tree):
            self.wake(wakeups.UNSETTLED)
        running = sum(taken.values())
        self.journal.queue(running=running, waiting=len(taken) - running, steps=len(view.planned.plan.steps))
        if any(isinstance(outcome, Left) for outcome in applied.outcomes.values()):
            return "interrupted"
        if applied.having(Failed, Blocked):
            return "failed"
        return "changed" if ended or applied.having(Done) else "unchanged"
