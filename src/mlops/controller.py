"""The one engine: open a project, observe, plan, apply. The CLI, the daemon and the action all call this.

with Controller.find(folder) as controller:
    view = controller.look(revision)         # revision → resources → observed → plan
    result = controller.apply(view)          # under the lease; status is written on every way out
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlops.errors import MlopsError
from mlops.observation.observed import Observed, ObservedDataset
from mlops.observation.settings import absolute_uri, substitute
from mlops.planning.authority import Rules
from mlops.planning.context import APPLIED_FOLDER, APPLIED_REVISION, Options
from mlops.redaction import Redactor
from mlops.resources import Dataset, Experiment, Key, Loaded, Project, Stage, load
from mlops.resources.loading import ParseCache, without_garbage_collection
from mlops.source.paths import is_safe
from mlops.source.repository import Repository
from mlops.source.snapshot import Entry, GitSnapshot, Snapshot, WorkingTreeSnapshot
from mlops.state import Holder, State, open_state

if TYPE_CHECKING:  # what a command may not need is imported where it is used: `validate` and `plan` are quick
    from mlops.applying.apply import Applied
    from mlops.applying.world import Progress, Waits, World
    from mlops.data import Materialised
    from mlops.planning.desired import Desired
    from mlops.planning.planner import Planned
    from mlops.tracking import Tracker

PROJECT_FILE: Final = "mlops.yaml"
FOLDER: Final = ".mlops"


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


class Controller:
    """A project folder with its repository; stores are opened when they are first needed."""

    def __init__(
        self,
        root: Path,
        *,
        environ: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self.environ = dict(os.environ if environ is None else environ)
        self.now = now
        self.monotonic = monotonic
        self._state: State | None = None
        self._local: State | None = None
        self._tracker: Tracker | None = None
        self._name = ""
        self.redactor = Redactor.from_environ(self.environ, ())
        self.on_redactor: Callable[[Redactor], None] = lambda redactor: None
        self.on_warning: Callable[[str], None] = lambda warning: None

    @classmethod
    def find(cls, start: Path) -> Controller:
        """The project that `start` is in: the nearest folder upward that holds `mlops.yaml`.

        Raises MlopsError where there is none.
        """
        place = Path(os.path.normpath(start.absolute()))
        for folder in (place, *place.parents):
            if (folder / PROJECT_FILE).is_file():
                return cls(folder)
        raise MlopsError(
            f"no {PROJECT_FILE} in {place} or any folder above it",
            fix="Go into a project, name one with --project DIR, or make one with `mlops init`",
        )

    def __enter__(self) -> Controller:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores; may be called twice."""
        for state in (self._state, self._local):
            if state is not None:
                for warning in state.warnings:
                    self.on_warning(warning)
                state.close()
        self._state = self._local = None

    @cached_property
    def repository(self) -> Repository:
        """The git repository that the project is in."""
        return Repository.discover(self.root)

    @cached_property
    def home(self) -> Path:
        """Where jobs, environments and caches of this project are."""
        return self.root / FOLDER

    def snapshot(self, revision: str | None = None, *, working_tree: bool = False) -> Snapshot:
        """The project's files at a revision (default: HEAD), or as they stand in the working tree."""
        inside = self.repository.relative(self.root)
        if working_tree:
            return WorkingTreeSnapshot(self.repository, inside)
        if revision is None and self.repository.head() is None:
            raise MlopsError(
                "the repository has no commit yet",
                where=str(self.root),
                fix="Commit the project, or use --working-tree",
            )
        commit = self.repository.resolve("HEAD" if revision is None else revision)
        return GitSnapshot(self.repository, commit.sha, inside)

    def open(self, snapshot: Snapshot) -> Project:
        """Read the Project alone and open its stores; raises MlopsError when there is no usable one."""
        _refuse_tracked_state(snapshot)
        if PROJECT_FILE not in snapshot.entries():
            raise self._without_project(snapshot)
        head = load(_Only(snapshot, PROJECT_FILE), self._parsed())
        if head.project is None:
            raise MlopsError(
                "\n".join(str(problem) for problem in head.problems) or f"{PROJECT_FILE} declares no Project",
                fix="Nothing can be done without a Project: mend it first",
            )
        self._open(head.project)
        return head.project

    def _without_project(self, snapshot: Snapshot) -> MlopsError:
        """Why a project that is here is not in the files that are looked at."""
        where = str(self.root)
        if isinstance(snapshot, WorkingTreeSnapshot):
            return MlopsError(f"git ignores {PROJECT_FILE}", where=where, fix="Mend .gitignore")
        what = f"{PROJECT_FILE} is not in commit {snapshot.revision[:12]}"
        return MlopsError(
            what, where=where, fix="Commit it, or look at the files as they are with --working-tree"
        )

    def load(self, snapshot: Snapshot) -> tuple[Project, Loaded]:
        """Read and check all resources; raises MlopsError only when there is no usable Project."""
        project = self.open(snapshot)
        loaded = load(snapshot, self._parsed())
        return loaded.project or project, loaded

    def check(self, revision: str | None = None) -> Loaded:
        """Only load: no MLflow, no network, no state beyond the cache of parsed files."""
        snapshot = self.snapshot(revision, working_tree=revision is None)
        _refuse_tracked_state(snapshot)
        return load(snapshot, self._parsed())

    def _parsed(self) -> ParseCache:
        """The cache of parsed files, in the local state whatever the Project says; may be in memory."""
        if self._local is None:
            _ignored(self.home)
            self._local = open_state(f"sqlite:///{FOLDER}/cache.db", base=self.root, now=self.now)
        return self._local.namespace("parsed")

    @property
    def state(self) -> State:
        assert self._state is not None, "load a revision first"
        return self._state

    @property
    def project_name(self) -> str:
        """The Project's name, at the revision that was loaded last."""
        return self._name

    @property
    def tracker(self) -> Tracker:
        assert self._tracker is not None, "load a revision first"
        return self._tracker

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
            self._refuse_twin(snapshot, desired.project, before.tags.get(APPLIED_FOLDER))
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
        from mlops.applying.status import write_events, write_status
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
                write_events(self.state, applied, self.redactor, now=self.now())
                if record:
                    made = after.planned.assessments
                    write_status(self.state, made, revision=plan.revision, now=self.now())
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

    def _refuse_twin(self, snapshot: Snapshot, name: str, folder: str | None) -> None:
        """Raise where another folder of the repository declares this Project: the two would undo each other."""
        here = snapshot.root or "."
        if folder is None or folder == here or not snapshot.revision:
            return
        if folder != "." and not is_safe(folder):  # a tag that somebody wrote by hand
            return
        there = GitSnapshot(self.repository, snapshot.revision, "" if folder == "." else folder)
        other = load(_Only(there, PROJECT_FILE)).project
        if other is not None and other.metadata.name == name:
            raise MlopsError(
                f"the Project {name} in this MLflow is the one in the repository's folder {folder}",
                where=f"{here}/{PROJECT_FILE}",
                fix="Give one of the two another metadata.name",
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

    def _open(self, project: Project) -> None:
        self._name = project.metadata.name
        if self._state is not None:
            return
        spec = project.spec
        self.redactor = Redactor.from_environ(self.environ, spec.variables)
        self.on_redactor(self.redactor)
        state = absolute_uri(substitute(spec.state.uri, project, self.environ), self.root)
        _ignored(self.home)
        self._state = open_state(state, base=self.root, now=self.now, project=project.metadata.name)
        artifacts = spec.tracking.artifacts
        from mlops.tracking import Tracker

        self._tracker = Tracker(
            absolute_uri(substitute(spec.tracking.uri, project, self.environ), self.root),
            absolute_uri(substitute(artifacts, project, self.environ), self.root) if artifacts else None,
            environ=self.environ,
            now=self.now,
            named=spec.tracking.uri if "${" in spec.tracking.uri else None,
        )


def _refuse_tracked_state(snapshot: Snapshot) -> None:
    """A cache that came with a commit could say anything, for instance that nothing has to be checked."""
    if any(path == FOLDER or path.startswith(f"{FOLDER}/") for path in snapshot.entries()):  # also as a link
        raise MlopsError(
            f"{FOLDER}/ is tracked by git, but holds what this machine remembers",
            fix=f"Take it out: git rm -r --cached {FOLDER}",
        )


def _ignored(home: Path) -> None:
    """Keep what the reconciler writes beside the project out of git, whatever the project ignores."""
    marker = home / ".gitignore"
    try:
        home.mkdir(exist_ok=True)
        if not marker.exists():
            marker.write_text("*\n")
    except OSError:  # a project that cannot be written to is still planned
        return


class _Only:
    """A snapshot in which nothing but one file is."""

    def __init__(self, snapshot: Snapshot, path: str) -> None:
        self._snapshot = snapshot
        self._path = path
        self.revision = snapshot.revision
        self.dirty = False

    def entries(self) -> Mapping[str, Entry]:
        entries = self._snapshot.entries()
        return {self._path: entries[self._path]} if self._path in entries else {}

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        return self._snapshot.read(paths)


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
