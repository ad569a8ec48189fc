"""The tree that `mlops init` writes: complete, packaged, and safe to run in CI as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

import mlops

TEMPLATE = Path(__file__).parents[2] / "src/mlops/cli/template"
FILES = json.loads((TEMPLATE / "files.json").read_text())


def workflow() -> dict[str, Any]:
    return yaml.load((TEMPLATE / "dot-github/workflows/mlops.yaml").read_text(), yaml.BaseLoader)


def test_files_json_names_each_file_once() -> None:
    found = {
        file.relative_to(TEMPLATE).as_posix()
        for file in TEMPLATE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.name != "files.json"
    }
    assert set(FILES["copy"]) == found
    assert len(set(FILES["copy"].values())) == len(found)


def test_nothing_has_a_name_that_packaging_or_python_treats_specially() -> None:
    for name in FILES["copy"]:
        assert not any(part.startswith(".") for part in Path(name).parts), name
        assert Path(name).suffix not in {".py", ".pyc"}, name


def test_each_yaml_names_the_schema_that_init_writes() -> None:
    for source, target in FILES["copy"].items():
        if target.startswith(".github") or not target.endswith(".yaml"):
            continue
        first = (TEMPLATE / source).read_text().splitlines()[0]
        schema = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert schema, source
        written = (Path("/project") / target).parent / schema[1]
        assert Path(*_normal(written.parts)) == Path("/project") / FILES["schema"], source


def _normal(parts: tuple[str, ...]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        kept = kept[:-1] if part == ".." else [*kept, part]
    return kept


def test_the_readme_starts_with_five_commands() -> None:
    block = re.search(r"```sh\n(.*?)```", (TEMPLATE / "README.md").read_text(), re.DOTALL)
    assert block
    commands = [line.split("#")[0].split() for line in block[1].splitlines()]
    assert [command[:2] for command in commands] == [
        ["mlops", each] for each in ("validate", "plan", "apply", "tree", "history")
    ]


def test_the_workflow_may_write_a_comment_and_nothing_else_and_pins_its_actions() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    for job in workflow()["jobs"].values():
        assert job["permissions"].pop("contents") == "read"
        assert set(job["permissions"]) == {"pull-requests"}
    assert workflow()["jobs"]["apply"]["permissions"]["pull-requests"] == "read"
    text = (TEMPLATE / "dot-github/workflows/mlops.yaml").read_text()
    used = [
        each for each in re.findall(r"uses: (.*)", text) if not each.startswith("./.github/actions/mlops ")
    ]
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used)


def test_the_action_is_the_one_that_is_tested_and_installs_this_version() -> None:
    mine = TEMPLATE / "dot-github/actions/mlops/action.yml"
    assert mine.read_bytes() == (Path(__file__).parents[2] / ".github/actions/mlops/action.yml").read_bytes()
    assert workflow()["env"] == {"VERSION": mlops.__version__}


def test_the_workflow_puts_nothing_of_an_event_into_a_shell() -> None:
    for job in workflow()["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_only_jobs_of_what_is_merged_or_labelled_see_a_credential() -> None:
    jobs = workflow()["jobs"]
    assert "secrets." not in json.dumps(jobs["plan"])
    assert jobs["plan"]["if"] == "github.event_name == 'pull_request' && github.event.action != 'labeled'"
    assert jobs["apply"]["if"] == "github.event_name == 'push' || github.event_name == 'schedule'"
    for part in ("label.name == 'mlops/train'", "head.repo.full_name == github.repository"):
        assert part in jobs["train"]["if"]
    assert jobs["train"]["steps"][0]["with"]["ref"] == "${{ github.event.pull_request.head.sha }}"


def test_only_what_is_merged_is_applied() -> None:
    commands = {
        name: [step["with"]["command"] for step in job["steps"] if step["uses"].startswith("./")]
        for name, job in workflow()["jobs"].items()
    }
    assert commands == {"plan": ["validate", "plan"], "train": ["train"], "apply": ["apply", "monitor"]}
    assert workflow()["on"]["push"] == {"branches": ["main"]}
    assert "pull_request_target" not in workflow()["on"]
