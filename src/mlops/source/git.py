"""The one place that starts the git executable: hardened, bounded, and without a shell."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops.errors import MlopsError, Transient
from mlops.source.hardening import HARDENING, NO_PROMPT, Network, environment

TIME_LIMIT = 120.0
"""Seconds that one git command may take, or that a stream of objects may stand still."""
OUTPUT_LIMIT = 256 * 1024 * 1024
"""Bytes that one git command may print."""

_CREDENTIALS = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")
_ERRORS_KEPT = 16 * 1024  # bytes of the end of stderr
_CHUNK = 256 * 1024


class NotARepository(MlopsError):
    """There is no git repository at or above a path."""


@dataclass(frozen=True, slots=True)
class Output:
    """How a git command ended; `stderr` is its last part, redacted."""

    status: int
    stdout: bytes
    stderr: str


def shown(text: str) -> str:
    """`text` as it may be printed: undecodable bytes and control characters escaped, credentials removed."""
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)
    return _CREDENTIALS.sub(r"\1***@", printable)


def _unwatched(command: str, seconds: float, failed: bool) -> None:
    return


on_call: Callable[[str, float, bool], None] = _unwatched
"""Told of each git command that ended, for metrics; set by whoever owns the process."""


class Conversation:
    """A git process that is fed and read at the same time, so that neither side can block the other.

    Args:
        arguments: the git command and its arguments; user values stand behind `--end-of-options` or `--`.
        cwd: where git runs, which is how it finds the repository.
        feed: chunks for its standard input, taken as git reads them.
        extra: variables added to its environment.
        network: what it may reach, None for nothing.
    """

    def __init__(
        self,
        arguments: Sequence[str | bytes],
        cwd: Path,
        feed: Iterable[bytes] | None = None,
        extra: Mapping[str, str] | None = None,
        network: Network | None = None,
    ) -> None:
        variables = environment(extra, network)
        executable = shutil.which("git", path=variables["PATH"])
        if executable is None:
            raise MlopsError("git was not found on PATH", fix="Install git 2.31 or newer.")
        self.arguments = arguments
        self.cwd = cwd
        self._began = time.monotonic()
        self._told = False
        try:
            self._process = subprocess.Popen(
                [executable, "--no-pager", *HARDENING, *(NO_PROMPT if network is None else ()), *arguments],
                cwd=cwd,
                env=variables,
                stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # no terminal to prompt on, and one group to kill
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as problem:
            message = f"git cannot run in this folder: {problem.strerror}"
            raise MlopsError(
                message, where=shown(str(cwd)), fix="See that it exists and may be read."
            ) from problem
        self._feed: Iterator[bytes] = iter(feed or ())
        self._pending = memoryview(b"")
        self._errors = b""
        self._open = 2
        self._poll = select.poll()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._poll.register(pipe.fileno(), select.POLLIN | select.POLLHUP)
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)
            self._poll.register(self._process.stdin.fileno(), select.POLLOUT)

    def chunk(self, seconds: float) -> bytes:
        """The next bytes of its output, b"" at the end; raises MlopsError when it stands still too long."""
        end = time.monotonic() + seconds
        while self._open:
            data, heard = self._turn(max(0.0, end - time.monotonic()))
            if data:
                return data
            if not heard and time.monotonic() >= end:
                raise Transient(
                    f"git {self.name} took too long and was stopped",
                    where=shown(str(self.cwd)),
                    fix="See whether its disk answers; large repositories get faster after `git gc`.",
                )
        return b""

    def heard(self, seconds: float) -> bool | None:
        """Waits up to `seconds` for a sign of life: whether there was one, None when it has ended.

        Its output is not kept. A child that outlives it with its pipes open, as a shared ssh connection may,
        does not keep it alive.
        """
        heard = bool(self._open) and self._turn(seconds)[1]
        return heard or (None if not self._open or self._process.poll() is not None else False)

    @property
    def pid(self) -> int:
        """The process, which leads a group of everything that it started."""
        return self._process.pid

    @property
    def name(self) -> str:
        """The git command, for messages."""
        words = (w.decode("utf-8", "replace") if isinstance(w, bytes) else w for w in self.arguments)
        return next((w for w in words if re.fullmatch(r"[a-z][a-z-]*", w)), "")

    def finish(self, seconds: float = 10.0) -> tuple[int, str]:
        """Its exit status and the end of its stderr, after the output was read to the end."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired as problem:
            message = f"git {self.name} closed its output but did not end"
            raise Transient(message, where=shown(str(self.cwd))) from problem
        return status, self._errors.decode("utf-8", "surrogateescape")

    def close(self) -> None:
        """Ends it if it still runs, with everything it started, and closes the pipes."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if not self._told:
            self._told = True
            failed = self._process.returncode not in (0, 1)  # 1 is an answer: no
            on_call(self.name, time.monotonic() - self._began, failed)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _turn(self, seconds: float) -> tuple[bytes, bool]:
        """Feeds and reads once: what it printed, and whether anything went in or out within `seconds`."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        data = b""
        ready = {fd for fd, _ in self._poll.poll(seconds * 1000)}
        if self._process.stdin is not None and self._process.stdin.fileno() in ready:
            self._write()
        if self._process.stderr.fileno() in ready:
            self._errors = (self._errors + self._take(self._process.stderr.fileno()))[-_ERRORS_KEPT:]
        if self._process.stdout.fileno() in ready:
            data = self._take(self._process.stdout.fileno())
        return data, bool(ready)

    def _take(self, descriptor: int) -> bytes:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            self._poll.unregister(descriptor)
            self._open -= 1
        return data

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            while True:
                if not self._pending:
                    chunk = next(self._feed, None)
                    if chunk is None:
                        break
                    self._pending = memoryview(chunk)
                self._pending = self._pending[os.write(pipe.fileno(), self._pending) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._pending = memoryview(b"")  # git ended early; its status and stderr say why
        self._poll.unregister(pipe.fileno())
        pipe.close()
        self._process.stdin = None


def run(
    arguments: Sequence[str | bytes],
    cwd: Path,
    *,
    feed: Iterable[bytes] | None = None,
    accept: Sequence[int] = (0,),
    seconds: float = TIME_LIMIT,
    limit: int = OUTPUT_LIMIT,
    extra: Mapping[str, str] | None = None,
    network: Network | None = None,
) -> Output:
    """Runs one git command to its end.

    Args:
        arguments: the command, without `git`; user values stand behind `--end-of-options` or `--`.
        cwd: the folder it runs in.
        feed: chunks for its standard input.
        accept: exit statuses that are answers; any other raises.
        seconds: time after which it is killed.
        limit: bytes of output after which it is killed.
        extra: variables added to its environment.
        network: the one transport that it may use; none by default.

    Raises:
        MlopsError: git is missing, refused, took too long or printed too much.
    """
    talk = Conversation(arguments, cwd, feed, extra, network)
    end = time.monotonic() + seconds
    parts: list[bytes] = []
    size = 0
    try:
        while data := talk.chunk(end - time.monotonic()):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise MlopsError(
                    f"git {talk.name} printed more than {limit} bytes and was stopped",
                    where=shown(str(cwd)),
                    fix="The repository holds too many files for one project; split it.",
                )
        status, errors = talk.finish()
    finally:
        talk.close()
    if status not in accept:
        raise failure(talk.name, status, errors, cwd)
    return Output(status, b"".join(parts), _CREDENTIALS.sub(r"\1***@", errors))


def failure(name: str, status: int, errors: str, cwd: Path) -> MlopsError:
    """The error for a git command that ended with a status nobody expected."""
    where = shown(str(cwd))
    if "dubious ownership" in errors or "unsafe repository" in errors:
        return MlopsError(
            "git refuses this repository because it belongs to another user",
            where=where,
            fix="Run mlops as its owner, or, if you trust it: "
            f"git config --global --add safe.directory {where}",
        )
    if "not a git repository" in errors:
        return NotARepository("there is no git repository here", where=where, fix="Run: git init")
    if "promisor remote" in errors or "not our ref" in errors or "lazy fetch" in errors:
        return MlopsError(
            "an object is missing because this is a partial clone",
            where=where,
            fix="Clone it without --filter, or run: git fetch --refetch --no-filter",
        )
    if ".lock': File exists" in errors:
        return Transient("another git command is writing to this repository", where=where)
    if "ignored by one of your .gitignore" in errors:
        fix = "Name other files, or change .gitignore."
        return MlopsError("a file that .gitignore leaves out was named", where=where, fix=fix)
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith("hint:")]
    said = next((line for line in lines if line.startswith("fatal:")), lines[-1] if lines else "")
    said = shown(said.removeprefix("fatal:").removeprefix("error:").strip())[:300]
    killed = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
    return MlopsError(f"git {name} {killed}" + (f": {said}" if said else ""), where=where)


def without_filters(cwd: Path) -> tuple[str, ...]:
    """Options that switch off every filter driver configured here, so that none of their programs runs."""
    listed = run(
        ["config", "-z", "--name-only", "--get-regexp", r"^filter\..*\.(clean|smudge|process|required)$"],
        cwd,
        accept=(0, 1),
    )
    names = {key.rpartition(b".")[0] for key in listed.stdout.split(b"\0") if key}
    options: list[str] = []
    for name in sorted(names):
        key = os.fsdecode(name)
        # --config-env takes any driver name, one with an equals sign too; -c does not.
        for setting in ("clean", "smudge", "process"):
            options.append(f"--config-env={key}.{setting}=MLOPS_NOTHING")
        options.append(f"--config-env={key}.required=MLOPS_FALSE")
    return tuple(options)


FILTERS_OFF = {"MLOPS_NOTHING": "", "MLOPS_FALSE": "false"}
"""The variables that the options of `without_filters` name."""
