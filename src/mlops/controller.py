"""The one engine: open a project, observe, plan, apply. The CLI, the daemon and the action all call this.

`look` takes a revision through its resources and what is observed to a plan; `apply` takes the lease, looks, and
walks the plan. Status is written on every way out.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlops.errors import MlopsError
from mlops.observation.observed import Observed, ObservedDataset
from mlops.observation.settings import substitute
from mlops.planning.authority import Rules
from mlops.planning.context import APPLIED_FOLDER, APPLIED_REVISION, Options
from mlops.resources import Dataset, Experiment, Key, Loaded, Project, Stage, load
from mlops.resources.loading import without_garbage_collection
from mlops.source.snapshot import Snapshot
from mlops.state import Holder
from mlops.workspace import Workspace

if TYPE_CHECKING:  # what a command may not need is imported where it is used: `validate` and `plan` are quick
    from mlops.applying.apply import Applied
    from mlops.applying.world import Progress, Waits, World
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

    @property
    def held_back(self) -> str | None:
        """Why the revision does not come into force: it is emptied, or rewrites the history of the one that is."""
        return self.desired.prune_refused if self.planned.plan.base is not None else None


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
        ledger = observe_ledger(self.tracker, desired, self.state.namespace("ledger"))
        before = ledger.experiments.get(desired.project)
        if before is not None:
            self.refuse_twin(snapshot, desired.project, before.tags.get(APPLIED_FOLDER))
        base = before.tags.get(APPLIED_REVISION) if before is not None else None
        if (refused := self._rewritten(project, base, snapshot.revision)) is not None:
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
        from mlops.applying.apply import Applied, apply, in_force, record_asked, record_revision
        from mlops.applying.status import Recorder
        from mlops.applying.sweep import sweep
        from mlops.state.lease import acquire

        if self._state is None:
            self.open(self.snapshot(working_tree=self.repository.head() is None))
        holder = Holder.current(command, now=self.now())
        with acquire(self.state, self.project_name, holder, wait=lease_wait, on_wait=on_wait) as lease:
            view = look()
            world = self._world(view, progress, lease.check, waits)
            if begun is not None:
                begun(world)
            plan = view.planned.plan
            applied, after = Applied(plan, {}, {}), view
            try:
                coming = record and view.held_back is None and not in_force(world)
                if plan.steps or coming:
                    lease.check()
                    self.tracker.prepare()
                for trouble in sweep(world):
                    self.on_warning(trouble)
                if plan.steps:
                    applied = apply(world, plan)
                if coming and not world.stop.is_set():
                    record_asked(world)
                    record_revision(world)
                if record:
                    after = self._view(view.snapshot, view.project, view.loaded, Options(), (), None)
            finally:
                recorder = Recorder(self.state, self.redactor, self.now)
                recorder.blocks(plan)
                recorder.applied(applied)
                if record:
                    recorder.status(after.planned.assessments, revision=plan.revision)
                    self.state.prune()
        return Result(view, applied, after)

    def _world(
        self, view: View, progress: Progress, check_lease: Callable[[], None], waits: Waits | None
    ) -> World:
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

    def _rewritten(self, project: Project, base: str | None, revision: str) -> str | None:
        """Why nothing may be pruned: the revision does not descend from the one in force."""
        if base is None or base == revision or project.spec.source.rewrites == "follow":
            return None
        if self.repository.is_ancestor(base, revision):
            return None
        return (
            f"{revision[:12]} does not descend from {base[:12]}, the revision in force (history was rewritten, or "
            "this is another branch), so what it lacks does not count as removed; "
            "Project.spec.source.rewrites: follow accepts it"
        )


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
