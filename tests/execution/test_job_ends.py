"""However a command ends, its status says how, and nothing of it stays behind."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from process_checks import eventually, is_gone, supervisor_of

from mlops.execution.jobs import JobSpec, JobStatus
from mlops.execution.local import LocalExecutor

Run = Callable[..., JobStatus]
Spec = Callable[..., JobSpec]

FORK_AWAY = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(300)
    os._exit(0)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
"""


def test_a_good_end(run: Run, executor: LocalExecutor, tmp_path: Path) -> None:
    status = run("sh", "-c", 'echo out; echo err >&2; echo "$MLOPS_OUTPUT"; cat')
    assert status.succeeded
    assert status.ended
    assert (status.exit_code, status.signal, status.cause, status.message) == (0, None, None, None)
    assert status.started_at is not None
    assert status.ended_at is not None
    assert status.started_at <= status.ended_at
    output = tmp_path / "output" / "job"
    assert output.is_dir()
    assert executor.log("job") == f"out\nerr\n{output}\n".encode()
    assert executor.log("job", offset=4, limit=3) == b"err"
    assert executor.log("job", offset=10_000) == b""
    assert executor.log_path("job").read_bytes() == executor.log("job")


def test_exit_3(run: Run) -> None:
    status = run("sh", "-c", "exit 3")
    assert (status.state, status.exit_code, status.signal, status.succeeded) == ("exited", 3, None, False)


def test_killed_by_a_signal(run: Run) -> None:
    status = run("sh", "-c", "kill -9 $$")
    assert (status.state, status.exit_code, status.signal, status.cause) == ("exited", None, 9, None)


@pytest.mark.parametrize(
    ("make", "argv", "said"),
    [
        (None, ("no-such-command",), "no-such-command was not found"),
        (None, ("./absent",), "was not found"),
        ("data", ("./script",), "not executable"),
        ("#!/no/such/interpreter\n", ("./script",), "interpreter"),
        ("echo without a first line", ("./script",), "#!"),
    ],
)
def test_a_command_that_cannot_be_executed(
    run: Run, tmp_path: Path, make: str | None, argv: tuple[str, ...], said: str
) -> None:
    if make is not None:
        (tmp_path / "script").write_text(make)
        (tmp_path / "script").chmod(0o644 if make == "data" else 0o755)
    status = run(*argv)
    assert (status.state, status.cause, status.exit_code) == ("exited", "spawn", None)
    assert said in (status.message or "")


def test_a_working_folder_that_is_gone(run: Run, tmp_path: Path) -> None:
    status = run("true", cwd=tmp_path / "absent")
    assert status.cause == "spawn"
    assert "working folder" in (status.message or "")


def test_a_job_sees_its_variables_and_no_others(
    run: Run, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILER_SECRET", "hunter2")
    run(
        sys.executable,
        "-c",
        "import os; print(sorted(os.environ))",
        env={"MINE": "ü\n=$x", "LC_ALL": "C.UTF-8"},
    )
    assert executor.log("job").decode().strip() == str(
        ["LC_ALL", "MINE", "MLOPS_JOB", "MLOPS_OUTPUT", "PATH"]
    )
    kept = b"".join(path.read_bytes() for path in executor.log_path("job").parent.iterdir())
    assert b"hunter2" not in kept
    assert "ü\n".encode() not in kept, "the values of variables are not written to disk"


def test_a_job_inherits_no_descriptor_and_default_signals(run: Run, executor: LocalExecutor) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        run(
            "sh",
            "-c",
            "ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0; grep SigIgn /proc/self/status",
        )
    finally:
        os.close(read)
        os.close(write)
    handles, ignored = executor.log("job").decode().split("/dev/null\n")
    assert handles.split()[:3] == ["0", "1", "2"]
    assert len(handles.split()) == 4, "ls itself has the folder open"
    usual = 2**31 - 1  # signals 1 to 31; the C library keeps 32 and 33 for itself
    assert int(ignored.split()[1], 16) & usual == 0


def test_1_gb_of_output_neither_fills_the_disk_nor_blocks(run: Run, executor: LocalExecutor) -> None:
    code = (
        "import sys; b = b'0123456789abcde\\n' * 65536\n"
        "sys.stdout.buffer.write(b'first\\n')\n"
        "for _ in range(1000): sys.stdout.buffer.write(b)\n"
        "sys.stdout.buffer.write(b'last\\n')"
    )
    assert run(sys.executable, "-c", code).succeeded
    path = executor.log_path("job")
    assert path.stat().st_size < 34 * 2**20
    log = path.read_bytes()
    assert log.startswith(b"first\n0123")
    assert log.endswith(b"abcde\nlast\n")
    left_out = 6 + 1000 * 2**20 + 5 - 32 * 2**20
    assert f"\n[mlops: {left_out} bytes of output left out here]\n".encode() in log


def test_output_up_to_the_cap_is_kept_whole(spec: Spec, tmp_path: Path) -> None:
    executor = LocalExecutor(tmp_path / "small", log_limit=100, log_tail=40)
    for size in (0, 59, 60, 61, 99, 100, 101, 180):
        id = f"n{size}"
        executor.start(spec(sys.executable, "-c", f"print('{'x' * size}', end='')", id=id))
        assert executor.wait([id], 60)[id].succeeded
        log = executor.log(id)
        if size <= 100:
            assert log == b"x" * size
        else:
            left_out = f"\n[mlops: {size - 100} bytes of output left out here]\n".encode()
            assert log == b"x" * 60 + left_out + b"x" * 40


def test_a_timeout_ends_even_what_ignores_sigterm(run: Run) -> None:
    status = run("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", timeout=0.3)
    assert (status.state, status.cause, status.signal) == ("exited", "timeout", 9)


def test_a_timeout_lets_a_polite_command_end_itself(run: Run, executor: LocalExecutor) -> None:
    status = run("sh", "-c", "trap 'echo bye; exit 5' TERM; while :; do sleep 0.01; done", timeout=0.3)
    assert (status.cause, status.exit_code) == ("timeout", 5)
    assert executor.log("job").endswith(b"bye\n")


def test_too_much_memory_in_a_child_of_the_command(run: Run) -> None:
    code = "a = []\nwhile True: a.append(bytearray(b'x' * 2**20))"
    status = run("sh", "-c", f'{sys.executable} -c "{code}"; true', memory=150 * 2**20)
    assert (status.state, status.cause, status.signal) == ("exited", "memory", 9)
    assert "150 MiB" in (status.message or "")


def test_memory_that_forked_workers_share_counts_once(run: Run) -> None:
    code = (
        "import os, time\na = b'x' * (60 * 2**20)\n"
        "pids = [os.fork() for _ in range(1)]\nif pids[0] and not os.fork(): pids = [0]\n"
        "time.sleep(0.5)\n"
        "if 0 not in pids: os.wait(); os.wait()"
    )
    assert run(sys.executable, "-c", code, memory=140 * 2**20).succeeded


def test_cancel_ends_a_job(executor: LocalExecutor, spec: Spec) -> None:
    executor.start(spec("sh", "-c", "echo runs; exec sleep 300"))
    eventually(lambda: executor.log("job") == b"runs\n")
    assert executor.poll("job").state == "running"
    executor.cancel("job")
    executor.cancel("job")
    status = executor.wait(["job"], 20)["job"]
    assert (status.state, status.cause, status.signal) == ("exited", "cancelled", signal.SIGTERM)
    executor.cancel("job")  # it has ended: nothing happens
    assert executor.poll("job") == status


def test_a_child_left_behind_ends_with_the_job(run: Run, executor: LocalExecutor) -> None:
    status = run("sh", "-c", "sleep 300 & echo $!; exit 3")
    assert (status.exit_code, status.cause) == (3, None)
    assert "1 process that it left behind" in (status.message or "")
    assert is_gone(int(executor.log("job")))


def test_a_child_that_forked_away_and_ignores_sigterm_ends_with_the_job(run: Run, tmp_path: Path) -> None:
    status = run(sys.executable, "-c", FORK_AWAY, str(tmp_path / "pid"))
    assert status.exit_code == 0
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_output_of_children_left_behind_is_in_the_log(run: Run, executor: LocalExecutor) -> None:
    run(
        "sh",
        "-c",
        "(trap 'echo ended politely; exit' TERM; echo up; while :; do sleep 0.01; done) & sleep 0.1",
    )
    log = executor.log("job")
    assert log.startswith(b"up\n")
    assert log.endswith(b"ended politely\n")


def test_a_full_disk_ends_the_log_but_not_the_job(executor: LocalExecutor, spec: Spec) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        executor.start(spec("sh", "-c", "ulimit -S -f unlimited; head -c 100000 /dev/zero; exit 4"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    status = executor.wait(["job"], 20)["job"]
    assert (status.state, status.exit_code) == ("exited", 4)
    assert "log is incomplete" in (status.message or "")
    assert executor.log_path("job").stat().st_size == 8192


def test_a_supervisor_told_to_stop_ends_its_job_as_lost(executor: LocalExecutor, spec: Spec) -> None:
    executor.start(spec("sleep", "300"))
    os.kill(supervisor_of(executor, "job"), signal.SIGTERM)
    status = executor.wait(["job"], 20)["job"]
    assert (status.state, status.signal) == ("lost", signal.SIGTERM)
    assert "SIGTERM" in (status.message or "")


def test_a_killed_supervisor_leaves_a_lost_job_and_no_process(
    executor: LocalExecutor, spec: Spec, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    executor.start(spec("sh", "-c", f"setsid sleep 300 & echo $! >{pids}; echo $$ >>{pids}; sleep 300"))
    assert eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    os.kill(supervisor_of(executor, "job"), signal.SIGKILL)
    status = executor.wait(["job"], 20)["job"]
    assert status.state == "lost"
    assert "supervisor" in (status.message or "")
    assert all(is_gone(int(pid)) for pid in pids.read_text().split())
    assert executor.poll("job") == status
    executor.start(spec("touch", str(tmp_path / "again")))
    assert executor.poll("job") == status, "a lost job is never run again under its id"
    assert not (tmp_path / "again").exists()
