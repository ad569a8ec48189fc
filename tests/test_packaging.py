"""What is shipped: licence, dependencies, lock, imports, wheel and workflows."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
UV = Path(sysconfig.get_path("scripts")) / "uv"
HEAVY = ("mlflow", "pandas", "numpy", "pyarrow", "sklearn", "scipy", "git", "sqlalchemy", "rich", "deltalake")
ARITHMETIC = {"numpy", "scipy", "pyarrow"}  # the monitoring room's, which only functions of the rest import


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked() -> list[tuple[Requirement, list[str]]]:
    """Each requirement of the lock with its hashes."""
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().replace("\\\n", ""))
    return [
        (Requirement(block.split("--hash", 1)[0].strip()), re.findall(r"--hash=(\S+)", block))
        for block in blocks
        if block.strip()
    ]


def test_the_licence_is_the_verbatim_apache_licence() -> None:
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_lock_pins_every_package_with_hashes_and_names_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(-|/|\.|file:)(?!-hash=sha256:)", text.replace("    --hash", "--hash"), re.MULTILINE
    )
    for requirement, hashes in locked():
        assert [each.operator for each in requirement.specifier] == ["=="], requirement.name
        assert hashes, requirement.name


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_holds_what_pyproject_asks_for(python: str) -> None:
    described = project()
    extras = described["project"]["optional-dependencies"]
    asked = [
        *described["project"]["dependencies"],
        *extras["delta"],
        *extras["postgres"],
        *described["dependency-groups"]["dev"],
    ]
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.5"}
    pinned = {
        canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
        for requirement, _ in locked()
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }
    for requirement in map(Requirement, asked):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} against {version}: run make lock"


def test_each_dependency_is_explained() -> None:
    described = project()["project"]
    page = (ROOT / "docs/dependencies.md").read_text().lower()
    asked = [
        *described["dependencies"],
        *(each for group in described["optional-dependencies"].values() for each in group),
    ]
    for requirement in map(Requirement, asked):
        if requirement.name == described["name"]:
            continue
        row = next(
            (line for line in page.splitlines() if line.startswith("|") and f"[{requirement.name}]" in line),
            "",
        )
        assert row, f"{requirement.name} has no row in docs/dependencies.md"
        ranges = {part for cell in re.findall(r"`([^`]*)`", row) for part in cell.split(",")}
        assert {str(each) for each in requirement.specifier} <= ranges, f"{requirement} and its row differ"


def test_all_is_every_other_extra() -> None:
    extras = project()["project"]["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.extras == set(extras) - {"all"}


@pytest.mark.parametrize(("room", "allowed"), [("", set()), ("mlops.monitoring", ARITHMETIC)])
def test_importing_any_module_imports_nothing_heavy(room: str, allowed: set[str]) -> None:
    script = """
import importlib, json, sys
from pathlib import Path
import mlops
root = Path(mlops.__file__).parent
for path in sorted(root.rglob("*.py")):
    name = ".".join(("mlops", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
    if name.startswith("mlops.monitoring.") == bool(sys.argv[1]) and not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""
    argv = [sys.executable, "-c", script, room]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & set(HEAVY) <= allowed


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_import_neither_models_nor_anything_heavy(argument: str) -> None:
    script = """
import sys
from mlops.cli import main
sys.argv = ["mlops", sys.argv[1]]
try:
    main()
finally:
    print(" ".join(sorted(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, argument], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(done.stderr.split()) & {*HEAVY, "pydantic", "yaml", "jsonschema", "asyncio"} == set()


def test_workflows_pin_every_action_by_commit_and_ask_for_no_more_than_reading() -> None:
    for workflow in sorted((ROOT / ".github").rglob("*.y*ml")):
        text = workflow.read_text()
        uses = re.findall(r"uses:\s*(\S+)(.*)", text)
        for action, comment in uses:
            if action.startswith("./"):
                continue
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), f"{workflow.name}: {action}"
            assert re.match(r"\s+# v\d+\.\d+\.\d+", comment), (
                f"{workflow.name}: {action} does not say its version"
            )
    assert "permissions: {}" in (ROOT / ".github/workflows/ci.yml").read_text()


def test_the_ci_command_is_the_test_command_of_the_readme() -> None:
    lines = [
        line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert lines[-1] == "exec make test"
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment in which mlops comes from a built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", folder / "dist", ROOT], check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    subprocess.run(
        [UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel], check=True
    )
    site = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    # Dependencies are borrowed from this environment; its own editable install of mlops is not on the path.
    (site / "dependencies.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n"
    )
    return folder / "venv/bin"


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_its_command(installed: Path, tmp_path: Path) -> None:
    where = [installed / "python", "-c", "import mlops; print(mlops.__file__)"]
    module = Path(subprocess.check_output(where, text=True, cwd=tmp_path).strip())
    assert module.is_relative_to(installed.parent)
    shipped = {str(path.relative_to(module.parent)) for path in module.parent.rglob("*") if path.is_file()}
    tracked = subprocess.check_output(["git", "-C", ROOT, "ls-files", "-z", "src/mlops"], text=True)
    wanted = {name.removeprefix("src/mlops/") for name in tracked.split("\0") if name}
    assert wanted - shipped == set()
    assert subprocess.run([installed / "mlops", "--version"], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.slow
def test_init_and_apply_work_from_the_wheel_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    mlops = str(installed / "mlops")
    subprocess.run([mlops, "init", "demo"], cwd=tmp_path, check=True)
    subprocess.run([mlops, "apply"], cwd=tmp_path / "demo", check=True)
    again = subprocess.run([mlops, "plan", "--detailed-exitcode"], cwd=tmp_path / "demo", check=False)
    assert again.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("python", "extra"), [("3.11", "all"), ("3.12", "all"), ("3.13", ""), ("3.13", "all")]
)
def test_the_dependencies_resolve(python: str, extra: str, tmp_path: Path) -> None:
    probe = [UV, "pip", "compile", "--quiet", "--no-deps", "-"]
    reached = subprocess.run(probe, input="click", capture_output=True, text=True, check=False)
    if reached.returncode:
        pytest.skip(f"no package index can be reached: {reached.stderr.strip().splitlines()[-1]}")
    command = [UV, "pip", "compile", "--quiet", "--only-binary", ":all:", "--no-annotate", "--no-header"]
    command += ["--python-version", python, *(["--extra", extra] if extra else []), ROOT / "pyproject.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("alibi-detect==" in done.stdout) == (extra == "all" and python != "3.13")
