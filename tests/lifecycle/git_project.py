"""A small real project for tests: a git repository, a training script, and the command line in this process."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import yaml

TRAIN = """\
import json, os, sys
out = os.environ["MLOPS_OUTPUT"]
depth = float(os.environ.get("MLOPS_PARAM_DEPTH", "1"))
rows = open(os.environ["MLOPS_DATASET_TRAIN"]).read().count("\\n")
if os.environ.get("MLOPS_PARAM_EXIT"):
    sys.exit(int(os.environ["MLOPS_PARAM_EXIT"]))
json.dump({"rmse": 10.0 / depth, "rows": rows}, open(os.path.join(out, "metrics.json"), "w"))
open(os.path.join(out, "model.txt"), "w").write(f"a model of depth {depth}")
print("trained with depth", depth)
"""


def document(kind: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "mlops/v1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": dict(spec),
    }


def experiment(name: str = "fit", **spec: Any) -> dict[str, Any]:
    metadata = {key: spec.pop(key) for key in ("labels", "annotations") if key in spec}
    base = {
        "source": {"path": "training", "include": ["**/*.py"]},
        "command": ["python", "train.py"],
        "parameters": {"depth": 1},
        "datasets": {"train": "rows"},
        "objective": {"metric": "rmse", "goal": "minimize"},
        "retries": 0,
    }
    return document("Experiment", name, {**base, **spec}, **metadata)


def lifecycle() -> list[dict[str, Any]]:
    """One dataset, an experiment of two trials, a model, a version, two stages, two promotions."""
    return [
        document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
        experiment(sweep={"strategy": "grid", "parameters": {"depth": [1, 2]}, "parallel": 2}),
        document("Model", "m", {"description": "A model"}),
        version("1.0.0"),
        document("Stage", "dev", {"gates": [{"metric": {"name": "rmse", "max": 20}}]}),
        document("Stage", "prod", {"after": "dev", "gates": [{"metric": {"name": "rmse", "max": 9}}]}),
        promotion("dev", "1.0.0"),
        promotion("prod", "1.0.0"),
    ]


def version(number: str, **spec: Any) -> dict[str, Any]:
    base = {"model": "m", "version": number, "source": {"experiment": "fit", "artifact": "model.txt"}}
    return document("ModelVersion", f"m-{number}", {**base, **spec})


def promotion(stage: str, number: str) -> dict[str, Any]:
    return document("Promotion", f"m-{stage}", {"model": "m", "stage": stage, "version": number})


@functools.cache
def empty_database() -> bytes:
    """MLflow's database as a first apply makes it, to be copied: its migrations cost a second each time."""
    from mlops.tracking import Tracker

    with tempfile.TemporaryDirectory() as folder:
        Tracker(f"sqlite:///{folder}/mlflow.db", None, environ={}, now=time.time).prepare()
        with closing(sqlite3.connect(f"{folder}/mlflow.db")) as made:
            return made.serialize()


class GitProject:
    """A project folder in a git repository of its own."""

    def __init__(self, root: Path, documents: list[dict[str, Any]] | None = None, **project: Any) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.write("training/train.py", TRAIN)
        self.write("data/rows.csv", "x,y\n1,2\n3,4\n")
        self.write("mlops.yaml", yaml.safe_dump(document("Project", "p", project)))
        self.declare(lifecycle() if documents is None else documents)
        self.commit("first")

    @classmethod
    def at(cls, root: Path) -> GitProject:
        """The project that is in this folder already."""
        project = cls.__new__(cls)
        project.root = root
        return project

    def with_store(self) -> Self:
        """Give it an MLflow database that holds nothing, so that no apply has to make one."""
        folder = self.root / ".mlops"
        folder.mkdir()
        (folder / ".gitignore").write_text("*\n")
        (folder / "mlflow.db").write_bytes(empty_database())
        return self

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def declare(self, documents: list[dict[str, Any]]) -> None:
        self.write("resources/all.yaml", yaml.safe_dump_all(documents, sort_keys=False))

    def commit(self, message: str = "change") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def run(self, *arguments: str, capsys: Any = None) -> int:
        """The command line, in this process; gives its exit code."""
        from mlops.cli import run

        return run(["--project", str(self.root), *arguments])

    def json(self, capsys: Any, *arguments: str) -> Any:
        """A command's JSON output."""
        capsys.readouterr()
        self.run(*arguments, "-o", "json")
        return json.loads(capsys.readouterr().out)

    @property
    def client(self) -> Any:
        """A plain MLflow client on the project's store."""
        from mlflow.tracking.client import MlflowClient

        uri = f"sqlite:///{self.root}/.mlops/mlflow.db"
        return MlflowClient(tracking_uri=uri, registry_uri=uri)

    def world(self) -> dict[str, Any]:
        """What MLflow holds, without ids, times and paths: equal worlds give equal values."""
        client = self.client
        runs = []
        for found in client.search_experiments():
            for run in client.search_runs([found.experiment_id], max_results=1000):
                tags = run.data.tags
                fingerprint = tags.get("mlops.fingerprint", "")
                runs.append(
                    (
                        found.name,
                        fingerprint,
                        str(run.info.run_name).replace(fingerprint[:8], "…"),
                        run.info.status,
                        tags.get("mlops.outcome"),
                        tags.get("mlops.attempt"),
                        tuple(sorted(run.data.metrics.items())),
                        tuple(sorted(run.data.params.items())),
                        tuple(sorted(used.dataset.name for used in run.inputs.dataset_inputs)),
                        tuple(_artifacts(client, run.info.run_id)),
                    )
                )
        versions = [
            (
                found.name,
                int(found.version),
                tuple(sorted(found.tags[t] for t in ("mlops.version", "mlops.digest") if t in found.tags)),
                tuple(sorted(t for t in found.tags if t.startswith("mlops.stage."))),
                _stays(found.tags),
            )
            for found in client.search_model_versions()
        ]
        models = [
            (found.name, found.description, tuple(sorted((a, int(v)) for a, v in found.aliases.items())))
            for found in client.search_registered_models()
        ]
        return {"runs": sorted(runs), "versions": sorted(versions), "models": sorted(models)}


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> list[str]:
    """Paths of all files of a run; evidence, which is named by its hash, by its place."""
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += _artifacts(client, run_id, item.path) if item.is_dir else [item.path]
    return sorted("mlops/evidence/…" if path.startswith("mlops/evidence/") else path for path in found)


def _stays(tags: Mapping[str, str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """How each of a version's stays stands, by stage, oldest first."""
    return tuple(
        (
            tag.split(".")[2],
            tuple("ended" if "until" in stay else "lasting" for stay in json.loads(tags[tag])),
        )
        for tag in sorted(tags)
        if tag.startswith("mlops.stage.") and tag.endswith(".history")
    )


def clean_environ() -> dict[str, str]:
    """The environment without what would point MLflow or git elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GIT_"))}
