"""What tracking costs: a trivial trial by `mlops apply`, by `mlflow run` and bare; `log_model` both ways."""

from __future__ import annotations

import json
import statistics
import subprocess
from itertools import count
from pathlib import Path

from generate import NUMBERS, TRIVIAL, TRIVIAL_CODE, project
from harness import (
    BIN,
    MLOPS,
    PYTHON,
    Claim,
    Report,
    Sample,
    alternate,
    commit,
    environment,
    main,
    measure,
    median,
    workspace,
)

MLPROJECT = """\
name: trivial
entry_points:
  main:
    parameters: {depth: int}
    command: "python train.py --depth {depth}"
"""

# The call is timed from within, so that both sides are measured alike.
LOGGING_CODE = """\
import time

import mlflow
from sklearn.linear_model import Ridge

model = Ridge().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
with mlflow.start_run():
    started = time.perf_counter()
    mlflow.sklearn.log_model(model, name="model")
    mlflow.log_metric("log_model_seconds", time.perf_counter() - started)
    mlflow.log_metric("rmse", 1.0)
"""

LOGGING = """\
apiVersion: mlops/v1
kind: Experiment
metadata: {{name: logging}}
spec:
  source: {{path: training}}
  command: [python, train.py]
  objective: {{metric: rmse, goal: minimize}}
  seed: {number}
"""

READ_METRICS = """\
import json, sys, mlflow
runs = mlflow.MlflowClient().search_runs([e.experiment_id for e in mlflow.search_experiments()])
found = [run.data.metrics.get("log_model_seconds") for run in runs]
print(json.dumps([seconds for seconds in found if seconds is not None]))
"""


def logged(uri: str, folder: Path) -> list[float]:
    """Seconds that each run of the store at `uri` spent in log_model."""
    output = subprocess.check_output(
        [PYTHON, "-c", READ_METRICS], cwd=folder, env=environment(MLFLOW_TRACKING_URI=uri), text=True
    )
    return [float(value) for value in json.loads(output)]


def benchmark(rounds: int) -> Report:
    with workspace() as folder:
        ours, theirs, logging = folder / "ours", folder / "theirs", folder / "logging"
        numbers = count(1)
        data = "x,y\n1,1\n"
        project(ours, "trial", {"training/train.py": TRIVIAL_CODE, "data/numbers.csv": data})
        (theirs / "training").mkdir(parents=True)
        (theirs / "training/train.py").write_text(TRIVIAL_CODE)
        (theirs / "training/MLproject").write_text(MLPROJECT)
        commit(theirs, "the same training as an MLproject")
        tracked = environment(MLFLOW_TRACKING_URI=f"sqlite:///{theirs}/mlflow.db")
        project(logging, "logging", {"training/train.py": LOGGING_CODE})
        alone_uri = f"sqlite:///{folder}/alone.db"

        def apply() -> Sample:
            (ours / "resources").mkdir(exist_ok=True)
            (ours / "resources/all.yaml").write_text(f"{NUMBERS}---\n{TRIVIAL.format(number=next(numbers))}")
            commit(ours, "another parameter")
            return measure([MLOPS, "apply"], cwd=ours)

        def apply_logging() -> Sample:
            (logging / "resources").mkdir(exist_ok=True)
            (logging / "resources/all.yaml").write_text(LOGGING.format(number=next(numbers)))
            commit(logging, "another seed")
            return measure([MLOPS, "apply"], cwd=logging)

        rows = alternate(
            {
                "python train.py": lambda: measure(
                    [PYTHON, "train.py", "--depth", "1"], cwd=theirs / "training"
                ),
                "mlops apply": apply,
                "mlflow run . --env-manager local": lambda: measure(
                    [BIN / "mlflow", "run", ".", "--env-manager", "local", "-P", f"depth={next(numbers)}"],
                    cwd=theirs / "training",
                    env=tracked,
                ),
            },
            rounds=rounds,
        )
        rows |= alternate(
            {
                "python train.py, which calls log_model": lambda: measure(
                    [PYTHON, "train.py"],
                    cwd=logging / "training",
                    env=environment(MLFLOW_TRACKING_URI=alone_uri),
                ),
                "mlops apply of the same": apply_logging,
            },
            rounds=rounds,
        )
        alone = statistics.median(logged(alone_uri, folder))
        under = statistics.median(logged(f"sqlite:///{logging}/.mlops/mlflow.db", logging))
    bare, applied, run, script, whole = (median(samples) for samples in rows.values())
    return Report(
        name="trial",
        title="One trial",
        rows=rows,
        claims=[
            Claim(
                "what `mlops apply` adds, over what `mlflow run` adds",
                (applied - bare) / (run - bare),
                0.5,
                "×",
            ),
            Claim("`log_model` under the controller, over alone", under / alone, 1, "×"),
            Claim("the whole `mlops apply`, over the script alone", whole / script, 1, "×"),
        ],
        notes=[
            "Every apply follows a commit that changes one parameter, so that exactly one trial is trained; "
            "both stores exist already (SQLite).",
            "The CPU of an apply leaves out its job's, which runs detached under a supervisor.",
            f"`log_model` itself: {alone:.2f} s alone, {under:.2f} s under the controller.",
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=5)
