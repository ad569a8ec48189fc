"""The published JSON Schemas: up to date, documented, and of one mind with the models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from conftest import Declared
from mlops.resources.key import KINDS
from mlops.resources.kinds import MODELS
from mlops.resources.schema import schema, stale, texts

SCHEMAS = Path(__file__).parents[2] / "schemas"
DIGEST = "sha256:" + "0" * 64

# The examples of the reference, with what they only hint at written out.
EXAMPLES = f"""\
apiVersion: mlops/v1
kind: Project
metadata: {{name: bike-demand}}
spec:
  resources: [resources/]
  tracking: {{uri: "sqlite:///.mlops/mlflow.db", artifacts: .mlops/artifacts}}
  state: {{uri: "sqlite:///.mlops/state.db"}}
  source: {{branch: main, interval: 1m, rewrites: refuse, verify: none}}
  allowEmpty: false
  selfHeal: true
  prune: true
  variables: [MLFLOW_TRACKING_URI, TEAM_WEBHOOK, AWS_PROFILE]
  forge: {{github: {{repository: acme/models}}}}
  groups:
    leads: [alice@example.com]
  approvers:
    - {{email: alice@example.com, github: alice, sshKey: "ssh-ed25519 AAAA…"}}
---
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: bikes-2011}}
spec:
  uri: data/bikes-2011.parquet
  format: delta
  version: 12
  digest: {DIGEST}
  columns:
    target: cnt
    prediction: prediction
    probability: score
    id: ride_id
    timestamp: hour
    categorical: [season, weather]
    ignore: [row_id]
  expect:
    minRows: 100
    columns: {{temp: {{type: double, min: -1, max: 1, maxNull: 0.01}}}}
---
apiVersion: mlops/v1
kind: Dataset
metadata: {{name: bikes-2012}}
spec: {{uri: data/bikes-2012.parquet, columns: {{probability: {{casual: p0, registered: p1}}}}}}
---
apiVersion: mlops/v1
kind: Experiment
metadata: {{name: bikes-gbt}}
spec:
  source: {{path: training, include: ["**/*.py"], exclude: []}}
  command: [python, train.py, --depth, "{{depth}}"]
  parameters: {{depth: 3, learning_rate: 0.1}}
  datasets: {{train: bikes-2011, test: bikes-2012}}
  environment: {{requirements: training/requirements.txt, python: "3.11"}}
  sweep:
    strategy: grid
    parameters: {{depth: [3, 5, 7]}}
    trials: 20
    parallel: 2
  objective: {{metric: rmse, goal: minimize}}
  seed: 7
  onDataChange: hold
  variables: [AWS_PROFILE]
  executor: local
  resources: {{cpu: 1, memory: 2Gi}}
  timeout: 1h
  retries: 1
---
apiVersion: mlops/v1
kind: Experiment
metadata: {{name: bikes-random, labels: {{team: demand}}, annotations: {{note: "drawn"}}}}
spec:
  source: {{path: training}}
  command: [python, train.py]
  sweep:
    strategy: random
    trials: 20
    parameters: {{rate: {{logUniform: [1e-4, 1]}}, depth: {{int: [3, 9]}}, drop: {{uniform: [0, 0.5]}}, kind: [a, b]}}
---
apiVersion: mlops/v1
kind: Model
metadata: {{name: bike-demand}}
spec: {{description: Hourly bike demand, owners: [leads], tags: {{domain: mobility}}, registeredName: bike-demand}}
---
apiVersion: mlops/v1
kind: ModelVersion
metadata: {{name: bike-demand-1.1.0}}
spec:
  model: bike-demand
  version: 1.1.0
  source: {{experiment: bikes-gbt, artifact: model}}
  digest: {DIGEST}
  deletionPolicy: Retain
---
apiVersion: mlops/v1
kind: Stage
metadata: {{name: staging}}
spec:
  gates: [metric: {{name: rmse, min: 0, dataset: bikes-2012}}, signature: true, reproducible: {{tolerance: 0.01}}]
---
apiVersion: mlops/v1
kind: Stage
metadata: {{name: production}}
spec:
  after: staging
  alias: production
  approvals: {{required: 1, from: [leads], allowAuthor: false}}
  gates:
    - metric: {{name: rmse, max: 60}}
    - champion: {{metric: rmse, goal: minimize, dataset: bikes-2012, minImprovement: 1%}}
    - soak: 24h
---
apiVersion: mlops/v1
kind: Promotion
metadata: {{name: bike-demand-production}}
spec: {{model: bike-demand, stage: production, version: 1.1.0, suspend: true}}
"""


def documents(text: str) -> list[dict[str, Any]]:
    # YAML 1.1 reads 1e-4 as text; here it is a number.
    return list(yaml.safe_load_all(text.replace("1e-4", "0.0001")))


def test_the_committed_schemas_are_those_of_the_models() -> None:
    assert stale(SCHEMAS) == []
    assert {path.name for path in SCHEMAS.glob("*.json")} == set(texts())
    assert set(texts()) == {"mlops.json", *(f"{kind.lower()}.json" for kind in KINDS)}


def test_stale_schemas_are_found_and_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlops.resources.schema", str(tmp_path)]
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True)
    assert checked.returncode == 1
    assert "dataset.json" in checked.stderr
    assert subprocess.run(command).returncode == 0
    assert subprocess.run([*command, "--check"]).returncode == 0
    (tmp_path / "stage.json").write_text("{}")
    assert stale(tmp_path) == ["stage.json"]


def test_the_examples_of_the_reference_load(declared: Declared) -> None:
    project, _, rest = EXAMPLES.partition("---\n")
    declared.write("mlops.yaml", project)
    declared.write("resources/all.yaml", rest)
    loaded = declared.load()
    assert list(map(str, loaded.problems)) == []
    assert len(loaded.resources) == 10


@pytest.mark.parametrize("document", documents(EXAMPLES), ids=lambda document: document["metadata"]["name"])
def test_the_schemas_accept_what_the_models_accept(document: dict[str, Any]) -> None:
    for published in (schema(), schema(document["kind"])):
        jsonschema.Draft202012Validator(published).validate(document)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Model", ("spec", "descriptoin"), "x"),
        ("Model", ("metadata", "name"), "Not A Name"),
        ("Model", ("metadata", "name"), "a..b"),
        ("Model", ("apiVersion",), "v1"),
        ("Dataset", ("spec", "format"), "exel"),
        ("Dataset", ("spec", "expect", "minRows"), -1),
        ("Experiment", ("spec", "timeout"), "1 hour"),
        ("Experiment", ("spec", "timeout"), 3600),
        ("Experiment", ("spec", "resources", "memory"), "2GB"),
        ("Experiment", ("spec", "entryPoint"), "main"),
        ("Experiment", ("spec", "source", "path"), "/training"),
        ("Experiment", ("spec", "seed"), "7"),
        ("Stage", ("spec", "gates"), [{"metric": {"name": "a", "max": 1}, "soak": "1h"}]),
        ("Stage", ("spec", "gates"), [{"nothing": 1}]),
        ("Stage", ("spec", "gates"), [{"metric": {"name": "a"}}]),
        ("Stage", ("spec", "gates"), [{"signature": False}]),
        ("ModelVersion", ("spec", "version"), "1.0"),
        ("ModelVersion", ("spec", "source"), {"experiment": "a", "runId": "b"}),
        ("Promotion", ("spec", "version"), "newest"),
    ],
)
def test_the_schemas_refuse_what_the_models_refuse(kind: str, path: tuple[str, ...], value: Any) -> None:
    document = next(each for each in documents(EXAMPLES) if each["kind"] == kind)
    MODELS[kind].model_validate(document)
    place = document
    for part in path[:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = value
    assert not jsonschema.Draft202012Validator(schema(kind)).is_valid(document)
    assert not jsonschema.Draft202012Validator(schema()).is_valid(document)
    with pytest.raises(ValueError, match="validation error"):
        MODELS[kind].model_validate(document)


def fields(node: Any, root: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        for name, field in node.get("properties", {}).items():
            described = {**root["$defs"].get(str(field.get("$ref")).rpartition("/")[2], {}), **field}
            yield f"{path}.{name}", described
        for key, value in node.items():
            yield from fields(value, root, f"{path}/{key}")
    elif isinstance(node, list):
        for value in node:
            yield from fields(value, root, path)


def test_every_field_is_documented_in_camel_case() -> None:
    published = schema()
    found = list(fields(published, published))
    assert len(found) > 100
    for path, field in found:
        assert field.get("description"), path
        assert re.fullmatch(r"[a-z][A-Za-z]*", path.rpartition(".")[2]), path


def test_schemas_are_of_the_2020_12_dialect_and_say_the_defaults() -> None:
    for text in texts().values():
        published = json.loads(text)
        assert published["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        jsonschema.Draft202012Validator.check_schema(published)
    project = schema("Project")["$defs"]
    assert project["GitSource"]["properties"]["interval"]["default"] == "1m"
    assert schema("Experiment")["$defs"]["ExperimentSpec"]["properties"]["retries"]["default"] == 1
