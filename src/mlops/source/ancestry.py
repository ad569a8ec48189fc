"""The commits that a revision stands on."""

from __future__ import annotations

from typing import Final

from mlops.source.git import run
from mlops.source.repository import Repository

MOST_BEFORE: Final = 50  # commits that are looked at before a broken one


def first_parents(repository: Repository, sha: str, most: int) -> tuple[str, ...]:
    """The shas of the commits before `sha`, nearest first, along first parents.

    Ends early at the first commit, and where a shallow clone was cut off.

    Args:
        sha: the full sha of a commit that is there.
        most: how many at most.

    Raises:
        MlopsError: git failed, for instance because an object is damaged.
    """
    command = ["rev-list", "--first-parent", "--skip=1", f"--max-count={most}", "--end-of-options", sha, "--"]
    return tuple(run(command, repository.root).stdout.decode().split())
