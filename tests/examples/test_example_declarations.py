"""The YAML of the examples and of `mlops init`: valid by the published schema, and of one piece."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

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


class Core(yaml.SafeLoader):
    """Reads the YAML of today, in which `on` is a word."""

    yaml_implicit_resolvers: ClassVar = {
        first: [each for each in found if not each[0].endswith(":bool")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Core.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), ["t", "f"])


def documents(project: Path) -> list[tuple[Path, dict[str, Any]]]:
    files = [project / "mlops.yaml", *sorted(project.glob("[rm]*/*.yaml"))]  # resources/ and monitoring/
    return [(file, document) for file in files for document in yaml.load_all(file.read_text(), Core)]


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
    arriving = ("data/scored", "data/record/newest.csv", "data/record/before.csv")  # made while it is run
    for dataset in specs["Dataset"].values():
        assert dataset["uri"] in arriving or (project / dataset["uri"]).is_file()
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
    for policy in specs.get("MonitoringPolicy", {}).values():
        assert policy["model"] in specs["Model"]
        assert policy["stage"] in specs["Stage"]
        assert policy["data"]["predictions"] in specs["Dataset"]
        for action in policy["actions"]:
            assert set(action["on"]) <= {check["name"] for check in policy["checks"]}
            assert set(action["alert"]) <= set(specs["Notifier"])
            assert set(action.get("retrain", {}).get("datasets", {}).values()) <= set(specs["Dataset"])
