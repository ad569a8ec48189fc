"""The YAML of the examples and of `mlops init`: valid by the published schema, and of one piece."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECTS = [
    ROOT / "examples/seattle-weather",
    ROOT / "examples/mlflow-unchanged",
    ROOT / "src/mlops/cli/template",
]

projects = pytest.mark.parametrize("project", PROJECTS, ids=lambda each: each.name)


def documents(project: Path) -> list[tuple[Path, dict[str, Any]]]:
    files = [project / "mlops.yaml", *sorted((project / "resources").glob("*.yaml"))]
    return [(file, document) for file in files for document in yaml.safe_load_all(file.read_text())]


@projects
def test_each_document_matches_the_published_schema(project: Path) -> None:
    schema = json.loads((ROOT / "schemas/mlops.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for file, document in documents(project):
        problems = [
            f"{file.name} {document['kind']}: {each.message}" for each in validator.iter_errors(document)
        ]
        assert not problems


@pytest.mark.parametrize("project", PROJECTS[:2], ids=lambda each: each.name)
def test_the_schema_line_of_an_example_leads_to_the_schema(project: Path) -> None:
    for file, _ in documents(project):
        line = re.match(r"# yaml-language-server: \$schema=(\S+)\n", file.read_text())
        assert line
        assert (file.parent / line[1]).resolve() == ROOT / "schemas/mlops.json"


@projects
def test_what_a_document_names_is_declared_in_its_project(project: Path) -> None:
    specs: dict[str, dict[str, dict[str, Any]]] = {}
    for _, document in documents(project):
        specs.setdefault(document["kind"], {})[document["metadata"]["name"]] = document["spec"]
    numbers = {(each["model"], each["version"]) for each in specs["ModelVersion"].values()}
    for dataset in specs["Dataset"].values():
        assert (project / dataset["uri"]).is_file()
    for experiment in specs["Experiment"].values():
        assert set(experiment["datasets"].values()) <= set(specs["Dataset"])
        assert (project / experiment["source"]["path"]).is_dir()
        for name in re.findall(r"\{(\w+)\}", " ".join(experiment["command"])):
            assert name in experiment["parameters"]
    for version in specs["ModelVersion"].values():
        assert version["model"] in specs["Model"]
        assert version["source"]["experiment"] in specs["Experiment"]
    for stage in specs["Stage"].values():
        assert stage.get("after", next(iter(specs["Stage"]))) in specs["Stage"]
        assert "approvals" not in stage
    for promotion in specs["Promotion"].values():
        assert promotion["stage"] in specs["Stage"]
        assert promotion["version"] == "latest" or (promotion["model"], promotion["version"]) in numbers
