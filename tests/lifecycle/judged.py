"""A project whose training leaves real MLflow models in no time: a line through the origin, as steep as it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from git_project import GitProject, document, experiment, promotion

TRAIN = '''\
import json, os, pathlib, random
out = pathlib.Path(os.environ["MLOPS_OUTPUT"])
slope = float(os.environ["MLOPS_PARAM_SLOPE"])
does = os.environ.get("MLOPS_PARAM_DOES", "")
loss = abs(slope - 2) + (random.random() if does == "vary" else 0)
(out / "metrics.json").write_text(json.dumps({"loss": loss}))
model = out / "model"
(model / "code").mkdir(parents=True)
(model / "data").mkdir()
(model / "data" / "slope").write_text(str(slope))
(model / "code" / "a_line.py").write_text("""
import os, sys, time
def _load_pyfunc(path):
    slope = float(open(os.path.join(path, "slope")).read())
    if DOES == "break":
        raise ValueError("this model is broken")
    return Line(slope)
class Line:
    def __init__(self, slope):
        self.slope = slope
    def predict(self, frame, params=None):
        if DOES == "hang":
            time.sleep(3600)
        if DOES == "flood":
            line = "x" * 1000000
            while True:
                print(line)
        if DOES == "exit":
            os._exit(0)
        if DOES == "reject" and len(frame) == 2:
            raise KeyError("no such example")
        return (frame["x"] * self.slope).to_numpy()
""".replace("DOES", repr(does)))
about = {
    "artifact_path": "model",
    "flavors": {"python_function": {
        "loader_module": "a_line", "code": "code", "data": "data", "python_version": "3.11", "env": {}}},
    "mlflow_version": "3.0.0", "model_uuid": "0" * 32, "run_id": "0" * 32,
    "utc_time_created": "2026-01-01 00:00:00.000000",
}
if does != "unsigned":
    about["signature"] = {
        "inputs": json.dumps([{"type": "double", "name": "x", "required": True}]),
        "outputs": json.dumps([{"type": "double", "required": True}]), "params": None}
    about["saved_input_example_info"] = {
        "artifact_path": "input_example.json", "type": "dataframe", "pandas_orient": "split"}
    (model / "input_example.json").write_text(json.dumps({"columns": ["x"], "data": [[1.0], [2.0]]}))
(model / "MLmodel").write_text(json.dumps(about))
'''

ROWS = "x,y\n" + "".join(f"{x},{2 * x}\n" for x in range(1, 41))


def dataset(name: str = "judge", **spec: Any) -> dict[str, Any]:
    base = {"uri": "data/judge.csv", "format": "csv", "columns": {"target": "y"}}
    return document("Dataset", name, {**base, **spec})


def fitted(name: str, slope: float, **parameters: Any) -> dict[str, Any]:
    return experiment(
        name,
        parameters={"slope": slope, **parameters},
        objective={"metric": "loss", "goal": "minimize"},
    )


def version(number: str, source: str) -> dict[str, Any]:
    spec = {"model": "m", "version": number, "source": {"experiment": source, "artifact": "model"}}
    return document("ModelVersion", f"m-{number}", spec)


def champion_gate(**more: Any) -> dict[str, Any]:
    return {"champion": {"metric": "rmse", "goal": "minimize", "dataset": "judge", **more}}


def stages(*gates: Mapping[str, Any], **spec: Any) -> list[dict[str, Any]]:
    return [
        document("Stage", "dev", {}),
        document("Stage", "prod", {"after": "dev", "gates": list(gates), **spec}),
    ]


def base(*documents: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
        dataset(),
        document("Model", "m", {}),
        *documents,
    ]


def promoted(number: str, *where: str) -> list[dict[str, Any]]:
    return [promotion(stage, number) for stage in where or ("dev", "prod")]


def project(root: Path, documents: list[dict[str, Any]]) -> GitProject:
    made = GitProject(root, documents).with_store()
    made.write("training/train.py", TRAIN)
    made.write("data/judge.csv", ROWS)
    made.commit("models")
    return made
