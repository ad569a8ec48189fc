"""What a job is and what an executor does with it; every executor, built in or installed, keeps this."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mlops.errors import Stalled

State = Literal["unknown", "starting", "running", "exited", "lost"]
Cause = Literal["timeout", "memory", "cancelled", "spawn"] | None

LOG_CHUNK = 1024 * 1024  # bytes that one call of `log` returns at most, unless told

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One execution of a command, asked for by an id that the caller never uses for another one.

    `env` is the whole environment of the command (see `job_environment`), `timeout` is in seconds, `memory`
    in bytes of the whole process tree, and `output` is a folder that is made for the job and told to it as
    MLOPS_OUTPUT.
    """

    id: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    timeout: float | None
    memory: int | None
    output: Path


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a job stands; times are seconds since the epoch.

    `unknown`: never started, or its start was cut off before anything ran: start it. `exited`: it ended by
    itself or by a limit (`cause`), with the first process's `exit_code` or `signal`. `lost`: it ran and its
    end was not seen; nothing of it runs any more.
    """

    state: State
    exit_code: int | None = None
    signal: int | None = None
    cause: Cause = None
    started_at: float | None = None
    ended_at: float | None = None
    message: str | None = None

    @property
    def ended(self) -> bool:
        """Whether this status is final."""
        return self.state in ("exited", "lost")

    @property
    def succeeded(self) -> bool:
        """Whether the command ended by itself with exit code 0."""
        return self.state == "exited" and self.exit_code == 0 and self.cause is None


class Executor(Protocol):
    """Starts jobs and finds them again, also those that a dead reconciler started."""

    def start(self, spec: JobSpec) -> None:
        """Start the job once: a second start of a known id does nothing, in any process, at any time."""
        ...

    def poll(self, id: str) -> JobStatus:
        """How the job stands now; cheap, starts no process."""
        ...

    def wait(self, ids: Iterable[str], timeout: float | None = None) -> dict[str, JobStatus]:
        """Block until one of the jobs is neither starting nor running; returns all that are so by then.

        An empty result means that `timeout` (seconds) has passed or that `ids` was empty.
        """
        ...

    def cancel(self, id: str) -> None:
        """Ask the job to end; returns at once. Does nothing for a job that is not running."""
        ...

    def log(self, id: str, offset: int = 0, limit: int = LOG_CHUNK) -> bytes:
        """At most `limit` bytes of the command's output from byte `offset`; empty when there are none."""
        ...

    def log_path(self, id: str) -> Path:
        """The file that holds the log, which may not exist yet."""
        ...

    def jobs(self) -> tuple[str, ...]:
        """Ids of all jobs that are not forgotten, sorted."""
        ...

    def forget(self, id: str) -> None:
        """Remove what is kept of a job; raises MlopsError while it runs."""
        ...


def check_id(id: str) -> str:
    """The id, if it can name a folder; raises Stalled otherwise."""
    if not _ID.fullmatch(id):
        raise Stalled(
            f"{id[:140]!r} is not a job id",
            fix="Use up to 128 letters, digits, dots, dashes and underscores.",
        )
    return id
