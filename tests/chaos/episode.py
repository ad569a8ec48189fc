"""One episode: a new repository, a daemon on it, faults drawn from the seed, and looks at the world in between.

The order of faults follows from the seed alone; when they hit does not, as everything really runs.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from forking import Fork, Forks

from chaos import daemonlog, oracle
from chaos.approving import People
from chaos.declared import first
from chaos.processes import (
    PATIENCE,
    Clock,
    Daemon,
    Diverged,
    Hands,
    Jobs,
    Server,
    Unreachable,
    mentioning,
    until,
)
from chaos.repository import Team

DISK: Final = 512  # MiB of the daemon's disk, where it can have one of its own
STOPS: Final = 10.0  # seconds within which a daemon that is told to stop has to end
CHECK_EVERY: Final = 25  # faults between two looks at the world


@dataclass(frozen=True, slots=True)
class Setting:
    """What an episode is about. `disk` says that the daemon's home may be mounted as a small disk of its own."""

    served: bool = False  # MLflow behind its server, instead of as a SQLite file
    remote: bool = False  # the daemon follows a repository elsewhere, instead of the one it stands in
    disk: bool = False

    def __str__(self) -> str:
        store = "MLflow's server" if self.served else "SQLite"
        return f"{'a mirror' if self.remote else 'a checkout'}, {store}"


@dataclass
class Undo:
    """What ends a fault that lasts, and after how many more faults."""

    after: int
    what: str
    end: Callable[[], None]


@dataclass
class Episode:
    """Everything of one episode."""

    folder: Path
    seed: str
    setting: Setting
    forks: Forks
    serving: Forks | None
    environ: dict[str, str]
    told: Callable[[str], None]
    faults: Counter[str] = field(default_factory=Counter)
    daemons: list[Daemon] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    undos: list[Undo] = field(default_factory=list)
    memory: oracle.Memory = field(default_factory=oracle.Memory)
    beside: list[Fork] = field(default_factory=list)  # commands beside the daemon
    outputs: list[Path] = field(default_factory=list)  # what commands said: an apply may find no daemon
    refused: bool = False
    _incarnations: int = 0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.folder.mkdir(parents=True)
        self.clock = Clock(self.folder / "clock")
        self.team = Team(self.folder / "team", dict(self.environ))
        self.root = self.folder / "home" if self.setting.remote else self.team.root
        self.home = self.root / ".mlops"
        self.disk = self.root if self.setting.remote else self.home
        self.jobs = Jobs(self.home)
        self.hands = Hands(self.forks, self.clock, self.environ, self.folder)
        self.server: Server | None = None
        self.people = People(self.folder / "keys")
        self.memory.approved = self.people.approved
        project: dict[str, Any] = {"source": {"interval": "1h"}, "variables": ["CHAOS_TRACKING"]}
        project |= self.people.declared()
        if self.setting.served:
            assert self.serving is not None
            self.server = Server(self.folder / "served", self.environ, self.serving)
            self._prepare(self.server.store, self.server.folder / "artifacts")
            self.server.start(real=self.draw.random() < 0.5)
        if self.setting.served or self.setting.remote:
            # Nobody wakes a daemon when a remote branch moves, or when a server's store does.
            project["source"]["interval"] = "1s"
            project["tracking"] = {"uri": "${CHAOS_TRACKING}"}
        self.uri = self.server.uri if self.server else f"sqlite:///{self.home}/mlflow.db"
        self.environ = {**self.environ, "CHAOS_TRACKING": self.uri}
        self.hands.environ = self.environ
        self.team.begin(first(self.team.numbers, project))
        self.home.mkdir(parents=True)
        if self.setting.disk:
            self._mount()
            self.home.mkdir(exist_ok=True)
        if self.server is None:
            self._prepare(f"sqlite:///{self.home}/mlflow.db", self.home / "artifacts")

    # -- the course of it

    def run(self, faults: int, fault: Callable[[Episode], str | None]) -> None:
        """Let so many faults happen, look at the world in between, and at the end compare it with a fresh one."""
        self.start_daemon()
        done = tries = 0
        while done < faults:
            tries += 1
            # Of each step's own: what one of them met does not change what the next ones are.
            self.draw = random.Random(f"{self.seed}/{tries}")
            self.step()
            if fault(self) is not None:
                done += 1
                if done % CHECK_EVERY == 0:
                    self.check()
            time.sleep(self.draw.random() ** 3)
        self.finish()

    def step(self) -> None:
        """End what has lasted long enough, and start the daemon when none runs."""
        for undo in list(self.undos):
            undo.after -= 1
            if undo.after <= 0:
                self._end(undo)
        for daemon in list(self.daemons):
            if not daemon.paused and (code := daemon.ended()) is not None:
                self._gone(daemon, code)
        if not self.daemons and self.draw.random() < 0.6:
            self.start_daemon()

    def check(self) -> oracle.World:
        """End everything that lasts, wait until nothing is left to do, and look at the world."""
        self.calm()
        self.quiet()
        world = self.world()
        problems = list(oracle.invariants(world, self.team, self.memory))
        problems += daemonlog.problems(self.logs)
        problems += oracle.proposals(self.team)
        if problems:
            raise Diverged("\n".join(problems[:20]))
        return world

    def calm(self) -> None:
        """No fault lasts, and one daemon runs."""
        for undo in list(self.undos):
            self._end(undo)
        self.step()
        if not self.daemons:
            self.start_daemon()
        for command in self.beside:
            ended = until(command.poll, f"`mlops` beside the daemon ends: {command.stderr[-500:]}")
            if ended.code not in (0, 1, 3):
                raise Diverged(f"`mlops` beside the daemon gave {ended.code}: {ended.stderr[-2000:]}")
        self.beside.clear()

    def quiet(self) -> None:
        """Wait until nothing is left to do at the revision that has to be in force."""
        seen: dict[str, Any] = {}

        def done() -> bool:
            self.step()
            if not self.daemons:
                self.start_daemon()
            if any(True for _ in self.jobs.running()):
                return False
            ended = self.forks.run(
                "looked", str(self.clock.path), self.environ, str(self.root), self.team.head
            )
            seen.clear()
            if ended.code != 0:
                seen["error"] = ended.stderr[-2000:]
                return False
            seen.update(ended.data)
            # A run that no step waits for is closed within seconds of its job's end.
            return not seen["steps"] and not seen["coming"] and not seen["open"]

        try:
            until(done, "nothing is left to do", pause=0.2)
            until(done, "nothing is left to do", pause=0.2)
        except Diverged as error:
            raise Diverged(f"{error}: {str(seen)[:5000]}") from None
        self.refused = seen["refused"] is not None
        if self.refused:
            if (
                self.team.descends(self.team.head, seen["base"])
                and self.team.now.documents
                and not self.emptied
            ):
                raise Diverged(f"{self.team.head[:12]} is refused: {seen['refused']}")
        elif seen["base"] != self.team.head:
            raise Diverged(f"{seen['base']} is in force, the head is {self.team.head}")

    @property
    def emptied(self) -> bool:
        """Whether the head declares nothing at all."""
        return all(text is None for text in self.team.now.overwritten.values()) and bool(
            self.team.now.overwritten
        )

    def finish(self) -> None:
        """The last commit is whole and wants nothing odd: the world has to be that of a fresh apply of it."""
        self.check()
        self.memory.clock_went_back |= self.clock.shift > 0
        self.clock.jump(0.0)
        self.team.settle(self.draw)
        until(self._accepted, "the last head is in force", pause=0.5)
        for asked in self.people.asked(self.team, self.check()):
            self.people.sign(self.team, asked)
        until(self._let_in, "what was approved is let in", pause=0.5)  # a mirror fetches tags later
        world = self.check()
        fresh = self._fresh()
        problems = list(oracle.differences(world, fresh, self.team.now, self.team.head))
        problems += oracle.executions(self._executed(), world, self.memory)
        problems += daemonlog.unexplained(self.logs, self.outputs, world)
        problems += self._stopped()
        if problems:
            raise Diverged("\n".join(problems[:30]))

    def _let_in(self) -> bool:
        self.quiet()
        return not any(oracle.shut_out(self.world(), self.team.now))

    def _accepted(self) -> bool:
        """`mlops reconcile --accept-rewrite`, and whether the head is in force; a mirror may not have it yet."""
        command = ("reconcile", "--accept-rewrite")
        ended = self.forks.run("command", str(self.clock.path), self.environ, *self.project, *command)
        if ended.code not in (0, 1, 3):
            raise Diverged(f"mlops reconcile --accept-rewrite: {ended.code} {ended.stderr[-1000:]}")
        self.quiet()
        return not self.refused

    # -- what it is made of

    @property
    def project(self) -> tuple[str, ...]:
        return "--project", str(self.root)

    def start_daemon(self, *, real: bool = False) -> Daemon:
        """Start one more daemon."""
        self._incarnations += 1
        if self.setting.remote:
            arguments = ["--debug", "daemon", "--source", str(self.team.root), "--home", str(self.root)]
        else:
            arguments = ["--debug", *self.project, "daemon"]
        if real:
            log = self.folder / f"daemon-{self._incarnations}.log"
            daemon = Daemon.real(log, self.environ, *arguments)
        else:
            daemon = Daemon.forked(self.forks, self.clock, self.environ, *arguments)
        self.daemons.append(daemon)
        self.logs.append(daemon.log)
        return daemon

    def run_beside(self, *command: str) -> None:
        """Start another command on the project; it has to end by itself before the world is looked at."""
        self.beside.append(
            self.forks.start("command", str(self.clock.path), self.environ, *self.project, *command)
        )
        self.outputs.append(self.beside[-1].folder / "stderr")

    def later(self, after: int, what: str, end: Callable[[], None]) -> None:
        """End a fault after so many more."""
        self.undos.append(Undo(after, what, end))

    def lasting(self, what: str) -> bool:
        return any(undo.what == what for undo in self.undos)

    def world(self) -> oracle.World:
        return until(self._world, "MLflow can be read", pause=0.3)

    def meddle(self, what: str, seed: int) -> str | None:
        """Something done by hand in MLflow; None where it could not be done now."""
        try:
            return self.hands.ask(self.uri, "act", what, seed)
        except Unreachable:
            return None

    def close(self, *, keep: bool) -> None:
        """Leave nothing behind, however it ended; with `keep`, a copy of what a disk of its own holds."""
        for daemon in self.daemons:
            daemon.signal(signal.SIGCONT)
            daemon.signal(signal.SIGKILL)
            daemon.wait(PATIENCE)
        self.hands.close()
        if self.server is not None:
            self.server.signal(signal.SIGKILL)
        for pid in mentioning(self.folder, without=set()):
            if "nursery" not in Path(f"/proc/{pid}/cmdline").read_text():
                subprocess.run(["kill", "-9", str(pid)], check=False)
        if self.setting.disk:
            if keep:
                shutil.copytree(self.disk, self.folder / "disk", symlinks=True, ignore=_UNREADABLE)
            subprocess.run(["umount", "-l", str(self.disk)], check=False)

    def _end(self, undo: Undo) -> None:
        self.undos.remove(undo)
        undo.end()

    def _gone(self, daemon: Daemon, code: int) -> None:
        """A daemon ended: of itself it never does."""
        self.daemons.remove(daemon)
        if not daemon.ending:
            raise Diverged(f"a daemon ended by itself with {code}: {daemon.log.read_text()[-3000:]}")
        # Told to stop before it could listen to that, it ends as any process does.
        early = code == -signal.SIGTERM and not daemon.log.read_bytes()
        if code not in (0, -signal.SIGKILL) and not early:
            raise Diverged(
                f"a daemon that was told to stop ended with {code}: {daemon.log.read_text()[-3000:]}"
            )

    def _world(self) -> Any:
        try:
            return self.hands.ask(self.uri, "world")
        except Unreachable:
            return None

    def _prepare(self, uri: str, artifacts: Path) -> None:
        """An empty MLflow store, made once and copied."""
        made = self.forks.run("prepared", uri, str(artifacts))
        if made.code != 0:
            raise RuntimeError(made.stderr)

    def _mount(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "chaos", str(self.disk)], check=True)

    def _executed(self) -> list[str]:
        noted = self.home / "executed"
        return noted.read_text().splitlines() if noted.exists() else []

    def _fresh(self) -> oracle.World:
        """The world that one apply of the head makes where nothing was before."""
        place = self.folder / "fresh"
        subprocess.run(
            ["git", "clone", "-q", str(self.team.root), str(place)],
            check=True,
            env=self.environ,
            capture_output=True,
        )
        uri = f"sqlite:///{place}/.mlops/mlflow.db"
        environ = {**self.environ, "CHAOS_TRACKING": uri}
        for _ in range(2):  # what the first one binds was approved already: that came up meanwhile
            ended = self.forks.run("command", str(self.clock.path), environ, "--project", str(place), "apply")
            if ended.code != 1:
                break
        if ended.code not in (0, 3):  # bound anew, a version may have other bytes than were approved
            raise Diverged(f"a fresh apply gives {ended.code}: {ended.stderr[-3000:]}")
        world: oracle.World = self.hands.ask(uri, "world")
        shutil.rmtree(place)
        return world

    def _stopped(self) -> list[str]:
        """Stop all daemons as a machine does that goes down; nothing is left of them."""
        for daemon in self.daemons:
            daemon.signal(signal.SIGTERM)
        while self.daemons:
            code = self.daemons.pop().wait(STOPS)
            if code != 0:
                return [f"SIGTERM ended a daemon with {code}"]
        found = []
        left = {
            pid: what
            for pid, what in mentioning(self.root, without=set()).items()
            if "nursery" not in what and "mlflow" not in what
        }
        found += [f"process {pid} is left: {what}" for pid, what in left.items()]
        found += [f"{path} is left" for path in leftovers(self.home)]
        return found


_UNREADABLE = shutil.ignore_patterns(".ballast", "environments")


def leftovers(home: Path) -> list[Path]:
    """What a daemon with nothing to do should not keep in its home."""
    patterns = ("jobs/*", "work/*", "**/*.partial", "**/.lost-*", "**/.forgotten-*", "data/.*", "**/*.tmp")
    return sorted({path for pattern in patterns for path in home.glob(pattern)})
