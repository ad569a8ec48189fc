"""What people do to MLflow by hand, through a plain MlflowClient, and the world as such a client sees it.

Runs in a fork of the nursery. Only what can be put right is broken: nothing here destroys the last record of
something (both tags that name a version, a history of stays, the outcome of a run, the revision in force), as no
reconciler could know it again.
"""

from __future__ import annotations

import json
import random
from typing import Any, Final

PROJECT: Final = "chaos"
STRANGER: Final = "stranger"  # in the name or tags of all that the daemon must leave alone
STAGE_FIELDS: Final = ("since", "until", "revision", "base", "evidence")


class Meddler:
    """Hands on one MLflow store. Each act draws from its own seed and gives what it did, or None."""

    def __init__(self, uri: str) -> None:
        from mlflow.tracking.client import MlflowClient

        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def act(self, what: str, seed: int) -> Any:
        """One act of this name."""
        return getattr(self, what)(random.Random(seed))

    # -- acts

    def move_alias(self, draw: random.Random) -> Any:
        model = self._model(draw, aliased=True)
        if model is None:
            return None
        alias = draw.choice(sorted(set(model.aliases) - {STRANGER}))
        numbers = [int(v.version) for v in self._versions(model.name)]
        self._client.set_registered_model_alias(model.name, alias, str(draw.choice(numbers)))
        return f"alias {alias} of {model.name}"

    def delete_alias(self, draw: random.Random) -> Any:
        model = self._model(draw, aliased=True)
        if model is None:
            return None
        alias = draw.choice(sorted(set(model.aliases) - {STRANGER}))
        self._client.delete_registered_model_alias(model.name, alias)
        return f"alias {alias} of {model.name}"

    def strange_alias(self, draw: random.Random) -> Any:
        model = self._model(draw, aliased=True)
        if model is None:
            return None
        self._client.set_registered_model_alias(model.name, STRANGER, self._versions(model.name)[0].version)
        return f"alias {STRANGER} of {model.name}"

    def edit_model(self, draw: random.Random) -> Any:
        model = self._model(draw)
        if model is None:
            return None
        act = draw.randrange(3)
        if act == 0:
            self._client.update_registered_model(model.name, description=draw.choice(("Mine", "")))
            return f"description of {model.name}"
        tag = draw.choice(("domain", "mlops.declared", "mlops.resource"))
        if act == 1 and tag in model.tags:
            self._client.delete_registered_model_tag(model.name, tag)
        else:
            self._client.set_registered_model_tag(model.name, tag, "by hand")
        return f"tag {tag} of {model.name}"

    def edit_version(self, draw: random.Random) -> Any:
        version = self._version(draw)
        if version is None:
            return None
        number = int(version.version)
        # One of the two tags that name a version, never both: then nobody could tell which one it was.
        name = ("mlops.version", "mlops.resource")[number % 2]
        act = draw.randrange(5)
        if act == 0:
            self._client.update_model_version(version.name, version.version, description="by hand")
            return f"description of {version.name} v{number}"
        if act == 1:
            self._client.delete_model_version_tag(version.name, version.version, name)
            return f"tag {name} of {version.name} v{number} deleted"
        tag = draw.choice(("mlops.digest", "mlops.fingerprint", "mlops.declared", "mlops.deletionPolicy"))
        if act == 2:
            self._client.delete_model_version_tag(version.name, version.version, tag)
            return f"tag {tag} of {version.name} v{number} deleted"
        if tag == "mlops.digest":  # edited, it would be the record of other bytes
            tag = "mlops.label.team"
        self._client.set_model_version_tag(version.name, version.version, tag, "by hand")
        return f"tag {tag} of {version.name} v{number}"

    def edit_stay(self, draw: random.Random) -> Any:
        version = self._version(draw)
        stages = (
            sorted({tag.split(".")[2] for tag in version.tags if tag.endswith(".history")}) if version else []
        )
        if version is None or not stages:
            return None
        tag = f"mlops.stage.{draw.choice(stages)}.{draw.choice(STAGE_FIELDS)}"
        if tag in version.tags and draw.random() < 0.5:
            self._client.delete_model_version_tag(version.name, version.version, tag)
        else:
            self._client.set_model_version_tag(version.name, version.version, tag, "by hand")
        return f"tag {tag} of {version.name} v{version.version}"

    def edit_experiment(self, draw: random.Random) -> Any:
        found = [e for e in self._client.search_experiments() if e.name.startswith(f"{PROJECT}/")]
        if not found:
            return None
        experiment = draw.choice(sorted(found, key=lambda e: e.name))
        tag = draw.choice(("mlops.label.team", "mlops.declared", "mlops.resource", "mlflow.note.content"))
        if tag in experiment.tags and draw.random() < 0.5:
            self._client.delete_experiment_tag(experiment.experiment_id, tag)
        else:
            self._client.set_experiment_tag(experiment.experiment_id, tag, "by hand")
        return f"tag {tag} of {experiment.name}"

    def edit_project(self, draw: random.Random) -> Any:
        found = self._client.get_experiment_by_name(PROJECT)
        tag = draw.choice(
            ("mlops.applied.at", "mlops.applied.good", "mlops.applied.folder", "mlops.resource")
        )
        if found is None or tag not in found.tags:
            return None
        self._client.delete_experiment_tag(found.experiment_id, tag)
        return f"tag {tag} of the project deleted"

    def edit_run(self, draw: random.Random) -> Any:
        found = [run for run in self._runs() if run.data.tags.get("mlops.outcome") == "succeeded"]
        if not found:
            return None
        run = draw.choice(sorted(found, key=lambda run: run.info.run_id))
        tag = draw.choice(("mlflow.note.content", "mlops.message", "mlops.revision", "mlflow.user", "mine"))
        self._client.set_tag(run.info.run_id, tag, "by hand")
        return f"tag {tag} of run {run.info.run_id}"

    def strange_version(self, draw: random.Random) -> Any:
        model = self._model(draw)
        if model is None or len(self._versions(model.name)) > 40:
            return None
        tags = {STRANGER: "yes"}
        made = self._client.create_model_version(model.name, "file:///nowhere/model", tags=tags)
        return f"{model.name} v{made.version} registered by hand"

    def strange_run(self, draw: random.Random) -> Any:
        found = [e for e in self._client.search_experiments() if e.name.startswith(f"{PROJECT}/")]
        if not found:
            return None
        experiment = draw.choice(sorted(found, key=lambda e: e.name))
        run = self._client.create_run(experiment.experiment_id, tags={STRANGER: "yes"})
        return f"run {run.info.run_id} opened by hand"

    # -- the world

    def world(self) -> Any:
        """Everything there is, as plain values."""
        experiments = {e.experiment_id: e for e in self._client.search_experiments()}
        return {
            "experiments": {e.name: dict(e.tags) for e in experiments.values()},
            "runs": [
                {
                    "id": run.info.run_id,
                    "experiment": experiments[run.info.experiment_id].name,
                    "name": run.info.run_name,
                    "status": run.info.status,
                    "tags": dict(run.data.tags),
                    "metrics": dict(run.data.metrics),
                    "parameters": dict(run.data.params),
                    "inputs": sorted(used.dataset.name for used in run.inputs.dataset_inputs),
                }
                for run in self._runs(list(experiments))
            ],
            "models": {
                model.name: {
                    "description": model.description or "",
                    "tags": dict(model.tags),
                    "aliases": {alias: int(number) for alias, number in model.aliases.items()},
                }
                for model in self._client.search_registered_models(max_results=1000)
            },
            "versions": [
                {
                    "model": version.name,
                    "number": int(version.version),
                    "run": version.run_id or None,
                    "description": version.description or "",
                    "tags": dict(version.tags),
                }
                for version in self._client.search_model_versions(max_results=10000)
            ],
        }

    def artifacts(self, run_id: str) -> list[str]:
        """Paths of all files of a run."""
        return self._artifacts(run_id, None)

    def evidence(self, run_id: str, path: str) -> Any:
        """The JSON of an artifact."""
        from pathlib import Path

        return json.loads(Path(self._client.download_artifacts(run_id, path)).read_text())

    def _artifacts(self, run_id: str, folder: str | None) -> list[str]:
        found: list[str] = []
        for item in self._client.list_artifacts(run_id, folder):
            found += self._artifacts(run_id, item.path) if item.is_dir else [item.path]
        return sorted(found)

    def _runs(self, experiments: list[str] | None = None) -> list[Any]:
        if experiments is None:
            experiments = [e.experiment_id for e in self._client.search_experiments()]
        return list(self._client.search_runs(experiments, max_results=50000)) if experiments else []

    def _model(self, draw: random.Random, *, aliased: bool = False) -> Any:
        found = [
            m for m in self._client.search_registered_models() if not aliased or set(m.aliases) - {STRANGER}
        ]
        return draw.choice(sorted(found, key=lambda m: m.name)) if found else None

    def _versions(self, model: str) -> list[Any]:
        found = self._client.search_model_versions(f"name = '{model}'", max_results=10000)
        return sorted(found, key=lambda v: int(v.version))

    def _version(self, draw: random.Random) -> Any:
        found = [v for v in self._client.search_model_versions(max_results=10000) if STRANGER not in v.tags]
        return draw.choice(sorted(found, key=lambda v: (v.name, int(v.version)))) if found else None


ACTS: Final = {
    "move_alias": 10,
    "delete_alias": 6,
    "strange_alias": 1,
    "edit_model": 4,
    "edit_version": 6,
    "edit_stay": 4,
    "edit_experiment": 3,
    "edit_project": 2,
    "edit_run": 2,
    "strange_version": 1,
    "strange_run": 1,
}
