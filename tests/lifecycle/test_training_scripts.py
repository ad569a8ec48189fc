"""What training code does, and what becomes of it: real processes, a real store, one apply for all of them.

Each script has an experiment of its own in one project, so that MLflow is imported in parallel.
"""

from __future__ import annotations

import functools
import http.server
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forking import Ended, Forks
from git_project import GitProject, document, experiment

pytestmark = pytest.mark.slow

OUTPUT = "import json, os, pathlib, sys\nout = pathlib.Path(os.environ['MLOPS_OUTPUT'])\n"
METRICS = "json.dump({'rmse': 1.0}, (out / 'metrics.json').open('w'))\n"

SCRIPTS = {
    "exits": "import sys\nprint('no rows left after the join')\nsys.exit(3)\n",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "silent": "print('done')\n",
    "floods": OUTPUT + METRICS + "line = b'x' * 1023 + b'\\n'\n"
    "for _ in range(1024):\n    sys.stdout.buffer.write(line * 1024)\nprint('the last line')\n",
    "stubborn": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)\n",
    "parent": OUTPUT + METRICS + "import subprocess\n"
    "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    "pathlib.Path(os.environ['MLOPS_PARAM_PLACE'], 'child').write_text(str(child.pid))\n",
    "garbled": OUTPUT + "(out / 'metrics.json').write_text('{\"rmse\": ')\n",
    "worded": OUTPUT + "(out / 'metrics.json').write_text('{\"rmse\": \"good\"}')\n",
    "greedy": "import time\nhoard = bytearray(b'x') * 800_000_000\ntime.sleep(60)\n",
    "project": OUTPUT + METRICS + "(out / 'arguments.txt').write_text(' '.join(sys.argv[1:]))\n",
    "locked": OUTPUT + "import tiny\njson.dump({'rmse': tiny.RMSE}, (out / 'metrics.json').open('w'))\n",
    # and with MLflow
    "nan": "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('rmse', float('nan'))\n",
    "elsewhere": "import mlflow\nmlflow.set_experiment('my own')\n"
    "with mlflow.start_run():\n    mlflow.log_metric('rmse', 1)\n",
    "twice": "import mlflow\nfor value in (1, 2):\n    with mlflow.start_run(run_name=f'part {value}'):\n"
    "        mlflow.log_metric('rmse', value)\n",
    "forest": "import mlflow, numpy\nfrom sklearn.ensemble import RandomForestRegressor\n"
    "forest = RandomForestRegressor(2).fit(numpy.eye(8), range(8))\n"
    "with mlflow.start_run():\n    mlflow.log_metric('rmse', 1)\n"
    "    mlflow.sklearn.log_model(forest, name='model')\n",
    "renames": "import mlflow\nwith mlflow.start_run(run_name='My favourite run'):\n"
    "    mlflow.log_metric('rmse', 1)\n",
    "careless": "import mlflow, sys\nmlflow.start_run()\nmlflow.log_metric('rmse', 1)\nsys.exit(1)\n",
    "reworded": "import mlflow\nwith mlflow.start_run():\n    mlflow.log_param('depth', 'one')\n"
    "    mlflow.log_metric('rmse', 1)\n",
}
MLPROJECT = """\
name: fitted
entry_points:
  main:
    parameters:
      depth: {type: int, default: 4}
      rate: {type: float, default: 0.5}
    command: "python project.py --depth {depth} --rate {rate}"
"""


@dataclass(frozen=True, slots=True)
class Trained:
    """What one apply of all scripts came to; `runs` by experiment, oldest attempt first."""

    project: GitProject
    ended: Ended
    shown: Mapping[str, Any]
    runs: Mapping[str, list[Mapping[str, Any]]]
    place: Path

    def only(self, name: str) -> Mapping[str, Any]:
        """The one run of an experiment."""
        [run] = self.runs[name]
        return run

    def ready(self, resource: str) -> tuple[str, str]:
        """Reason and message of a resource's condition Ready."""
        [found] = [c for c in self.shown[resource]["conditions"] if c["type"] == "Ready"]
        return found["reason"], found["message"]

    def line(self, name: str) -> str:
        """What the apply said of the end of an experiment's training."""
        [line] = [
            line
            for line in self.ended.stderr.splitlines()
            if line[:1] in "✓✗" and f" Experiment/{name} " in line.replace(":", " ")
        ]
        return line


def documents(place: Path) -> list[dict[str, Any]]:
    special: dict[str, dict[str, Any]] = {
        "exits": {"retries": 1},
        "stubborn": {"timeout": "2s"},
        "parent": {"parameters": {"place": str(place)}},
        "greedy": {"resources": {"memory": "100Mi"}},
        "project": {"entryPoint": "main", "command": None, "parameters": {"depth": 2}},
        "locked": {"environment": {"requirements": "training/locked.txt"}},
    }
    found = [
        document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
        document("Model", "m", {}),
    ]
    for number, name in enumerate(SCRIPTS):
        spec = {
            "source": {"path": "training", "include": [f"{name}.py"]},
            "command": ["python", f"{name}.py"],
            **special.get(name, {}),
        }
        made = experiment(name, **spec)
        made["spec"] = {key: value for key, value in made["spec"].items() if value is not None}
        found.append(made)
        source = {"experiment": name, "artifact": "model"}
        declared = {"model": "m", "version": f"{number}.0.0", "source": source}
        found.append(document("ModelVersion", f"of-{name}", declared))
    return found


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A package index on the loopback that has one package, `tiny`."""
    root = tmp_path_factory.mktemp("index")
    (root / "simple" / "tiny").mkdir(parents=True)
    info = "tiny-1.0.dist-info"
    files = {
        "tiny.py": "RMSE = 0.25\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(root / "simple/tiny/tiny-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
    handler = functools.partial(Quiet, directory=str(root))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, forks: Forks, index: str) -> Trained:
    place = tmp_path_factory.mktemp("scripts")
    project = GitProject(place / "project", documents(place))
    for name, script in SCRIPTS.items():
        project.write(f"training/{name}.py", script)
    project.write("training/MLproject", MLPROJECT)
    project.write("training/locked.txt", f"--index-url {index}\ntiny\n")
    project.commit()
    ended = forks.run("mlops", str(project.root), "apply")
    return look(project, forks, ended, place)


def look(project: GitProject, forks: Forks, ended: Ended, place: Path) -> Trained:
    got = forks.run("printed", str(project.root), "get", "-o", "json")
    runs = forks.run("runs", str(project.root))
    assert (got.code, runs.code) == (0, 0), got.stderr + runs.stderr
    shown = {f"{row['kind']}/{row['name']}": row for row in got.data["resources"]}
    return Trained(project, ended, shown, runs.data, place)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_apply_goes_on_after_every_failure_and_exits_with_1(trained: Trained) -> None:
    assert trained.ended.code == 1
    assert {name for name, runs in trained.runs.items() if runs} == set(SCRIPTS)
    assert all(run["status"] in ("FINISHED", "FAILED") for runs in trained.runs.values() for run in runs)
    assert "Traceback" not in trained.ended.stderr.replace("See `mlops logs", "")


def test_an_exit_code_is_counted_against_the_retries_and_told_with_the_last_output(trained: Trained) -> None:
    runs = trained.runs["exits"]
    assert [(run["status"], run["tags"]["mlops.attempt"]) for run in runs] == [
        ("FAILED", "1"),
        ("FAILED", "2"),
    ]
    reason, message = trained.ready("Experiment/exits")
    assert reason == "TrainingFailed"
    for part in (
        "2 of 2 attempts failed",
        "exit code 3",
        "no rows left after the join",
        "mlops logs",
        "--retry-stalled",
    ):
        assert part in message
    assert "attempt 1 failed: It ended with exit code 3" in trained.ended.stderr
    [stalled] = [c for c in trained.shown["Experiment/exits"]["conditions"] if c["type"] == "Stalled"]
    assert stalled["status"] == "True"
    reason, message = trained.ready("ModelVersion/of-exits")
    assert reason == "DependencyFailed"
    assert "exit code 3" in message


def test_a_killed_script_is_told_from_one_that_failed(trained: Trained) -> None:
    assert trained.only("killed")["status"] == "FAILED"
    _, message = trained.ready("Experiment/killed")
    assert "killed by SIGKILL" in message
    assert "memory" in message


def test_a_metric_that_is_nan_is_kept_and_never_bound(trained: Trained) -> None:
    run = trained.only("nan")
    assert (run["status"], run["metrics"]) == ("FINISHED", {"rmse": "nan"})
    reason, message = trained.ready("ModelVersion/of-nan")
    assert reason == "ObjectiveMissing"
    assert "rmse = nan" in message
    assert "division by zero" in message
    assert "rmse = nan, so it is never the best run" in trained.line("nan")


def test_a_script_that_logs_nothing_is_told_how_to_log(trained: Trained) -> None:
    assert trained.only("silent")["status"] == "FINISHED"
    assert "logged no metric" in trained.line("silent")
    assert "mlflow.log_metric" in trained.line("silent")
    reason, message = trained.ready("ModelVersion/of-silent")
    assert reason == "ObjectiveMissing"
    assert "mlflow.log_metric('rmse'" in message


def test_an_experiment_of_its_own_is_refused_with_the_way_out(trained: Trained) -> None:
    assert trained.only("elsewhere")["status"] == "FAILED"
    _, message = trained.ready("Experiment/elsewhere")
    for part in ("set_experiment", "Remove the call", "MLFLOW_EXPERIMENT_NAME"):
        assert part in message


def test_a_second_run_is_linked_under_the_first_and_said(trained: Trained) -> None:
    ours = [run for run in trained.runs["twice"] if "mlops.fingerprint" in run["tags"]]
    more = [run for run in trained.runs["twice"] if "mlops.fingerprint" not in run["tags"]]
    assert [(run["status"], run["metrics"]) for run in ours] == [("FINISHED", {"rmse": 1.0})]
    assert [(run["status"], run["name"], run["metrics"]) for run in more] == [
        ("FINISHED", "part 2", {"rmse": 2.0})
    ]
    assert more[0]["tags"]["mlflow.parentRunId"] == ours[0]["id"]
    assert "opened 1 more run" in trained.line("twice")


def test_a_forest_in_the_default_format_is_told_of_the_other_format(trained: Trained) -> None:
    assert trained.only("forest")["status"] == "FAILED"
    _, message = trained.ready("Experiment/forest")
    assert 'serialization_format="cloudpickle"' in message
    assert "skops" in message


def test_a_gigabyte_of_output_is_cut_in_the_middle(trained: Trained) -> None:
    run = trained.only("floods")
    assert run["status"] == "FINISHED"
    size, end = run["log"]
    assert 2**20 < size < 40 * 2**20
    assert end.endswith("the last line\n")


def test_a_script_that_ignores_sigterm_ends_at_its_timeout(trained: Trained) -> None:
    assert trained.only("stubborn")["status"] == "FAILED"
    _, message = trained.ready("Experiment/stubborn")
    assert "time limit of 2s" in message
    assert "timeout" in message


def test_a_child_left_behind_is_ended_and_the_run_counts(trained: Trained) -> None:
    assert trained.only("parent")["status"] == "FINISHED"
    assert not alive(int((trained.place / "child").read_text()))


def test_metrics_that_cannot_be_read_fail_the_run(trained: Trained) -> None:
    assert trained.only("garbled")["status"] == "FAILED"
    assert "metrics.json cannot be read as JSON" in trained.ready("Experiment/garbled")[1]
    assert trained.only("worded")["status"] == "FAILED"
    assert "'rmse' is not a number" in trained.ready("Experiment/worded")[1]


def test_a_run_has_its_declared_name_again(trained: Trained) -> None:
    run = trained.only("renames")
    assert run["name"] == f"renames-{run['tags']['mlops.fingerprint'][:8]}"
    assert run["tags"]["mlflow.runName"] == run["name"]
    assert (run["status"], run["tags"]["mlops.outcome"]) == ("FINISHED", "succeeded")


def test_a_run_that_nobody_closed_has_the_status_of_the_exit_code(trained: Trained) -> None:
    assert trained.only("careless")["status"] == "FAILED"
    assert "exit code 1" in trained.ready("Experiment/careless")[1]


def test_a_parameter_logged_in_other_words_stays_as_the_script_wrote_it(trained: Trained) -> None:
    run = trained.only("reworded")
    assert (run["status"], run["parameters"]) == ("FINISHED", {"depth": "one"})


def test_more_memory_than_the_limit_is_told_with_the_limit(trained: Trained) -> None:
    assert trained.only("greedy")["status"] == "FAILED"
    _, message = trained.ready("Experiment/greedy")
    assert "limit of 100Mi" in message
    assert "resources.memory" in message


def test_an_entry_point_of_an_mlproject_file_is_run_with_its_defaults(trained: Trained) -> None:
    run = trained.only("project")
    assert run["parameters"] == {"depth": "2", "rate": "0.5"}
    assert run["texts"]["arguments.txt"] == "--depth 2 --rate 0.5"


def test_an_environment_is_built_from_the_requirements(trained: Trained) -> None:
    run = trained.only("locked")
    assert (run["status"], run["metrics"]) == ("FINISHED", {"rmse": 0.25})
    assert run["tags"]["mlops.environment"].startswith("sha256:")


def test_every_run_has_its_inputs_and_its_log(trained: Trained) -> None:
    for name, runs in trained.runs.items():
        for run in runs:
            if "mlops.fingerprint" in run["tags"]:
                assert run["inputs"] == [["rows", "train"]], name
                assert run["log"] is not None, name


def test_a_stalled_trial_waits_for_a_change_or_for_being_told(trained: Trained, forks: Forks) -> None:
    """Last, because it changes the project that the others look at (they look at what was read before)."""
    project, root = trained.project, str(trained.project.root)
    plan = forks.run("printed", root, "plan", "-o", "json").data
    assert [step for step in plan["steps"] if step["action"] == "train"] == []
    blocked = {block["resource"]: block["reason"] for block in plan["blocked"]}
    failed = {name for name, runs in trained.runs.items() if runs[0]["status"] == "FAILED"}
    assert {r.removeprefix("Experiment/") for r, why in blocked.items() if why == "TrainingFailed"} == failed
    idle = forks.run("mlops", root, "apply")
    assert idle.code == 1
    assert "exit code 3" in idle.stderr

    told = forks.run("mlops", root, "apply", "--target", "Experiment/exits", "--retry-stalled")
    assert told.code == 1
    after = look(project, forks, told, trained.place)
    assert [run["tags"]["mlops.attempt"] for run in after.runs["exits"]] == ["1", "2", "3", "4"]

    project.write("training/exits.py", OUTPUT + METRICS)
    project.commit("mended")
    mended = forks.run("mlops", root, "apply", "--target", "Experiment/exits")
    assert mended.code == 0, mended.stderr
    after = look(project, forks, mended, trained.place)
    assert after.runs["exits"][-1]["status"] == "FINISHED"
    assert len(after.runs["exits"]) == 5
    assert after.ready("Experiment/exits")[0] == "Ready"
