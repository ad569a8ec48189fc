"""Which files count: gitignore-like globs, matched without backtracking.

A pattern becomes a regular expression of atomic groups. Taking the leftmost place for each piece between
two stars is always right for globs, so nothing is ever tried twice and no pattern is slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from mlops.errors import MlopsError
from mlops.source.git import shown
from mlops.source.paths import folder

_LENGTH = 512  # characters of one pattern
_STARS = 32  # wildcards in one pattern
_PATTERNS = 256


def select(
    entries: Iterable[str], under: str, include: Sequence[str], exclude: Sequence[str]
) -> tuple[str, ...]:
    """The paths below a folder that one of `include` and none of `exclude` matches, sorted.

    Patterns are relative to `under` and mean what they mean in a .gitignore: without a slash they match at
    any depth, with one they start at `under`; `*` and `?` stay within a name, `**` spans folders, `[a-z]` and
    `[!a-z]` are classes, a backslash takes a character literally, and a pattern that matches a folder matches
    all in it. No `include` selects nothing.

    Args:
        entries: paths relative to the project's root.
        under: a folder relative to the project's root, "" or "." for the root.
        include: patterns.
        exclude: patterns that win over `include`.

    Raises:
        MlopsError: a pattern cannot be understood, or there are too many.
    """
    if len(include) + len(exclude) > _PATTERNS:
        raise MlopsError(f"there are more than {_PATTERNS} patterns", fix="Name folders instead of files.")
    top = folder(under)
    prefix = f"{top}/" if top else ""
    wanted = [compile_glob(pattern) for pattern in include]
    unwanted = [compile_glob(pattern) for pattern in exclude]
    chosen = set()
    for path in entries:
        if path.startswith(prefix):
            subject = path[len(prefix) :] + "/"
            if any(p.match(subject) for p in wanted) and not any(p.match(subject) for p in unwanted):
                chosen.add(path)
    return tuple(sorted(chosen))


@lru_cache(maxsize=512)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """The expression that matches a path followed by a slash, from its start.

    Raises:
        MlopsError: the pattern is too long, has too many wildcards, or cannot be understood.
    """
    if not pattern.strip("/") or len(pattern) > _LENGTH or "\0" in pattern:
        raise _refused(pattern, f"a pattern has 1 to {_LENGTH} characters")
    if pattern.startswith("!"):
        raise _refused(pattern, "a leading `!` is not supported; use `exclude`, or `\\!` for the character")
    if sum(pattern.count(c) for c in "*?[") > _STARS:
        raise _refused(pattern, f"it has more than {_STARS} wildcards")
    parts = pattern.strip("/").split("/")
    if ".." in parts or "." in parts:
        raise _refused(pattern, "`.` and `..` match nothing; a pattern is relative to the source's path")
    if "/" not in pattern.rstrip("/"):
        parts.insert(0, "**")  # a bare name is meant at any depth
    # Only what lies in a folder can follow a trailing slash or `/**`.
    inside = pattern.endswith("/") or parts[-1] == "**"
    text: list[str] = []
    group: list[str] = []
    floating = False
    for part in [*parts, "**"]:
        if part != "**":
            group.append(_name(part, pattern) + "/")
            continue
        if group:
            body = "".join(group)
            text.append(f"(?>(?:[^/]++/)*?{body})" if floating else body)
        group, floating = [], True
    return re.compile("".join(text) + ("(?=.)" if inside else ""), re.DOTALL)


def _name(part: str, pattern: str) -> str:
    """One name of a pattern; the slash that follows it anchors its last piece."""
    pieces: list[str] = [""]
    at = 0
    while at < len(part):
        c = part[at]
        at += 1
        if c == "*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append("")
        elif c == "?":
            pieces[-1] += "[^/]"
        elif c == "[":
            text, at = _class(part, at, pattern)
            pieces[-1] += text
        elif c == "\\":
            if at == len(part):
                raise _refused(pattern, "it ends in a backslash")
            pieces[-1] += re.escape(part[at])
            at += 1
        else:
            pieces[-1] += re.escape(c)
    first, *rest = pieces
    if not rest:
        return first
    middle = "".join(f"(?>[^/]*?{piece})" for piece in rest[:-1])
    return f"{first}{middle}(?>[^/]*?{rest[-1]}(?=/))"


def _class(part: str, at: int, pattern: str) -> tuple[str, int]:
    """A bracket expression that starts behind its bracket; and where it ends."""
    negated = part[at : at + 1] in ("!", "^")
    at += negated
    items: list[str] = []
    first = True
    while at < len(part) and (part[at] != "]" or first):
        first = False
        if part[at] == "[" and part[at + 1 : at + 2] in (":", ".", "="):
            raise _refused(pattern, "named classes such as [:alpha:] are not supported; write [a-z]")
        low, at = _member(part, at)
        if part[at : at + 1] == "-" and part[at + 1 : at + 2] not in ("", "]"):
            high, at = _member(part, at + 1)
            if high < low:
                raise _refused(pattern, "a range in brackets runs backwards")
            items.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            items.append(re.escape(low))
    if at >= len(part):
        raise _refused(pattern, "a bracket is not closed; write \\[ for the character")
    return f"(?!/)[{'^' if negated else ''}{''.join(items)}]", at + 1


def _member(part: str, at: int) -> tuple[str, int]:
    if part[at] == "\\" and at + 1 < len(part):
        at += 1
    return part[at], at + 1


def _refused(pattern: str, why: str) -> MlopsError:
    return MlopsError(f"the pattern {shown(pattern[:80])!r} cannot be used", fix=f"Mend it: {why}.")
