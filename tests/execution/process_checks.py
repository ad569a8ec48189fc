"""Questions about processes that the tests ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mlops.execution.local import LocalExecutor


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether the condition comes true before the (generous) limit."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    """Whether there is no living process of this id (a zombie does not live)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")


def supervisor_of(executor: LocalExecutor, id: str) -> int:
    """The pid of the supervisor of a started job."""
    record = (executor.log_path(id).parent / "started").read_text()
    return int(record.split()[1])
