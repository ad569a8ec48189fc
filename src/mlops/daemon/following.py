"""Where the daemon's revisions come from: a branch of a local repository, of a remote's mirror, or the files here.

`head` is cheap and asked several times a second. What is slow, a fetch, runs on a thread of its own, so that a
git host that hangs delays no heal.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from mlops.daemon.retries import backoff
from mlops.daemon.wakeups import FILES, REVISION
from mlops.errors import MlopsError, as_mlops_error

if TYPE_CHECKING:
    from pathlib import Path

    from mlops.source.mirror import Mirror
    from mlops.source.repository import Repository

JITTER: Final = 0.1  # of the interval: daemons that were started together do not ask the host together
DEBOUNCE: Final = 0.2  # seconds of quiet in the working tree before its files are looked at
LONGEST_QUIET: Final = 2.0  # seconds that this is waited for


@dataclass(frozen=True, slots=True)
class Head:
    """Where the branch stands. `sha` is None without one; `problem` says what stands in the way of knowing."""

    sha: str | None
    problem: str | None = None


class Following(Protocol):
    """A branch that is followed."""

    def start(self, moved: Callable[[str], None]) -> None:
        """Begin to watch; `moved` is called with a reason, from any thread."""
        ...

    def head(self) -> Head:
        """Where the branch stands now, as far as it is known."""
        ...

    def follow(self, branch: str, interval: float) -> None:
        """What the Project says: the branch, and how often (in seconds) to ask for it."""
        ...

    def keep(self, *shas: str) -> None:
        """See to it that these commits are not lost when history is rewritten."""
        ...

    def ask(self) -> int:
        """Ask the remote now: somebody says that there is news. Gives a number for `answered`."""
        ...

    def answered(self, number: int) -> bool:
        """Whether the remote was asked since `ask` gave this number, whatever came of it."""
        ...

    def close(self) -> None:
        """Stop watching."""
        ...


@dataclass(slots=True)
class LocalBranch:
    """A branch of the repository here; with `files`, the working tree on top of what is checked out."""

    repository: Repository
    root: Path
    files: bool = False
    warn: Callable[[str], None] = lambda warning: None
    _branch: str | None = None  # None for what is checked out
    _followed: str | None = None  # the branch that was there last: goes on until the one asked for is there
    _last: str | None = None  # where it stood: what was there is kept in force when it is deleted
    _moved: Callable[[str], None] = lambda reason: None
    _watches: ExitStack = field(default_factory=ExitStack)

    def start(self, moved: Callable[[str], None]) -> None:
        self._moved = moved
        if self.files:
            self._watch_files()

    def head(self) -> Head:
        branch = self._branch
        sha = self.repository.tip(branch)
        if branch is None:
            return Head(sha, None if sha is not None else "there is no commit yet")
        if sha is not None:
            self._followed, self._last = branch, sha
            return Head(sha)
        if self._followed not in (None, branch):  # a commit there may name another
            self._last = self.repository.tip(self._followed) or self._last
        return Head(self._last, _no_branch(branch, "the repository"))

    def follow(self, branch: str, interval: float) -> None:
        if self.files or branch == self._branch:
            return
        from mlops.source.watching import watch_refs

        self._branch = branch
        self._watches.close()
        try:
            self._watches.enter_context(watch_refs(self.repository, branch, lambda: self._moved(REVISION)))
        except MlopsError as error:  # the branch is looked at several times a second anyway
            self.warn(f"{error}; the branch is polled instead")

    def keep(self, *shas: str) -> None:
        """Nothing: the repository is the user's, and no ref is written into it."""

    def ask(self) -> int:
        """Nothing: the branch is here, and looked at several times a second."""
        return 0

    def answered(self, number: int) -> bool:
        return True

    def close(self) -> None:
        self._watches.close()

    def _watch_files(self) -> None:
        from mlops.source.watching import watch_files

        quiet = _Quiet(DEBOUNCE, LONGEST_QUIET, lambda: self._moved(FILES))
        self._watches.callback(quiet.close)
        try:
            self._watches.enter_context(watch_files(self.root, quiet.touch, ignore=(".git", ".mlops")))
        except MlopsError as error:
            self.warn(f"{error}; the files are looked at every Project.spec.source.interval instead")


@dataclass(slots=True)
class RemoteBranch:
    """A branch of a remote repository, fetched into a mirror by a thread of its own."""

    mirror: Mirror
    repository: Repository
    branch: str
    interval: float = 60.0
    fetched: Callable[[float, MlopsError | None], None] = lambda seconds, error: None
    monotonic: Callable[[], float] = time.monotonic
    _followed: str = field(init=False)  # the branch that was there last, until the one asked for is
    _problem: str | None = None
    _moved: Callable[[str], None] = lambda reason: None
    _news: threading.Event = field(default_factory=threading.Event)
    _begun: int = 0  # fetches
    _ended: int = 0
    _closed: bool = False
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._followed = self.branch

    def start(self, moved: Callable[[str], None]) -> None:
        self._moved = moved
        self._thread = threading.Thread(target=self._fetch_on_and_on, name="mlops-fetch", daemon=True)
        self._thread.start()

    def head(self) -> Head:
        tip = self.repository.tip(self._followed)
        return Head(tip, self._problem or (None if tip is not None else "it was not fetched yet"))

    def follow(self, branch: str, interval: float) -> None:
        sooner = interval < self.interval  # than the fetch that is waited for
        self.interval = interval
        if branch != self.branch or sooner:
            self.branch = branch
            self._news.set()

    def keep(self, *shas: str) -> None:
        self.mirror.keep(shas)

    def ask(self) -> int:
        number = self._begun + 1  # read first: a fetch that begins meanwhile is late enough
        self._news.set()
        return number

    def answered(self, number: int) -> bool:
        return self._ended >= number

    def close(self) -> None:
        self._closed = True
        self._news.set()
        self.mirror.close()

    def _fetch_on_and_on(self) -> None:
        failures = 0
        while not self._closed:
            self._news.clear()
            self._begun += 1
            failures = 0 if self._fetch() else failures + 1
            self._ended = self._begun
            pause = self.interval * random.uniform(1 - JITTER, 1 + JITTER)
            self._news.wait(max(pause, backoff(failures)) if failures else pause)

    def _fetch(self) -> bool:
        """Fetch once; whatever goes wrong is said and tried again, since nobody else would go on."""
        branch, before, began = self.branch, self._tip(), self.monotonic()
        told, moved = self._problem, False
        failed: MlopsError | None = None
        try:
            if self.mirror.fetch(branch) is not None:
                self._followed, self._problem = branch, None
            else:
                self._problem = _no_branch(branch, "the remote")
                if branch != self._followed:  # a commit there may name another
                    moved = self.mirror.brought
                    self.mirror.fetch(self._followed)
        except Exception as error:
            failed = as_mlops_error(error, where="the mirror")
            self._problem = str(failed)
        self.fetched(self.monotonic() - began, failed)
        if moved or self.mirror.brought or self._tip() != before or self._problem != told:
            self._moved(REVISION)
        return failed is None

    def _tip(self) -> str | None:
        """Where what is followed stands here; None also where its ref is damaged, which a fetch may mend."""
        try:
            return self.repository.tip(self._followed)
        except (MlopsError, OSError):
            return None


def _no_branch(branch: str, where: str) -> str:
    return f"{where} has no branch {branch}, which Project.spec.source.branch names as the one in force"


@dataclass(slots=True)
class _Quiet:
    """Calls `then` once nothing has happened for `seconds`: an editor saves in several steps.

    Where something happens all the time, a log that a program writes, it is called every `longest` seconds.
    """

    seconds: float
    longest: float
    then: Callable[[], None]
    _first: float = 0.0  # of what `then` was not called for yet
    _last: float = 0.0
    _timer: threading.Timer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def touch(self) -> None:
        with self._lock:
            self._last = time.monotonic()
            if self._timer is None:
                self._first = self._last
                self._look_in(self.seconds)

    def close(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()

    def _look_in(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        with self._lock:
            left = min(self._last + self.seconds, self._first + self.longest) - time.monotonic()
            if left > 0:
                self._look_in(left)
                return
            self._timer = None
        self.then()
