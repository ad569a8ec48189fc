"""A daemon's project seen from here and over HTTP: the same output, the same exit codes, the same log."""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from answering import TOKEN, Mlops, command
from forking import Forks
from git_project import GitProject, clean_environ
from running import Daemon, Daemons, declared, until

PATIENT = ("--timeout", "60s")
AT_ONCE = ("--timeout", "1s")


@pytest.fixture
def mlops(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mlops:
    """Run one command line in this process, with the token and with nothing that points elsewhere."""
    for name in set(os.environ) - set(clean_environ()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLOPS_API_TOKEN", TOKEN)
    return lambda *arguments: command(capsys, *arguments)


@dataclass(frozen=True)
class Kept:
    """A project that a daemon keeps, and how both are asked."""

    project: GitProject
    daemon: Daemon
    url: str


@pytest.fixture(scope="module")
def kept(
    forks: Forks, tmp_path_factory: pytest.TempPathFactory, with_store: Callable[[Path], Path]
) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    project = GitProject(folder / "project", declared(), source={"interval": "1h"})
    with_store(project.root)
    daemons = Daemons(forks, folder)
    daemon = daemons.fork(project.root, "--listen", "127.0.0.1:0", environ={"MLOPS_API_TOKEN": TOKEN})
    address = daemon.tells("Listening")["address"]
    yield Kept(project, daemon, f"http://{address}")
    daemons.close()


def _settled(text: str) -> str:
    """Without what is said only if the answer takes a moment."""
    return "".join(line for line in text.splitlines(True) if not line.endswith("the daemon asks for news\n"))


def test_wait_then_every_view_is_the_same_here_and_there(kept: Kept, mlops: Mlops) -> None:
    ran = mlops("--server", kept.url, "wait", "Promotion/m-dev", *PATIENT)
    assert ran.code == 0, ran.err
    assert "Promotion/m-dev is ready" in ran.err
    for line in (
        ["get"],
        ["get", "-o", "json"],
        ["get", "model", "-o", "yaml"],
        ["get", "Promotion/m-dev", "-o", "name"],
        ["describe", "promotion/m-dev"],
        ["describe", "Promotion/m-dev", "-o", "json"],
        ["tree"],
        ["runs", "fit"],
        ["runs", "fit", "-o", "json"],
        ["logs", "Experiment/fit"],
        ["wait", "Promotion/m-dev", *PATIENT],
        ["get", "Model/mm"],
        ["describe", "Experiment/fitt"],
        ["logs", "nosuch"],
        ["runs", "nosuch"],
    ):
        here = mlops("--project", str(kept.project.root), *line)
        there = mlops("--server", kept.url, *line)
        assert (there.code, _ageless(there.out)) == (here.code, _ageless(here.out)), line
        assert _ageless(_settled(there.err)).replace(f"{kept.url}: ", "") == _ageless(_settled(here.err)), (
            line
        )


def test_metrics_tell_of_the_passes_and_of_mlflow(kept: Kept, mlops: Mlops) -> None:
    assert mlops("--server", kept.url, "wait", "Promotion/m-dev", *PATIENT).code == 0
    with urllib.request.urlopen(f"{kept.url}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    sha = kept.project.git("rev-parse", "HEAD")
    for line in (
        "mlops_leader 1.0",
        'mlops_resources{health="Healthy",kind="Promotion",sync="Synced"} 1.0',
        f'mlops_revision_info{{revision="{sha}"}} 1.0',
    ):
        assert line in text.splitlines()
    assert re.search(r'mlops_call_duration_seconds_count\{operation="reading",service="mlflow"\} [1-9]', text)
    assert re.search(r'mlops_reconcile_duration_seconds_count\{result="changed"\} [1-9]', text)


def test_a_broken_commit_is_told_the_same(kept: Kept, mlops: Mlops) -> None:
    assert mlops("--server", kept.url, "wait", "Promotion/m-dev", *PATIENT).code == 0
    kept.project.write("resources/broken.yaml", "kind: Model\n")
    broken = kept.project.commit()
    assert mlops("--server", kept.url, "wait", "Model/m", "--revision", broken, *PATIENT).code == 0
    here = mlops("--project", str(kept.project.root), "get")
    there = mlops("--server", kept.url, "get")
    assert (there.code, here.code) == (1, 1)
    assert "resources/broken.yaml:1:1" in there.err
    assert there.err == here.err
    (kept.project.root / "resources/broken.yaml").unlink()
    mended = kept.project.commit()
    assert mlops("--server", kept.url, "wait", "Model/m", "--revision", mended, *PATIENT).code == 0
    ran = mlops("--server", kept.url, "wait", "Model/m", "--revision", broken[:10], *PATIENT)
    assert ran.code == 0
    assert "came after" in ran.err
    here = mlops("--project", str(kept.project.root), "wait", "Model/m", "--revision", broken[:10])
    assert (here.code, here.err) == (0, ran.err)


def test_a_pass_is_asked_for_and_what_came_of_it_is_told(kept: Kept, mlops: Mlops) -> None:
    assert mlops("--server", kept.url, "wait", "Promotion/m-dev", *PATIENT).code == 0
    ran = mlops("--server", kept.url, "reconcile")
    assert ran.code == 0, ran.err
    assert "by the daemon: " in ran.err


def test_a_refused_head_is_told_with_its_reason_here_and_there(kept: Kept, mlops: Mlops) -> None:
    assert mlops("--server", kept.url, "wait", "Promotion/m-dev", *PATIENT).code == 0
    before = kept.project.git("rev-parse", "HEAD")
    kept.project.git("commit", "-q", "--amend", "--allow-empty", "-m", "rewritten")
    head = kept.project.git("rev-parse", "HEAD")
    for line in (["wait", "Promotion/m-dev", *PATIENT], ["wait", "Model/m", "--revision", head, *PATIENT]):
        for where in (["--server", kept.url], ["--project", str(kept.project.root)]):
            ran = mlops(*where, *line)
            assert ran.code == 1
            assert f"{head[:12]} does not come into force: {head[:12]} does not descend from" in ran.err
    kept.project.git("reset", "-q", "--hard", before)
    assert mlops("--server", kept.url, "wait", "Promotion/m-dev", *PATIENT).code == 0


def test_a_commit_that_the_daemon_has_not_is_waited_for(kept: Kept, mlops: Mlops) -> None:
    ran = mlops("--server", kept.url, "wait", "Model/m", "--revision", "f" * 40, *AT_ONCE)
    assert ran.code == 1
    assert f"there is no commit {'f' * 40} there yet" in ran.err


TRAIN = """\
import json, os, pathlib, sys, time
gate = pathlib.Path(os.environ["MLOPS_PARAM_GATE"])
attempt = len(list(gate.glob("began-*"))) + 1
(gate / f"began-{attempt}").touch()
print(f"attempt {attempt} began: öäü canary-of-the-logs", flush=True)
while not (gate / f"go-{attempt}").exists():
    time.sleep(0.02)
print("canary-of", end="", flush=True)
time.sleep(0.3)
print(f"-the-logs; attempt {attempt} ended")
if attempt == 1:
    sys.exit(3)
json.dump({"rmse": 1.0}, open(os.path.join(os.environ["MLOPS_OUTPUT"], "metrics.json"), "w"))
open(os.path.join(os.environ["MLOPS_OUTPUT"], "model.txt"), "w").write("a model")
"""


def test_a_log_is_followed_across_the_collecting_of_its_job_and_into_the_next_attempt(
    make_project: Callable[..., GitProject], daemons: Daemons, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    project = make_project(declared(retries=1, parameters={"gate": str(gate)}))
    project.write("training/train.py", TRAIN)
    project.commit()
    environ = {"MLOPS_API_TOKEN": TOKEN, "SOME_SECRET": "canary-of-the-logs"}
    daemon = daemons.fork(project.root, "--listen", "127.0.0.1:0", environ=environ)
    url = f"http://{daemon.tells('Listening')['address']}"
    until(lambda: (gate / "began-1").exists(), lambda: str(daemon))
    line = ["logs", "Experiment/fit", "-f"]
    here = daemons.forks.start("command", environ, {}, ["--project", str(project.root), *line])
    there = daemons.forks.start("command", environ, {}, ["--server", url, *line])
    for one in (here, there):
        until(lambda one=one: "attempt 1 began" in _said(one), lambda: str(daemon))
    (gate / "go-1").touch()
    for one in (here, there):
        until(lambda one=one: "attempt 2 began" in _said(one), lambda: str(daemon))
    (gate / "go-2").touch()
    expected = [f"attempt {n} {word}" for n in (1, 2) for word in ("began: öäü ***", "ended")]
    for one in (here, there):
        ended = one.wait()
        assert ended.code == 0, ended.stderr
        shown = ended.stdout.replace("***; ", "").splitlines()
        assert shown == expected
        assert len(re.findall("^run ", ended.stderr, re.M)) == 2


def _said(fork: Any) -> str:
    return (fork.folder / "stdout").read_text()


def _ageless(text: str) -> str:
    """Without ages, which grow while one looks."""
    return re.sub(r"\s+\d+[smhd]\b(\s+ago)?\s*", " AGE ", text)
