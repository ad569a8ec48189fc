"""`mlops monitor` as people and programs meet it: on a small project that is watched, and where nothing is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from command_line import Ran
from git_project import GitProject, clean_environ, document, experiment, promotion, version

Mlops = Callable[..., Ran]
BEGIN = datetime(2026, 1, 1)


def _rows(first: int, last: int, shift: float = 0.0) -> str:
    dice = random.Random(first)
    lines = ["t,x,y"]
    for day in range(first, last):
        for at in range(60):
            moment = BEGIN + timedelta(days=day, minutes=20 * at)
            lines.append(f"{moment.isoformat()},{dice.gauss(20 + shift, 5):.3f},{dice.random():.3f}")
    return "\n".join(lines) + "\n"


def _policy(**spec: object) -> dict[str, object]:
    base = {
        "model": "m",
        "stage": "prod",
        "data": {"predictions": "scored"},
        "window": {"size": "1d", "minRows": 50},
        "checks": [{"name": "inputs", "type": "dataDrift"}],
    }
    return document("MonitoringPolicy", "watch", {**base, **spec})


def _documents(*policies: dict[str, object]) -> list[dict[str, object]]:
    columns = {"timestamp": "t", "target": "y"}
    return [
        document("Dataset", "rows", {"uri": "data/train.csv", "columns": columns}),
        document("Dataset", "scored", {"uri": "data/scored", "format": "csv", "columns": {"timestamp": "t"}}),
        experiment(datasets={"train": "rows"}),
        document("Model", "m", {}),
        version("1.0.0"),
        document("Stage", "prod", {}),
        promotion("prod", "1.0.0"),
        *policies,
    ]


def _made(root: Path, *policies: dict[str, object]) -> GitProject:
    (root / "data/scored").mkdir(parents=True)
    (root / "data/train.csv").write_text(_rows(-8, 0))
    (root / "data/scored/1.csv").write_text(_rows(0, 3))
    (root / "data/scored/2.csv").write_text(_rows(3, 5, shift=10))
    (root / ".gitignore").write_text("data/scored/\n.mlops/\n")
    return GitProject(root, _documents(*policies))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> GitProject:
    """A project whose model is in a stage and not yet watched, applied once; the next commit watches it."""
    import os

    from mlops.cli import run

    found = _made(tmp_path_factory.mktemp("watched") / "project")
    taken = {name: os.environ.pop(name) for name in set(os.environ) - set(clean_environ())}
    try:
        assert run(["--project", str(found.root), "apply"]) == 0
    finally:
        os.environ.update(taken)
    return found


def test_without_a_policy_there_is_nothing_to_evaluate(watched: GitProject, mlops: Mlops) -> None:
    ran = mlops("monitor", "run", cwd=watched.root)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("Nothing to evaluate: no MonitoringPolicy is declared at revision ")
    ran = mlops("monitor", "status", "watch", cwd=watched.root)
    assert ran.code == 1
    assert ran.err.startswith("error: there is no MonitoringPolicy/watch at revision ")
    assert ran.err.endswith(". Declare it, and apply the commit that does\n")


def test_before_the_first_apply_nothing_is_watched(tmp_path: Path, mlops: Mlops) -> None:
    project = _made(tmp_path / "project", _policy())
    ran = mlops("monitor", "run", cwd=project.root)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: nothing was applied yet, so nothing is watched. Run `mlops apply` first\n"


def test_a_policy_can_be_replayed_before_it_is_committed(watched: GitProject, mlops: Mlops) -> None:
    watched.declare(_documents(_policy()))
    ran = mlops("monitor", "backtest", "watch", "--from", "2026-01-02", "-o", "json", cwd=watched.root)
    assert ran.code == 0
    (side,) = json.loads(ran.out)
    assert (side["revision"], side["version"], side["verdict"]) == (None, "1.0.0", "Healthy")
    assert [window["verdict"] for window in side["windows"]] == ["quiet", "quiet", "violated"]
    ran = mlops("monitor", "backtest", "watch", "--to", "2026-01-03", cwd=watched.root)
    assert ran.out.startswith(
        "MonitoringPolicy/watch at the working tree: 2 windows, 0 firings, 0 proposals\n"
    )
    assert "before the promotion" not in ran.out  # it is the past that is replayed


def test_a_time_that_is_none_and_a_span_that_is_none_are_refused(watched: GitProject, mlops: Mlops) -> None:
    ran = mlops("monitor", "backtest", "watch", "--from", "yesterday", cwd=watched.root)
    assert (ran.code, ran.out) == (1, "")
    assert "'yesterday' is not a time" in ran.err
    ran = mlops(
        "monitor", "backtest", "watch", "--from", "2026-01-03", "--to", "2026-01-03", cwd=watched.root
    )
    assert (ran.code, ran.out) == (1, "")
    assert "--to 2026-01-03 is not after --from 2026-01-03" in ran.err


def test_a_dry_run_exits_by_its_own_evaluation_and_writes_nothing(watched: GitProject, mlops: Mlops) -> None:
    watched.declare(_documents(_policy(decide={"fire": "1 of 1"})))
    watched.commit("watch it")
    newer = watched.root / "data/scored/2.csv"
    text = newer.read_text()
    newer.unlink()
    assert mlops("apply", cwd=watched.root).code == 0
    before = mlops("monitor", "status", "watch", "-o", "json", cwd=watched.root)
    assert [window["verdict"] for window in json.loads(before.out)["windows"]] == ["quiet", "quiet"]
    assert mlops("monitor", "run", "--fail-on", "violated", cwd=watched.root).code == 0
    newer.write_text(text)
    ran = mlops("monitor", "run", "--dry-run", "--fail-on", "violated", cwd=watched.root)
    assert ran.code == 2
    assert ran.out.startswith("MonitoringPolicy/watch  Degraded  inputs fired\nwatches 1.0.0 of m in prod\n")
    assert "all of these windows ended before the promotion" in ran.out
    assert mlops("monitor", "run", "--dry-run", cwd=watched.root).code == 0
    assert mlops("monitor", "status", "watch", "-o", "json", cwd=watched.root).out == before.out


def test_names_that_are_not_those_of_a_policy_are_refused(watched: GitProject, mlops: Mlops) -> None:
    ran = mlops("monitor", "status", "wach", cwd=watched.root)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith(". Did you mean watch?\n")
    ran = mlops("monitor", "report", "Dataset/watch", cwd=watched.root)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: Dataset/watch is no MonitoringPolicy. Name one; `mlops get` lists them\n"


def test_a_report_goes_to_a_file_or_says_why_not(watched: GitProject, mlops: Mlops, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert mlops("monitor", "report", "MonitoringPolicy/watch", "-o", str(page), cwd=watched.root).code == 0
    assert "<html" in page.read_text()
    ran = mlops("monitor", "report", "watch", "-o", str(page / "inside"), cwd=watched.root)
    assert (ran.code, ran.err.splitlines()[-1].endswith("the report cannot be written: Not a directory")) == (
        1,
        True,
    )


def test_a_file_that_cannot_be_read_is_said_once_and_the_rest_is_evaluated(
    watched: GitProject, mlops: Mlops
) -> None:
    broken = watched.root / "data/scored/3.csv"
    broken.write_bytes(b"t,x\n\xff\xfe\x00,1\n")
    ran = mlops("monitor", "run", "--dry-run", cwd=watched.root)
    broken.unlink()
    assert ran.code == 1
    assert ran.err.count("error: ") == 1
    assert "3.csv of Dataset/scored could not be read" in ran.err
    assert ran.out.startswith("MonitoringPolicy/watch  ")


def test_an_edit_is_replayed_beside_the_policy_in_force(watched: GitProject, mlops: Mlops) -> None:
    watched.declare(_documents(_policy(decide={"fire": "2 of 2"})))
    head = watched.commit("another rule")
    assert mlops("apply", cwd=watched.root).code == 0
    watched.declare(_documents(_policy(decide={"fire": "1 of 1"})))
    ran = mlops("monitor", "backtest", "watch", "-o", "json", cwd=watched.root)
    assert ran.code == 0
    assert [side["revision"] for side in json.loads(ran.out)] == [head, None]
