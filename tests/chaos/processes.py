"""The processes of a chaos run: daemons, an MLflow server, hands on MLflow, and what the daemons started."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from forking import Fork, Forks

PATIENCE: Final = 60.0  # seconds after which something that has to come about counts as diverged


class Diverged(AssertionError):
    """Something is not as it has to be."""


def until(true: Callable[[], Any], what: str, *, patience: float = PATIENCE, pause: float = 0.05) -> Any:
    """Wait for a true value and give it; Diverged after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (found := true()):
        if time.monotonic() > deadline:
            raise Diverged(f"not within {patience:g} seconds: {what}")
        time.sleep(pause)
    return found


@dataclass
class Clock:
    """The shift between the machine's clock and that of the daemons, in shared bytes."""

    path: Path
    shift: float = 0.0

    def __post_init__(self) -> None:
        self.jump(0.0)

    def jump(self, shift: float) -> None:
        """Let it stand `shift` seconds off the machine's."""
        self.shift = shift
        with open(self.path, "r+b" if self.path.exists() else "wb") as shared:
            shared.write(struct.pack("d", shift))


@dataclass
class Daemon:
    """One `mlops daemon`: a fork of the nursery, or the real command."""

    pid: int
    log: Path
    fork: Fork | None
    process: subprocess.Popen[bytes] | None
    paused: bool = False
    ending: bool = False  # it was told to stop, or was killed

    @classmethod
    def forked(cls, forks: Forks, clock: Clock, environ: dict[str, str], *arguments: str) -> Daemon:
        fork = forks.start("command", str(clock.path), environ, *arguments)
        return cls(fork.pid, fork.folder / "stderr", fork, None)

    @classmethod
    def real(cls, log: Path, environ: dict[str, str], *arguments: str) -> Daemon:
        command = [sys.executable, "-c", "from mlops.cli import main; main()", *arguments]
        with log.open("wb") as told:
            process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                start_new_session=True,
            )
        return cls(process.pid, log, None, process)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        self.paused = number == signal.SIGSTOP
        self.ending = self.ending or number in (signal.SIGKILL, signal.SIGTERM)

    def ended(self) -> int | None:
        """Its exit code (minus the signal that killed it), or None while it runs."""
        if self.process is not None:
            return self.process.poll()
        assert self.fork is not None
        found = self.fork.poll()
        return None if found is None else found.code

    def wait(self, patience: float) -> int:
        """Its exit code, once it has ended; Diverged when that takes longer than `patience` seconds."""
        ended: list[int] = []

        def has_ended() -> bool:
            if (code := self.ended()) is not None:
                ended.append(code)
            return bool(ended)

        until(has_ended, f"the daemon {self.pid} ends", patience=patience)
        return ended[0]

    def limit_files(self, size: int | None) -> None:
        """Let no file that it writes grow beyond `size` bytes; None takes the limit away."""
        hard = resource.RLIM_INFINITY
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@dataclass
class Hands:
    """A process with an MlflowClient, told what to do over a pipe."""

    forks: Forks
    clock: Clock
    environ: dict[str, str]
    folder: Path
    _streams: Any = None

    def ask(self, uri: str, what: str, *arguments: Any) -> Any:
        """Call a method of `meddling.Meddler`; raises Unreachable when MLflow did."""
        if self._streams is None:
            pipes = [self.folder / "orders", self.folder / "answers"]
            for pipe in pipes:
                os.mkfifo(pipe)
            self.forks.start("meddler", str(self.clock.path), self.environ, *map(str, pipes))
            self._streams = pipes[0].open("w"), pipes[1].open()
        orders, answers = self._streams
        orders.write(json.dumps([uri, what, arguments]) + "\n")
        orders.flush()
        answer = json.loads(answers.readline())
        if isinstance(answer, dict) and "error" in answer:
            raise Unreachable(answer["error"])
        return answer

    def close(self) -> None:
        for stream in self._streams or ():
            stream.close()


class Unreachable(Exception):
    """MLflow could not be asked."""


@dataclass
class Server:
    """An MLflow server on loopback that keeps its port and its store over its deaths."""

    folder: Path
    environ: dict[str, str]
    forks: Forks
    port: int = 0
    fork: Fork | None = None
    process: subprocess.Popen[bytes] | None = None
    paused: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def running(self) -> bool:
        return self.fork is not None or self.process is not None

    def start(self, *, real: bool = False) -> None:
        """Start it, as the command `mlflow server` or as what that runs; waits until it answers."""
        if real:
            command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
            command += ["--port", str(self.port), "--backend-store-uri", self.store]
            command += ["--artifacts-destination", str(self.folder / "artifacts")]
            log = (self.folder / "server.log").open("wb")
            environ = {**self.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self.process = subprocess.Popen(
                command, env=environ, stdout=log, stderr=log, start_new_session=True
            )
            log.close()
        else:
            artifacts = str(self.folder / "artifacts")
            self.fork = self.forks.start("server", self.environ, self.port, self.store, artifacts)
        until(self.answers, "the MLflow server answers", pause=0.1)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=1):
            return True
        return False

    def signal(self, number: int) -> None:
        """Send a signal to all of it."""
        self.paused = number == signal.SIGSTOP
        pid = self.process.pid if self.process is not None else self.fork.pid if self.fork is not None else 0
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
        if number == signal.SIGKILL:
            if self.process is not None:
                self.process.wait()
            elif self.fork is not None:
                self.fork.wait()
            self.process = self.fork = None


@dataclass
class Jobs:
    """The jobs of a daemon's home, as their records on disk tell them."""

    home: Path
    killed: set[str] = field(default_factory=set)  # ids of those that a kill hit

    def running(self) -> Iterator[tuple[str, int, int]]:
        """Id, supervisor's pid and command's pid of each job that runs now."""
        for started in sorted(self.home.glob("jobs/[!.]*/started")):
            with contextlib.suppress(OSError, ValueError):
                rows = dict(line.split(" ", 1) for line in started.read_text().splitlines())
                supervisor, child = (rows[name].split() for name in ("supervisor", "child"))
                if _runs(supervisor) and _runs(child) and not (started.parent / "exit.json").exists():
                    yield started.parent.name, int(supervisor[0]), int(child[0])


def _runs(recorded: list[str]) -> bool:
    """Whether the process with this pid and start time runs."""
    try:
        stat = Path(f"/proc/{recorded[0]}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return stat[19] == recorded[1] and stat[0] not in "ZX"


def mentioning(place: Path, *, without: set[int]) -> dict[int, str]:
    """Processes that have `place` in their command line, environment or working folder."""
    found = {}
    text = str(place).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in {os.getpid(), *without}:
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            seen = command + (entry / "environ").read_bytes() + os.fsencode((entry / "cwd").readlink())
            if text in seen and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found
