"""Python environments, locked and built by uv, kept under the digest of what they were declared as.

An environment is built under a temporary name and renamed when it is whole, under a lock of its own: a killed
build leaves nothing that could be taken for an environment, and two processes build it once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops.errors import Stalled
from mlops.execution import requirements, uv
from mlops.execution.requirements import EnvironmentSpec, environment_digest

__all__ = ["Environment", "EnvironmentSpec", "environment_digest", "own_environment", "prepare"]

_MARKER = "mlops-environment.json"
_DISTRIBUTION = re.compile(r"(.+)-([^-]+)\.dist-info")
_OURS = "mlops-controller"  # what trains a model does not need what declared it


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that can be used: `bin` goes first on PATH, `lock` is its `name==version` lines."""

    digest: str
    bin: Path
    lock: str
    python: Path


def prepare(
    spec: EnvironmentSpec,
    cache: Path,
    log: Callable[[str], None],
    *,
    environ: Mapping[str, str] | None = None,
) -> Environment:
    """The environment of this declaration, built if it is not in the cache yet or is broken there.

    Args:
        spec: what is declared; with a lock exactly that is installed, else the requirements are resolved and
            the result kept beside the environment as `requirements.lock`.
        cache: a folder of this machine.
        log: called with the lines that uv prints, without credentials and without lists of packages.
        environ: variables, of which uv is shown its own, proxies and certificates; default `os.environ`.

    Raises Stalled when a human has to change something (no such package, no such Python), Transient when an
    index could not be reached.
    """
    digest = environment_digest(spec)
    target = cache.absolute() / _folder_name(spec, digest)
    ready = _load(target, digest)
    if ready is not None:
        return ready
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f".{target.name}.lock", log):
        ready = _load(target, digest)  # somebody else may have built it meanwhile
        if ready is not None:
            return ready
        for abandoned in cache.glob(f".{target.name}-*"):
            shutil.rmtree(abandoned, ignore_errors=True)  # of a build that was killed
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=cache.absolute()))
        try:
            built = _build(spec, digest, work, log, os.environ if environ is None else environ)
            if target.exists():
                target.rename(work / "broken")
            built.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    ready = _load(target, digest)
    if ready is None:
        raise Stalled(
            "the environment was built but is not whole",
            where=str(target),
            fix="See whether something removes files there, then try again.",
        )
    return ready


def own_environment() -> Environment:
    """The environment that the reconciler itself runs in; its own package is left out of `lock`."""
    lock = _installed(Path(entry) for entry in sys.path if entry)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    content = json.dumps({"kind": "own", "packages": lock, "python": version}, sort_keys=True)
    digest = f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    python = Path(sys.executable)
    return Environment(digest, python.parent, "".join(f"{line}\n" for line in lock), python)


def _folder_name(spec: EnvironmentSpec, digest: str) -> str:
    """One folder for each declaration, platform and, where none is declared, version of Python."""
    version = spec.python or platform.python_version()
    where = re.sub(r"[^A-Za-z0-9.]+", "", f"{sys.platform}.{platform.machine()}")
    return f"{digest.removeprefix('sha256:')[:32]}-{version}-{where}"


def _build(
    spec: EnvironmentSpec, digest: str, work: Path, log: Callable[[str], None], environ: Mapping[str, str]
) -> Path:
    """Build the environment in `work` and return its folder, whole and marked as such."""
    log(f"building the environment {digest[:19]}")
    folder, pins = work / "env", work / "requirements.lock"
    tool = uv.Uv(work, environ, log)
    tool.create(folder, spec.python)
    python = folder / "bin" / "python"
    if spec.lock is not None:
        pins.write_bytes(spec.lock)
    else:
        wanted = work / "requirements.txt"
        wanted.write_bytes(spec.requirements)
        resolved = tool.resolve(wanted, python)
        where = "".join(f"{line}\n" for line in requirements.options(spec.requirements))
        pins.write_text(where + resolved)
        (folder / "requirements.lock").write_text(resolved)
    tool.install(pins, python)
    marker = {"digest": digest, "installed": _installed(_site_packages(folder))}
    with (folder / _MARKER).open("w") as file:
        json.dump(marker, file)
        file.flush()
        os.fsync(file.fileno())
    return folder


def _load(folder: Path, digest: str) -> Environment | None:
    """The cached environment, or None if there is none or something of it is gone."""
    try:
        marker = json.loads((folder / _MARKER).read_bytes())
    except (OSError, ValueError):  # not built, or not readable any more: it is built again
        return None
    python = folder / "bin" / "python"
    lock = _installed(_site_packages(folder))
    if marker.get("digest") != digest or marker.get("installed") != lock or not os.access(python, os.X_OK):
        return None
    return Environment(digest, folder / "bin", "".join(f"{line}\n" for line in lock), python)


def _site_packages(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("lib/python*/site-packages"))


def _installed(folders: Iterable[Path]) -> list[str]:
    """`name==version` of each distribution in these folders, sorted, by the names of their records.

    The first folder wins, as it does for imports. Reading names is a hundred times cheaper than reading
    metadata, and this stands on the way of every plan.
    """
    found: dict[str, str] = {}
    for folder in folders:
        try:
            names = sorted(entry.name for entry in os.scandir(folder))
        except OSError:  # an entry of sys.path that is a zip file or does not exist
            continue
        for name in names:
            match = _DISTRIBUTION.fullmatch(name)
            if match:
                found.setdefault(requirements.canonical_name(match.group(1)), match.group(2))
    found.pop(_OURS, None)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


@contextmanager
def _locked(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log("another process builds this environment: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
