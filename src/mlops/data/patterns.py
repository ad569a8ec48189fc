"""Globs whose cost is bounded: `*`, `?` and `[…]` within a name, `**` for any depth of folders.

A pattern is walked as a set of positions, so a path costs (its parts × the pattern's parts) and no
pattern, however many `**` it has, can blow up.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from mlops.data.request import Problem

_MAGIC = re.compile(r"[*?\[]")
_OBJECT_VERSION = re.compile(r"\?versionId=[\w.-]+$")
_MOST_PARTS = 64
_LONGEST = 1024

Positions = frozenset[int]

# Written by systems beside the data, never data: counting them would make a retry look like new data.
_BOOKKEEPING = re.compile(r"_SUCCESS|_started_.*|_committed_.*|_delta_log")


def is_pattern(path: str) -> bool:
    """Whether `path` has a glob character (an S3 object's `?versionId=` is none)."""
    return bool(_MAGIC.search(_OBJECT_VERSION.sub("", path)))


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name below a dataset is no part of it.

    Hidden names (a leading dot), `_SUCCESS`, `_started_*`, `_committed_*` and `_delta_log` are none;
    every other file counts, whatever its suffix.
    """
    return name.startswith(".") or bool(_BOOKKEEPING.fullmatch(name))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob below its `prefix`, the longest run of leading parts without a glob character."""

    prefix: str
    parts: tuple[str, ...]
    _tests: tuple[re.Pattern[str] | None, ...]  # None is `**`

    @property
    def depth(self) -> int | None:
        """How many levels below the prefix can match; None is any number."""
        return None if None in self._tests else len(self.parts)

    def start(self) -> Positions:
        """The positions before the first part of a path below the prefix."""
        return self._closed({0})

    def step(self, positions: Positions, name: str) -> Positions:
        """The positions after one more part of the path; empty: nothing below can match."""
        after: set[int] = set()
        for position in positions:
            if position == len(self.parts):
                continue
            test = self._tests[position]
            if test is None:
                after.add(position)
            elif test.match(name):
                after.add(position + 1)
        return self._closed(after)

    def accepts(self, positions: Positions) -> bool:
        """Whether a file at these positions is matched."""
        return len(self.parts) in positions

    def matches(self, relative: str) -> bool:
        """Whether the path `relative` to the prefix is matched, and no part of it is ignored."""
        positions = self.start()
        for name in relative.split("/"):
            positions = Positions() if is_ignored(name) else self.step(positions, name)
            if not positions:
                return False
        return self.accepts(positions)

    def _closed(self, positions: set[int]) -> Positions:
        closed = set(positions)
        for position in sorted(positions):
            while position < len(self.parts) and self._tests[position] is None:
                position += 1  # `**` also stands for no folder at all
                closed.add(position)
        return Positions(closed)


def everything_below(prefix: str) -> Pattern:
    """The pattern of a whole folder."""
    return Pattern(prefix, ("**",), (None,))


def parse_pattern(path: str, shown: str) -> Pattern:
    """Split a glob into its fixed prefix and the parts to match below it.

    Raises:
        Problem: `Invalid` for a pattern beyond 64 parts or 1024 characters.
    """
    parts = path.split("/")
    if len(parts) > _MOST_PARTS or len(path) > _LONGEST:
        raise Problem("Invalid", f"{shown[:80]}… is too long a pattern", fix="Name the folder instead.")
    fixed = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    below = [
        p
        for i, p in enumerate(parts[fixed:], fixed)
        if not (p == "**" and parts[i - 1] == "**" and i > fixed)
    ]
    tests = tuple(None if p == "**" else re.compile(fnmatch.translate(re.sub(r"\*+", "*", p))) for p in below)
    return Pattern("/".join(parts[:fixed]), tuple(below), tests)
