"""One writer: contention, death, pause, clocks, and a database that goes away."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops.errors import Transient, Waiting
from mlops.state import Holder, LeaseHeld, LeaseLost, State, acquire, open_state

Open = Callable[..., State]
Python = Callable[..., "subprocess.Popen[str]"]

QUICK: dict[str, Any] = {"ttl": 1.5, "renew_every": 0.15}


def holder(command: str = "mlops apply") -> Holder:
    return Holder.current(command, now=1_700_000_000.0)


def elsewhere() -> Holder:
    """A holder on another host, whose death nobody here can see."""
    return replace(holder("mlops daemon"), host="far", boot="other", pid=1)


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_the_second_is_told_who_holds_it_and_what_to_do(opened: Open, uri: str) -> None:
    first, second = opened(uri), opened(uri)
    assert first.lease_holder("bikes") is None
    with acquire(first, "bikes", holder("mlops daemon")) as lease:
        lease.check()
        lease.confirm()
        assert second.lease_holder("bikes") == lease.holder
        with pytest.raises(LeaseHeld) as caught:
            acquire(second, "bikes", holder(), wait=0)
        with acquire(second, "other", holder()) as other:
            other.check()
    assert isinstance(caught.value, Waiting)
    assert caught.value.holder == lease.holder
    said = str(caught.value)
    for words in (
        "mlops daemon",
        lease.holder.host,
        f"pid {os.getpid()}",
        "since 2023-11-14 22:13:20 UTC",
        "--timeout",
    ):
        assert words in said
    assert second.lease_holder("bikes") is None
    with acquire(second, "bikes", holder()):
        pass


def test_a_token_never_goes_back(opened: Open, uri: str, clock: Any) -> None:
    tokens = []
    state = opened(uri)
    for _ in range(3):
        with acquire(state, "p", holder()) as lease:
            tokens.append(lease.token)
        clock.time -= 86_400 * 365
    lost = acquire(state, "p", elsewhere(), ttl=0.1, renew_every=60)
    tokens.append(lost.token)
    with acquire(state, "p", holder(), wait=30) as lease:
        tokens.append(lease.token)
    assert tokens == sorted(set(tokens))
    lost.release()
    with acquire(state, "p", holder()) as lease:
        assert lease.token > tokens[-1]


def test_a_token_grows_over_the_loss_of_the_database(opened: Open, tmp_path: Path, clock: Any) -> None:
    with acquire(opened(), "p", holder()) as lease:
        before = lease.token
    (tmp_path / ".mlops" / "state.db").unlink()
    clock.time += 1
    with acquire(opened(), "p", holder()) as lease:
        assert lease.token > before


def test_waiting_ends_when_the_holder_lets_go(opened: Open, uri: str) -> None:
    first, second = opened(uri), opened(uri)
    lease = acquire(first, "p", holder())
    waited: list[Holder] = []
    thread = threading.Timer(0.3, lease.release)
    thread.start()
    with acquire(second, "p", holder("second"), wait=None, on_wait=waited.append) as taken:
        taken.check()
        assert taken.token > lease.token
    thread.join()
    assert waited == [lease.holder]
    with pytest.raises(LeaseLost, match="released"):
        lease.check()


def test_waiting_ends_after_its_time_and_when_asked_to_stop(opened: Open) -> None:
    state = opened()
    with acquire(state, "p", holder()):
        with pytest.raises(LeaseHeld):
            acquire(state, "p", holder(), wait=0.2)
        stop = threading.Event()
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(LeaseHeld):
            acquire(state, "p", holder(), wait=None, stop=stop)


def test_a_live_holder_is_never_taken_from(opened: Open) -> None:
    state, other = opened(), opened()
    with acquire(state, "p", elsewhere(), **QUICK) as lease:
        with pytest.raises(LeaseHeld):
            acquire(other, "p", holder(), wait=1.5 * QUICK["ttl"])
        lease.check()


def test_a_silent_holder_elsewhere_is_taken_from_only_after_its_ttl(opened: Open) -> None:
    state = opened()
    silent = acquire(state, "p", elsewhere(), ttl=100.0, renew_every=1000.0)
    hand = Hand()
    begin = hand.time

    class Stepping(threading.Event):
        """Lets the challenger's clock pass instead of waiting."""

        def wait(self, timeout: float | None = None) -> bool:
            hand.time += timeout or 0.0
            return False

    with acquire(state, "p", holder(), wait=None, monotonic=hand, stop=Stepping()) as lease:
        assert 100.0 <= hand.time - begin <= 101.0
        assert lease.token > silent.token
        with pytest.raises(LeaseLost, match="mlops apply"):
            silent.confirm()
        with pytest.raises(LeaseLost):
            silent.check()
    silent.release()


def test_jumps_of_the_wall_clock_change_nothing(opened: Open, clock: Any) -> None:
    state, other = opened(), opened()
    with acquire(state, "p", elsewhere(), **QUICK) as lease:
        for jump in (1e9, -2e9, 5e8):
            clock.time += jump
            with pytest.raises(LeaseHeld):
                acquire(other, "p", holder(), wait=0.5)
            lease.check()


def test_a_holder_stops_a_little_before_others_may_begin_and_for_good(opened: Open) -> None:
    hand = Hand()
    with acquire(opened(), "p", holder(), ttl=10.0, renew_every=1000.0, clock=hand) as lease:
        hand.time += 8.9
        lease.check()
        hand.time += 0.2
        assert not lease.held
        hand.time -= 5.0
        with pytest.raises(LeaseLost, match="paused") as caught:
            lease.check()
    assert isinstance(caught.value, Transient)
    assert caught.value.fix


def test_a_pause_in_the_middle_of_a_renewal_is_not_mistaken_for_a_fresh_one(opened: Open) -> None:
    hand = Hand()
    state = opened()
    lease = acquire(state, "p", holder(), ttl=10.0, renew_every=0.05, clock=hand)
    renewed = threading.Event()
    write = lease._database.write

    def paused(work: Any) -> Any:
        result = write(work)
        hand.time += 60.0  # the process stood still after the database had the renewal
        renewed.set()
        return result

    lease._database.write = paused  # type: ignore[method-assign]
    assert renewed.wait(30)
    with pytest.raises(LeaseLost):
        lease.check()
    lease.release()


HOLDS = """
import sys, time
from pathlib import Path
from mlops.state import Holder, LeaseLost, acquire, open_state
uri, ttl, every = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
state = open_state(uri, base=Path("."), now=time.time)
me = Holder.current("mlops daemon", now=time.time())
if len(sys.argv) > 4:
    import dataclasses
    me = dataclasses.replace(me, host="far", boot="other")
lease = acquire(state, "p", me, ttl=ttl, renew_every=every)
print(lease.token, flush=True)
with open("writes", "a", buffering=1) as writes:
    try:
        while True:
            lease.check()
            writes.write("old\\n")
            time.sleep(0.005)
    except LeaseLost as error:
        print("lost", error, flush=True)
"""


def test_a_killed_holder_on_this_host_is_succeeded_at_once(opened: Open, python: Python, uri: str) -> None:
    child = python(HOLDS, uri, "3600", "1")
    token = int(child.stdout.readline())  # type: ignore[union-attr]
    state = opened(uri)
    with pytest.raises(LeaseHeld, match=f"pid {child.pid}"):
        acquire(state, "p", holder())
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and its parent has not looked yet
    assert state.lease_holder("p") is None
    with acquire(state, "p", holder()) as lease:
        assert lease.token > token


def test_a_killed_holder_elsewhere_is_succeeded_after_its_ttl(opened: Open, python: Python, uri: str) -> None:
    child = python(HOLDS, uri, "0.6", "0.1", "elsewhere")
    token = int(child.stdout.readline())  # type: ignore[union-attr]
    state = opened(uri)
    child.kill()
    child.wait()
    with pytest.raises(LeaseHeld):
        acquire(state, "p", holder())
    with acquire(state, "p", holder(), wait=60) as lease:
        assert lease.token > token


@pytest.mark.parametrize("somebody_takes_over", [True, False])
def test_a_paused_holder_writes_no_more_after_it_wakes(
    opened: Open, python: Python, tmp_path: Path, uri: str, somebody_takes_over: bool
) -> None:
    child = python(HOLDS, uri, "0.8", "0.1")
    assert child.stdout is not None
    child.stdout.readline()
    state, writes = opened(uri), tmp_path / "writes"
    while child.poll() is None and not (writes.exists() and writes.stat().st_size > 50):
        time.sleep(0.01)
    # Not in the middle of a renewal, where an SQLite file stays locked until it wakes.
    for _ in range(50):
        os.kill(child.pid, signal.SIGSTOP)
        try:
            open_state(uri, base=tmp_path, now=time.time, timeout=0.01).close()
            state.delete_many("n", ["probe"])
            break
        except Transient:
            os.kill(child.pid, signal.SIGCONT)
            time.sleep(0.05)
    if somebody_takes_over:
        lease = acquire(state, "p", holder(), wait=60)
        with writes.open("a") as file:
            file.write("new\n")
    else:
        time.sleep(1.0)
    before = writes.read_text()
    os.kill(child.pid, signal.SIGCONT)
    out, _ = child.communicate()
    assert out.startswith("lost")
    late = writes.read_text()[len(before) :].splitlines()
    assert len(late) <= 1, "at most the one call that was under way"
    if somebody_takes_over:
        lease.check()
        lease.confirm()
        lease.release()


TAKES_TURNS = """
import sys, time
from pathlib import Path
from mlops.state import Holder, acquire, open_state
state = open_state(sys.argv[1], base=Path("."), now=time.time, timeout=30)
for _ in range(5):
    with acquire(state, "p", Holder.current("mlops apply", now=time.time()), wait=None) as lease:
        count = Path("count")
        was = int(count.read_text()) if count.exists() else 0
        time.sleep(0.002)
        lease.check()
        count.write_text(str(was + 1))
        with open("tokens", "a") as tokens:
            tokens.write(f"{lease.token}\\n")
"""


def test_processes_that_contend_work_one_after_the_other(python: Python, tmp_path: Path, uri: str) -> None:
    children = [python(TAKES_TURNS, uri) for _ in range(3)]
    assert [child.communicate()[0] for child in children] == [""] * 3
    assert (tmp_path / "count").read_text() == "15"
    tokens = [int(line) for line in (tmp_path / "tokens").read_text().split()]
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("made_again", [True, False])
def test_a_deleted_database_ends_the_lease(opened: Open, tmp_path: Path, made_again: bool) -> None:
    with acquire(opened(), "p", holder(), **QUICK) as lease:
        lease.check()
        (tmp_path / ".mlops" / "state.db").unlink()
        if made_again:
            with acquire(opened(), "p", holder("second")) as second:
                assert not lease.held
                second.check()
        else:
            assert not lease.held
        time.sleep(2 * QUICK["renew_every"])
        with pytest.raises(LeaseLost, match="deleted"):
            lease.check()


def test_a_row_deleted_behind_its_back_ends_the_lease_at_the_next_renewal(opened: Open, uri: str) -> None:
    state = opened(uri)
    with acquire(state, "p", holder(), ttl=3600.0, renew_every=0.05) as lease:
        state.database.write(lambda session: session.run("DELETE FROM mlops_lease"))
        with pytest.raises(LeaseLost):
            lease.confirm()
        for _ in range(200):
            if not lease.held:
                break
            time.sleep(0.05)
        with pytest.raises(LeaseLost, match="deleted"):
            lease.check()


def test_a_database_that_is_locked_for_a_while_is_outlasted_and_for_too_long_is_not(
    opened: Open, tmp_path: Path
) -> None:
    hand = Hand()
    state = opened(timeout=0.05)
    with acquire(state, "p", holder(), ttl=10.0, renew_every=0.1, clock=hand) as lease:
        blocker = sqlite3.connect(tmp_path / ".mlops" / "state.db", isolation_level=None, timeout=30)
        blocker.execute("BEGIN EXCLUSIVE")
        time.sleep(0.5)
        hand.time += 5.0
        lease.check()
        blocker.execute("COMMIT")
        for _ in range(200):
            if lease._valid_until > 1010.0:
                break
            time.sleep(0.05)
        hand.time += 5.0
        lease.check()
        blocker.execute("BEGIN EXCLUSIVE")
        hand.time += 20.0
        with pytest.raises(LeaseLost):
            lease.check()
        with pytest.raises(LeaseLost):
            lease.confirm()
        blocker.execute("COMMIT")
        blocker.close()


def test_a_server_that_restarts_within_the_ttl_does_not_end_the_lease(opened: Open, cluster: Any) -> None:
    hand = Hand()
    with acquire(opened(cluster.new_schema()), "p", holder(), ttl=10.0, renew_every=0.1, clock=hand) as lease:
        cluster.stop()
        cluster.start()
        hand.time += 5.0
        for _ in range(200):
            if lease._valid_until > 1010.0:
                break
            time.sleep(0.05)
        hand.time += 5.0
        lease.check()
        lease.confirm()


def test_a_server_that_is_gone_for_too_long_ends_the_lease_and_lets_others_begin_when_it_is_back(
    opened: Open, cluster: Any
) -> None:
    hand, uri = Hand(), cluster.new_schema()
    state, other = opened(uri), opened(uri)
    lease = acquire(state, "p", elsewhere(), ttl=10.0, renew_every=0.1, clock=hand)
    cluster.stop()
    try:
        hand.time += 8.0
        lease.check()
        with pytest.raises(LeaseLost, match="cannot be confirmed"):
            lease.confirm()
        hand.time += 2.0
        with pytest.raises(LeaseLost, match="could not reach"):
            lease.check()
        with pytest.raises(Transient, match="cannot be reached"):
            acquire(other, "p", holder(), wait=None)
    finally:
        cluster.start()
    waited = Hand()
    with acquire(other, "p", holder(), wait=None, monotonic=lambda: _later(waited)) as second:
        assert second.token > lease.token
        assert waited.time - 1000.0 < 15.0  # the promise, counted from when the server was back
        with pytest.raises(LeaseLost):
            lease.check()
        lease.release()  # takes nothing from the one who has it now
        second.confirm()


def _later(hand: Hand) -> float:
    hand.time += 0.5
    return hand.time


def test_a_state_that_is_only_in_memory_gives_no_lease(tmp_path: Path) -> None:
    from mlops.state.sqlite import SqliteDatabase

    state = State(SqliteDatabase(None, timeout=1.0), now=time.time)
    with pytest.raises(Transient, match="nowhere to record"):
        acquire(state, "p", holder())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_no_lease(opened: Open) -> None:
    with acquire(opened(), "p", holder()) as lease:
        child = os.fork()
        if child == 0:
            held = 1
            try:
                held = int(lease.held)
                lease.release()
            finally:
                os._exit(held)
        assert os.waitpid(child, 0)[1] == 0
        lease.check()
        lease.confirm()


def test_an_error_inside_gives_the_lease_back(opened: Open) -> None:
    state = opened()
    lease = acquire(state, "p", holder())
    with pytest.raises(ValueError, match="inside"), lease:
        raise ValueError("inside")
    assert not lease.held
    with acquire(state, "p", holder()):
        pass


def test_only_what_is_certain_counts_as_death() -> None:
    me = holder()
    assert not me.provably_dead()
    assert not replace(me, boot="another boot", pid=2**22 - 1).provably_dead()
    assert not replace(me, boot="", pid=2**22 - 1).provably_dead()
    assert Holder.from_json(json.loads(json.dumps(me.to_json()))) == me
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert replace(me, pid=child.pid).provably_dead()  # the pid is another process's by now
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert replace(me, pid=child.pid, started=0).provably_dead() is False  # a zombie of unknown age
    assert replace(me, pid=child.pid).provably_dead()
    if os.getuid() == 0:
        assert not replace(me, pid=1, started=_started_of_init()).provably_dead()


def _started_of_init() -> int:
    return int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
