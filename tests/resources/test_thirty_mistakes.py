"""Thirty different mistakes in ten files: one pass names each by file, line and column, and what to do."""

from __future__ import annotations

import re

from conftest import Declared
from mlops.resources import Key

V = "apiVersion: mlops/v1\n"

FILES = {
    "datasets.yaml": V
    + """\
kind: Dataset
metadata: {name: good}
spec: {uri: data/good.csv, format: csv}
---
apiVersion: mlops/v1
kind: Datasett
metadata: {name: misspelt}
spec: {uri: data/x.csv}
---
apiVersion: mlops/v1
kind: Dataset
metadata: {name: escape}
spec: {uri: ../../etc/passwd, format: csv}
---
apiVersion: mlops/v1
kind: Dataset
metadata: {name: scheme}
spec: {uri: "ext::sh -c id", format: exel}
""",
    "names.yaml": V
    + """\
kind: Model
metadata: {name: a..b}
spec: {}
---
apiVersion: mlops/v1
kind: Model
metadata: {name: Upper_Case}
spec: {}
---
apiVersion: mlops/v1
kind: Model
metadata: {name: branch.lock}
spec: {}
""",
    "experiment.yaml": V
    + """\
kind: Experiment
metadata: {name: bikes}
spec:
  source: {path: trainnig}
  command: [python, train.py, "{dept}"]
  parameters: {depth: 3}
  datasets: {train: goood}
  sweep:
    strategy: random
    parameters: {depth: [3, [5]]}
  objective: {metric: rmse, goal: minimise}
  seed: 1.5
  timeout: 1 hour
  resources: {memory: 2GB}
  variables: [BUCKETT]
  retires: 2
""",
    "both.yaml": V
    + """\
kind: Experiment
metadata: {name: both}
spec:
  source: {path: training}
  command: [python, train.py]
  entryPoint: main
""",
    "twice.yaml": V
    + """\
kind: Model
metadata: {name: bike-demand}
spec:
  description: first
  description: second
""",
    "broken.yaml": V
    + """\
kind: Model
metadata: {name: broken
spec: {}
---
apiVersion: mlops/v1
kind: Model
metadata: {name: fine}
spec: {}
""",
    "tab.yml": "apiVersion: mlops/v1\nkind: Model\nmetadata:\n\tname: tab\n",
    "versions.yaml": V
    + """\
kind: ModelVersion
metadata: {name: fine-1}
spec: {model: fine, version: 1.0, source: {experiment: bikes}}
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {name: fine-2}
spec: {model: fin, version: 1.0.0, source: {runId: abc}}
""",
    "stages.yaml": V
    + """\
kind: Stage
metadata: {name: a}
spec: {after: b, gates: [{metrics: {name: x}}]}
---
apiVersion: mlops/v1
kind: Stage
metadata: {name: b}
spec: {after: b}
---
apiVersion: mlops/v1
kind: Stage
metadata: {name: c}
spec: {gates: [soak: 24h], approvals: {from: [leeds]}}
""",
    "promotions.yaml": V
    + """\
kind: Promotion
metadata: {name: p}
spec: {model: bike-demand, stage: c, version: latest}
---
apiVersion: mlops/v1
kind: Notifier
metadata: {name: m}
spec: {urls: [team.example.com]}
""",
}

MISTAKES = [
    ("both.yaml", 7, 15, "spec.entryPoint", "command"),
    ("broken.yaml", 3, 11, None, "}"),
    ("datasets.yaml", 7, 7, "kind", "Dataset?"),
    ("datasets.yaml", 14, 13, "spec.uri", '".."'),
    ("datasets.yaml", 19, 13, "spec.uri", "::"),
    ("datasets.yaml", 19, 38, "spec.format", "csv, parquet, delta"),
    ("experiment.yaml", 5, 18, "spec.source.path", "training?"),
    ("experiment.yaml", 6, 31, "spec.command[2]", "depth?"),
    ("experiment.yaml", 8, 21, "spec.datasets.train", "good?"),
    ("experiment.yaml", 9, 3, "spec.sweep.trials", "random"),
    ("experiment.yaml", 11, 29, "spec.sweep.parameters.depth[1]", "a list"),
    ("experiment.yaml", 12, 35, "spec.objective.goal", "minimize?"),
    ("experiment.yaml", 13, 9, "spec.seed", "whole number"),
    ("experiment.yaml", 14, 12, "spec.timeout", "duration"),
    ("experiment.yaml", 15, 23, "spec.resources.memory", "size"),
    ("experiment.yaml", 16, 15, "spec.variables[0]", "BUCKET?"),
    ("experiment.yaml", 17, 3, "spec.retires", "retries?"),
    ("names.yaml", 3, 18, "metadata.name", "not a name"),
    ("names.yaml", 8, 18, "metadata.name", "not a name"),
    ("names.yaml", 13, 18, "metadata.name", ".lock"),
    ("promotions.yaml", 4, 47, "spec.version", "approvals"),
    ("promotions.yaml", 9, 15, "spec.urls[0]", "scheme"),
    ("stages.yaml", 4, 27, "spec.gates[0].metrics", "metric"),
    ("stages.yaml", 9, 15, "spec.after", "b → b"),
    ("stages.yaml", 14, 22, "spec.gates[0].soak", "spec.after"),
    ("stages.yaml", 14, 47, "spec.approvals.from[0]", "leads?"),
    ("tab.yml", 4, 1, None, "tab"),
    ("twice.yaml", 6, 3, "spec.description", "line 5"),
    ("versions.yaml", 4, 30, "spec.version", "quotes"),
    ("versions.yaml", 9, 15, "spec.model", "fine?"),
]


def test_thirty_mistakes_in_ten_files_are_named_in_one_pass(declared: Declared) -> None:
    for name, text in FILES.items():
        declared.write(f"resources/{name}", text)
    loaded = declared.load()
    found = [(p.location.file, p.location.line, p.location.column, p.field) for p in loaded.problems]
    assert found == [(f"resources/{file}", line, column, field) for file, line, column, field, _ in MISTAKES]
    assert len({(file, line, column) for file, line, column, _ in found}) == 30
    for problem, (*_, words) in zip(loaded.problems, MISTAKES, strict=True):
        assert words in f"{problem.what}. {problem.fix}", problem
        assert re.fullmatch(r"resources/[a-z]+\.ya?ml:\d+:\d+: (\w+/[^:]+: )?(\S+: )?.+\. .+", str(problem))
    # What is good beside them is still there, and what is broken is not taken for removed.
    assert set(loaded.resources) == {Key("Project", "bikes"), Key("Dataset", "good"), Key("Model", "fine")}
    assert {Key("Experiment", "bikes"), Key("Model", "broken"), Key("Dataset", "misspelt")} <= loaded.invalid
    assert {"resources/broken.yaml", "resources/tab.yml", "resources/names.yaml"} <= set(loaded.unreadable)
