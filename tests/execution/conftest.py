"""Executors on a home of their own, whose jobs never outlive the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops.execution.jobs import JobSpec, JobStatus
from mlops.execution.local import LocalExecutor

Run = Callable[..., JobStatus]


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(tmp_path / "jobs", grace=0.3)
    yield executor
    running = [id for id in executor.jobs() if executor.poll(id).state in ("starting", "running")]
    for id in running:
        executor.cancel(id)
    for id in running:
        assert executor.wait([id], 20), "a job outlived its test"


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., JobSpec]:
    def make(
        *argv: str,
        id: str = "job",
        timeout: float | None = None,
        memory: int | None = None,
        env: dict[str, str] | None = None,
        cwd: Path = tmp_path,
    ) -> JobSpec:
        variables = {"PATH": os.environ["PATH"], **(env or {})}
        return JobSpec(id, argv, cwd, variables, timeout, memory, tmp_path / "output" / id)

    return make


@pytest.fixture
def run(executor: LocalExecutor, spec: Callable[..., JobSpec]) -> Run:
    """Start a job and wait for its end."""

    def start_and_wait(*argv: str, id: str = "job", **limits: object) -> JobStatus:
        executor.start(spec(*argv, id=id, **limits))
        ended = executor.wait([id], 60)
        assert ended, "the job did not end"
        return ended[id]

    return start_and_wait
