"""The one engine: open a project, observe, plan, apply. The CLI, the daemon and the action all call this.

`look` takes a revision through its resources and what is observed to a plan; `look_for` does so for the revision
that may come into force; `carry_out` walks a plan. `apply` is all of it under a lease, once; the daemon holds the
lease and does it pass after pass.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlops.errors import MlopsError, Stalled
from mlops.observation.observed import Observed, ObservedDataset
from mlops.observation.settings import substitute
from mlops.planning.authority import Rules
from mlops.planning.context import APPLIED_FOLDER, APPLIED_REVISION, Options
from mlops.resources import Dataset, Experiment, Key, Loaded, Project, Stage, load
from mlops.resources.loading import without_garbage_collection
from mlops.source.snapshot import GitSnapshot, Snapshot
from mlops.state import Holder
from mlops.workspace import Workspace

if TYPE_CHECKING:  # what a command may not need is imported where it is used: `validate` and `plan` are quick
    from mlops.applying.apply import Applied
    from mlops.applying.world import Progress, Waits, World
    from mlops.planning.plan import Plan, Step
    from mlops.data import Materialised
    from mlops.planning.desired import Desired
    from mlops.planning.planner import Planned


@dataclass(frozen=True, slots=True)
class View:
    """One revision seen against what is: everything that a plan, a status or an apply starts from."""

    project: Project
    snapshot: Snapshot
    loaded: Loaded
    desired: Desired
    observed: Observed
    planned: Planned
    options: Options
    refused: str | None = None  # why another revision was asked for, and this is the one in force instead

    @property
    def held_back(self) -> str | None:
        """Why the revision does not come into force: it is emptied, or rewrites the history of the one that is."""
        return self.desired.prune_refused if self.planned.plan.base is not None else None

    @property
    def coming(self) -> bool:
        """Whether the revision may come into force and is not written down as the one that is."""
        from mlops.applying.apply import in_force

        return self.held_back is None and not in_force(self.desired, self.observed.ledger)

    def around(self, step: Step) -> View:
        """This view as far as one step needs it, so that a long one does not keep all of it in memory."""
        from mlops.planning.around import around

        desired, observed, planned = around(self.desired, self.observed, self.planned, step)
        seen = self.snapshot
        if isinstance(seen, GitSnapshot):  # one that has not listed its files yet
            seen = GitSnapshot(seen.repository, seen.revision, seen.root)
        loaded = replace(self.loaded, resources={}, problems=(), locations={}, _indexes={}, _snapshot=seen)
        return replace(
            self, snapshot=seen, loaded=loaded, desired=desired, observed=observed, planned=planned
        )


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


class Controller(Workspace):
    """The one engine over a workspace: look at a revision, and apply it."""

    _token: str | None = None  # of the MLflow store, before the last look
    _refused: tuple[str, str] = ("", "")  # the revision that was held back last, and the one in force then
    _why: str = ""

    def look(
        self,
        revision: str | None = None,
        *,
        working_tree: bool = False,
        targets: Collection[Key] = (),
        training: Collection[str] | None = None,
        options: Options | None = None,
    ) -> View:
        """Observe and plan.

        Args:
            targets: keep only what these resources need.
            training: keep only the training of these experiments; empty for all, None to keep everything.
        """
        with without_garbage_collection():
            return self._look(revision, working_tree, targets, training, options or Options())

    def _look(
        self,
        revision: str | None,
        working_tree: bool,
        targets: Collection[Key],
        training: Collection[str] | None,
        options: Options,
    ) -> View:
        snapshot = self.snapshot(revision, working_tree=working_tree)
        project, loaded = self.load(snapshot)
        unknown = [key for key in targets if key not in loaded.resources and key not in loaded.invalid]
        unknown += [
            Key("Experiment", name)
            for name in training or ()
            if Key("Experiment", name) not in loaded.resources
        ]
        if unknown:
            raise MlopsError(
                f"{unknown[0]} is not declared at this revision", fix="`mlops get` lists what is"
            )
        return self._view(snapshot, project, loaded, options, targets, training)

    def look_for(
        self, revision: str | None, *, working_tree: bool = False, options: Options | None = None
    ) -> View:
        """The view to carry out: of `revision`, or of the one in force where that is held back.

        Raises:
            Stalled: the revision is held back, and the one in force is not in the repository.
        """
        options = options or Options()
        head, base = self._refused
        if revision is not None and head == revision and options.accept != revision:
            # Asked before: whether it still holds is seen from the one in force, at half the price.
            view = self._in_force_instead(base, self._why, options)
            if view.planned.plan.base == base:
                return view
        return self.acceptable(self.look(revision, working_tree=working_tree, options=options))

    def acceptable(self, view: View) -> View:
        """`view`, or the view of the revision in force where that of `view` is held back; see `look_for`."""
        why, base = view.held_back, view.planned.plan.base
        if why is None or base is None or base == view.desired.revision:
            return view
        self._refused, self._why = (view.desired.revision, base), why
        return self._in_force_instead(base, why, view.options)

    def _in_force_instead(self, base: str, why: str, options: Options) -> View:
        try:
            view = self.look(base, options=replace(options, refused=why))
        except MlopsError as error:
            raise Stalled(
                f"{why}. The revision in force, {base[:12]}, cannot be read either: {error.what}",
                fix="Nothing was changed. Fetch it, or `mlops reconcile --accept-rewrite`",
            ) from error
        return replace(view, refused=why)

    def ledger_moved(self) -> bool:
        """Whether something was committed to the MLflow store since the last look; False where it cannot tell."""
        token = self.tracker.token()
        return token is not None and token != self._token

    def _view(
        self,
        snapshot: Snapshot,
        project: Project,
        loaded: Loaded,
        options: Options,
        targets: Collection[Key],
        training: Collection[str] | None,
    ) -> View:
        from mlops.observation.ledger import observe_ledger
        from mlops.observation.revision import read_revision
        from mlops.planning.planner import make_plan, only, only_training

        desired = read_revision(snapshot, loaded, project, executors=_executors(loaded), prune_refused=None)
        self._token = self.tracker.token()
        ledger = observe_ledger(self.tracker, desired, self.state.namespace("ledger"))
        before = ledger.experiments.get(desired.project)
        if before is not None:
            self.refuse_twin(snapshot, desired.project, before.tags.get(APPLIED_FOLDER))
        base = before.tags.get(APPLIED_REVISION) if before is not None else None
        refused = options.refused or self._rewritten(base, snapshot.revision, options)
        if refused is not None:
            desired = replace(desired, prune_refused=refused)
        datasets = self._datasets(project, desired, snapshot)
        observed = Observed(ledger, datasets)
        planned = make_plan(desired, observed, options)
        if planned.bases:  # rarely: a promotion that is not in force, asked for under another revision
            desired = replace(
                desired, rules={base: self._rules(project, base) for base in sorted(planned.bases)}
            )
            planned = make_plan(desired, observed, options)
        if targets:
            planned = only(planned, targets)
        if training is not None:
            planned = only_training(planned, training)
        return View(project, snapshot, loaded, desired, observed, planned, options)

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
                applied = self.carry_out(world, plan, coming=record and view.coming)
                if record:
                    again = Options(accept=view.options.accept, refused=view.refused)
                    after = self._view(view.snapshot, view.project, view.loaded, again, (), None)
                    after = replace(after, refused=view.refused)
            finally:
                recorder = Recorder(self.state, self.redactor, self.now)
                recorder.blocks(plan)
                recorder.applied(applied)
                if record:
                    recorder.status(after.planned.assessments, revision=plan.revision)
                    self.state.prune()
        return Result(view, applied, after)

    def carry_out(self, world: World, plan: Plan, *, coming: bool) -> Applied:
        """Walk `plan` in `world`, and with `coming` write down that its revision is in force.

        Only the holder of the lease may call it.
        """
        from mlops.applying.apply import Applied, apply, record_asked, record_revision
        from mlops.applying.sweep import sweep

        if plan.steps or coming:
            world.check_lease()
            self.tracker.prepare()
        for trouble in sweep(world):
            self.on_warning(trouble)
        applied = apply(world, plan) if plan.steps else Applied(plan, {}, {})
        if coming and not world.stop.is_set():
            record_asked(world)
            record_revision(world)
        return applied

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
            snapshot=view.snapshot,
            tracker=self.tracker,
            executor=lambda name: executor(name, self.home / "jobs"),
            home=self.home,
            origin=f"{socket.gethostname()}:{self.home}",
            user=_user(),
            redactor=self.redactor,
            progress=progress,
            environ=self.environ,
            look=lambda names: self._datasets(view.project, view.desired, view.snapshot, names),
            data=lambda name, digest: self._materialise(view, name, digest),
            check_lease=check_lease,
            now=self.now,
            monotonic=self.monotonic,
            waits=waits or Waits(),
        )

    def _datasets(
        self, project: Project, desired: Desired, snapshot: Snapshot, names: Collection[str] | None = None
    ) -> Mapping[str, ObservedDataset]:
        from mlops.observation.datasets import observe_datasets

        return observe_datasets(
            desired,
            snapshot,
            root=self.root,
            substitute=lambda text: substitute(text, project, self.environ),
            cache=self.state.namespace("digests"),
            now=self.now,
            names=names,
        )

    def _materialise(self, view: View, name: str, digest: str) -> Materialised:
        from mlops.observation.datasets import materialise_dataset

        dataset = view.desired.resources[Key("Dataset", name)]
        assert isinstance(dataset, Dataset)
        return materialise_dataset(
            dataset,
            digest,
            view.snapshot,
            root=self.root,
            substitute=lambda text: substitute(text, view.project, self.environ),
            cache=self.state.namespace("digests"),
            copies=self.home / "data",
            now=self.now,
        )

    def _rules(self, project: Project, base: str) -> Rules:
        """The approvals that stages asked for at another revision, as far as git still has it."""
        try:
            snapshot = self.snapshot(base)
            loaded = load(snapshot, self._parsed())
        except MlopsError:
            return Rules(readable=project.spec.source.rewrites == "follow")
        stages = {key: r for key, r in loaded.resources.items() if isinstance(r, Stage)}
        return replace(Rules.of(stages, loaded.invalid), readable=loaded.project is not None)

    def _rewritten(self, base: str | None, revision: str, options: Options) -> str | None:
        """Why nothing may be pruned: the revision does not descend from the one in force."""
        if base is None or revision in (base, options.accept) or self.repository.is_ancestor(base, revision):
            return None
        if self._follows(base):
            return None
        return (
            f"{revision[:12]} does not descend from {base[:12]}, the revision in force (history was rewritten, or "
            "this is another branch), so what it lacks does not count as removed; `mlops reconcile "
            "--accept-rewrite` takes it"
        )

    def _follows(self, base: str) -> bool:
        """Whether the Project of the revision in force accepts rewritten history: never the new one's say."""
        try:
            project = self.project_at(self.snapshot(base))
        except MlopsError:
            return False
        return project is not None and project.spec.source.rewrites == "follow"


def _executors(loaded: Loaded) -> frozenset[str]:
    """Names of the executors there are; installed packages are searched only if one is asked for."""
    resources = loaded.resources.values()
    if all(not isinstance(r, Experiment) or r.spec.executor == "local" for r in resources):
        return frozenset({"local"})
    from mlops.execution.registry import installed

    return frozenset(installed())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid-{os.getuid()}"
