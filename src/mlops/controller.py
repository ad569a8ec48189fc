"""The one engine: look, carry out, record. The CLI, the daemon and the action all call this.

`look_for` gives the view of the revision that may come into force, `carry_out` walks its plan, `put_in_force` writes
down that it is in force. `apply` is all of it under a lease, once; the daemon holds the lease and does it pass after
pass.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mlops.errors import MlopsError, Stalled, Transient, Waiting
from mlops.looking import Looker
from mlops.observation.settings import substitute
from mlops.planning.context import APPLIED_GOOD, Options, marked, revision_in_force
from mlops.resources import Dataset, Experiment, Key, Notifier, Project
from mlops.state import Holder
from mlops.view import View
from mlops.workspace import OtherStores

if TYPE_CHECKING:  # what a command may not need is imported where it is used: `validate` and `plan` are quick
    from mlops.applying.apply import Applied
    from mlops.applying.world import Progress, Waits, World
    from mlops.applying.writing_back import Desk
    from mlops.data import Materialised
    from mlops.data.rows import RowFiles
    from mlops.forges import Forge
    from mlops.notifying.deliveries import Delivery, Outcome
    from mlops.planning.plan import Plan
    from mlops.source.remote import Remote
    from mlops.source.snapshot import Snapshot

_FOLLOWED: Final = ("monitor", "propose")
_ROUNDS: Final = 4  # evaluate, propose, train, show


@dataclass(frozen=True, slots=True)
class Result:
    """What an apply started from, what it did, and the view of the world after it."""

    view: View
    applied: Applied
    after: View

    @property
    def unfinished(self) -> int:
        """Steps that came up while a plan was carried out completely, for instance by somebody's hand."""
        from mlops.applying.outcomes import UNDONE

        if self.after is self.view or self.applied.having(*UNDONE):
            return 0
        return len(self.after.planned.plan.steps)


class Controller(Looker):
    """The one engine over a workspace: look at a revision, and apply it."""

    _refused: tuple[str, str] = ("", "")  # the revision that was held back last, and the one in force then
    _why: str = ""
    remote: Remote | None = None  # where a mirror follows, and proposals are brought to

    def look_for(
        self, revision: str | None, *, working_tree: bool = False, options: Options | None = None
    ) -> View:
        """The view to carry out: of `revision`, or of the one in force where that is held back or cannot be read.

        Raises:
            Stalled: the revision is held back, and neither the one in force nor the last good one is in the repository.
            MlopsError: the revision cannot be read, and none is in force.
        """
        options = options or Options()
        head, base = self._refused
        if revision is not None and head == revision and options.accept != revision:
            # Asked before: whether it still holds is seen from the one in force, at half the price.
            view = self._in_force_instead(head, base, self._why, options)
            if view.planned.plan.base == base:
                return view
        try:
            view = self.look(revision, working_tree=working_tree, options=options)
        except (Transient, Waiting, OtherStores):
            raise
        except MlopsError as error:  # what is in force is kept so, until a look at the head succeeds
            if revision is None or self._tracker is None:
                raise
            in_force = revision_in_force(self._tracker.experiment_tags(self.project_name))
            if in_force in (None, revision):
                raise
            return self._in_force_instead(
                revision, in_force, f"{revision[:12]} cannot be read: {error}", options
            )
        return self.acceptable(view)

    def acceptable(self, view: View) -> View:
        """`view`, or the view of the revision in force where that of `view` is held back; see `look_for`."""
        why, base = view.held_back, view.planned.plan.base
        if view.refused is not None or why is None or base is None or base == view.desired.revision:
            return view
        self._refused, self._why = (view.desired.revision, base), why
        return self._in_force_instead(view.desired.revision, base, why, view.options)

    def _in_force_instead(self, head: str, base: str, why: str, options: Options) -> View:
        try:
            view = self.look(base, options=replace(options, refused=why))
        except Transient:
            raise
        except MlopsError as error:
            self._refused = ("", "")  # the next look asks again which one is in force: a tag can be mended
            why = f"{why}. The revision in force, {base[:12]}, cannot be read either: {error.what}"
            good = marked(self.tracker.experiment_tags(self.project_name), APPLIED_GOOD)
            if good in (None, base):
                fix = "Nothing was changed. Fetch it, or `mlops reconcile --accept-rewrite`"
                raise Stalled(why, fix=fix) from error
            view = self.look(good, options=replace(options, refused=why))
        return replace(view, refused=why, asked=head)

    def apply(
        self,
        look: Callable[[], View],
        progress: Progress,
        *,
        command: str,
        waits: Waits | None = None,
        lease_wait: float | None = None,
        record: bool = True,
        begun: Callable[[World], None] | None = None,
        on_wait: Callable[[Holder], None] = lambda holder: None,
    ) -> Result:
        """Take the project's lease, look, and do what the plan says.

        Args:
            look: gives the view to apply; called once the lease is held, so that nothing moves in between.
                It may raise, for instance because a saved plan no longer holds; then nothing is changed.
            command: shown to whoever waits for the lease.
            lease_wait: seconds to wait for another writer; None for ever.
            record: whether the revision comes into force (not for a part of a plan, nor a working tree).
            begun: is given the World before the first step, to stop it from a signal handler.
            on_wait: is told who holds the lease, once, when it has to be waited for.
        """
        from mlops.applying.apply import Applied
        from mlops.applying.status import Recorder
        from mlops.state.lease import acquire

        if self._state is None:
            self.open(self.snapshot(working_tree=self.repository.head() is None))
        holder = Holder.current(command, now=self.now())
        with acquire(self.state, self.project_name, holder, wait=lease_wait, on_wait=on_wait) as lease:
            view = look()
            if record:
                view = self.acceptable(view)
            world = self.world(view, progress, lease.check, waits)
            if begun is not None:
                begun(world)
            plan = view.planned.plan
            applied, after = Applied(plan, {}, {}), view
            try:
                applied = self.carry_out(world, plan)
                if record and view.coming:
                    self.put_in_force(world)
                if any(step.action in _FOLLOWED for step in plan.steps) or view.observed.policies:
                    applied = self._follow_up(view, applied, world)
                if record:
                    again = Options(accept=view.options.accept, refused=view.refused)
                    after = self._view(view.snapshot, view.held, again, (), None)
                    after = replace(after, refused=view.refused)
            finally:
                recorder = Recorder(self.state, self.redactor, self.now)
                recorder.blocks(plan)
                recorder.applied(applied)
                if record and lease.held:  # else somebody else says by now how things stand
                    recorder.status(after.planned.assessments, revision=plan.revision)
                    self.prune(view.project)
        return Result(view, applied, after)

    def _follow_up(self, view: View, applied: Applied, world: World) -> Applied:
        """What evaluations decided on is done in the same apply: proposals written, trained and shown, people told."""
        from mlops.applying.apply import Applied

        def again(done: Applied, plan: Plan, surroundings: World) -> Applied:
            surroundings.stop, surroundings.cancel_jobs = world.stop, world.cancel_jobs
            more = self.carry_out(surroundings, plan)
            both = replace(done.plan, steps=(*done.plan.steps, *more.plan.steps))
            return Applied(both, {**done.outcomes, **more.outcomes}, {**done.seconds, **more.seconds})

        tried: set[str] = {step.id for step in applied.plan.steps if step.action == "propose"}
        for _ in range(_ROUNDS):
            now = self._view(view.snapshot, view.held, replace(view.options, scheduled=True), (), None)
            for commit, asked in self.proposed(now).items():
                if commit not in tried and not world.stop.is_set():
                    tried.add(commit)
                    training = self.world(asked, world.progress, world.check_lease, world.waits)
                    applied = again(applied, asked.planned.plan, training)
            self.proposed(now)
            now = self._view(view.snapshot, view.held, replace(view.options, scheduled=True), (), None)
            steps = tuple(
                step
                for step in now.planned.plan.steps
                if step.action == "propose" and f"{step.id} {step.work}" not in tried
            )
            if not steps or world.stop.is_set():
                break
            tried |= {f"{step.id} {step.work}" for step in steps}
            plan = replace(now.planned.plan, steps=steps, blocked=())
            applied = again(applied, plan, self.world(now, world.progress, world.check_lease, world.waits))
        due = self.deliveries(view)
        if due:
            from mlops.notifying.deliveries import deliver

            self.mark(deliver(due))
        return applied

    def carry_out(self, world: World, plan: Plan) -> Applied:
        """Walk `plan` in `world`; what came of a step is in what this gives, and nothing is raised after the first.

        Only the holder of the lease may call it.
        """
        from mlops.applying.apply import Applied, apply
        from mlops.applying.sweep import sweep

        if plan.steps:
            world.check_lease()
            self.tracker.prepare()
        for trouble in sweep(world):
            self.on_warning(trouble)
        return apply(world, plan) if plan.steps else Applied(plan, {}, {})

    def put_in_force(self, world: World) -> None:
        """Write down that the revision of `world` is in force, unless its walk was stopped.

        Only the holder of the lease may call it.
        """
        from mlops.applying.apply import record_asked, record_revision
        from mlops.applying.propose import take_back_orphans

        if not world.stop.is_set():
            world.check_lease()
            self.tracker.prepare()
            record_asked(world)
            record_revision(world)
            for trouble in take_back_orphans(world):
                self.on_warning(trouble)

    def world(
        self, view: View, progress: Progress, check_lease: Callable[[], None], waits: Waits | None
    ) -> World:
        """The surroundings of the steps of `view`."""
        from mlops.applying.world import Waits, World
        from mlops.execution.registry import executor

        return World(
            desired=view.desired,
            observed=view.observed,
            planned=view.planned,
            snapshot_of=view.snapshot_of,
            tracker=self.tracker,
            executor=lambda name: executor(name, self.home / "jobs"),
            home=self.home,
            origin=f"{socket.gethostname()}:{self.home}",
            user=_user(),
            redactor=self.redactor,
            progress=progress,
            environ=self.environ,
            look=lambda experiment, names: self._datasets(
                view.project, filter(None, (view.dataset_of(experiment, name) for name in names))
            ),
            data=lambda experiment, name, digest: self._materialise(view, experiment, name, digest),
            rows=lambda name, digest, revision: self._rows(view, name, digest, revision),
            fresh=lambda name: self.fresh(view, name),
            state=self.state,
            loaded=lambda: view.loaded,
            texts=lambda: self._texts(view),
            repository=self.repository,
            folder=view.snapshot.root,
            desk=lambda: self.desk(view.project),
            decision=lambda asked: self.decision(view, asked),
            planned_at=lambda commit: self.aside(commit).planned,
            check_lease=check_lease,
            now=self.now,
            monotonic=self.monotonic,
            pause=self.pause,
            waits=waits or Waits(),
            as_of=lambda revision, experiment: self._as_of(
                revision, experiment, progress, check_lease, waits
            ),
        )

    def _as_of(
        self,
        revision: str,
        experiment: str,
        progress: Progress,
        check_lease: Callable[[], None],
        waits: Waits | None,
    ) -> World:
        """The surroundings of one Experiment as they are at another revision, without what MLflow holds of it.

        Raises:
            Stalled: the revision is not in the repository, or does not declare the Experiment.
        """
        from mlops.looking import read_revision
        from mlops.observation.held import Held
        from mlops.observation.observed import Ledger, Observed
        from mlops.planning.planner import make_plan
        from mlops.view import View

        snapshot, loaded = self._read(revision)
        found = loaded.resources.get(Key("Experiment", experiment))
        if not isinstance(found, Experiment) or loaded.project is None:
            raise Stalled(f"revision {revision[:12]} declares no Experiment/{experiment}", fix="Train anew.")
        held = Held(loaded)
        names = set(found.spec.datasets.values())
        data = [
            one for key, one in loaded.resources.items() if isinstance(one, Dataset) and key.name in names
        ]
        desired = read_revision(snapshot, held)
        observed = Observed(Ledger(), self._datasets(loaded.project, [(one, snapshot) for one in data]))
        view = View(snapshot, held, desired, observed, make_plan(desired, observed), Options(), None)
        return self.world(view, progress, check_lease, waits)

    def _materialise(self, view: View, experiment: str, name: str, digest: str) -> Materialised:
        from mlops.observation.datasets import materialise_dataset

        found = view.dataset_of(experiment, name)
        assert found is not None
        dataset, snapshot = found
        return materialise_dataset(
            dataset,
            digest,
            snapshot,
            root=self.root,
            substitute=lambda text: substitute(text, view.project, self.environ),
            cache=self.state.namespace("digests"),
            copies=self.home / "data",
            now=self.now,
        )

    def _texts(self, view: View) -> dict[str, str]:
        """The files in which the revision declares its resources, by path from the project's folder."""
        paths = sorted({place.file for place in view.loaded.locations.values()})
        return {
            path: data.decode("utf-8", "surrogateescape") for path, data in view.snapshot.read(paths).items()
        }

    def desk(self, project: Project) -> Desk:
        """Where changes are written and shown: this repository, the remote that it follows or has as its origin.

        Raises:
            Stalled: the origin's address is not allowed, or holds a credential.
        """
        from mlops.applying.writing_back import Desk
        from mlops.source.proposing import Author
        from mlops.source.publishing import origin

        who = project.spec.write_back
        return Desk(
            self.repository,
            self.repository.relative(self.root) if self._mirror is None else self._mirror.folder,
            Author(who.name, who.email, who.signing_key),
            project.spec.source.branch,
            self.remote or origin(self.repository),
            self.forge(project),
            self.environ,
            lambda text: self.redactor.redact(text),
        )

    def forge(self, project: Project) -> Forge | None:
        """The forge that a Project names; raises ForgeRefused as `forge_of` does."""
        spec = project.spec.forge
        return self.forge_of(spec) if spec is not None else None

    def deliveries(self, view: View) -> list[Delivery]:
        """The messages that are to be sent now; what cannot be sent at all is marked. For the holder of the lease."""
        from mlops.notifying.deliveries import prepare
        from mlops.notifying.outbox import Outbox

        notifiers = {
            key.name: one for key, one in view.desired.resources.items() if isinstance(one, Notifier)
        }
        outbox = Outbox(self.state, redact=self.redactor.redact)
        due = outbox.due(self.now(), notifiers)
        ready, held = prepare(due, notifiers, lambda text: substitute(text, view.project, self.environ))
        self.mark(held)
        return ready

    def mark(self, ended: Iterable[Outcome]) -> None:
        """Write down what came of messages. For the holder of the lease."""
        from mlops.notifying.outbox import Outbox

        rows = [one.marked(self.now()) for one in ended]
        if rows:
            Outbox(self.state, redact=self.redactor.redact).mark(rows)

    def fresh(self, view: View, name: str) -> str | None:
        """The digest that a Dataset has now, whatever it is pinned to; None where it cannot be read."""
        key = Key("Dataset", name)
        declared = view.desired.resources.get(key)
        if not isinstance(declared, Dataset):
            return None
        return self._datasets(view.project, [(_unpinned(declared), view.snapshot_of(key))])[name].digest

    def _rows(
        self, view: View, name: str, digest: str | None, revision: str | None
    ) -> tuple[Dataset, RowFiles]:
        """A Dataset and its files: as they are, or where they have another digest now, as git held them then."""
        from mlops.applying.world import NOW
        from mlops.observation.datasets import rows_of

        key = Key("Dataset", name)
        dataset, snapshot = view.desired.resources.get(key), view.snapshot_of(key)
        if not isinstance(dataset, Dataset):
            raise Stalled(f"there is no {key} any more", fix="Declare it again")

        def read(dataset: Dataset, snapshot: Snapshot) -> tuple[Dataset, RowFiles]:
            found = rows_of(
                dataset,
                snapshot,
                root=self.root,
                substitute=lambda text: substitute(text, view.project, self.environ),
                cache=self.state.namespace("digests"),
                now=self.now,
                digest=digest,
            )
            return dataset, found

        if digest == NOW:
            dataset, digest = _unpinned(dataset), None
        try:
            return read(dataset, snapshot)
        except Stalled as error:
            if digest is None or revision is None:
                raise
            then, loaded = self._read(revision)
            before = loaded.resources.get(key)
            if not isinstance(before, Dataset):
                raise
            try:
                return read(before, then)
            except Stalled:
                raise error from None


def _unpinned(dataset: Dataset) -> Dataset:
    spec = dataset.spec.model_copy(update={"digest": None, "version": None})
    return dataset.model_copy(update={"spec": spec})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid-{os.getuid()}"
