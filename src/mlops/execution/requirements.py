"""Requirement files read as data: what may stand in them, and the digest that stands for an environment.

Nothing here runs uv or looks at the machine. A line is never quoted in an error: it may hold a credential.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from mlops.errors import Stalled

_MOST = 4 * 2**20  # bytes; the longest lock files with hashes stay below
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,200}[A-Za-z0-9])?")
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\s*(?:\[[A-Za-z0-9._,\s-]{0,500}\])?\s*"
    r"(?:\(?\s*(?:[<>=!~]=?=?\s*[A-Za-z0-9.*+!_-]{1,100}\s*,?\s*){1,50}\)?)?"
)
_DIRECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\s*(?:\[[^\]]{0,500}\])?\s*@\s*(.*)", re.DOTALL)
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")
_OPTION = re.compile(r"(--?[A-Za-z][A-Za-z-]{0,40})(?:[=\s]\s*(.*))?$", re.DOTALL)
_PYTHON = re.compile(r"\d{1,2}(\.\d{1,3}){1,2}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,30}):")

_LOCATIONS = frozenset({"-i", "--index-url", "--extra-index-url", "-f", "--find-links"})
_SWITCHES = frozenset(
    {"--no-index", "--no-binary", "--only-binary", "--prefer-binary", "--pre", "--require-hashes"}
)
_SCHEMES = frozenset({"https", "http", "git+https", "git+http", "git+ssh"})


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What an environment is declared as.

    `requirements` is the content of the requirements file; `lock`, if there is one, the content of a file
    with all packages pinned, which is then installed exactly; `python` a version such as "3.11", or None for
    the reconciler's own. `path` and `lock_path` are where the files are, for messages; no digest holds them.
    """

    requirements: bytes
    lock: bytes | None = None
    python: str | None = None
    path: str = "requirements.txt"
    lock_path: str = "requirements.lock"


def environment_digest(spec: EnvironmentSpec) -> str:
    """`sha256:…` over everything declared that can change what is installed.

    With a lock that is the lock, else the requirements; comments, blank lines, line ends and the order of
    packages do not count. The same on every machine. Raises Stalled for a file that cannot be used.
    """
    check(spec)
    content = spec.requirements if spec.lock is None else spec.lock
    lines = [" ".join(line.split()) for _, line in logical_lines(content)]
    canonical = {
        "kind": "requirements" if spec.lock is None else "lock",
        "options": [line for line in lines if line.startswith("-")],  # in order: the first index wins
        "packages": sorted(line for line in lines if not line.startswith("-")),
        "python": spec.python,
    }
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def check(spec: EnvironmentSpec) -> None:
    """Raise Stalled for the first thing in the declaration that may not or cannot be installed."""
    if spec.python is not None and not _PYTHON.fullmatch(spec.python):
        raise Stalled(
            f"python {spec.python[:40]!r} is not a version of Python",
            fix='Write it as in "3.11", in quotes.',
        )
    for number, line in logical_lines(spec.requirements):
        _check_line(f"{spec.path}:{number}", line)
    if spec.lock is not None:
        for number, line in logical_lines(spec.lock):
            _check_line(f"{spec.lock_path}:{number}", line)
        _check_complete(spec, spec.lock)


def logical_lines(content: bytes) -> list[tuple[int, str]]:
    """(line number from 1, text) of each requirement or option: continued lines joined, comments gone."""
    if len(content) > _MOST:
        raise Stalled("the requirements are larger than 4 MiB", fix="Point to a requirements file.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Stalled("the requirements are not UTF-8 text", fix="Save the file as UTF-8.") from None
    found: list[tuple[int, str]] = []
    pending, since = "", 0
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        since = since or number
        line = _COMMENT.sub("", raw).rstrip()
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        whole = (pending + line).strip()
        if whole:
            found.append((since, whole))
        pending, since = "", 0
    if pending.strip():
        found.append((since, pending.strip()))
    return found


def options(content: bytes) -> list[str]:
    """The lines that say where packages come from, for use with pins that were resolved with them."""
    return [line for _, line in logical_lines(content) if line.startswith("-")]


def canonical_name(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _check_line(where: str, line: str) -> None:
    if "${" in line:
        raise Stalled(
            "variables are not replaced in requirements",
            where=where,
            fix="Give the reconciler's environment the index instead: UV_INDEX_URL, or a netrc file.",
        )
    option = _OPTION.match(line) if line.startswith("-") else None
    if line.startswith("-"):
        _check_option(where, option.group(1) if option else "", (option.group(2) or "") if option else "")
        return
    body = re.split(r"\s;|;\s|\s--", line, maxsplit=1)[0]  # without the marker and the hashes
    direct = _DIRECT.match(body)
    if direct or "/" in body or "\\" in body or body.endswith(_ARCHIVES):
        scheme = _SCHEME.match(direct.group(1) if direct else body)
        if scheme is None or scheme.group(1).lower() not in _SCHEMES:
            raise Stalled(
                "a package from a local path is not in the digest of the environment, so it is not allowed",
                where=where,
                fix="Publish it to an index, or put its code under the experiment's source.path.",
            )
    elif not _REQUIREMENT.fullmatch(body.split(";")[0].strip()):
        raise Stalled(
            "this is not a requirement",
            where=where,
            fix="Write it as in `pandas==2.2.3` (from a uv.lock: `uv export --format requirements-txt`).",
        )


def _check_option(where: str, option: str, value: str) -> None:
    if option in _LOCATIONS:
        if not re.match(r"['\"]?https?://", value):
            raise Stalled(
                f"{option} has to be an http(s) address",
                where=where,
                fix="For packages on the machine set UV_FIND_LINKS in the reconciler's environment.",
            )
    elif option in ("-r", "--requirement", "-c", "--constraint", "-e", "--editable"):
        raise Stalled(
            f"{option} points to what is not in the digest of the environment, so it is not allowed",
            where=where,
            fix="Write all requirements into this one file; for code of your own use source.path.",
        )
    elif option not in _SWITCHES:
        raise Stalled(
            f"the option {option or 'in this line'} is not allowed in requirements",
            where=where,
            fix="Remove it.",
        )


def _check_complete(spec: EnvironmentSpec, lock: bytes) -> None:
    """Every package that is required without a marker has to be in the lock, or the lock is an old one."""
    locked = _names(lock)
    for number, line in logical_lines(spec.requirements):
        name = _NAME.match(line)
        if name and not line.startswith("-") and ";" not in line:
            if canonical_name(name.group()) in locked:
                continue
            raise Stalled(
                f"{name.group()} is required but not in the lock",
                where=f"{spec.path}:{number}",
                fix=f"Make the lock again: uv pip compile {spec.path} -o {spec.lock_path}",
            )


def _names(content: bytes) -> frozenset[str]:
    matches = (_NAME.match(line) for _, line in logical_lines(content) if not line.startswith("-"))
    return frozenset(canonical_name(match.group()) for match in matches if match)
