"""Kill this process at its n-th write of a kind, wherever that write is in the code.

The points are found and not listed: every commit of a database transaction that holds a change (MLflow's
and the state's), every file copied, renamed, made or removed, every folder made or removed, and every
process started counts as a write. A copy that is fatal leaves half of its bytes behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Counter:
    """Counts writes by kind; at the `fatal` one (kind, number) the process kills itself, before or after it."""

    def __init__(self, fatal: tuple[str, int] | None, *, after: bool) -> None:
        self.counts: dict[str, int] = {}  # by kind: mlflow, state, or the function's name
        self._fatal = fatal
        self._after = after
        self._lock = threading.Lock()

    def around(
        self,
        kind: str,
        write: Callable[..., Any],
        *,
        counts: Callable[..., Any] = lambda *_, **__: True,
        torn: Callable[..., Any] = lambda *_, **__: None,
    ) -> Callable[..., Any]:
        """`write`, counted where `counts` of its arguments says so; `torn` does a part of it."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            if not counts(*args, **kwargs):
                return write(*args, **kwargs)
            with self._lock:
                self.counts[kind] = self.counts.get(kind, 0) + 1
                here = (kind, self.counts[kind]) == self._fatal
            if here and not self._after:
                torn(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)
            result = write(*args, **kwargs)
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


def count_writes(fatal: tuple[str, int] | None = None, *, after: bool = False) -> Counter:
    """From now on count this process's writes."""
    from sqlalchemy.engine.default import DefaultDialect

    counter = Counter(fatal, after=after)
    for owner, name in (
        (os, "rename"),
        (os, "replace"),
        (os, "mkdir"),
        (os, "rmdir"),
        (os, "unlink"),
    ):
        setattr(owner, name, counter.around(name, getattr(owner, name)))
    start = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    subprocess.Popen._execute_child = counter.around("process", start)  # type: ignore[attr-defined]
    shutil.copyfile = counter.around("copyfile", shutil.copyfile, torn=_half_a_copy)
    os.open = counter.around("open", os.open, counts=_makes_a_file)
    DefaultDialect.do_commit = counter.around(  # type: ignore[method-assign]
        "mlflow", DefaultDialect.do_commit, counts=lambda _, connection: connection.in_transaction
    )
    connect = sqlite3.connect

    def connected(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        kwargs.setdefault("factory", _counting(counter))
        return connect(*args, **kwargs)

    sqlite3.connect = connected  # type: ignore[assignment]
    return counter


def _half_a_copy(source: Any, target: Any, **_: Any) -> None:
    data = Path(source).read_bytes()
    Path(target).write_bytes(data[: len(data) // 2])


def _makes_a_file(path: Any, flags: int, *_: Any, **__: Any) -> bool:
    return bool(flags & (os.O_CREAT | os.O_TRUNC))


def _counting(counter: Counter) -> type[sqlite3.Connection]:
    class Counting(sqlite3.Connection):
        writing = False

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            word = sql.strip().upper()
            if word.startswith("BEGIN"):
                self.writing = word.startswith("BEGIN IMMEDIATE")
            if word.startswith("COMMIT") and self.writing:
                return counter.around("state", super().execute)(sql, *args)  # type: ignore[no-any-return]
            return super().execute(sql, *args)

    return Counting
