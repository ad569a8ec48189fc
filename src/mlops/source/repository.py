"""A local git repository, read without a checkout."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mlops.errors import MlopsError
from mlops.source.commit import Commit, parse_commit
from mlops.source.git import FILTERS_OFF, NotARepository, failure, run, shown, without_filters
from mlops.source.objects import read_objects
from mlops.source.refs import NotPlain, branch_ref, common_dir, read_head, read_ref

_COMMIT_LIMIT = 16 * 1024 * 1024  # bytes; a commit is a page of text


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on a local path.

    Attributes:
        root: the top of its working tree, without symbolic links; of a bare one, the repository itself.
        git_dir: where HEAD and the index are; differs from `root/.git` in a linked worktree.
        bare: it has no working tree.
        object_format: the hash of its object ids, `sha1` or `sha256`.
    """

    root: Path
    git_dir: Path
    bare: bool
    object_format: str

    @classmethod
    def discover(cls, path: Path) -> Repository:
        """The repository that holds `path`, the nearest upward: plain, linked worktree or bare.

        Raises:
            NotARepository: there is none.
            MlopsError: the path does not exist, or git refuses the repository.
        """
        start = Path(os.path.realpath(path))
        if not os.path.lexists(start):
            raise MlopsError("there is no such folder", where=shown(str(path)), fix="Check the path.")
        folder = start if start.is_dir() else start.parent
        asked = ("--show-object-format", "--is-bare-repository", "--is-inside-work-tree", "--show-cdup")
        try:
            answer = run(["rev-parse", *asked, "--absolute-git-dir"], folder).stdout
        except NotARepository as problem:
            raise NotARepository(
                "there is no git repository here or in any folder above",
                where=shown(str(path)),
                fix="Run `mlops init` or `git init` in the project's folder, or name another.",
            ) from problem
        lines = answer.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        object_format, bare, inside = lines[:3]
        if bare == "true":
            git_dir = Path("\n".join(lines[3:]))
            return cls(git_dir, git_dir, True, object_format)
        if inside != "true":
            raise MlopsError(
                "this is inside of git's own folder",
                where=shown(str(path)),
                fix="Name the project's folder instead.",
            )
        root = Path(os.path.normpath(folder / lines[3]))
        if not folder.is_relative_to(root):  # core.worktree points elsewhere
            raise MlopsError(
                "its git configuration names a working tree elsewhere",
                where=shown(str(path)),
                fix="Unset core.worktree, or name the folder that it points to.",
            )
        return cls(root, Path("\n".join(lines[4:])), False, object_format)

    def relative(self, folder: Path) -> str:
        """`folder` relative to the repository's root in posix form, "" for the root itself.

        Raises:
            MlopsError: it is outside of the repository, also through a symbolic link.
        """
        real = Path(os.path.realpath(folder))
        if not real.is_relative_to(self.root):
            message = "this folder is outside of the repository"
            raise MlopsError(message, where=shown(str(folder)), fix=f"Move it into {shown(str(self.root))}.")
        return "" if real == self.root else real.relative_to(self.root).as_posix()

    def resolve(self, rev: str) -> Commit:
        """The commit that a revision means: a sha, a branch, a tag, HEAD~1, ….

        Raises:
            MlopsError: it is unknown, ambiguous, not a commit, or no revision at all.
        """
        name = f"{_checked(rev)}^{{commit}}"
        found = next(read_objects(self.root, [name], limit=_COMMIT_LIMIT))
        if found.kind == "commit":
            return parse_commit(found.id, found.data)
        where = shown(str(self.root))
        if found.kind == "ambiguous":
            raise MlopsError(
                f"revision {shown(rev)!r} is ambiguous", where=where, fix="Write more of the sha."
            )
        raise MlopsError(f"there is no commit {shown(rev)!r}", where=where, fix=self._suggestion(rev))

    def head(self) -> str | None:
        """The sha of HEAD's commit, None while there is no commit yet.

        Raises:
            MlopsError: HEAD names a commit that is not in the repository.
        """
        found = run(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], self.root, accept=(0, 1))
        if found.status == 0:
            return found.stdout.decode().strip()
        if run(["rev-parse", "--verify", "--quiet", "HEAD"], self.root, accept=(0, 1, 128)).status == 1:
            return None
        raise MlopsError(
            "HEAD names a commit that is missing from the repository",
            where=shown(str(self.root)),
            fix="See what `git fsck` says; a fresh clone mends it.",
        )

    def branch(self) -> str | None:
        """The name of the branch that is checked out, also while it has no commit; None where HEAD is detached."""
        try:
            ref = read_head(self.git_dir)
        except NotPlain:
            answer = run(["symbolic-ref", "--quiet", "HEAD"], self.root, accept=(0, 1)).stdout
            ref = os.fsdecode(answer.rstrip(b"\n"))
        return ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else None

    def tip(self, branch: str | None = None) -> str | None:
        """The sha that a branch names, None if there is no such branch; its commit may be missing.

        Cheap: where refs are plain files, no process is started.

        Args:
            branch: its short name; None for what HEAD names.

        Raises:
            MlopsError: it is no name for a branch, or the ref is damaged.
        """
        ref = "HEAD" if branch is None else branch_ref(branch)
        try:
            if branch is None:
                ref = read_head(self.git_dir)
                if not ref.startswith("refs/heads/"):
                    return ref if "/" not in ref else self._asked_ref(ref)
            return read_ref(common_dir(self.git_dir), ref)
        except NotPlain:
            return self._asked_ref(ref)

    def is_shallow(self) -> bool:
        """Whether its history was cut when it was cloned."""
        cut = common_dir(self.git_dir) / "shallow"
        return cut.is_file() and cut.stat().st_size > 0

    def is_ancestor(self, a: str, b: str) -> bool | None:
        """Whether commit `a` is `b` or in its history; None when this repository cannot tell.

        It cannot when one of them or something between is missing: a shallow clone, a rewritten history.

        Raises:
            MlopsError: one of them is no revision at all, or git failed.
        """
        answer = self._merge_base(a, b)
        if answer is False and self.is_shallow() and self._merge_base(b, a) is not True:
            return None  # the way from one to the other may be in the part that was cut off
        return answer

    def dirty(self, under: str = "") -> bool:
        """Whether anything below a folder differs from HEAD: changed, staged, deleted, new and not ignored.

        Args:
            under: a folder relative to the root, "" for all. Filter programs do not run: a file that only
                a filter would make equal counts as changed.
        """
        if self.bare:
            return False
        options = without_filters(self.root)
        status = ["status", "--porcelain=v1", "-z", "--untracked-files=normal", "--no-renames"]
        where = _below(under)
        command = [*options, *status, "--ignore-submodules=all", *where]
        return bool(run(command, self.root, extra=FILTERS_OFF).stdout)

    def changed(self, a: str, b: str) -> list[str]:
        """The files that differ between two commits, relative to the root, sorted; a rename is two files.

        Raises:
            MlopsError: one of them is unknown or no revision at all.
        """
        command = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv"]
        commits = [f"{_checked(rev)}^{{commit}}".encode("utf-8", "surrogateescape") for rev in (a, b)]
        answer = run([*command, "--end-of-options", *commits, "--"], self.root, accept=(0, 128))
        if answer.status:
            for rev in (a, b):
                self.resolve(rev)  # says which one is unknown, and what there is instead
            raise failure("diff-tree", answer.status, answer.stderr, self.root)
        return sorted(p.decode("utf-8", "surrogateescape") for p in answer.stdout.split(b"\0") if p)

    def _asked_ref(self, ref: str) -> str | None:
        """What git says that a ref names."""
        encoded = ref.encode("utf-8", "surrogateescape")
        answer = run(["rev-parse", "--verify", "--quiet", encoded], self.root, accept=(0, 1))
        if answer.status == 0:
            return answer.stdout.decode().strip()
        complaints = run(["for-each-ref", "--format=%(refname)", "refs/heads"], self.root).stderr
        if f"ignoring broken ref {ref}" not in complaints:
            return None
        raise MlopsError(
            f"{shown(ref.removeprefix('refs/heads/'))} is damaged: it names no commit",
            where=shown(str(self.root)),
            fix="See what `git fsck` says; `git update-ref` sets it anew.",
        )

    def _merge_base(self, a: str, b: str) -> bool | None:
        names = [f"{_checked(rev)}^{{commit}}" for rev in (a, b)]
        command = ["merge-base", "--is-ancestor", "--end-of-options"]
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        answer = run([*command, *encoded], self.root, accept=(0, 1, 128))
        cut = re.search(
            r"could not (read|parse)|unable to (read|parse)|traverse", answer.stderr, re.IGNORECASE
        )
        if answer.status < 128:
            # Some versions of git answer "no" when they could not read the whole way.
            return True if answer.status == 0 else None if cut else False
        if cut or any(found.kind != "commit" for found in read_objects(self.root, names)):
            return None
        raise failure("merge-base", answer.status, answer.stderr, self.root)

    def _suggestion(self, rev: str) -> str:
        listing = ["for-each-ref", "--format=%(refname:lstrip=2)", "--count=200"]
        printed = run([*listing, "refs/heads", "refs/tags", "refs/remotes"], self.root).stdout
        names = [shown(name) for name in printed.decode("utf-8", "surrogateescape").splitlines()]
        if not names:
            return "The repository has no commit yet: commit first."
        near = difflib.get_close_matches(rev, names, n=1)
        few = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        cut = " This clone is shallow: `git fetch --unshallow` gets the rest." if self.is_shallow() else ""
        return (f"Did you mean {near[0]!r}? " if near else "") + f"There is: {few}.{cut}"


def _below(under: str) -> list[str | bytes]:
    return ["--", under.encode("utf-8", "surrogateescape")] if under else []


def _checked(rev: str) -> str:
    """`rev` if it can be a revision: not an option, one line, of a sane length."""
    if not rev or rev.startswith("-") or len(rev) > 1024 or any(c in rev for c in "\0\n\r"):
        raise MlopsError(
            f"{shown(rev[:80])!r} is not a revision",
            fix="Name a commit, a branch or a tag.",
        )
    return rev
