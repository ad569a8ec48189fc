"""The one engine: open a project, observe, plan, apply. The CLI, the daemon and the action all call this.

`look` takes a revision through its resources and what is observed to a plan; `look_for` does so for the revision
that may come into force; `carry_out` walks a plan. `apply` is all of it under a lease, once; the daemon holds the
lease and does it pass after pass.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mlops.errors import MlopsError, Stalled, Transient
from mlops.observation.held import Held, held
from mlops.observation.observed import Ledger, Observed, ObservedDataset
from mlops.observation.settings import substitute
from mlops.planning.context import APPLIED_FOLDER, APPLIED_GOOD, APPLIED_REVISION, Options
from mlops.resources import Dataset, Experiment, Key, Loaded, Project, load
from mlops.resources.loading import without_garbage_collection
from mlops.source.snapshot import GitSnapshot, Snapshot
from mlops.state import Holder
from mlops.workspace import Workspace

if TYPE_CHECKING:  # what a command may not need is imported where it is used: `validate` and `plan` are quick
    from mlops.applying.apply import Applied
    from mlops.applying.world import Progress, Waits, World
    from mlops.data import Materialised
    from mlops.observation.rules import Bases
    from mlops.planning.desired import Desired
    from mlops.planning.plan import Plan, Step
    from mlops.planning.planner import Planned


@dataclass(frozen=True, slots=True)
class View:
    """One revision seen against what is: everything that a plan, a status or an apply starts from."""

    snapshot: Snapshot
    held: Held
    desired: Desired
    observed: Observed
    planned: Planned
    options: Options
    refused: str | None = None  # why another revision was asked for, and this is the one in force instead

    @property
    def project(self) -> Project:
        """The Project that counts."""
        return self.held.project

    @property
    def loaded(self) -> Loaded:
        """The resources that are to be, and what is wrong with their documents."""
        return self.held.loaded

    @property
    def good(self) -> str | None:
        """The last revision in force that was whole: what the next one breaks is read from there."""
        project = self.observed.ledger.experiments.get(self.desired.project)
        return project.tags.get(APPLIED_GOOD) if project is not None else None

    def snapshot_of(self, key: Key) -> Snapshot:
        """The files that a resource stands among: of the revision, or of the last good one."""
        kept = self.held.good if key in self.desired.kept else None
        return kept or self.snapshot

    def dataset_of(self, experiment: str, name: str) -> tuple[Dataset, Snapshot] | None:
        """A Dataset as an Experiment sees it, and the files that it stands among; None if there is none."""
        if Key("Experiment", experiment) in self.desired.kept and name in self.desired.kept_data:
            assert self.held.good is not None
            return self.desired.kept_data[name], self.held.good
        key = Key("Dataset", name)
        found = self.desired.resources.get(key)
        return (found, self.snapshot_of(key)) if isinstance(found, Dataset) else None

    @property
    def held_back(self) -> str | None:
        """Why the revision does not come into force: it is emptied, or rewrites the history of the one that is."""
        return self.desired.prune_refused if self.planned.plan.base is not None else None

    @property
    def coming(self) -> bool:
        """Whether the revision may come into force and is not written down as the one that is."""
        from mlops.applying.apply import in_force

        return self.held_back is None and not in_force(self.desired, self.observed.ledger)

    def answers(self, observed: Observed, prune_refused: str | None, options: Options) -> bool:
        """Whether planning the revision again, with these, could only come to this view."""
        unread = any(not rules.readable for rules in self.desired.rules.values())  # git may have them by now
        same = self.observed is observed and self.desired.prune_refused == prune_refused
        return same and self.options == options and not unread

    def around(self, step: Step) -> View:
        """This view as far as one step needs it, so that a long one does not keep all of it in memory."""
        from mlops.planning.around import around

        desired, observed, planned = around(self.desired, self.observed, self.planned, step)
        snapshot = _again(self.snapshot)
        good = _again(self.held.good) if self.held.good is not None else None
        held = Held(self.loaded.without_resources(snapshot), good)
        return replace(
            self, snapshot=snapshot, held=held, desired=desired, observed=observed, planned=planned
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


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last look found. A commit stays as it is: next time only the world has to be looked at."""

    view: View
    read: Desired  # as the revision says, before what else decides about what it lacks


class Controller(Workspace):
    """The one engine over a workspace: look at a revision, and apply it."""

    _seen: _Seen | None = None
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
        """Observe and plan; the very view of the last look where nothing in it has moved since.

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
        snapshot = self._files(revision, working_tree)
        held = self._hold(snapshot)
        loaded = held.loaded
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
        return self._view(snapshot, held, options, targets, training)

    def _files(self, revision: str | None, working_tree: bool) -> Snapshot:
        """The files of a revision; those of the last look where it was the same commit."""
        seen = self._seen.view.snapshot if self._seen is not None else None
        if working_tree or not isinstance(seen, GitSnapshot):
            return self.snapshot(revision, working_tree=working_tree)
        if revision == seen.revision:
            return seen
        snapshot = self.snapshot(revision)
        return seen if (snapshot.revision, snapshot.root) == (seen.revision, seen.root) else snapshot

    def _hold(self, snapshot: Snapshot) -> Held:
        """What counts of a revision: its resources, with the last good text of those that are broken."""
        before = self._seen.view.held if self._seen is not None else None
        if before is not None and self._seen is not None and self._seen.view.snapshot is snapshot:
            good = before.good.revision if before.good is not None else None
            if before.loaded.whole or (before.problem is None and good == self._good()):
                return before
        project, loaded = self.load(snapshot, before.loaded if before is not None else None)
        if loaded.whole:
            return Held(loaded)
        found = held(loaded, project.metadata.name, self._good(), self._read)
        if found.loaded.project is None:
            raise self.no_project(snapshot)
        return found

    def _good(self) -> str | None:
        """The last revision in force that was whole, as MLflow has it now."""
        return self.tracker.experiment_tags(self.project_name).get(APPLIED_GOOD)

    def _read(self, sha: str) -> tuple[Snapshot, Loaded]:
        snapshot = self.snapshot(sha)
        return snapshot, load(snapshot, self._parsed())

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
        except Transient:
            raise
        except MlopsError as error:
            self._refused = ("", "")  # the next look asks again which one is in force: a tag can be mended
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
        held: Held,
        options: Options,
        targets: Collection[Key],
        training: Collection[str] | None,
    ) -> View:
        from mlops.planning.planner import only, only_training

        view = self._whole_view(snapshot, held, options)
        if targets:
            view = replace(view, planned=only(view.planned, targets))
        if training is not None:
            view = replace(view, planned=only_training(view.planned, training))
        return view

    def _whole_view(self, snapshot: Snapshot, held: Held, options: Options) -> View:
        from mlops.planning.planner import make_plan

        seen = self._seen if self._seen is not None and self._seen.view.held is held else None
        read = seen.read if seen is not None else _read_revision(snapshot, held)
        self._token = self.tracker.token()
        ledger = self.sight.look(read)
        before = ledger.experiments.get(read.project)
        tags = before.tags if before is not None else {}
        self.refuse_twin(snapshot, read.project, tags.get(APPLIED_FOLDER))
        refused = options.refused or self._rewritten(tags.get(APPLIED_REVISION), snapshot.revision, options)
        desired = replace(read, prune_refused=refused) if refused is not None else read
        observed = self._observe(snapshot, held, ledger, seen.view.observed if seen is not None else None)
        if seen is not None and seen.view.answers(observed, desired.prune_refused, options):
            return seen.view
        planned = make_plan(desired, observed, options)
        if planned.bases:  # rarely: a promotion that is not in force, asked for under another revision
            last = {tags.get(APPLIED_REVISION): tags.get(APPLIED_GOOD)}
            rules = {
                one: self._bases.rules(one, last.get(one), held.project) for one in sorted(planned.bases)
            }
            desired = replace(desired, rules=rules)
            planned = make_plan(desired, observed, options)
        view = View(snapshot, held, desired, observed, planned, options)
        self._seen = _Seen(view, read)
        return view

    def _observe(self, snapshot: Snapshot, held: Held, ledger: Ledger, before: Observed | None) -> Observed:
        """The whole picture; `before`, one of the same revision, where nothing in it differs."""
        from mlops.observation.datasets import observe_again

        loaded, good = held.loaded, held.good or snapshot

        def declared(names: Iterable[str]) -> Mapping[str, ObservedDataset]:
            found = [r for name in names if isinstance(r := loaded.resources[Key("Dataset", name)], Dataset)]
            places = [(r, good if r.key in loaded.kept else snapshot) for r in found]
            return self._datasets(held.project, places)

        def earlier(names: Iterable[str]) -> Mapping[str, ObservedDataset]:
            return self._datasets(held.project, [(loaded.kept_data[name], good) for name in names])

        if before is None:
            names = [key.name for key in loaded.resources if key.kind == "Dataset"]
            return Observed(ledger, declared(names), earlier(loaded.kept_data))
        datasets = observe_again(before.datasets, declared)
        kept = observe_again(before.kept_data, earlier)
        same = (before.ledger is ledger, before.datasets is datasets, before.kept_data is kept)
        return before if all(same) else Observed(ledger, datasets, kept)

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
                    after = self._view(view.snapshot, view.held, again, (), None)
                    after = replace(after, refused=view.refused)
            finally:
                recorder = Recorder(self.state, self.redactor, self.now)
                recorder.blocks(plan)
                recorder.applied(applied)
                if record:
                    recorder.status(after.planned.assessments, revision=plan.revision)
                    self.prune()
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
            check_lease=check_lease,
            now=self.now,
            monotonic=self.monotonic,
            pause=self.pause,
            waits=waits or Waits(),
        )

    def _datasets(
        self, project: Project, datasets: Iterable[tuple[Dataset, Snapshot]]
    ) -> Mapping[str, ObservedDataset]:
        from mlops.observation.datasets import observe_datasets

        return observe_datasets(
            datasets,
            root=self.root,
            substitute=lambda text: substitute(text, project, self.environ),
            cache=self.state.namespace("digests"),
            now=self.now,
        )

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

    @cached_property
    def _bases(self) -> Bases:
        from mlops.observation.rules import Bases

        return Bases(self.repository, self._read)

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


def _again(snapshot: Snapshot) -> Snapshot:
    """The same files, not listed yet; a working tree stays the one that was listed."""
    if isinstance(snapshot, GitSnapshot):
        return GitSnapshot(snapshot.repository, snapshot.revision, snapshot.root)
    return snapshot


def _read_revision(snapshot: Snapshot, held: Held) -> Desired:
    from mlops.observation.revision import read_revision

    return read_revision(
        snapshot,
        held.loaded,
        held.project,
        executors=_executors(held.loaded),
        prune_refused=None,
        good=held.good,
        not_held=held.problem,
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
