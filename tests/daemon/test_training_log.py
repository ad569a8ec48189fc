"""A training log read in pieces: whole, once, and without secrets, wherever it is at the moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlops import training_log
from mlops.errors import MlopsError
from mlops.execution.jobs import JobSpec
from mlops.execution.local import LocalExecutor
from mlops.observation.observed import ObservedRun
from mlops.planning.runs import FINGERPRINT, OUTCOME
from mlops.redaction import Redactor
from mlops.resources import Experiment, Key
from mlops.training_log import LogPiece, Sources, TrainingLogs

SECRET = "canary-of-the-logs-1234"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nAgEAAoIBAQ\n-----END PRIVATE KEY-----"
EXPERIMENT = Experiment.model_validate(
    {
        "apiVersion": "mlops/v1",
        "kind": "Experiment",
        "metadata": {"name": "fit"},
        "spec": {
            "source": {"path": "training"},
            "command": ["python", "train.py"],
            "objective": {"metric": "rmse", "goal": "minimize"},
        },
    }
)


@dataclass
class Project:
    """Real jobs of one experiment, and what MLflow is said to hold of them."""

    jobs: LocalExecutor
    folder: Path
    runs: dict[str, ObservedRun] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    looks: int = 0

    def start(self, run_id: str, code: str, fingerprint: str = "f") -> None:
        """Start a job that runs Python code."""
        output = self.folder / f"output-{run_id}"
        self.jobs.start(JobSpec(run_id, (sys.executable, "-c", code), self.folder, {}, None, None, output))
        tags = {FINGERPRINT: fingerprint}
        number = len(self.runs)
        self.runs[run_id] = ObservedRun(
            run_id, "p/fit", f"fit-{run_id}", "RUNNING", number, None, tags, {}, {}
        )

    def end(self, run_id: str) -> None:
        """Wait for a job, and keep its log as the daemon does: without secrets, its folder forgotten."""
        self.jobs.wait([run_id], 60)
        raw = self.jobs.log(run_id)
        self.artifacts[run_id] = b"".join(REDACTOR.redact_bytes([raw]))
        run = self.runs[run_id]
        tags = {**run.tags, OUTCOME: "failed"}
        self.runs[run_id] = ObservedRun(
            run_id, run.experiment, run.name, "FAILED", run.started_ms, 1, tags, {}, {}
        )
        self.jobs.forget(run_id)

    def look(self) -> Any:
        self.looks += 1
        return SimpleNamespace(
            desired=SimpleNamespace(
                resources={Key("Experiment", "fit"): EXPERIMENT}, ledger_name=lambda name: f"p/{name}"
            ),
            observed=SimpleNamespace(ledger=SimpleNamespace(runs=self.runs)),
            planned=SimpleNamespace(plan=SimpleNamespace(steps=())),
        )


REDACTOR = Redactor((SECRET,))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(LocalExecutor(tmp_path / "jobs"), tmp_path)


@pytest.fixture
def logs(project: Project) -> TrainingLogs:
    return TrainingLogs(
        Sources(
            look=project.look,
            executor=lambda name: project.jobs,
            artifact=lambda run_id, path: project.artifacts.get(run_id),
            redactor=lambda: REDACTOR,
            attended=lambda: False,
        )
    )


def whole(logs: TrainingLogs, run_id: str | None = None, limit: int = 1 << 20) -> tuple[bytes, LogPiece]:
    """Read to the end, in pieces of `limit` bytes."""
    data, offset = b"", 0
    while True:
        piece = logs.read("fit", run_id, offset, limit)
        data, offset, run_id = data + piece.data, piece.next_offset, piece.run_id
        if piece.ended:
            return data, piece


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_piece_holds_a_secret_nor_begins_within_one(project: Project, logs: TrainingLogs) -> None:
    text = f"a {SECRET} b\n{KEY}\npassword='{SECRET}' end\n" * 3
    halves = f"import sys, time\nfor half in ({text[:9]!r}, {text[9:]!r}):\n"
    project.start("r1", halves + "    sys.stdout.write(half); sys.stdout.flush(); time.sleep(0.2)")
    for limit in (1 << 20, 7, 1):
        shown, _ = whole(logs, limit=limit)
        assert SECRET.encode() not in shown
        assert b"MIIEv" not in shown
    for offset in range(len(shown)):
        piece = logs.read("fit", "r1", offset)
        assert piece.data == shown[offset:]
    project.end("r1")
    assert project.artifacts["r1"] == shown


def test_a_job_that_runs_costs_no_look_at_the_project(project: Project, logs: TrainingLogs) -> None:
    project.start("r1", "import time\nprint('x', flush=True)\ntime.sleep(60)")
    first = logs.read("fit", None, 0)
    until(lambda: logs.read("fit", "r1", 0).data == b"x\n")
    assert (first.ended, project.looks) == (False, 1)
    project.jobs.cancel("r1")
    project.jobs.wait(["r1"], 60)


def test_the_rest_of_a_log_is_read_where_it_was_kept_when_the_job_is_gone(
    project: Project, logs: TrainingLogs
) -> None:
    code = "import time\nprint('one', flush=True)\ntime.sleep(0.5)\nprint('two, and half a', end='')"
    project.start("r1", code)
    until(lambda: logs.read("fit", "r1", 0).data == b"one\n")
    project.end("r1")
    piece = logs.read("fit", "r1", 4)
    assert (piece.data, piece.ended, piece.status) == (b"two, and half a", True, "failed")
    assert whole(logs)[0] == b"one\ntwo, and half a"


def test_a_log_that_is_collected_at_the_moment_it_is_read_is_whole(
    project: Project, logs: TrainingLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.start("r1", "print('all of it')")
    project.jobs.wait(["r1"], 60)
    read = LocalExecutor.log

    def collected_first(*arguments: Any) -> bytes:
        monkeypatch.setattr(LocalExecutor, "log", read)
        project.end("r1")
        return read(*arguments)

    monkeypatch.setattr(LocalExecutor, "log", collected_first)
    assert whole(logs)[0] == b"all of it\n"


def test_a_log_that_is_no_longer_kept_ready_is_read_again_at_the_same_offset(
    project: Project, logs: TrainingLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_log, "MOST_KEPT", 2)
    for number in range(4):
        project.start(f"r{number}", f"print('log of {number}')", fingerprint=f"f{number}")
        project.end(f"r{number}")
    for _ in range(2):
        for number in range(4):
            assert logs.read("fit", f"r{number}", 4).data == f"of {number}\n".encode()
    logs.close()
    assert logs.read("fit", "r0", 0).data == b"log of 0\n"


def test_the_next_attempt_of_the_same_trial_is_named(project: Project, logs: TrainingLogs) -> None:
    for number, fingerprint in enumerate(("a", "b", "a")):
        project.start(f"r{number}", "print('x')", fingerprint)
        project.end(f"r{number}")
    assert logs.read("fit", "r0", 0).next_run == "r2"
    assert logs.read("fit", "r1", 0).next_run is None
    newest = logs.read("fit", None, 0)
    assert (newest.run_id, newest.next_run, newest.due) == ("r2", None, False)


def test_what_is_not_there_is_said(project: Project, logs: TrainingLogs) -> None:
    with pytest.raises(MlopsError, match="has no run yet"):
        logs.read("fit", None, 0)
    with pytest.raises(MlopsError, match="Did you mean fit"):
        logs.read("fitt", None, 0)
    project.start("r1", "print('x')")
    with pytest.raises(MlopsError, match="no run 'r2'"):
        logs.read("fit", "r2", 0)
    project.end("r1")
    project.artifacts.clear()
    with pytest.raises(MlopsError, match="has no log"):
        logs.read("fit", "r1", 0)
    project.artifacts["r1"] = b"x\n"
    assert whole(logs)[0] == b"x\n"


def test_an_offset_beyond_the_end_is_the_end(project: Project, logs: TrainingLogs) -> None:
    project.start("r1", "print('x')")
    project.end("r1")
    piece = logs.read("fit", "r1", 10**12)
    assert (piece.data, piece.ended, piece.next_offset) == (b"", True, 10**12)
