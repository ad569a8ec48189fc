"""Who holds a lease, and whether that process provably died."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, identified so that no later process is mistaken for it.

    `boot` names the host's boot and the process's namespaces: only within it do `pid` and `started` mean
    anything. `started` is in the system's own ticks, `since` in seconds since the epoch. `command` is shown
    to people and must hold no secret.
    """

    host: str
    boot: str
    pid: int
    started: int
    command: str
    since: float

    @classmethod
    def current(cls, command: str, *, now: float) -> Holder:
        """This process; `now` is the wall time in seconds."""
        pid = os.getpid()
        return cls(os.uname().nodename, _boot(), pid, _started(pid) or 0, command, now)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Holder:
        """Read what `to_json` wrote."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)

    def provably_dead(self) -> bool:
        """True only where nothing else is possible: same boot and namespaces, and no such process is left."""
        if self.boot != _boot() or not self.boot:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # there is such a process, of another user
        started = _started(self.pid)
        return started is not None and self.started != 0 and (started != self.started or _zombie(self.pid))


def _boot() -> str:
    """The boot and the namespaces that give a pid and its start time their meaning; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        spaces = [Path("/proc/self/ns/pid").readlink(), Path("/proc/self/ns/time").readlink()]
        return f"{boot}/{spaces[0]}/{spaces[1]}"
    except OSError:
        pass  # not Linux, or an older one
    import psutil

    if psutil.LINUX:
        return ""  # without namespaces a pid may be another container's
    return f"{os.uname().nodename}/{int(psutil.boot_time())}"


def _started(pid: int) -> int | None:
    """When a process started, in ticks since boot; None where that cannot be seen."""
    try:
        return int(_stat(pid)[19])
    except (OSError, ValueError, IndexError):
        pass
    import psutil

    if psutil.LINUX:
        return None
    try:
        return int(psutil.Process(pid).create_time() * 1000)
    except psutil.Error:
        return None


def _zombie(pid: int) -> bool:
    """Whether the process ended and only its parent has not looked yet."""
    try:
        # The first thread may end before the others; then the process goes on.
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return _stat(pid)[0] in ("Z", "X") and len(threads) <= 1
    except (OSError, IndexError):
        return False


def _stat(pid: int) -> list[str]:
    # The name in parentheses may hold anything, also parentheses.
    return Path(f"/proc/{pid}/stat").read_bytes().decode("ascii", "replace").rpartition(")")[2].split()
