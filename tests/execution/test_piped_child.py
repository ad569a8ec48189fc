"""A child that is asked through pipes: it answers, or it is said what became of it, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from process_checks import eventually, is_gone

from mlops.errors import Stalled, Transient
from mlops.execution.piped import PipedChild

_PROTOCOL = """
    import os, sys, time
    answers = open(sys.argv[2], "wb")
    rows = open(sys.argv[1], "rb")
    def take():
        return rows.read(int.from_bytes(rows.read(8), "little"))
    def give(data):
        answers.write(len(data).to_bytes(8, "little") + data)
        answers.flush()
"""
_ECHO = "while True:\n    give(take())\n"

Start = Callable[..., PipedChild]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    children = []

    def begin(code: str, **options: object) -> PipedChild:
        program = tmp_path / "program.py"
        program.write_text(textwrap.dedent(_PROTOCOL) + textwrap.dedent(code))
        given = {
            "where": "ModelVersion/loan-1",
            "home": tmp_path / "home",
            "environ": os.environ,
            "given": {},
            "timeout": 60.0,
            "memory": None,
            "stop": threading.Event(),
        }
        children.append(PipedChild((sys.executable, str(program)), **{**given, **options}))  # type: ignore[arg-type]
        return children[-1]

    yield begin
    for child in children:
        child.end()
    assert not list((tmp_path / "home").iterdir()), "something was left behind"


def test_messages_larger_than_a_pipe_go_both_ways(start: Start) -> None:
    child = start(_ECHO)
    data = os.urandom(3_000_000)
    child.give(data)
    assert child.take(len(data)) == data


def test_what_it_prints_is_no_answer(start: Start) -> None:
    child = start("print('x' * 100_000)\nos.system('echo more')\n" + _ECHO)
    child.give(b"rows")
    assert child.take(10) == b"rows"


def test_it_sees_the_variables_of_a_job_and_no_secret(start: Start) -> None:
    environ = {**os.environ, "AWS_SECRET_ACCESS_KEY": "hidden", "LANG": "C"}
    child = start(
        "give(' '.join(sorted(os.environ)).encode())\ntake()\n", environ=environ, given={"SAID": "1"}
    )
    names = child.take(10_000).decode().split()
    assert {"PATH", "LANG", "SAID", "TMPDIR"} <= set(names)
    assert "AWS_SECRET_ACCESS_KEY" not in names


def test_an_exception_is_quoted_with_what_to_do(start: Start) -> None:
    child = start("take()\nimport lightgbm_that_is_not_there\n")
    child.failed = "The model could not be loaded"
    child.give(b"rows")
    with pytest.raises(Stalled) as caught:
        child.take(10)
    assert "The model could not be loaded" in str(caught.value)
    assert "'lightgbm_that_is_not_there' is not in its environment" in str(caught.value)


def test_a_secret_that_it_prints_is_not_quoted(start: Start) -> None:
    child = start(
        "take()\nraise ValueError('token tok-4711-secret')\n",
        environ={**os.environ, "API_TOKEN": "tok-4711-secret"},
    )
    child.give(b"rows")
    with pytest.raises(Stalled) as caught:
        child.take(10)
    assert "ValueError" in str(caught.value)
    assert "4711" not in str(caught.value)


def test_a_crash_is_told_from_an_early_end(start: Start) -> None:
    crashed = start("take()\nos.kill(os.getpid(), 11)\n")
    crashed.give(b"rows")
    with pytest.raises(Transient, match="SIGSEGV"):
        crashed.take(10)
    ended = start("take()\nos._exit(0)\n")
    ended.give(b"rows")
    with pytest.raises(Stalled, match="ended before it answered"):
        ended.take(10)


def test_an_interpreter_that_is_not_there_is_named(start: Start, tmp_path: Path) -> None:
    with pytest.raises(Stalled, match="was not found"):
        PipedChild(
            (str(tmp_path / "python"),),
            where="x",
            home=tmp_path / "home",
            environ=os.environ,
            given={},
            timeout=60,
            memory=None,
            stop=threading.Event(),
        )


@pytest.mark.parametrize(
    "code",
    [
        "take()\nimport signal\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)\n",
        "take()\nwhile True:\n    answers.write(b'\\x01'); answers.flush(); time.sleep(0.02)\n",
        "time.sleep(600)\n",
    ],
    ids=["hangs", "trickles", "does not read"],
)
def test_one_that_gives_no_answer_in_time_is_ended(start: Start, code: str) -> None:
    child = start(code, timeout=1.0)

    def ask() -> None:
        child.give(bytes(10_000_000 if code.startswith("time") else 10))
        child.take(2**62)

    with pytest.raises(Stalled, match="within 1 s"):
        ask()


def test_a_stop_ends_the_waiting_and_all_of_its_processes(start: Start, tmp_path: Path) -> None:
    stop = threading.Event()
    note = tmp_path / "pid"
    code = f"""
        import subprocess
        grandchild = subprocess.Popen(["sleep", "600"], start_new_session=True)
        open({str(note)!r}, "w").write(str(grandchild.pid))
        give(b"up")
        time.sleep(600)
    """
    child = start(code, stop=stop)
    assert child.take(10) == b"up"
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Transient, match="stopped"):
        child.take(10)
    child.end()
    assert is_gone(int(note.read_text()))


def test_more_memory_than_allowed_is_told(start: Start) -> None:
    child = start(
        "take()\nhold = bytearray(os.urandom(1)) * 300_000_000\ntime.sleep(600)\n", memory=100 * 2**20
    )
    child.give(b"rows")
    with pytest.raises(Stalled, match="needed more memory than its limit of 100Mi"):
        child.take(10)


def test_an_answer_that_claims_to_be_endless_is_not_waited_for(start: Start) -> None:
    child = start("answers.write(b'\\xff' * 64)\nanswers.flush()\ntime.sleep(600)\n")
    with pytest.raises(Stalled, match="something else"):
        child.take(2**20)


def test_what_a_killed_owner_left_is_ended_by_the_next_one(start: Start, tmp_path: Path) -> None:
    program = tmp_path / "owned.py"
    note = tmp_path / "owned.pid"
    program.write_text(
        textwrap.dedent(_PROTOCOL)
        + f"open({str(note)!r}, 'w').write(str(os.getpid()))\ngive(b'up')\ntime.sleep(600)\n"
    )
    owner = f"""
import os, pathlib, sys, threading
from mlops.execution.piped import PipedChild
child = PipedChild((sys.executable, {str(program)!r}), where="x", home=pathlib.Path({str(tmp_path / "home")!r}),
                   environ=os.environ, given={{}}, timeout=60, memory=None, stop=threading.Event())
child.take(10)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", owner], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    left = int(note.read_text())
    assert not is_gone(left)
    child = start(_ECHO)
    assert eventually(lambda: is_gone(left))
    assert len(list((tmp_path / "home").iterdir())) == 1
    child.give(b"x")
    assert child.take(1) == b"x"


def test_one_whose_owner_lives_is_left_alone(start: Start) -> None:
    first, second = start(_ECHO), start(_ECHO)
    for child in (second, first):
        child.give(b"x")
        assert child.take(1) == b"x"
