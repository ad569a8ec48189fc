"""Where a daemon without a checkout lives: the mirror of the repository, and the home of its stores and jobs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.daemon.retries import backoff
from mlops.errors import MlopsError, Transient
from mlops.source.snapshot import GitSnapshot
from mlops.workspace import Mirrored, Workspace

if TYPE_CHECKING:
    from mlops.source.mirror import Mirror


@dataclass(frozen=True, slots=True)
class Place:
    """A home with its mirror, and the branch to begin with."""

    home: Path
    mirror: Mirror
    mirrored: Mirrored
    branch: str


def home_of(
    url: str,
    home: Path | None,
    *,
    folder: str,
    environ: Mapping[str, str],
    told: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
) -> Place:
    """Find or make the home for the repository at `url`; waits, with backoff, for a remote that is away.

    Args:
        home: the home that was asked for; None for one below `$XDG_STATE_HOME/mlops`, by the Project's name.
        folder: the project's folder in the repository, "" for its root.
        told: is given a sentence when something has to be waited for.

    Raises:
        MlopsError: the URL is not allowed, the repository declares no Project, or a folder cannot be written.
    """
    from mlops.source.mirror import Mirror

    base = Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "mlops"
    if home is not None:
        place = home.absolute() / "source.git"
    else:
        place = base / "mirrors" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.git"
    place.parent.mkdir(parents=True, exist_ok=True)
    mirror = Mirror(url, place, environ=environ)
    mirrored = Mirrored(place, "" if folder == "." else folder)
    repository = mirror.open()
    failures = 0
    while True:
        known = repository.branch() if repository.tip() is not None else None  # the mirror's HEAD follows it
        try:
            branch = known or _fetched(mirror)
            break
        except Transient as error:
            failures += 1
            told(f"{str(error).rstrip('.')}; again in {backoff(failures, lambda low, high: 1.0):.0f} s")
            pause(backoff(failures))
    if home is None:
        tip = repository.tip(branch)
        assert tip is not None
        snapshot = GitSnapshot(repository, tip, mirrored.folder)
        project = Workspace(base, mirror=mirrored).project_at(snapshot)
        if project is None:
            raise MlopsError(
                f"branch {branch} declares no usable Project", where=url, fix="Mend it, or name a --home"
            )
        home = base / project.metadata.name
    mirrored.write(home.absolute())
    return Place(home.absolute(), mirror, mirrored, branch)


def _fetched(mirror: Mirror) -> str:
    """Fetch the branch to begin with: what the remote's HEAD names."""
    branch = mirror.default_branch()
    if branch is None or mirror.fetch(branch) is None:
        raise Transient("the remote has no branch yet", where=str(mirror.remote), fix="Push to it")
    return branch
