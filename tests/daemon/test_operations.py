"""What goes wrong around a daemon: stores that are away, failures, broken commits, a state that is lost."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from git_project import GitProject, document, version
from long_job import Long
from running import SHORT, Daemons, configure, declared, in_stage, sight, until

Make = Callable[..., GitProject]


def runs(project: GitProject, experiment: str = "fit") -> list[tuple[str, str]]:
    """Status and attempt of each run of an experiment, oldest first."""
    client = project.client
    found = client.get_experiment_by_name(f"p/{experiment}").experiment_id
    ordered = client.search_runs([found], order_by=["attributes.start_time ASC"])
    return [(run.info.status, run.data.tags["mlops.attempt"]) for run in ordered]


class Server:
    """An MLflow server that comes back at its port with what it held."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.uri = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", self.uri.rpartition(":")[2], "--backend-store-uri", f"sqlite:///{self.store}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers, lambda: (self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=1):
            return True
        return False


@pytest.fixture
def server(tmp_path: Path, with_store: Callable[[Path], Path]) -> Iterator[Server]:
    place = with_store(tmp_path / "server")
    made = Server(place, place / ".mlops/mlflow.db")
    yield made
    made.stop()


@pytest.mark.slow
def test_what_a_job_came_to_while_mlflow_was_away_is_there_when_it_is_back(
    make_project: Make, daemons: Daemons, server: Server, tmp_path: Path
) -> None:
    server.start()
    long = Long(make_project(tracking={"uri": server.uri}), tmp_path)
    try:
        daemon = daemons.fork(long.project.root)
        long.begins(daemon)
        daemon.tells("Promoted", resource="Promotion/m-dev")
        daemon.rests()
        daemon.mark()
        server.stop()
        (long.place / "released").touch()
        sha = long.commit(dev="2.0.0")
        daemon.tells("PassFailed")
        until(lambda: len(daemon.told("Pass", result="failed")) > 1, lambda: f"it gave up\n{daemon}")
        assert len(daemon.told("PassFailed")) == 1
        assert daemon.ended() is None

        server.start()
        daemon.tells("Recovered")
        daemon.tells("Promoted", resource="Promotion/m-dev", revision=sha)
        daemon.tells("Trained", resource="Experiment/long", message="rmse = 1")
        daemon.rests()
        assert not daemon.told("urllib3.connectionpool")
        assert len(long.pids) == 1
        assert in_stage(server.folder) == "2.0.0"
        assert runs(GitProject.at(server.folder), "long") == [("FINISHED", "1")]
        assert runs(GitProject.at(server.folder)) == [("FINISHED", "1")]
    finally:
        long.close()


def test_a_state_that_is_locked_for_too_long_costs_the_lead_until_it_is_free(
    make_project: Make, daemons: Daemons
) -> None:
    project = make_project()
    daemon = daemons.fork(project.root, changed={**SHORT, "state.opening.open_state.timeout": 1.0})
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()
    daemon.mark()
    with closing(sqlite3.connect(project.root / ".mlops/state.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        project.declare(declared(dev="2.0.0"))
        sha = project.commit()
        daemon.tells("LeaseLost")
        database.execute("ROLLBACK")
    daemon.tells("Leading")
    daemon.tells("Promoted", resource="Promotion/m-dev", revision=sha)
    daemon.rests()
    assert len(daemon.told("Promoted")) == 1
    assert not daemon.told("StandingBy")  # for the lease that it let go itself
    assert in_stage(project.root) == "2.0.0"


def test_a_full_disk_stops_nothing_for_longer_than_it_lasts(make_project: Make, daemons: Daemons) -> None:
    project = make_project()
    daemon = daemons.fork(project.root, changed={**SHORT, "applying.apply.DELAYS": [0.1]})
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()
    before = sight(project.root)
    daemon.mark()
    most = resource.RLIM_INFINITY
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (daemon.log.stat().st_size + 20_000, most))
    project.client.delete_registered_model_alias("m", "dev")
    until(lambda: daemon.told("LeaseLost"), lambda: f"the disk is not full\n{daemon}")
    assert daemon.ended() is None
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (most, most))
    until(lambda: in_stage(project.root) == "1.0.0", lambda: f"it is not healed\n{daemon}")
    daemon.rests()
    assert sight(project.root) == before


def test_a_training_that_fails_is_tried_as_often_as_it_may_and_then_when_it_is_changed(
    make_project: Make, daemons: Daemons
) -> None:
    failing = {"depth": 1, "exit": 3}
    project = make_project(declared(parameters=failing, retries=1))
    daemon = daemons.fork(project.root)
    daemon.tells("TrainedFailed", resource="Experiment/fit")
    daemon.rests()
    assert runs(project) == [("FAILED", "1"), ("FAILED", "2")]
    row = daemons.get(project.root)["resources"]["Experiment/fit"]
    conditions = {each["type"]: (each["status"], each["reason"]) for each in row["conditions"]}
    assert (row["health"], conditions["Stalled"][0]) == ("Degraded", "True")
    assert conditions["Trained"] == ("False", "TrainingFailed")

    daemon.mark()
    assert daemons.run(project.root, "reconcile").code == 1
    project.write("README.md", "of no interest to it")
    project.commit()
    daemon.rests()
    assert len(runs(project)) == 2
    assert not daemon.told("Begun", resource="Experiment/fit")

    project.declare(declared(parameters={"depth": 2}, retries=1))
    project.commit()
    daemon.tells("Promoted", resource="Promotion/m-dev")
    assert [status for status, _ in runs(project)] == ["FAILED", "FAILED", "FINISHED"]


def test_what_cannot_be_bound_is_tried_once_a_revision_and_told_once(
    make_project: Make, daemons: Daemons
) -> None:
    missing = version("3.0.0", source={"experiment": "fit", "artifact": "nothing.txt"})
    project = make_project([*declared(), missing])
    daemon = daemons.fork(project.root, changed={"daemon.retries.FIRST": 600.0})
    until(lambda: "nothing.txt" in str(daemon), lambda: f"it was not told\n{daemon}")
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()
    client = project.client
    daemon.mark()
    for times in range(4):  # passes that nobody asked for
        client.set_registered_model_tag("m", "mine", str(times))
        daemon.rests()
    assert len(daemon.told("Pass")) >= 4
    assert not daemon.told("Begun", step="bind:ModelVersion/m-3.0.0")
    row = daemons.get(project.root)["resources"]["ModelVersion/m-3.0.0"]
    assert (row["health"], "nothing.txt" in str(row["conditions"])) == ("Degraded", True)


def test_a_pass_that_finds_nothing_to_do_writes_nothing(make_project: Make, daemons: Daemons) -> None:
    project = make_project(source={"interval": "1s"})
    daemon = daemons.fork(project.root)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    until(lambda: settled(daemon), lambda: f"it comes to no rest\n{daemon}")
    before = written(project.root)
    daemon.mark()
    until(lambda: len(daemon.told("Pass", message="interval")) >= 4, lambda: f"no passes\n{daemon}")
    assert written(project.root) == before
    assert {row["result"] for row in daemon.told("Pass")} == {"unchanged"}


def settled(daemon: Any) -> bool:
    rows = daemon.rows[-2:]
    return all(row["event"] == "Pass" and row["result"] == "unchanged" for row in rows)


def written(root: Path) -> list[object]:
    """What is in the state, but for the lease, which is renewed, and when MLflow's store was written."""
    with closing(sqlite3.connect(root / ".mlops/state.db")) as database:
        tables = [
            database.execute(f"SELECT * FROM {table}").fetchall() for table in ("mlops_cache", "mlops_event")
        ]
    found = (root / ".mlops/mlflow.db").stat()
    return [*tables, found.st_mtime_ns, found.st_size]


BREAKS = {
    "a document is invalid": lambda p: p.write("resources/dev.yaml", "kind: Promotion\nspec: {}\n"),
    "a document cannot be read": lambda p: p.write("resources/dev.yaml", "kind: [\n"),
    "a document is no text": lambda p: (p.root / "resources/dev.yaml").write_bytes(b"\xff\xfe\x00"),
    "the Project is invalid": lambda p: p.write("mlops.yaml", "kind: Project\nspec: {interval: 3}\n"),
    "the Project is gone": lambda p: (p.root / "mlops.yaml").unlink(),
}


def test_a_broken_commit_keeps_what_it_breaks_whatever_is_lost_and_the_next_one_mends_it(
    make_project: Make, daemons: Daemons
) -> None:
    project = make_project()
    split(project, dev="1.0.0")
    root = project.root
    daemon = daemons.fork(root)
    daemon.tells("Promoted", resource="Promotion/m-dev")
    daemon.rests()
    trained = runs(project)
    for number, (what, broken) in enumerate(BREAKS.items()):
        split(project, dev="1.0.0")
        description = f"with {what}"
        project.write(
            "resources/model.yaml", yaml.safe_dump(document("Model", "m", {"description": description}))
        )
        broken(project)
        sha = project.commit(what)
        until(
            lambda description=description: (
                project.client.get_registered_model("m").description == description
            ),
            lambda what=what: f"what is good is not in force: {what}",
        )
        if number % 2:
            (root / ".mlops/state.db").unlink()
            daemon.tells("LeaseLost")
        daemon.rests()
        if number == 2:
            assert daemon.stop() == 0
            for lost in root.glob(".mlops/state.db*"):
                lost.unlink()
            daemon = daemons.fork(root)
        daemon.mark()
        project.client.delete_registered_model_alias("m", "dev")
        until(lambda: in_stage(root) == "1.0.0", lambda what=what: f"not healed: {what}")
        daemon.rests()
        assert not daemon.told("Demoted")
        if (root / "mlops.yaml").exists():
            shown = daemons.get(root)
            place = "mlops.yaml" if "Project" in what else "resources/dev.yaml"
            assert (shown["revision"], {error["file"] for error in shown["errors"]}) == (sha, {place})

    daemon.mark()
    configure(project)
    split(project, dev="2.0.0")
    sha = project.commit("mended")
    daemon.tells("Promoted", resource="Promotion/m-dev", revision=sha)
    assert in_stage(root) == "2.0.0"
    assert not daemons.get(root)["errors"]
    assert runs(project) == trained
    assert len(project.client.search_model_versions("name = 'm'")) == 2


def split(project: GitProject, dev: str) -> None:
    """Declare the same in files of their own: the promotion, the model, the rest."""
    documents = declared(dev=dev)
    project.write("resources/dev.yaml", yaml.safe_dump(documents.pop()))
    project.write("resources/model.yaml", yaml.safe_dump(documents.pop(2)))
    project.declare(documents)
    project.git("add", "-A")
    project.git("commit", "-q", "--allow-empty", "-m", "whole")
