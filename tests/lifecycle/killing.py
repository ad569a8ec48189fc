"""Kill this process at its n-th write, wherever that write is in the code.

The points are found and not listed: every commit of a database transaction (MLflow's and the state's),
every rename, folder made, and process started counts as a write. `count_writes` only counts them.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from typing import Any


class Counter:
    """Counts writes; at number `fatal` the process kills itself, before or after the write is done."""

    def __init__(self, fatal: int | None, *, after: bool) -> None:
        self.count = 0
        self._fatal = fatal
        self._after = after
        self._lock = threading.Lock()

    def around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.count += 1
                here = self.count == self._fatal
            if here and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = write(*args, **kwargs)
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


def count_writes(fatal: int | None = None, *, after: bool = False) -> Counter:
    """From now on count this process's writes."""
    from sqlalchemy.engine.default import DefaultDialect

    counter = Counter(fatal, after=after)
    for owner, name in (
        (os, "rename"),
        (os, "replace"),
        (os, "mkdir"),
        (DefaultDialect, "do_commit"),
        (subprocess.Popen, "_execute_child"),
    ):
        setattr(owner, name, counter.around(getattr(owner, name)))
    connect = sqlite3.connect

    def connected(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        kwargs.setdefault("factory", _counting(counter))
        return connect(*args, **kwargs)

    sqlite3.connect = connected  # type: ignore[assignment]
    return counter


def _counting(counter: Counter) -> type[sqlite3.Connection]:
    class Counting(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql.strip().upper().startswith(("COMMIT", "END")):
                return counter.around(super().execute)(sql, *args)  # type: ignore[no-any-return]
            return super().execute(sql, *args)

    return Counting
