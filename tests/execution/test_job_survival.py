"""Whoever is killed, and when: a job runs once, and is found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from process_checks import eventually, is_gone, supervisor_of

from mlops.errors import MlopsError, Stalled, Transient
from mlops.execution import local, processes
from mlops.execution.jobs import JobSpec, JobStatus
from mlops.execution.local import LocalExecutor

Spec = Callable[..., JobSpec]

RECONCILER = """
import os, sys, time
from pathlib import Path
from mlops.execution.jobs import JobSpec
from mlops.execution.local import LocalExecutor
home = Path(sys.argv[1])
command = ("sh", "-c", "echo before; while [ ! -e go ]; do sleep 0.01; done; echo after; exit 7")
LocalExecutor(home / "jobs").start(JobSpec("job", command, home, dict(os.environ), None, None, home / "out"))
print("started", flush=True)
time.sleep(300)
"""

SUPERVISOR = """
import os, sys
sys.path.append({root!r})
from mlops.execution.supervision import main
lines = 0
def trace(frame, event, argument):
    global lines
    if "mlops/execution" not in frame.f_code.co_filename:
        return None
    if event == "line":
        lines += 1
        if lines == {at} and os.getpid() == os.getsid(0):
            open({mark!r}, "w").close()
            os.kill(os.getpid(), 9)
    return trace
sys.settrace(trace)
main(sys.argv[1], int(sys.argv[2]))
"""


def test_a_job_of_a_killed_reconciler_is_adopted_with_its_log_and_exit_code(tmp_path: Path) -> None:
    reconciler = subprocess.Popen(
        [sys.executable, "-c", RECONCILER, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert reconciler.stdout is not None
    with reconciler:
        assert reconciler.stdout.readline() == b"started\n"
        os.killpg(reconciler.pid, signal.SIGKILL)
    executor = LocalExecutor(tmp_path / "jobs")
    assert executor.jobs() == ("job",)
    assert executor.poll("job").state == "running"
    assert eventually(lambda: executor.log("job") == b"before\n")
    assert executor.wait(["job"], 0.05) == {}
    (tmp_path / "go").touch()
    status = executor.wait(["job"], 20)["job"]
    assert (status.state, status.exit_code) == ("exited", 7)
    assert executor.log("job") == b"before\nafter\n"


def test_an_adopted_job_can_be_cancelled(executor: LocalExecutor, spec: Spec) -> None:
    executor.start(spec("sleep", "300"))
    adopter = LocalExecutor(executor.home)
    adopter.cancel("job")
    assert adopter.wait(["job"], 20)["job"].cause == "cancelled"


def test_a_second_start_does_nothing(executor: LocalExecutor, spec: Spec, tmp_path: Path) -> None:
    command = ("sh", "-c", f"echo x >>{tmp_path}/ran; sleep 0.1")
    executor.start(spec(*command))
    executor.start(spec(*command))
    executor.wait(["job"], 20)
    executor.start(spec(*command))
    assert executor.wait(["job"], 20)["job"].succeeded
    assert (tmp_path / "ran").read_text() == "x\n"


def test_starts_of_several_processes_at_once_run_it_once(
    executor: LocalExecutor, spec: Spec, tmp_path: Path
) -> None:
    for turn in range(8):
        id = f"turn{turn}"
        gate, opener = os.pipe()
        start = partial(start_behind, gate, executor, append(spec, tmp_path, id))
        children = [forked(start) for _ in range(4)]
        os.close(gate)
        os.write(opener, b"1234")
        os.close(opener)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
        assert executor.wait([id], 20)[id].succeeded
        assert (tmp_path / f"{id}.ran").read_text() == "x\n"


def test_a_start_killed_at_any_line_ends_in_one_execution(
    executor: LocalExecutor, spec: Spec, tmp_path: Path
) -> None:
    ours = ("local.py", "records.py", "jobs.py")
    counted = tmp_path / "lines"
    child = forked(lambda: start_and_die(executor, append(spec, tmp_path, "count"), ours, None, counted))
    assert os.waitpid(child, 0)[1] == 0
    lines = int(counted.read_text())
    assert lines > 30, "the trace saw the start"
    for at in range(1, lines + 1):
        id = f"at{at}"
        job = append(spec, tmp_path, id)
        child = forked(lambda job=job, at=at: start_and_die(executor, job, ours, at))
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert_runs_once(executor, job, tmp_path)


@pytest.mark.slow
def test_a_start_killed_while_it_starts_the_supervisor_ends_in_one_execution(
    executor: LocalExecutor, spec: Spec, tmp_path: Path
) -> None:
    library = ("subprocess.py", "selectors.py")
    counted = tmp_path / "lines"
    child = forked(lambda: start_and_die(executor, append(spec, tmp_path, "count"), library, None, counted))
    assert os.waitpid(child, 0)[1] == 0
    for at in range(1, int(counted.read_text()) + 1, 7):
        job = append(spec, tmp_path, f"at{at}")
        child = forked(lambda job=job, at=at: start_and_die(executor, job, library, at))
        assert os.waitpid(child, 0)[1] in (0, signal.SIGKILL)
        assert_runs_once(executor, job, tmp_path)


@pytest.mark.slow
def test_a_supervisor_killed_at_any_line_never_runs_it_twice_and_never_hides_it(
    executor: LocalExecutor, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(Path(local.__file__).parents[2])
    seen: set[str] = set()
    for at in range(1, 2000, 3):
        job = append(spec, tmp_path, f"at{at}")
        ran, mark, script = tmp_path / f"{job.id}.ran", tmp_path / f"{at}.killed", tmp_path / f"{at}.py"
        script.write_text(SUPERVISOR.format(root=root, at=at, mark=str(mark)))
        with monkeypatch.context() as patched:
            patched.setattr(local.supervisor, "__file__", str(script))
            try:
                executor.start(job)
            except Transient:
                assert executor.poll(job.id).state != "lost", "a start that failed has not run anything"
        status = executor.wait([job.id], 20)[job.id]
        seen.add(status.state)
        if status.state == "unknown":
            assert not ran.exists()
            assert_runs_once(executor, job, tmp_path)
        elif status.state == "exited":
            assert ran.read_text() == "x\n"
        else:
            assert not ran.exists() or ran.read_text() in ("", "x\n"), "at most once, perhaps cut short"
            executor.start(job)
            assert executor.poll(job.id) == status
        if not mark.exists():
            break
    assert seen == {"unknown", "lost", "exited"}
    assert not mark.exists(), "the last round was undisturbed"


def test_a_supervisor_imports_nothing_that_costs(tmp_path: Path) -> None:
    root = str(Path(local.__file__).parents[2])
    code = f"import sys; sys.path.append({root!r}); import mlops.execution.supervision; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    costly = {"re", "enum", "typing", "json", "pathlib", "subprocess", "contextlib", "dataclasses", "ctypes"}
    assert not costly & set(done.stdout.split())


def test_a_recycled_pid_is_not_taken_for_the_job(executor: LocalExecutor, tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        folder = executor.home / "job"
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        (folder / "started").write_text(
            f"supervisor 4194303 1\nchild {stranger.pid} 1\nboot {processes.boot_id()}\ntoken none\nat 1.0\n"
        )
        assert executor.poll("job").state == "lost"
        assert not is_gone(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_start_record_cut_short_by_a_power_failure_is_a_lost_job(executor: LocalExecutor) -> None:
    folder = executor.home / "job"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "started").write_text("superv")
    assert executor.poll("job").state == "lost"


def test_an_unreadable_exit_record_is_a_lost_job(executor: LocalExecutor) -> None:
    folder = executor.home / "job"
    folder.mkdir(parents=True)
    (folder / "exit.json").write_text("{")
    assert executor.poll("job").state == "lost"


def test_wait_returns_what_has_settled(executor: LocalExecutor, spec: Spec) -> None:
    assert executor.wait([], 5) == {}
    assert executor.wait(["never"], 5) == {"never": JobStatus("unknown")}
    executor.start(spec("sleep", "300", id="long"))
    executor.start(spec("sh", "-c", "sleep 0.1; exit 2", id="short"))
    settled = executor.wait(["long", "short"], 20)
    assert list(settled) == ["short"]
    assert settled["short"].exit_code == 2
    assert executor.wait(["long"], 0) == {}


def test_forget_removes_an_ended_job_and_refuses_a_running_one(
    executor: LocalExecutor, spec: Spec, tmp_path: Path
) -> None:
    job = append(spec, tmp_path, "job")
    executor.start(job)
    executor.wait(["job"], 20)
    executor.start(spec("sleep", "300", id="running"))
    assert executor.jobs() == ("job", "running")
    executor.forget("job")
    executor.forget("never")
    assert executor.jobs() == ("running",)
    assert [path.name for path in executor.home.iterdir()] == ["running"]
    assert executor.poll("job").state == "unknown"
    assert job.output.is_dir(), "the output is the caller's"
    with pytest.raises(MlopsError, match="still runs"):
        executor.forget("running")


def test_the_lock_outlives_a_supervisor_for_nobody(executor: LocalExecutor, spec: Spec) -> None:
    executor.start(spec("sleep", "300"))
    pid = supervisor_of(executor, "job")
    assert processes.start_ticks(pid) is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: executor.poll("job").state == "lost")


@pytest.mark.parametrize("id", ["", ".", "..", "../x", "a/b", ".hidden", "x" * 129, "a\nb", "-option"])
def test_an_id_that_leaves_the_home_is_refused(executor: LocalExecutor, spec: Spec, id: str) -> None:
    with pytest.raises(Stalled, match="not a job id"):
        executor.start(spec("true", id=id))
    with pytest.raises(Stalled, match="not a job id"):
        executor.poll(id)


@pytest.mark.parametrize("argv", [(), ("",), ("true", "a\0b")])
def test_a_command_that_no_process_can_be_given_is_refused(
    executor: LocalExecutor, spec: Spec, argv: tuple[str, ...]
) -> None:
    with pytest.raises(Stalled):
        executor.start(spec(*argv))
    assert executor.jobs() == ()


def test_a_home_that_cannot_be_written_is_tried_again_later(spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Transient, match="could not be started"):
        LocalExecutor(tmp_path / "file").start(spec("true"))


def append(spec: Spec, folder: Path, id: str) -> JobSpec:
    """A job that leaves one line for each time it runs."""
    return spec("sh", "-c", f"echo x >>{folder}/{id}.ran", id=id)


def assert_runs_once(executor: LocalExecutor, job: JobSpec, folder: Path) -> None:
    """Started again, the job ends well and has run once in all."""
    executor.start(job)
    assert executor.wait([job.id], 20)[job.id].succeeded
    assert (folder / f"{job.id}.ran").read_text() == "x\n"


def start_behind(gate: int, executor: LocalExecutor, job: JobSpec) -> None:
    os.read(gate, 1)
    executor.start(job)


def start_and_die(
    executor: LocalExecutor, job: JobSpec, files: tuple[str, ...], at: int | None, counted: Path | None = None
) -> None:
    """Start the job and die by SIGKILL at the given line of these files; or count the lines."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.endswith(files):
            return None
        if event == "line":
            lines += 1
            if lines == at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    executor.start(job)
    sys.settrace(None)
    if counted is not None:
        counted.write_text(str(lines))


def forked(action: Callable[[], None]) -> int:
    """Run the action in a child process, which ends with 0, or with 1 after an exception; its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return pid
