"""Write projects of any size, for measuring and for trying things out.

    python benchmarks/generate.py mixed /tmp/large --count 2000
    python benchmarks/generate.py experiments /tmp/fifty --count 50
    python benchmarks/generate.py registry /tmp/registry --count 1000
    python benchmarks/generate.py watched /tmp/watched --count 1000

Equal arguments write equal bytes. Each folder becomes a git repository with one commit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import commit

PROJECT = """\
apiVersion: mlops/v1
kind: Project
metadata: {{name: {name}}}
spec:
  resources: [resources/]
"""

STAGES = """\
apiVersion: mlops/v1
kind: Stage
metadata: {name: dev}
spec: {}
---
apiVersion: mlops/v1
kind: Stage
metadata: {name: staging}
spec:
  after: dev
  gates:
    - metric: {name: rmse, max: 60}
"""

# One file of the mixed set: five resources, about as long as people write them.
MIXED = """\
apiVersion: mlops/v1
kind: Dataset
metadata:
  name: demand-{number:05}
  labels: {{team: team-{team:02}, tier: gold}}
  annotations: {{example.com/contact: team-{team:02}@example.com}}
spec:
  uri: data/demand-{data:02}.csv
  format: csv
  columns:
    target: cnt
    timestamp: hour
    categorical: [season, weather]
    ignore: [row_id]
  expect:
    minRows: 1
    columns:
      temp: {{type: double, min: -40, max: 60, maxNull: 0.01}}
---
apiVersion: mlops/v1
kind: Experiment
metadata:
  name: demand-{number:05}
  labels: {{team: team-{team:02}}}
spec:
  source: {{path: training, include: ["**/*.py"]}}
  command: [python, train.py, --depth, "{{depth}}", --rate, "{{rate}}"]
  parameters:
    depth: {depth}
    rate: 1e-{rate}
    loss: squared_error
    warm: false
  datasets: {{train: demand-{number:05}}}
  objective: {{metric: rmse, goal: minimize}}
  seed: {number}
  timeout: 15m
  retries: 1
---
apiVersion: mlops/v1
kind: Model
metadata: {{name: demand-{number:05}}}
spec:
  description: Hourly demand of region {number}, for planning the next day
  tags: {{domain: mobility, region: "{number}"}}
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {{name: demand-{number:05}-1.0.0}}
spec:
  model: demand-{number:05}
  version: 1.0.0
  source: {{experiment: demand-{number:05}, artifact: model}}
---
apiVersion: mlops/v1
kind: Promotion
metadata: {{name: demand-{number:05}-dev}}
spec: {{model: demand-{number:05}, stage: dev, version: 1.0.0}}
"""

TRIVIAL = """\
apiVersion: mlops/v1
kind: Experiment
metadata: {{name: trivial-{number:03}}}
spec:
  source: {{path: training}}
  command: [python, train.py, --depth, "{{depth}}"]
  parameters: {{depth: {number}}}
  datasets: {{train: numbers}}
  objective: {{metric: rmse, goal: minimize}}
  seed: 7
"""

NUMBERS = """\
apiVersion: mlops/v1
kind: Dataset
metadata: {name: numbers}
spec: {uri: data/numbers.csv, format: csv}
"""

# Neither MLflow nor anything else is imported: what is measured is the way to it and back.
TRIVIAL_CODE = """\
import argparse, json, os, pathlib

parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int, required=True)
parser.add_argument("--output", default=os.environ.get("MLOPS_OUTPUT", "."))
options = parser.parse_args()
pathlib.Path(options.output, "metrics.json").write_text(json.dumps({"rmse": 100 / (1 + options.depth)}))
"""

SOURCE = """\
apiVersion: mlops/v1
kind: Experiment
metadata: {name: source}
spec:
  source: {path: training}
  command: [python, train.py]
  objective: {metric: rmse, goal: minimize}
  seed: 7
"""

SOURCE_CODE = """\
import mlflow
from sklearn.linear_model import Ridge

with mlflow.start_run():
    mlflow.log_metric("rmse", 50.0)
    mlflow.sklearn.log_model(Ridge().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]), name="model")
"""

REGISTERED = """\
apiVersion: mlops/v1
kind: Model
metadata: {{name: model-{number:05}}}
spec: {{description: Model number {number}, tags: {{domain: mobility}}}}
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {{name: model-{number:05}-1.0.0}}
spec:
  model: model-{number:05}
  version: 1.0.0
  source: {{experiment: source, artifact: model}}
---
apiVersion: mlops/v1
kind: Promotion
metadata: {{name: model-{number:05}-dev}}
spec: {{model: model-{number:05}, stage: dev, version: 1.0.0}}
"""

WATCHED = """\
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: scored-{number:05}}}
spec:
  uri: data/scored-{number:05}
  format: csv
  columns: {{timestamp: time, categorical: [weather]}}
---
apiVersion: mlops/v1
kind: MonitoringPolicy
metadata: {{name: watch-{number:05}}}
spec:
  model: model-00000
  stage: dev
  data: {{predictions: scored-{number:05}}}
  window: {{size: 1d}}
  reference: {{source: {{dataset: scored-{number:05}}}}}
  schedule: 5s
  checks:
    - {{name: upstream, type: upstreamChange}}
    - {{name: inputs, type: dataDrift}}
"""


def project(folder: Path, name: str, files: dict[str, str]) -> None:
    """A project in `folder` with these files; nothing is committed yet."""
    for path, text in {"mlops.yaml": PROJECT.format(name=name), ".gitignore": ".mlops/\n", **files}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def mixed(folder: Path, count: int) -> None:
    """`count` files of a Dataset, Experiment, Model, ModelVersion and Promotion each, and two stages."""
    rows = "".join(f"{row},2011-01-01T{row:02}:00,1,2,{row / 2},{row * 3}\n" for row in range(24))
    data = {
        f"data/demand-{n:02}.csv": f"row_id,hour,season,weather,temp,cnt\n{rows}{n},,,,0,0\n"
        for n in range(20)
    }
    resources = {
        f"resources/team-{number % 40:02}/demand-{number:05}.yaml": MIXED.format(
            number=number, team=number % 40, data=number % 20, depth=3 + number % 7, rate=1 + number % 4
        )
        for number in range(count)
    }
    project(
        folder,
        "large",
        {"training/train.py": TRIVIAL_CODE, "resources/stages.yaml": STAGES, **data, **resources},
    )


def experiments(folder: Path, count: int) -> None:
    """`count` experiments that each train in no time, on one small dataset."""
    data = "x,y\n" + "".join(f"{row},{row * row}\n" for row in range(1000))
    resources = {f"resources/trivial-{n:03}.yaml": TRIVIAL.format(number=n) for n in range(count)}
    files = {"training/train.py": TRIVIAL_CODE, "data/numbers.csv": data, "resources/numbers.yaml": NUMBERS}
    project(folder, "fifty", {**files, **resources})


def registry(folder: Path, count: int) -> None:
    """`count` models, each with a version from the same run and its promotion to one stage."""
    resources = {f"resources/models/model-{n:05}.yaml": REGISTERED.format(number=n) for n in range(count)}
    stage = STAGES.split("---", 1)[0]
    files = {
        "training/train.py": SOURCE_CODE,
        "resources/source.yaml": SOURCE,
        "resources/stages.yaml": stage,
    }
    project(folder, "registry", {**files, **resources})


def watched(folder: Path, count: int) -> None:
    """One model in one stage, and `count` policies that watch it, each on data of its own that git ignores."""
    registry(folder, 1)
    (folder / ".gitignore").write_text(".mlops/\ndata/\n")
    for number in range(count):
        file = folder / f"resources/watched/watch-{number:05}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(WATCHED.format(number=number))
        scored = folder / f"data/scored-{number:05}/day.csv"
        scored.parent.mkdir(parents=True)
        rows = "".join(
            f"2026-01-01T{row:02}:00,{row % 7 + number / 10},{'sun' if row % 3 else 'rain'}\n"
            for row in range(24)
        )
        scored.write_text(f"time,temp,weather\n{rows}")


SETS = {"mixed": mixed, "experiments": experiments, "registry": registry, "watched": watched}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    SETS[options.set](options.folder, options.count)
    commit(options.folder, f"{options.count} of {options.set}")


if __name__ == "__main__":
    main()
