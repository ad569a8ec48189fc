"""Real stores and servers that tests of several rooms look at, one of each for all tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.tracking import Tracker
from postgres_server import PostgresServer, binaries

# Files of tests that take longest, longest first: begun last, one would keep a worker while the others idle.
LONGEST = (
    "examples/test_demo.py",
    "lifecycle/test_crashes.py",
    "examples/test_demo_team.py",
    "chaos/test_chaos.py",
    "test_docs.py",
    "lifecycle/test_gated_promotions.py",
    "test_packaging.py",
    "lifecycle/test_monitoring_crashes.py",
    "lifecycle/test_monitoring_proposals.py",
    "daemon/test_week.py",
    "lifecycle/test_lifecycle.py",
    "lifecycle/test_broken_commits.py",
    "lifecycle/test_properties.py",
    "lifecycle/test_training_scripts.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def open_tracker(uri: str, artifacts: Path | None) -> Tracker:
    return Tracker(uri, str(artifacts) if artifacts else None, environ=dict(os.environ), now=time.time)


@pytest.fixture(scope="session")
def cluster() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the tests' own, where one is installed."""
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL server is installed here")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # not in tmp_path, which only its owner may enter
    try:
        server = PostgresServer(found, folder)
        yield server
        server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    place = tmp_path_factory.mktemp("sqlite-store")
    tracker = open_tracker(f"sqlite:///{place}/.mlops/mlflow.db", place / "artifacts")
    tracker.prepare()
    return tracker


@pytest.fixture(scope="session")
def served_tracker(tmp_path_factory: pytest.TempPathFactory, sqlite_tracker: Tracker) -> Iterator[Tracker]:
    place = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    local = open_tracker(f"sqlite:///{place}/mlflow.db", place / "bytes")
    local.prepare()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", local.store.uri, "--artifacts-destination", str(place / "bytes")]
    command += ["--workers", "1"]
    environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (place / "server.log").open("wb")
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)
    try:
        _answers(f"http://127.0.0.1:{port}/health", server, place / "server.log")
        yield open_tracker(f"http://127.0.0.1:{port}", None)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def _answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(log.read_text()[-3000:])
