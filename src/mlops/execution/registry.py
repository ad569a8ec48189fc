"""Executors by name: `local` is built in, others come with installed packages, as entry points.

An entry point of the group `mlops.executors` names a callable that takes the folder where the executor may
keep its files and returns an `Executor`.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from mlops.errors import Stalled
from mlops.execution.jobs import Executor
from mlops.execution.local import LocalExecutor

GROUP = "mlops.executors"


def installed() -> tuple[str, ...]:
    """Names of all executors that can be asked for, sorted."""
    return tuple(sorted({"local", *_others()}))


def executor(name: str, home: Path) -> Executor:
    """The executor of this name with its files under `home`; Stalled if there is none or it cannot load."""
    if name == "local":
        return LocalExecutor(home)
    entry = _others().get(name)
    if entry is None:
        raise Stalled(
            f"there is no executor {name[:80]!r}",
            fix=f"Use one of {', '.join(installed())}, or install the package that brings it.",
        )
    try:
        made: Executor = entry.load()(home)
    except Exception as error:  # the code of another package: whatever it raises must stop only its jobs
        raise Stalled(
            f"the executor {name!r} could not be loaded: {type(error).__name__}",
            where=entry.value,
            fix="Repair or upgrade the package that brings it.",
        ) from error
    return made


def _others() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
