"""The tree that `mlops init` writes: complete, packaged, and safe to run in CI as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

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


def test_the_workflow_may_only_read_and_pins_its_actions() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    text = (TEMPLATE / "dot-github/workflows/mlops.yaml").read_text()
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used)


def test_the_workflow_puts_nothing_of_an_event_into_a_shell() -> None:
    for job in workflow()["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_no_job_that_sees_a_pull_request_sees_a_credential() -> None:
    jobs = workflow()["jobs"]
    assert "secrets." in json.dumps(jobs["apply"])
    assert jobs["apply"]["if"].startswith("github.event_name == 'push' && ")
    assert "secrets." not in json.dumps(jobs["plan"])


def test_only_what_is_merged_is_applied() -> None:
    jobs = workflow()["jobs"]
    runs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert "mlops apply" not in runs["plan"]
    assert runs["plan"][1:] == [
        "mlops validate -o github",
        'mlops plan -o markdown >> "$GITHUB_STEP_SUMMARY"',
    ]
    assert runs["apply"][1:] == ["mlops apply"]
    assert workflow()["on"]["push"] == {"branches": ["main"]}
