"""What can go wrong, and what people do: each fault hits an episode once and gives what it did, or None.

A fault that lasts leaves with the episode how it ends. Which ones an episode meets at all is drawn, too: some
things only show where others do not hide them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Final

from chaos.approving import WRONG
from chaos.declared import GUARDED, STAGES
from chaos.episode import Episode
from chaos.meddling import ACTS
from chaos.processes import Daemon, Unreachable, until

Fault = Callable[[Episode], str | None]

PATIENCE: Final = 2.0  # seconds to wait for a job that can be killed
LEASE: Final = 12.0  # seconds of standing still after which a lease is surely lost
JUMPS: Final = (
    -40 * 86400.0,
    -3600.0,
    -2.0,
    0.0,
    2.0,
    3600.0,
    40 * 86400.0,
)  # seconds off the machine's clock


# -- commits


def commit(episode: Episode) -> str | None:
    return episode.team.change(episode.draw, broken=0.0)


def broken_commit(episode: Episode) -> str | None:
    return episode.team.change(episode.draw, broken=1.0)


def burst(episode: Episode) -> str | None:
    """Several commits in one go."""
    return "; ".join(episode.team.change(episode.draw, broken=0.2) for _ in range(episode.draw.randint(2, 5)))


def merge(episode: Episode) -> str | None:
    return episode.team.merge(episode.draw)


def revert(episode: Episode) -> str | None:
    return episode.team.revert(episode.draw)


def rewind(episode: Episode) -> str | None:
    return episode.team.rewind(episode.draw)


def amend(episode: Episode) -> str | None:
    return episode.team.amend(episode.draw)


def orphan(episode: Episode) -> str | None:
    return episode.team.orphan(episode.draw)


def maintenance(episode: Episode) -> str | None:
    """What git does to its own files now and then."""
    command = episode.draw.choice((("pack-refs", "--all"), ("gc", "--quiet"), ("repack", "-adq")))
    episode.team.git(*command)
    return f"git {' '.join(command)}"


def edit_files(episode: Episode) -> str | None:
    """Somebody edits the working tree: it counts once it is committed, and not before."""
    path = episode.team.root / episode.draw.choice(sorted(episode.team.now.tree()))
    before = path.read_bytes()
    path.write_bytes(before + b"\n\tnot: committed\n")
    time.sleep(0.2)
    path.write_bytes(before)
    return f"edit {path.name} and take it back"


def lose_branch(episode: Episode) -> str | None:
    """The branch is deleted, and there again a little later."""
    if episode.lasting("no branch"):
        return None
    episode.team.git("update-ref", "-d", "refs/heads/main")

    def back() -> None:
        episode.team.git("update-ref", "refs/heads/main", episode.team.head)

    episode.later(episode.draw.randint(1, 2), "no branch", back)
    return "delete the branch"


def lose_repository(episode: Episode) -> str | None:
    """The remote's repository is not there for a moment."""
    if not episode.setting.remote:
        return None
    away = episode.team.root.with_name("away")
    episode.team.root.rename(away)
    time.sleep(episode.draw.uniform(0.2, 2.5))
    away.rename(episode.team.root)
    return "take the remote repository away for a moment"


# -- approvals


def approve(episode: Episode) -> str | None:
    return _sign(episode, None)


def approve_wrongly(episode: Episode) -> str | None:
    return _sign(episode, episode.draw.choice(WRONG))


def take_back(episode: Episode) -> str | None:
    return episode.people.forget(episode.team, episode.draw)


def propose(episode: Episode) -> str | None:
    """The same change is proposed by two people at once, or once more; either command may be killed."""
    if episode.setting.remote:
        return None
    made = episode.team.now
    models = [model for model in made.names("Model") if made.versions(model)]
    if not models:
        return None
    model = episode.draw.choice(models)
    version, stage = episode.draw.choice(made.versions(model)), episode.draw.choice((*STAGES, GUARDED))
    for _ in range(episode.draw.randint(1, 3)):
        episode.run_beside("promote", model, version, "--to", stage)
    if episode.draw.random() < 0.3:
        time.sleep(episode.draw.random())
        command = episode.beside.pop()
        if command.poll() is None:
            os.kill(command.pid, signal.SIGKILL)
            until(command.poll, "a killed `mlops promote` ends")
    return f"propose {model} {version} for {stage}"


def _sign(episode: Episode, wrong: str | None) -> str | None:
    try:
        world = episode.hands.ask(episode.uri, "world")
    except Unreachable:
        return None
    asked = episode.people.asked(episode.team, world)
    if not asked:
        return None
    one = episode.draw.choice(asked)
    episode.people.sign(episode.team, one, wrong)
    return f"sign {one[0]} {one[1]}{f', wrongly: {wrong}' if wrong else ''}"


# -- processes


def kill_daemon(episode: Episode) -> str | None:
    daemon = _any_daemon(episode)
    if daemon is None:
        return None
    daemon.signal(signal.SIGKILL)
    return "kill -9 a daemon"


def stop_daemon(episode: Episode) -> str | None:
    daemon = _any_daemon(episode)
    if daemon is None:
        return None
    daemon.signal(signal.SIGTERM)
    return "stop a daemon"


def restart_daemon(episode: Episode) -> str | None:
    """Killed and started at once."""
    if kill_daemon(episode) is None:
        return None
    episode.start_daemon()
    return "kill -9 a daemon and start it again"


def second_daemon(episode: Episode) -> str | None:
    """One more daemon, which stands by until the first one is gone."""
    if len(episode.daemons) > 1:
        return None
    episode.start_daemon()
    return "start a second daemon"


def real_daemon(episode: Episode) -> str | None:
    """The command itself instead of a fork; it lives by the machine's clock."""
    if len(episode.daemons) > 1:
        return None
    episode.memory.clock_went_back |= episode.clock.shift != 0
    episode.start_daemon(real=True)
    return "start `mlops daemon` as a command"


def pause_daemon(episode: Episode) -> str | None:
    """A short stop, as of a machine that is too busy."""
    daemon = _any_daemon(episode)
    if daemon is None:
        return None
    daemon.signal(signal.SIGSTOP)
    time.sleep(episode.draw.uniform(0.05, 1.5))
    daemon.signal(signal.SIGCONT)
    return "stop a daemon for a moment"


def freeze_daemon(episode: Episode) -> str | None:
    """A daemon that stands still for longer than its lease, beside one that takes over, and then wakes up."""
    daemon = _any_daemon(episode)
    if daemon is None or episode.lasting("frozen"):
        return None
    if len(episode.daemons) < 2:
        episode.start_daemon()
    daemon.signal(signal.SIGSTOP)
    wakes = time.monotonic() + LEASE

    def wake() -> None:
        time.sleep(max(0.0, wakes - time.monotonic()))
        daemon.signal(signal.SIGCONT)

    episode.later(12, "frozen", wake)
    return "freeze a daemon for longer than its lease"


def kill_training(episode: Episode) -> str | None:
    return _kill_job(episode, "command")


def kill_supervisor(episode: Episode) -> str | None:
    return _kill_job(episode, "supervisor")


def apply_beside(episode: Episode) -> str | None:
    episode.run_beside("apply", "--timeout", "20s")
    return "mlops apply beside the daemon"


def reconcile(episode: Episode) -> str | None:
    episode.run_beside("reconcile")
    return "mlops reconcile"


def accept_rewrite(episode: Episode) -> str | None:
    episode.run_beside("reconcile", "--accept-rewrite")
    return "mlops reconcile --accept-rewrite"


# -- stores


def delete_state(episode: Episode) -> str | None:
    return _delete(episode, "state.db")


def delete_cache(episode: Episode) -> str | None:
    return _delete(episode, "cache.db")


def fill_disk(episode: Episode) -> str | None:
    """No space is left where the daemon writes, for a while."""
    if not episode.setting.disk or episode.lasting("no space"):
        return None
    episode.memory.disk_was_full = True
    ballast = episode.disk / ".ballast"
    left = episode.draw.choice((0, 0, 16 * 2**10, 256 * 2**10))
    with ballast.open("wb", buffering=0) as weight, contextlib.suppress(OSError):
        while True:  # others write meanwhile: what is free is known only by the attempt
            free = os.statvfs(episode.disk)
            weight.write(bytes(min(2**22, max(4096, free.f_bavail * free.f_frsize - left))))
            if free.f_bavail * free.f_frsize <= left:
                break
    episode.later(episode.draw.randint(1, 4), "no space", ballast.unlink)
    return f"leave {left // 1024} KiB on the disk"


def limit_files(episode: Episode) -> str | None:
    """No file of a daemon can be written beyond some size: a quota, or a disk that fails."""
    daemon = _any_daemon(episode)
    if daemon is None or daemon.fork is None or episode.lasting("limit"):
        return None
    episode.memory.disk_was_full = True
    daemon.limit_files(episode.draw.choice((0, 4096, 100_000)))
    episode.later(episode.draw.randint(1, 4), "limit", lambda: daemon.limit_files(None))
    return "limit the size of a daemon's files"


def kill_server(episode: Episode) -> str | None:
    server = episode.server
    if server is None or episode.lasting("no server"):
        return None
    server.signal(signal.SIGKILL)
    episode.later(episode.draw.randint(1, 5), "no server", server.start)
    return "kill -9 MLflow's server"


def freeze_server(episode: Episode) -> str | None:
    server = episode.server
    if server is None or episode.lasting("no server"):
        return None
    server.signal(signal.SIGSTOP)
    episode.later(episode.draw.randint(1, 3), "no server", lambda: server.signal(signal.SIGCONT))
    return "freeze MLflow's server"


def jump_clock(episode: Episode) -> str | None:
    shift = episode.draw.choice(JUMPS)
    if shift == episode.clock.shift:
        return None
    episode.memory.clock_went_back |= shift < episode.clock.shift
    episode.clock.jump(shift)
    return f"the clock stands {shift:+.0f} s off"


def by_hand(episode: Episode) -> str | None:
    """Something done in MLflow by hand."""
    what = episode.draw.choices(list(ACTS), list(ACTS.values()))[0]
    seed = episode.draw.randrange(2**32)
    if episode.lasting("no server") or episode.lasting("no space"):
        return None
    done = episode.meddle(what, seed)
    return None if done is None else f"by hand: {done}"


def _any_daemon(episode: Episode) -> Daemon | None:
    running = [daemon for daemon in episode.daemons if not daemon.paused and not daemon.ending]
    return episode.draw.choice(running) if running else None


def _kill_job(episode: Episode, what: str) -> str | None:
    running = list(episode.jobs.running())
    if not running:  # something that takes a moment to train
        episode.team.train(episode.draw)
        until = time.monotonic() + PATIENCE
        while not running and time.monotonic() < until:
            time.sleep(0.02)
            running = list(episode.jobs.running())
    if not running:
        return None
    run, supervisor, command = episode.draw.choice(running)
    episode.memory.killed.add(run)
    try:
        os.kill(supervisor if what == "supervisor" else command, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return f"kill -9 the {what} of {run}"


def _delete(episode: Episode, name: str) -> str | None:
    place = episode.home / name
    if not place.exists():
        return None
    for part in (place, place.with_name(f"{name}-wal"), place.with_name(f"{name}-shm")):
        part.unlink(missing_ok=True)
    return f"delete {name}"


FAULTS: Final[dict[Fault, int]] = {
    commit: 60,
    broken_commit: 14,
    burst: 5,
    merge: 6,
    revert: 8,
    rewind: 4,
    amend: 3,
    orphan: 1,
    maintenance: 2,
    edit_files: 2,
    lose_branch: 2,
    lose_repository: 3,
    approve: 16,
    approve_wrongly: 10,
    take_back: 4,
    propose: 8,
    kill_daemon: 12,
    stop_daemon: 6,
    restart_daemon: 14,
    second_daemon: 5,
    real_daemon: 1,
    pause_daemon: 5,
    freeze_daemon: 1,
    kill_training: 14,
    kill_supervisor: 8,
    apply_beside: 3,
    reconcile: 2,
    accept_rewrite: 5,
    delete_state: 4,
    delete_cache: 3,
    fill_disk: 5,
    limit_files: 3,
    kill_server: 6,
    freeze_server: 4,
    jump_clock: 6,
    by_hand: 50,
}
SHARES: Final = 3
SHARE_OF: Final = {kill_server: 1, freeze_server: 1, lose_repository: 2}  # the others: as the seed says
ALWAYS: Final = (commit, by_hand, restart_daemon, accept_rewrite)


class Swarm:
    """Draws faults for one episode: each kind of its share once, and by weight of those that it meets at all.

    Three episodes in a row share all kinds among them, so that none is left out of a short run.
    """

    def __init__(self, seed: int, number: int, told: Callable[[str, str], None]) -> None:
        kinds = [fault for fault in FAULTS if fault not in SHARE_OF]
        random.Random(seed).shuffle(kinds)
        draw = random.Random(f"{seed}/{number}")
        chosen = [fault for fault in FAULTS if fault in ALWAYS or draw.random() < 0.7]
        self._faults = {fault: FAULTS[fault] for fault in chosen}
        self._share = kinds[number % SHARES :: SHARES]
        self._share += [fault for fault, share in SHARE_OF.items() if share == number % SHARES]
        self._told = told

    def __call__(self, episode: Episode) -> str | None:
        share = bool(self._share) and episode.draw.random() < 0.5
        faults = dict.fromkeys(self._share, 1) if share else self._faults
        fault = episode.draw.choices(list(faults), list(faults.values()))[0]
        done = fault(episode)
        if done is not None:
            self._told(fault.__name__, done)
            if fault in self._share:
                self._share.remove(fault)
        return done
