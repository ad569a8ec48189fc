"""MLflow imported in part: quick, invisible to everything else, and completed when asked."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlops.tracking.loading import _Finder


def python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_tracker_costs_no_import(tmp_path: Path) -> None:
    code = (
        "import sys, time; from mlops.tracking import Tracker; "
        "t = Tracker('sqlite:////nowhere/m.db', None, environ={}, now=time.time); "
        "t.token(); t.versions(); t.observe('p', []); "
        "print([m for m in ('mlflow', 'sqlalchemy', 'pandas', 'numpy') if m in sys.modules])"
    )
    assert python(code, tmp_path) == "[]"


def test_only_the_importing_thread_misses_the_optional_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = _Finder(threading.get_ident())
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    with pytest.raises(ModuleNotFoundError):
        finder.find_spec("pandas", None)
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(finder.find_spec("pandas", None)))
    thread.start()
    thread.join()
    assert elsewhere == [None]


@pytest.mark.slow
def test_opening_a_store_is_not_logged_though_mlflow_was_there_before(tmp_path: Path) -> None:
    code = """
import os, sys, time
sys.stderr = sys.stdout
import mlflow, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
import mlflow.artifacts, mlflow.tracking.client
from mlops.tracking import Tracker
tracker = Tracker(f"sqlite:///{os.getcwd()}/m.db", f"{os.getcwd()}/art", environ={}, now=time.time)
tracker.prepare()
tracker.observe("p", [])
"""
    assert "Create SQLAlchemy engine" not in python(code, tmp_path)


@pytest.mark.slow
def test_everything_of_mlflow_works_afterwards_in_the_same_process(tmp_path: Path) -> None:
    code = """
import os, sys, time
from mlops.tracking import Tracker
tracker = Tracker(f"sqlite:///{os.getcwd()}/m.db", f"{os.getcwd()}/art", environ={}, now=time.time)
tracker.prepare()
made = tracker.ensure_experiment("p/a", description="", tags={})
assert "pandas" not in sys.modules and "sklearn" not in sys.modules
import mlflow, mlflow.sklearn, pandas, pyarrow
assert pyarrow.table({"a": [1.0]}).to_pandas()["a"].to_numpy().sum() == 1.0
from sklearn.linear_model import Ridge
mlflow.set_tracking_uri(tracker.store.uri)
with mlflow.start_run(experiment_id=made) as run:
    mlflow.log_metric("m", 1.0)
    model = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    info = mlflow.sklearn.log_model(model, name="model", pip_requirements=[])
assert mlflow.sklearn.load_model(info.model_uri).predict([[1.0]]).shape == (1,)
assert len(mlflow.search_runs([made])) == 1
print(tracker.run(run.info.run_id).status, tracker.artifact(run.info.run_id, "model").uri == info.model_uri)
"""
    assert python(code, tmp_path).splitlines()[-1] == "FINISHED True"


@pytest.mark.slow
def test_a_failing_shortcut_falls_back_to_the_plain_import(tmp_path: Path) -> None:
    code = """
import sys
from mlops.tracking import loading
class Broken(loading._Finder):
    def find_spec(self, fullname, path, target=None):
        if fullname == "mlflow.tracking.client":
            raise AttributeError("another MLflow, arranged differently")
        return super().find_spec(fullname, path, target)
loading._Finder = Broken
loading.load(database=True)
import mlflow
assert not any(isinstance(f, Broken) for f in sys.meta_path)
print("__getattr__" in vars(mlflow), mlflow.MlflowClient.__name__, "pandas" in sys.modules)
"""
    assert python(code, tmp_path).splitlines()[-1] == "False MlflowClient True"


@pytest.mark.slow
def test_processes_that_prepare_one_new_store_at_once_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from mlops.tracking import Tracker; "
        f"t = Tracker('sqlite:///{tmp_path}/m.db', '{tmp_path}/art', environ={{}}, now=time.time); "
        "t.prepare(); print(t.ensure_experiment('p/a', description='', tags={}))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], ends
    assert {out.strip() for out, _ in ends} == {"1"}
