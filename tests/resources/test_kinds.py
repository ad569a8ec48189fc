"""What the models hold once a document is valid: numbers for durations and sizes, defaults, nothing that changes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from mlops.resources import (
    Dataset,
    Experiment,
    Key,
    Model,
    ModelVersion,
    Project,
    Promotion,
    Stage,
    environment_name,
    placeholders,
    references,
    semver_key,
)
from mlops.resources.quantities import (
    Improvement,
    parse_duration,
    parse_improvement,
    parse_size,
    render_duration,
    render_improvement,
    render_size,
)
from mlops.resources.semver import is_semver
from mlops.resources.stage import ChampionGate, MetricGate, SoakGate


def document(kind: str, spec: dict[str, Any], name: str = "x") -> dict[str, Any]:
    return {"apiVersion": "mlops/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("24h", 86400), ("7d", 604800), ("2w", 1209600)]
)
def test_durations_are_seconds_and_go_back(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(render_duration(seconds)) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "1.5h", "-1h", "0s", "1h30m", "1H", "1y", "١s", 60, None, True, "9" * 99 + "s"]
)
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("1Ki", 1024), ("512Mi", 512 << 20), ("4Gi", 4 << 30), ("2Ti", 2 << 40)]
)
def test_sizes_are_bytes_and_go_back(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert render_size(size) == text


@pytest.mark.parametrize("text", ["", "4G", "4GB", "4 Gi", "0Mi", "1.5Gi", 1024, None])
def test_what_is_no_size_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("given", "value", "relative"),
    [("1%", 0.01, True), ("0.5%", 0.005, True), (0.5, 0.5, False), (2, 2.0, False)],
)
def test_improvements_are_shares_or_numbers_and_go_back(given: Any, value: float, relative: bool) -> None:
    assert parse_improvement(given) == Improvement(value, relative)
    assert parse_improvement(render_improvement(Improvement(value, relative))) == Improvement(value, relative)


def test_versions_are_ordered_as_semver_org_says() -> None:
    ordered = [
        "0.9.9",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
    ]
    ordered += ["1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]
    mixed = ordered[:]
    random.Random(7).shuffle(mixed)
    assert sorted(mixed, key=semver_key) == ordered
    assert semver_key("1.0.0+a") == semver_key("1.0.0+b")
    assert not any(
        map(is_semver, ["1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0+", "1.0.0\n"])
    )
    with pytest.raises(ValueError, match="not a semantic version"):
        semver_key("latest")


def test_a_project_has_the_defaults_of_its_reference() -> None:
    spec = Project.model_validate(document("Project", {})).spec
    assert (spec.resources, spec.tracking.uri, spec.tracking.artifacts) == (
        ("resources",),
        "sqlite:///.mlops/mlflow.db",
        ".mlops/artifacts",
    )
    assert (spec.state.uri, spec.source.branch, spec.source.interval) == (
        "sqlite:///.mlops/state.db",
        "main",
        60.0,
    )
    assert (spec.source.rewrites, spec.source.verify) == ("refuse", "none")
    assert (spec.allow_empty, spec.self_heal, spec.prune, spec.suspend) == (False, True, True, False)
    assert (spec.forge, spec.variables, spec.groups, spec.approvers) == (None, (), {}, ())
    assert (spec.write_back.name, spec.write_back.email) == ("mlops", "mlops@localhost")


@pytest.mark.parametrize(
    ("uri", "artifacts"),
    [
        ("sqlite:///x.db", ".mlops/artifacts"),
        ("postgresql+psycopg://h/d", ".mlops/artifacts"),
        ("./mlruns", ".mlops/artifacts"),
        ("https://mlflow.example.com", None),
        ("databricks://profile", None),
        ("databricks", None),
        ("${MLFLOW_TRACKING_URI}", None),
    ],
)
def test_a_tracking_server_hands_out_its_own_artifact_location(uri: str, artifacts: str | None) -> None:
    assert (
        Project.model_validate(document("Project", {"tracking": {"uri": uri}})).spec.tracking.artifacts
        == artifacts
    )


def test_an_experiment_holds_its_sweep_and_its_defaults() -> None:
    sweep = {
        "strategy": "random",
        "trials": 3,
        "parameters": {"a": [1, "x", True], "b": {"logUniform": [1, 2]}, "c": {"int": [1, 9]}},
    }
    spec = {
        "source": {"path": "./training/"},
        "command": ["python"],
        "sweep": sweep,
        "resources": {"memory": "2Gi"},
    }
    experiment = Experiment.model_validate(document("Experiment", spec))
    assert experiment.spec.sweep is not None
    values = experiment.spec.sweep.parameters
    assert values["a"] == (1, "x", True)
    assert [type(value) for value in values["a"]] == [int, str, bool]
    assert (values["b"].log_uniform, values["b"].uniform, values["c"].int_) == ((1.0, 2.0), None, (1, 9))
    assert (experiment.spec.source.path, experiment.spec.source.include) == ("training", ("**/*",))
    assert (experiment.spec.retries, experiment.spec.executor, experiment.spec.on_data_change) == (
        1,
        "local",
        "hold",
    )
    assert (
        experiment.spec.resources.memory,
        experiment.spec.resources.cpu,
        experiment.spec.sweep.parallel,
    ) == (2 << 30, None, 1)
    with pytest.raises(ValidationError, match="frozen"):
        experiment.spec.seed = 7  # type: ignore[misc]


def test_a_gate_is_the_type_that_its_key_says() -> None:
    champion = {"metric": "rmse", "goal": "minimize", "dataset": "d", "minImprovement": "1%"}
    spec = {
        "after": "a",
        "gates": [{"metric": {"name": "rmse", "max": 60}}, {"champion": champion}, {"soak": "1d"}],
    }
    metric, best, soak = Stage.model_validate(document("Stage", spec)).spec.gates
    assert isinstance(metric, MetricGate)
    assert (metric.metric.name, metric.metric.max, metric.metric.min) == ("rmse", 60.0, None)
    assert isinstance(best, ChampionGate)
    assert best.champion.min_improvement == Improvement(0.01, relative=True)
    assert isinstance(soak, SoakGate)
    assert soak.soak == 86400.0


def test_names_that_default_to_the_resources_own() -> None:
    assert Stage.model_validate(document("Stage", {}, "prod")).alias == "prod"
    assert Stage.model_validate(document("Stage", {"alias": "p"}, "prod")).alias == "p"
    assert Model.model_validate(document("Model", {}, "m")).registered_name == "m"
    assert (
        Model.model_validate(document("Model", {"registeredName": "a.b.c"}, "m")).registered_name == "a.b.c"
    )


def test_a_dataset_says_its_format_by_its_name() -> None:
    for uri, expected in (("a.csv", "csv"), ("a.csv.gz", "csv"), ("s3://b/x/*.parquet", "parquet")):
        assert Dataset.model_validate(document("Dataset", {"uri": uri})).spec.format == expected


def test_references_lead_from_a_field_to_a_key() -> None:
    spec = {"source": {"path": "a"}, "command": ["b"], "datasets": {"train": "d1", "test": "d2"}}
    assert references(Experiment.model_validate(document("Experiment", spec))) == (
        (("spec", "datasets", "train"), Key("Dataset", "d1")),
        (("spec", "datasets", "test"), Key("Dataset", "d2")),
    )
    spec = {"model": "m", "version": "1.0.0", "source": {"experiment": "e"}}
    assert references(ModelVersion.model_validate(document("ModelVersion", spec))) == (
        (("spec", "model"), Key("Model", "m")),
        (("spec", "source", "experiment"), Key("Experiment", "e")),
    )
    gates = [{"soak": "1h"}, {"metric": {"name": "a", "max": 1, "dataset": "d"}}]
    assert references(Stage.model_validate(document("Stage", {"after": "s", "gates": gates}))) == (
        (("spec", "after"), Key("Stage", "s")),
        (("spec", "gates", 1, "metric", "dataset"), Key("Dataset", "d")),
    )
    promotion = Promotion.model_validate(
        document("Promotion", {"model": "m", "stage": "s", "version": "latest"})
    )
    assert [target for _, target in references(promotion)] == [Key("Model", "m"), Key("Stage", "s")]


def test_names_in_commands_and_environments() -> None:
    assert placeholders('--x={a} {b.c}{d-e} {} { f } {1} {"g": 1}') == ("a", "b.c", "d-e")
    assert environment_name("learning-rate.x") == "LEARNING_RATE_X"


def test_a_model_goes_back_to_the_document_it_came_from() -> None:
    spec = {
        "source": {"path": "a"},
        "command": ["b"],
        "timeout": "90m",
        "resources": {"memory": "512Mi", "cpu": 0.5},
    }
    experiment = Experiment.model_validate(document("Experiment", spec))
    written = json.loads(experiment.model_dump_json(by_alias=True, exclude_unset=True))
    assert written == document("Experiment", spec)
    assert Experiment.model_validate(written) == experiment


def test_importing_the_kinds_loads_nothing_heavy() -> None:
    heavy = (
        "mlflow",
        "git",
        "pandas",
        "pyarrow",
        "sqlalchemy",
        "jsonschema",
        "difflib",
        "rich",
        "sklearn",
        "numpy",
    )
    program = f"import sys, mlops.resources; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
