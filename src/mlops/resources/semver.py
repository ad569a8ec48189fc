"""Version numbers as https://semver.org (2.0.0) defines them, and their order."""

from __future__ import annotations

import re

_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_CORE = r"(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)"
_TAIL = rf"(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
SEMVER = _CORE + _TAIL
SEMVER_PATTERN = f"^{SEMVER}$"

_SEMVER = re.compile(SEMVER)
_PARTS = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)(?:-([^+]+))?(?:\+.+)?")

SemverKey = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def semver_key(version: str) -> SemverKey:
    """A key that sorts versions by precedence; build metadata does not count.

    Args:
        version: such as `1.4.0-rc.1`; it has been checked to be a semantic version.

    Raises:
        ValueError: it is not one.

    >>> sorted(["1.0.0", "1.0.0-rc.11", "1.0.0-rc.2", "1.0.0-alpha"], key=semver_key)
    ['1.0.0-alpha', '1.0.0-rc.2', '1.0.0-rc.11', '1.0.0']
    """
    if not (match := _PARTS.fullmatch(version)):
        raise ValueError("not a semantic version")
    major, minor, patch, prerelease = match.groups()
    identifiers = prerelease.split(".") if prerelease else []
    order = tuple((not i.isdigit(), int(i) if i.isdigit() else 0, i) for i in identifiers)
    return (int(major), int(minor), int(patch), prerelease is None, order)


def is_semver(text: str) -> bool:
    """Whether it is a semantic version."""
    return _SEMVER.fullmatch(text) is not None
