"""What the end of a job means, in one or two sentences that a data scientist can act on.

The log is somebody else's text: it is bounded before it is searched, every pattern is bounded, and what is
quoted carries no terminal control and no credentials.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from mlops.execution.jobs import JobStatus
from mlops.execution.known_failures import recognise
from mlops.execution.plain_text import fit_to_show

_SEARCHED = 64 * 1024  # characters of the log's end
_QUOTED = 300  # characters of an exception that are quoted

_FRAME = re.compile(r'^\s{1,40}File "([^"\n]{1,500})", line (\d{1,9})', re.MULTILINE)
_RAISED = re.compile(r"^([A-Za-z_][\w.]{0,200}(?::[^\n]{0,2000})?)$", re.MULTILINE)
_TRACEBACK = "Traceback (most recent call last):"


@dataclass(frozen=True, slots=True)
class Raised:
    """The last exception that a log shows: its one line, and the place in the user's code."""

    line: str
    place: str | None  # file:line


def diagnose(
    status: JobStatus,
    log_tail: str,
    *,
    timeout: float | None = None,
    memory: int | None = None,
    source: Path | None = None,
) -> str:
    """Why the job ended as it did, and what to do.

    Args:
        status: how it ended.
        log_tail: the end of its log; the last 64 Ki characters are looked at.
        timeout: its limit in seconds, if it had one.
        memory: its limit in bytes, if it had one.
        source: the folder that the code ran in; files below it are named relative to it.
    """
    log = fit_to_show(log_tail[-_SEARCHED:])
    match status.cause:
        case "cancelled":
            return "It was cancelled."
        case "timeout":
            limit = f" of {_duration(timeout)}" if timeout is not None else ""
            return f"It ran into its time limit{limit}. Raise `timeout`, or make the work smaller."
        case "memory":
            limit = f" of {_size(memory)}" if memory is not None else ""
            used = f" ({status.message})" if status.message else ""
            return (
                f"It needed more memory than its limit{limit}{used}. "
                "Raise `resources.memory`, or load less data at a time."
            )
        case "spawn":
            return _not_spawned(status.message or "the command could not be executed")
    if status.state == "lost":
        why = f": {status.message}" if status.message else ""
        return f"Its end was not seen{why}. It counts as failed and may be tried again."
    if status.state != "exited":
        return f"It has not ended: it is {status.state}."
    if status.succeeded:
        return "It ended well."
    ended = _ended(status)
    known = recognise(log[max(0, log.rfind(_TRACEBACK)) :])  # earlier ones were handled, or led to the last
    if known:
        return f"{ended}: {known}" if status.signal is None else f"{ended}. {_sentence(known)}"
    raised = last_exception(log, source)
    if raised is not None:
        place = f" at {raised.place}" if raised.place else ""
        return f"{ended}: {raised.line}{place}."
    if status.signal is not None or (status.exit_code or 0) > 128:
        return f"{ended}. {_signal_advice(_signal_number(status))}"
    return f"{ended}. {_exit_advice(status.exit_code or 0, log)}"


def last_exception(log: str, source: Path | None = None) -> Raised | None:
    """The exception of the last Python traceback in a log, if there is one."""
    at = log.rfind(_TRACEBACK)
    if at < 0:
        return None
    text = log[at + len(_TRACEBACK) :]
    line = next((m.group(1) for m in _RAISED.finditer(text) if m.group(1) != _TRACEBACK), None)
    if line is None:
        return None
    frames = [(m.group(1), m.group(2)) for m in _FRAME.finditer(text)]
    own = [f for f in frames if not _is_library(f[0])] or frames
    place = f"{_relative(own[-1][0], source)}:{own[-1][1]}" if own else None
    short = line if len(line) <= _QUOTED else f"{line[: _QUOTED - 1]}…"
    return Raised(short.rstrip("."), place)


def _is_library(file: str) -> bool:
    return any(part in file for part in ("site-packages", "dist-packages", "/lib/python", "<frozen"))


def _relative(file: str, source: Path | None) -> str:
    path = Path(file)
    if source is not None and path.is_relative_to(source):
        return str(path.relative_to(source))
    return path.name


def _ended(status: JobStatus) -> str:
    number = _signal_number(status)
    if status.signal is not None:
        return f"It was killed by {_signal_name(number)}"
    if number:
        return f"It ended with exit code {status.exit_code}, as after {_signal_name(number)}"
    return f"It ended with exit code {status.exit_code}"


def _signal_number(status: JobStatus) -> int:
    """The signal; a shell tells of it by 128 added to it."""
    code = status.exit_code or 0
    return status.signal or (code - 128 if 128 < code <= 128 + 64 else 0)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _signal_advice(number: int) -> str:
    match number:
        case signal.SIGKILL:
            return (
                "Most likely the machine ran out of memory: load less data at a time, run fewer trials in "
                "parallel, or set `resources.memory` so that the limit is found here."
            )
        case signal.SIGSEGV | signal.SIGILL | signal.SIGFPE | signal.SIGABRT:
            return (
                "That is a crash in compiled code of a library: check that the versions in the requirements "
                "fit together and support this machine."
            )
        case signal.SIGBUS:
            return "Shared memory ran out: use fewer data loader workers, or a larger /dev/shm."
        case signal.SIGTERM | signal.SIGINT | signal.SIGHUP:
            return "Somebody or something outside asked it to end."
        case signal.SIGXCPU | signal.SIGXFSZ:
            return "A limit of the machine (ulimit) was reached."
        case _:
            return "See its log."


def _exit_advice(code: int, log: str) -> str:
    if code == 127:
        return "A command inside it was not found: see its log."
    if code == 126:
        return "A command inside it is not executable: see its log."
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return "It printed nothing that says why."
    last = lines[-1] if len(lines[-1]) <= _QUOTED else f"{lines[-1][: _QUOTED - 1]}…"
    return f"Its last output was: {last}"


def _not_spawned(message: str) -> str:
    if "not found" in message:
        fix = "Correct `command`, or add the package that brings it to the environment's requirements."
    elif "not executable" in message:
        fix = (
            "Run it with `python`; or make it executable (git update-index --chmod=+x) and apply with "
            "--retry-stalled, as a file's mode is no part of a trial."
        )
    else:
        fix = "Correct `command`."
    return f"It could not be started: {message}. {fix}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _size(number: int) -> str:
    for size, unit in ((2**30, "Gi"), (2**20, "Mi")):
        if number >= size and number % size == 0:
            return f"{number // size}{unit}"
    return f"{number} bytes"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
