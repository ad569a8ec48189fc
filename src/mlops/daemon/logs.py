"""The daemon's log: one line an event, for programs; short lines where a person looks on.

    from mlops.daemon.logs import event
    event("InForce", "revision 1a2b3c4d is in force", revision=sha, seconds=0.4)

Writing it never raises and never stops the daemon: where a disk is full or nobody reads the pipe, lines are
dropped, and counted in the first line that comes through again.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TextIO

LOGGER: Final = logging.getLogger("mlops")
LONGEST: Final = 16_384  # characters of one value
RETRYING: Final = "urllib3.connectionpool"  # warns of each try of a call; who called tells that it failed
_PIECE: Final = (
    select.PIPE_BUF
)  # bytes that a pipe takes without blocking when it says that it can be written to
_PATIENCE: Final = 0.5  # seconds that a reader who does not read can cost, once
_FOR_PROGRAMS: Final = frozenset({"again", "cause", "result"})  # fields that the message tells people already


def event(
    name: str, message: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: Any
) -> None:
    """Log one event.

    Args:
        name: what happened, for programs: one word.
        message: the same for people, one sentence.
        error: its type becomes a field, and its traceback where it is a defect of this program.
        fields: resource, step, revision, seconds, reason, … ; those that are None are left out.
    """
    exc = (type(error), error, error.__traceback__) if error is not None else None
    LOGGER.log(level, "%s", message, exc_info=exc, extra={"event": name, "fields": fields})


@contextmanager
def logging_to(
    stream: TextIO, redact: Callable[[str], str], *, level: int = logging.INFO, human: bool | None = None
) -> Iterator[None]:
    """Send all logging of the process to `stream` meanwhile, also that of libraries (from WARNING on).

    Args:
        redact: masks secrets; every line goes through it.
        human: short lines for people instead of JSON; by default where `stream` is a terminal.
    """
    human = stream.isatty() if human is None else human
    handler = Lines(stream)
    handler.setFormatter((ForPeople if human else ForPrograms)(redact))
    handler.addFilter(lambda record: record.name != RETRYING or record.levelno > logging.WARNING)
    root = logging.getLogger()
    handlers, root_level, own_level = root.handlers[:], root.level, LOGGER.level
    mlflow = os.environ.get("MLFLOW_CONFIGURE_LOGGING")
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(level)
    logging.captureWarnings(True)
    os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"  # else it writes to stderr itself, in lines of its own
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(root_level)
        LOGGER.setLevel(own_level)
        if mlflow is None:
            del os.environ["MLFLOW_CONFIGURE_LOGGING"]
        else:
            os.environ["MLFLOW_CONFIGURE_LOGGING"] = mlflow


class ForPrograms(logging.Formatter):
    """JSON: `ts`, `level`, `event`, `message`, then the event's own fields."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "event": _event_of(record),
            "message": _clean(record.getMessage(), self._redact),
        }
        for name, value in _fields(record).items():
            row.setdefault(name, _value(value, self._redact))
        return printable(json.dumps(row, ensure_ascii=False))


class ForPeople(logging.Formatter):
    """`12:03:04 event  message  name=value …`: what a step names is left out, and a sha is cut."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        fields = _fields(record)
        trace = fields.pop("traceback", "")
        hidden = _FOR_PROGRAMS | {"resource"} if "step" in fields else _FOR_PROGRAMS
        short = {name: _short(name, value) for name, value in fields.items() if name not in hidden}
        shown = " ".join(f"{name}={_value(value, self._redact)}" for name, value in short.items())
        line = f"{moment} {level}{_event_of(record)}  {self._redact(record.getMessage())}  {shown}".rstrip()
        trace = "".join(f"\n{printable(part)}" for part in self._redact(trace).splitlines())
        return printable(line) + trace


class Lines(logging.Handler):
    """Writes lines to a file, a terminal or a pipe, without ever raising or waiting for long."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self.lost = 0
        self._stuck = False  # nobody read the pipe when last tried
        self._cut = False  # the last line was written in part
        try:
            self._file: int | None = stream.fileno()
        except (AttributeError, io.UnsupportedOperation, ValueError):
            self._file = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a value that cannot be shown must not stop what logged it
            line = json.dumps({"level": "error", "event": "LineBroken", "message": type(error).__name__})
        note = f'{{"level": "warning", "event": "LinesLost", "lines": {self.lost}}}\n' if self.lost else ""
        start = "\n" if self._cut else ""
        if self._write(f"{start}{note}{line}\n".encode("utf-8", "backslashreplace")):
            self.lost = 0
        else:
            self.lost += 1

    def _write(self, data: bytes) -> bool:
        if self._file is None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(data.decode())
                self._stream.flush()
                return True
            return False
        written = 0
        try:
            while written < len(data):
                if not self._ready(self._file):
                    break
                written += os.write(self._file, data[written : written + _PIECE])
        except OSError:  # a full disk, a reader that has gone
            pass
        self._stuck = written < len(data)
        self._cut = self._stuck and (written > 0 or self._cut)
        return not self._stuck

    def _ready(self, file: int) -> bool:
        """Whether a piece can be written now, or soon; who did not read the last time is not waited for."""
        poller = select.poll()
        poller.register(file, select.POLLOUT)
        found = poller.poll(0 if self._stuck else 1000 * _PATIENCE)
        return bool(found and found[0][1] & select.POLLOUT)


def printable(text: str) -> str:
    """`text` on one line, `\\uXXXX` for what could steer a terminal or forge a line; JSON stays the same JSON."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _event_of(record: logging.LogRecord) -> str:
    return str(getattr(record, "event", None) or record.name)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
    if record.exc_info and record.exc_info[1] is not None:
        from mlops.errors import MlopsError

        error = record.exc_info[1]
        found["error"] = type(error).__name__
        if not isinstance(error, MlopsError):
            found["traceback"] = logging.Formatter().formatException(record.exc_info)
    return found


def _short(name: str, value: Any) -> Any:
    match name, value:
        case "revision", str():
            return value[:12]
        case "seconds", float():
            return round(value, 2)
    return value


def _value(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, list | tuple):
        return [_value(item, redact) for item in value]
    if isinstance(value, float):
        return round(value, 6) if value - value == 0 else str(value)
    return value if isinstance(value, bool | int) else _clean(str(value), redact)


def _clean(text: str, redact: Callable[[str], str]) -> str:
    text = redact(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
