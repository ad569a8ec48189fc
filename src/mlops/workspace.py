"""A project where it stands: its folder, its git repository, and the stores that its Project names."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from mlops.errors import MlopsError, Waiting
from mlops.observation.settings import absolute_uri, substitute
from mlops.redaction import Redactor
from mlops.resources import Loaded, Project, load
from mlops.resources.loading import ParseCache
from mlops.source.ancestry import MOST_BEFORE, first_parents
from mlops.source.paths import is_safe
from mlops.source.repository import Repository
from mlops.source.snapshot import Entry, GitSnapshot, Snapshot, WorkingTreeSnapshot
from mlops.state import State, open_state

if TYPE_CHECKING:  # imported when a store is opened: `validate` is quick
    from mlops.observation.ledger import LedgerSight
    from mlops.tracking import Tracker

T = TypeVar("T")

PROJECT_FILE: Final = "mlops.yaml"
FOLDER: Final = ".mlops"
MIRROR_NOTE: Final = "mirror.json"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A project without a checkout: the mirror of its repository, and the project's folder in it."""

    repository: Path
    folder: str = ""

    def write(self, home: Path) -> None:
        """Leave a note in the daemon's home, by which other commands find the project there."""
        if self.read(home) == self:  # also where the disk is full by now
            return
        home.mkdir(parents=True, exist_ok=True)
        partial = home / f"{MIRROR_NOTE}.partial"
        partial.write_text(json.dumps({"repository": str(self.repository), "folder": self.folder}))
        partial.replace(home / MIRROR_NOTE)

    @classmethod
    def read(cls, home: Path) -> Mirrored | None:
        """What a daemon noted in its home; None where it is none."""
        try:
            note = json.loads((home / MIRROR_NOTE).read_text())
            return cls(Path(note["repository"]), str(note["folder"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


class OtherStores(MlopsError):
    """A revision names other stores, or another project, than those that are open: close them first."""


@dataclass(frozen=True, slots=True)
class _Stores:
    """Where a Project, by its name, keeps what it remembers, and its MLflow: absolute URIs, secrets filled in."""

    project: str
    state: str
    tracking: str
    artifacts: str | None


class Workspace:
    """A project folder with its repository; stores are opened when they are first needed.

    Args:
        root: the folder of the checkout that holds `mlops.yaml`, or the home of a daemon without a checkout.
        mirror: where the repository is if there is no checkout.
    """

    def __init__(
        self,
        root: Path,
        *,
        mirror: Mirrored | None = None,
        environ: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self.root = root
        self._mirror = mirror
        self.environ = dict(os.environ if environ is None else environ)
        self.now = now
        self.monotonic = monotonic
        self.pause = pause
        self._state: State | None = None
        self._local: State | None = None
        self._tracker: Tracker | None = None
        self._sight: LedgerSight | None = None
        self._project: Project | None = None  # the usable one that was read last
        self._stores: _Stores | None = None  # that are open
        self._variables: set[str] = set()  # whose values are masked
        self.redactor = Redactor.from_environ(self.environ, ())
        self.on_redactor: Callable[[Redactor], None] = lambda redactor: None
        self.on_warning: Callable[[str], None] = lambda warning: None
        self.on_call: Callable[[str, float, bool], None] = lambda doing, seconds, failed: None  # of MLflow

    @classmethod
    def find(cls, start: Path) -> Self:
        """The project that `start` is in: the nearest folder upward that holds `mlops.yaml`.

        Without one, `start` itself where a project was before its file was deleted: git has it, and MLflow.
        Raises MlopsError where there is none.
        """
        place = Path(os.path.normpath(start.absolute()))
        for folder in (place, *place.parents):
            if (folder / PROJECT_FILE).is_file():
                return cls(folder)
            if (mirror := Mirrored.read(folder)) is not None:
                return cls(folder, mirror=mirror)
        if (place / FOLDER).is_dir():
            return cls(place)
        raise MlopsError(
            f"no {PROJECT_FILE} in {place} or any folder above it",
            fix="Go into a project, name one with --project DIR, or make one with `mlops init`",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stores; may be called twice."""
        if self._sight is not None and self._state is not None:
            self._sight.keep()
        for state in (self._state, self._local):
            if state is not None:
                for warning in state.warnings:
                    self.on_warning(warning)
                state.close()
        self._state = self._local = self._stores = None

    @cached_property
    def repository(self) -> Repository:
        """The git repository that the project is in."""
        return Repository.discover(self.root if self._mirror is None else self._mirror.repository)

    @cached_property
    def home(self) -> Path:
        """Where jobs, environments and caches of this project are."""
        return self.root / FOLDER

    def snapshot(self, revision: str | None = None, *, working_tree: bool = False) -> Snapshot:
        """The project's files at a revision (default: HEAD), or as they stand in the working tree."""
        mirror = self._mirror
        inside = self.repository.relative(self.root) if mirror is None else mirror.folder
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
        """Read the Project alone and open its stores.

        In the place of a broken one stands the nearest usable one before, or the one that was read last.
        Raises MlopsError when there is none, OtherStores when those of another revision are open.
        """
        if self._mirror is None and self._state is None:  # else what the commit holds is not what is opened
            _refuse_tracked_state(snapshot)
        project = self.project_at(snapshot) or self._project_before(snapshot) or self._project
        if project is None:
            raise self.no_project(snapshot)
        self._open(project)
        return project

    def _project_before(self, snapshot: Snapshot) -> Project | None:
        """The nearest usable Project among the commits before; it says where the stores are, and its name."""
        if not snapshot.revision:
            return None
        before = first_parents(self.repository, snapshot.revision, MOST_BEFORE)
        shas = (snapshot.revision, *before) if isinstance(snapshot, WorkingTreeSnapshot) else before
        found = (self.project_at(GitSnapshot(self.repository, sha, snapshot.root)) for sha in shas)
        return next((project for project in found if project is not None), None)

    def no_project(self, snapshot: Snapshot) -> MlopsError:
        """Why there is no usable Project."""
        if PROJECT_FILE not in snapshot.entries():
            return self._without_project(snapshot)
        return MlopsError(
            "\n".join(map(str, self._head(snapshot).problems)) or f"{PROJECT_FILE} declares no Project",
            fix="Nothing can be done without a Project: mend it first",
        )

    def project_at(self, snapshot: Snapshot) -> Project | None:
        """The Project of a snapshot, read alone; None where there is no usable one."""
        return self._head(snapshot).project

    def _head(self, snapshot: Snapshot) -> Loaded:
        return load(_Only(snapshot, PROJECT_FILE), self._parsed())

    def _without_project(self, snapshot: Snapshot) -> MlopsError:
        """Why a project that is here is not in the files that are looked at."""
        where = str(self.root)
        here = (self.root / PROJECT_FILE).exists()
        if isinstance(snapshot, WorkingTreeSnapshot):
            if not here:
                return MlopsError(
                    f"{PROJECT_FILE} was deleted", where=where, fix="`git restore` brings it back"
                )
            return MlopsError(f"git ignores {PROJECT_FILE}", where=where, fix="Mend .gitignore")
        what = f"{PROJECT_FILE} is not in commit {snapshot.revision[:12]}"
        fix = "Commit it, or look at the files as they are with --working-tree"
        return MlopsError(what, where=where, fix=fix if here else "Revert the commit that removed it")

    def load(self, snapshot: Snapshot, before: Loaded | None = None) -> tuple[Project, Loaded]:
        """Read and check all resources, and open the stores of their Project; raises as `open` does.

        Where the Project is broken, the nearest usable one before it is given.
        """
        _refuse_tracked_state(snapshot)
        project = self.open(snapshot)
        loaded = load(snapshot, self._parsed(), before)
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

    def prune(self, project: Project, *, by_age: bool = True) -> None:
        """Bound the history and the caches; raises Transient where a database is locked or its disk full.

        Args:
            project: the one that counts, which says how long events are kept.
            by_age: whether the clock can be trusted so far that events are dropped because they are old.
        """
        if self._state is not None:
            self._state.prune(events_for=project.spec.state.keep_events if by_age else None)
        if self._local is not None:
            self._local.prune()

    @property
    def state(self) -> State:
        return _opened(self._state)

    @property
    def project_name(self) -> str:
        """The Project's name, at the revision that was loaded last."""
        return self._project.metadata.name if self._project is not None else ""

    @property
    def tracker(self) -> Tracker:
        return _opened(self._tracker)

    @property
    def sight(self) -> LedgerSight:
        """What was seen of MLflow, and what looks again."""
        return _opened(self._sight)

    def refuse_twin(self, snapshot: Snapshot, name: str, folder: str | None) -> None:
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

    def _open(self, project: Project) -> None:
        stores = self._stores_of(project)
        if self._state is not None and stores != self._stores:
            raise OtherStores(
                f"{project.key} names other stores, or has another name, than at the revision before",
                where=PROJECT_FILE,
                fix="Look at each of the two revisions by itself",
            )
        self._know(project.spec.variables)
        self._project = project
        if self._state is None:
            self._open_stores(stores, named=project.spec.tracking.uri)

    def _stores_of(self, project: Project) -> _Stores:
        spec = project.spec

        def absolute(uri: str) -> str:
            return absolute_uri(substitute(uri, project, self.environ), self.root)

        artifacts = spec.tracking.artifacts
        tracking = absolute(spec.tracking.uri), absolute(artifacts) if artifacts else None
        return _Stores(project.metadata.name, absolute(spec.state.uri), *tracking)

    def _know(self, variables: Iterable[str]) -> None:
        """Mask the values of these variables from now on, beside those that are masked already."""
        named = self._variables | set(variables)
        if self._stores is None or named != self._variables:
            self._variables = named
            self.redactor = Redactor.from_environ(self.environ, named)
            self.on_redactor(self.redactor)

    def _open_stores(self, stores: _Stores, named: str) -> None:
        from mlops.observation.ledger import LedgerSight
        from mlops.tracking import Tracker

        tracker = Tracker(
            stores.tracking,
            stores.artifacts,
            environ=self.environ,
            now=self.now,
            named=named if "${" in named else None,
        )
        tracker.on_call = lambda doing, seconds, failed: self.on_call(doing, seconds, failed)
        _ignored(self.home)
        self._state = open_state(stores.state, base=self.root, now=self.now, project=stores.project)
        self._tracker, self._stores = tracker, stores
        self._sight = LedgerSight(tracker, self._state.namespace("ledger"), now=self.now)


def _opened(store: T | None) -> T:
    if store is None:
        raise Waiting("the project's stores are not open yet", fix="Ask again in a moment")
    return store


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
