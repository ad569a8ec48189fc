"""New repositories and the first commits in them, for `mlops init` and the demos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlops.errors import MlopsError
from mlops.source.git import FILTERS_OFF, NotARepository, run, shown, without_filters
from mlops.source.paths import folder
from mlops.source.repository import Repository

_NAME, _EMAIL = "mlops", "mlops@localhost"


def initialise(path: Path) -> Repository:
    """The repository that holds a folder, made with the branch `main` if there is none.

    Args:
        path: a folder, made if it is absent.

    Raises:
        MlopsError: git refuses, or the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise MlopsError(
            f"the folder cannot be made: {problem.strerror}", where=shown(str(path)), fix="Choose another."
        ) from problem
    try:
        return Repository.discover(path)
    except NotARepository:
        run(["init", "--quiet", "--initial-branch=main"], path)
        return Repository.discover(path)


def commit_all(repository: Repository, message: str, paths: Iterable[Path | str]) -> str:
    """Commits the present state of some files and folders, and nothing else that is staged.

    Hooks, filters and signing programs do not run. An identity that is not configured is
    `mlops <mlops@localhost>`.

    Args:
        repository: one with a working tree.
        message: the commit's message, as it is.
        paths: files and folders, relative to the repository's root or absolute; a deleted one is removed.

    Returns:
        The new commit's sha; HEAD's if nothing changed.

    Raises:
        MlopsError: a path is outside of the repository or ignored, or there is nothing to commit at all.
    """
    top = repository.root
    if repository.bare:
        raise MlopsError("a bare repository has no working tree", where=shown(str(top)), fix="Use a clone.")
    named = [_inside(repository, path).encode("utf-8", "surrogateescape") for path in paths]
    if not named:
        raise MlopsError("nothing was named to commit", where=shown(str(top)), fix="Name the files.")
    filters = without_filters(top)
    run([*filters, "add", "--all", "--", *named], top, extra=FILTERS_OFF)
    head = repository.head()
    staged = ["status", "--porcelain=v1", "-z", "--untracked-files=no", "--ignore-submodules=all"]
    if not run([*filters, *staged, "--", *named], top, extra=FILTERS_OFF).stdout:
        if head is None:
            message = "there is nothing to commit"
            raise MlopsError(message, where=shown(str(top)), fix="Write a file first.")
        return head
    quiet = ["-c", "commit.gpgSign=false", "-c", "commit.status=false", "-c", "commit.verbose=false"]
    command = ["commit", "--quiet", "--no-verify", "--cleanup=verbatim", "--file=-", "--only"]
    text = message.encode("utf-8", "surrogateescape")
    extra = {**FILTERS_OFF, **_identity(top)}
    run([*filters, *quiet, *command, "--", *named], top, feed=[text], extra=extra)
    made = repository.head()
    assert made is not None
    return made


def _inside(repository: Repository, path: Path | str) -> str:
    """A path relative to the repository's root; its last part is not followed, for it may be a link."""
    if not Path(path).is_absolute():
        return folder(str(path)) or "."
    parent = repository.relative(Path(path).parent)
    return f"{parent}/{Path(path).name}" if parent else Path(path).name


def _identity(top: Path) -> dict[str, str]:
    """What the user left unconfigured of author and committer."""
    found: dict[str, str] = {}
    for role in ("AUTHOR", "COMMITTER"):
        asked = ["-c", "user.useConfigOnly=true", "var", f"GIT_{role}_IDENT"]
        if run(asked, top, accept=(0, 128)).status:
            found |= {f"GIT_{role}_NAME": _NAME, f"GIT_{role}_EMAIL": _EMAIL}
    return found
