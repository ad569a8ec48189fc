"""The narrated session: what it refuses, how it stops, and that it runs to its end."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).parents[2] / "examples/seattle-weather/demo.py"
MARK = ".made-by-the-demo"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seattle_weather_demo", DEMO)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "thesis.tex"
    kept.write_text("chapter 1")
    done = subprocess.run([sys.executable, str(DEMO), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "was not made by the demo" in done.stderr
    assert list(tmp_path.iterdir()) == [kept]


def test_a_link_to_a_folder_of_the_demo_is_left_alone(demo: ModuleType, tmp_path: Path) -> None:
    made = tmp_path / "made"
    demo.fresh(made)
    link = tmp_path / "link"
    link.symlink_to(made)
    with pytest.raises(SystemExit):
        demo.fresh(link)
    assert (made / MARK).exists()


def test_a_second_demo_starts_from_an_empty_folder(demo: ModuleType, tmp_path: Path) -> None:
    project = demo.fresh(tmp_path / "run")
    (project / "left-over").write_text("")
    assert demo.fresh(tmp_path / "run") == project
    assert [one.name for one in project.iterdir()] == [MARK]


@pytest.mark.parametrize("status", [1, 3, 64])
def test_a_command_that_fails_ends_the_demo_with_its_exit_code(
    demo: ModuleType, tmp_path: Path, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        demo.Session(tmp_path).run("python", "-c", f"raise SystemExit({status})")
    assert stopped.value.code == status
    printed = capfd.readouterr()
    assert printed.out.startswith("\n$ python -c ")
    assert "the demo stops here" in printed.err


def test_an_edit_that_finds_nothing_to_change_ends_the_demo(demo: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("version: 2.0.0\n")
    with pytest.raises(SystemExit, match=r"does not hold 'version: 1\.0\.0'"):
        demo.Session(tmp_path).edit("x.yaml", "version: 1.0.0", "version: 1.1.0")


def test_a_command_that_should_have_failed_ends_the_demo(demo: ModuleType, tmp_path: Path) -> None:
    session = demo.Session(tmp_path)
    session.run("python", "-c", "raise SystemExit(1)", expect=1)
    with pytest.raises(SystemExit) as stopped:
        session.run("python", "-c", "", expect=1)
    assert stopped.value.code == 1


def test_a_daemon_that_ends_by_itself_ends_the_demo_and_none_is_left(
    demo: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(demo.Session(tmp_path)) as session:
        session.start_daemon()
        daemon = session.daemon
        with pytest.raises(SystemExit) as stopped:
            session.until("Leading")
    assert stopped.value.code == 1
    assert daemon.poll() == 1
    assert "no mlops.yaml" in capfd.readouterr().out


def test_what_the_demo_edits_is_in_the_example(demo: ModuleType) -> None:
    resources = DEMO.parent / "resources"
    experiments = (resources / "experiments.yaml").read_text()
    assert "features: weather\n" in experiments
    assert "alpha: [1, 100], degree: [1, 2]" in experiments
    assert (resources / "promotions.yaml").read_text().count("version: 1.0.0") == 1
    assert "  resources: [resources/]\n" in (DEMO.parent / "mlops.yaml").read_text()
    policy = (DEMO.parent / "monitoring/forecast.yaml").read_text()
    assert policy.count("season: month") == policy.count(", thresholds: calibrated") == 1
    assert "1.1.0" not in (resources / "model.yaml").read_text()


def test_alerts_reach_the_demo_and_are_shown_once(
    demo: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(demo.Session(tmp_path)) as session:
        letter = json.dumps({"title": "sensors fired", "message": "Look:\n- temp_max: °C to °F"}).encode()
        url = session.environment["WEATHER_TEAM"].replace("json://", "http://")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, letter) as answer:
            assert answer.status == 204
        session.read_mail()
        assert capfd.readouterr().out == "✉ sensors fired\n    - temp_max: °C to °F\n"
        with pytest.raises(SystemExit):
            session.read_mail()


@pytest.mark.slow
def test_the_demo_runs_to_its_end_kept_by_the_daemon_and_watched(tmp_path: Path) -> None:
    import mlflow

    done = subprocess.run([sys.executable, str(DEMO), str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "run/seattle-weather"
    client = mlflow.MlflowClient(f"sqlite:///{project}/.mlops/mlflow.db")
    aliases = client.get_registered_model("seattle-weather").aliases
    assert {stage: str(number) for stage, number in aliases.items()} == {
        "dev": "3",
        "staging": "3",
        "production": "3",
    }
    trials = client.search_runs(
        [client.get_experiment_by_name("seattle-weather/weather-ridge").experiment_id]
    )
    assert [run.info.status for run in trials] == ["FINISHED"] * 9
    assert len({run.data.tags["mlops.fingerprint"] for run in trials}) == 9  # nothing was trained twice
    log = [line for line in done.stdout.splitlines() if line.startswith("┆")]
    assert sum("is open: go on with it" in line for line in log) == 1  # the killed daemon's job was adopted
    assert any("Healed" in line and "alias production was on v1, and is on v2 again" in line for line in log)
    assert any("Invalid" in line and "promotions.yaml:15:39" in line for line in log)
    skills = {
        number: client.get_run(client.get_model_version("seattle-weather", number).run_id).data.metrics[
            "skill"
        ]
        for number in ("1", "2")
    }
    assert 0 < skills["1"] < skills["2"]
    told = [line for line in done.stdout.splitlines() if line.startswith("✉")]
    assert [line.rpartition(": ")[2] for line in told] == [
        *("sensors fired", "concept fired"),
        *("sensors cleared", "concept cleared"),
        "concept fired",
    ]
    assert "temp_max: unitRatio 1.8 (×1.8: °C to °F" in done.stdout
    assert "retrain for concept blocked: upstream" in done.stdout
    assert "+spec: {model: seattle-weather, stage: production, version: 1.2.0}" in done.stdout
    assert "<svg" in (project / "report.html").read_text()
    verdicts = [
        (run.data.tags["mlops.version"], run.data.tags["mlops.verdict"])
        for run in client.search_runs(
            [client.get_experiment_by_name("seattle-weather/monitoring/forecast").experiment_id],
            order_by=["attributes.start_time"],
        )
    ]
    assert ("1.1.0", "violated") in verdicts
    assert verdicts.count(("1.2.0", "violated")) == 1  # the window that 1.1.0 forecast
