"""Where a URI points: into the project, to this machine's disk, or to an object store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mlops.data.request import Problem

EXTRAS = {"s3": "s3", "gs": "gcs", "abfss": "azure", "az": "azure"}
STORES = frozenset(EXTRAS) | {"memory"}  # memory: fsspec's own, for trying things out

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class InProject:
    """A path relative to the project root, posix, without `.` and `..`; empty is the root itself."""

    path: str


@dataclass(frozen=True, slots=True)
class OnDisk:
    """An absolute path that a `file://` URI names."""

    path: Path


@dataclass(frozen=True, slots=True)
class InStore:
    """An object store's URI that fsspec understands."""

    scheme: str
    uri: str


Place = InProject | OnDisk | InStore


def parse_place(uri: str, shown: str) -> Place:
    """Tell where `uri` points, without looking there.

    Raises:
        Problem: `Invalid` for a path that leaves the project, an unknown scheme or a chained URL.
    """
    if not uri.strip() or len(uri) > _LONGEST or any(ord(c) < 32 for c in uri):
        raise Problem("Invalid", f"{shown!r} is not a path or URI", fix="Write spec.uri on one line.")
    if scheme := _SCHEME.match(uri):
        return _from_uri(scheme[1].lower(), uri, shown)
    if "://" in uri:
        raise Problem("Invalid", f"{shown} is not a URI that is understood here", fix=_ALLOWED)
    if uri.startswith(("/", "~", "\\")) or re.match(r"^[A-Za-z]:[\\/]", uri):
        fix = f"Write file://{shown} for data outside the project." if uri.startswith("/") else _ALLOWED
        raise Problem("Invalid", f"{shown} is not relative to the project", fix=fix)
    parts: list[str] = []
    for part in uri.split("/"):
        if part == "..":
            if not parts:
                raise Problem(
                    "Invalid",
                    f"{shown} leaves the project",
                    fix="Keep it inside the project, or declare data outside it as an absolute file:// URI.",
                )
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return InProject("/".join(parts))


_ALLOWED = "Use a relative path or a file://, s3://, gs://, abfss:// or az:// URI."


def _from_uri(scheme: str, uri: str, shown: str) -> Place:
    rest = uri.partition("://")[2]
    if "::" in uri or not rest:
        raise Problem("Invalid", f"{shown} is not a URI that is understood here", fix=_ALLOWED)
    if scheme == "file":
        path = rest.removeprefix("localhost")
        if not path.startswith("/"):
            raise Problem(
                "Invalid", f"{shown} is not absolute", fix="Write file:///absolute/path, or a relative path."
            )
        if ".." in path.split("/"):
            raise Problem("Invalid", f"{shown} contains '..'", fix="Write the path without '..'.")
        return OnDisk(Path(path))
    if scheme not in STORES:
        raise Problem("Invalid", f"{shown}: the scheme {scheme}:// is not supported", fix=_ALLOWED)
    return InStore(scheme, f"{scheme}://{rest}")
