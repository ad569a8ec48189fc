"""The team's git repository: commits, merges, reverts and rewritten history, made with git's plumbing.

What each commit declares is remembered, so that a revert and a rewind go back to it. Dates count up from a fixed
one: a seed gives the same commits each time.
"""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.declared import BROKEN, GOOD, Declared, Numbers, change, mend, settle, slow_down

BRANCH: Final = "refs/heads/main"
FIRST_DATE: Final = 1_700_000_000


@dataclass
class Team:
    """A repository with a working tree that is always that of the branch's head."""

    root: Path
    environ: dict[str, str]
    head: str = ""
    declared: dict[str, Declared] = field(default_factory=dict)  # by commit
    parents: dict[str, list[str]] = field(default_factory=dict)
    numbers: Numbers = field(default_factory=Numbers)
    _written: dict[str, str] = field(default_factory=dict)
    _commits: int = 0

    def begin(self, made: Declared) -> None:
        self.root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.git("config", "gc.auto", "0")
        self.commit(made, "first", [])

    @property
    def now(self) -> Declared:
        """What the head declares."""
        return self.declared[self.head]

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env=self.environ, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"git {arguments}: {done.stderr}")
        return done.stdout.strip()

    def commit(self, made: Declared, message: str, parents: list[str]) -> str:
        """Write what is declared, commit it on these parents, and point the branch at it."""
        tree = self._write_tree(made)
        self.head = self._commit(tree, made, message, parents)
        self.git("update-ref", BRANCH, self.head)
        return self.head

    def change(self, draw: random.Random, *, broken: float) -> str:
        """A commit on the head; with what share of them something is broken, and mended soon after."""
        made = self.now.copy()
        said = None
        if not made.whole and draw.random() < 0.4:
            said = mend(made)
        if said is None:
            said = change(made, draw, self.numbers, BROKEN if draw.random() < broken else GOOD)
        self.commit(made, said, [self.head])
        return said

    def train(self, draw: random.Random) -> str:
        """A commit that has an experiment trained for a while, as nobody trained it before."""
        made = self.now.copy()
        said = slow_down(made, draw, self.numbers)
        self.commit(made, said, [self.head])
        return said

    def merge(self, draw: random.Random) -> str:
        """A branch of one commit, merged."""
        made = self.now.copy()
        said = change(made, draw, self.numbers, GOOD)
        tree = self._write_tree(made)
        side = self._commit(tree, made, said, [self.head])
        self.commit(made, f"merge: {said}", [self.head, side])
        return f"merge: {said}"

    def revert(self, draw: random.Random) -> str | None:
        """A commit that undoes the newest ones."""
        ancestors = self.ancestors()
        if not ancestors:
            return None
        to = ancestors[min(draw.randrange(3), len(ancestors) - 1)]
        self.commit(self.declared[to].copy(), f"revert to {to[:7]}", [self.head])
        return f"revert to what {to[:7]} declares"

    def rewind(self, draw: random.Random) -> str | None:
        """History is cut off: the branch stands where it stood before, and often goes on from there."""
        ancestors = self.ancestors()
        if not ancestors:
            return None
        to = ancestors[min(draw.randrange(3), len(ancestors) - 1)]
        self._write_tree(self.declared[to])
        self.git("update-ref", BRANCH, to)
        self.head = to
        said = f"force-push {to[:7]}"
        if draw.random() < 0.7:
            said += f" and {self.change(draw, broken=0)}"
        return said

    def amend(self, draw: random.Random) -> str:
        """The newest commit is replaced by another one."""
        made = self.now.copy()
        said = change(made, draw, self.numbers, GOOD)
        self.commit(made, f"amended: {said}", self.parents[self.head])
        return f"amend: {said}"

    def orphan(self, draw: random.Random) -> str:
        """All history is replaced by one commit of the same files."""
        self.commit(self.now.copy(), "squash everything", [])
        return "squash all history into one commit"

    def settle(self, draw: random.Random) -> str:
        made = self.now.copy()
        said = settle(made, draw)
        self.commit(made, said, [self.head])
        return said

    def ancestors(self) -> list[str]:
        """The head's first parents, newest first."""
        found = []
        at = self.head
        while self.parents[at]:
            at = self.parents[at][0]
            found.append(at)
        return found

    def descends(self, revision: str, ancestor: str) -> bool:
        """Whether `ancestor` is `revision` or in its history."""
        seen, left = set(), [revision]
        while left:
            at = left.pop()
            if at == ancestor:
                return True
            if at not in seen:
                seen.add(at)
                left += self.parents[at]
        return False

    def _commit(self, tree: str, made: Declared, message: str, parents: list[str]) -> str:
        self._commits += 1
        date = f"{FIRST_DATE + self._commits} +0000"
        self.environ |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        options = [option for parent in parents for option in ("-p", parent)]
        commit = self.git("commit-tree", tree, *options, "-m", message)
        self.declared[commit] = made
        self.parents[commit] = parents
        return commit

    def _write_tree(self, made: Declared) -> str:
        tree = made.tree()
        for path in set(self._written) - set(tree):
            (self.root / path).unlink(missing_ok=True)
        for path, text in tree.items():
            if self._written.get(path) != text:
                place = self.root / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
        self._written = tree
        self.git("add", "-A")
        return self.git("write-tree")


def clean_environ(home: Path, kept: dict[str, str]) -> dict[str, str]:
    """The environment of everything that a run starts: no configuration from outside reaches it."""
    left_out = ("MLFLOW_", "GIT_", "MLOPS_")
    found = {name: value for name, value in kept.items() if not name.startswith(left_out)}
    return found | {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@example.com",
        "GIT_COMMITTER_NAME": "Ann",
        "GIT_COMMITTER_EMAIL": "ann@example.com",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
