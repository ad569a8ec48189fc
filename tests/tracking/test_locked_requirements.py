"""The folder on a training process's path: it must help MLflow and harm nobody."""

from __future__ import annotations

import ast
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mlops.tracking.environment import CHILD_FOLDER, locked_names


def python(tmp_path: Path, code: str, *path: str) -> str:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(CHILD_FOLDER), *path]),
        "MLOPS_LOCKED_PACKAGES": "pyyaml numpy",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def child() -> ModuleType:
    spec = importlib.util.spec_from_file_location("locked", CHILD_FOLDER / "mlops_locked_requirements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_script_without_mlflow_runs_as_ever(tmp_path: Path) -> None:
    assert python(tmp_path, "import sys; print('ran', 'ast' in sys.modules, 'typing' in sys.modules)") == (
        "ran False False"
    )


def test_the_users_own_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import builtins\nbuiltins.users_own = __file__\n")
    out = python(
        tmp_path, "import sitecustomize; print(users_own == sitecustomize.__file__)", str(tmp_path / "own")
    )
    assert out == "True"


def test_a_fault_in_the_users_sitecustomize_is_reported_as_ever(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import not_there_at_all\n")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{CHILD_FOLDER}{os.pathsep}{tmp_path / 'own'}"}
    done = subprocess.run(
        [sys.executable, "-c", "print('ran')"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.strip() == "ran"


@pytest.mark.parametrize(
    "name", ["sitecustomize.py", "mlops_locked_requirements.py", "mlops_watch_mlflow.py"]
)
def test_the_folder_is_readable_by_old_pythons(name: str) -> None:
    ast.parse((CHILD_FOLDER / name).read_text(), feature_version=(3, 8))


def test_names_are_read_from_every_kind_of_lock() -> None:
    lines = [
        "# made by uv",
        "-r other.txt",
        "numpy==2.0.0 \\",
        "    --hash=sha256:aa \\",
        "Scikit_Learn[extra]==1.5 ; python_version >= '3.11'",
        "mine @ https://user:hunter2@example.com/mine.whl",
        "",
    ]
    assert locked_names(lines) == ["mine", "numpy", "scikit-learn"]


def test_a_pickle_is_read_without_being_run(child: ModuleType, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, (f"touch {tmp_path}/ran",))

    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": Bomb(), "path": Path("x")}))
    named = child._named_by_model(str(tmp_path / "model.pkl"))
    assert "pathlib" in named
    assert not (tmp_path / "ran").exists()


def test_only_locked_distributions_are_pinned_and_transitive_ones_come_along(
    child: ModuleType, tmp_path: Path
) -> None:
    import yaml

    (tmp_path / "model.pkl").write_bytes(pickle.dumps(yaml.SafeLoader))
    found = child.requirements(frozenset({"pyyaml", "pytest"}), frozenset(), ["click==8.1.0"], str(tmp_path))
    assert f"pyyaml=={yaml.__version__}" in found
    assert "click==8.1.0" in found
    assert not any(pin.startswith(("mlflow", "numpy")) for pin in found)
