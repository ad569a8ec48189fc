"""What a training process is told so that unmodified MLflow code logs into the run made for it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlops.tracking.connection import Connection
from mlops.tracking.runs import OPENED_BY, PARENT
from mlops.tracking.store import credentials

CHILD_FOLDER = Path(__file__).parent / "child"
_LOCKED = "MLOPS_LOCKED_PACKAGES"  # read by child/sitecustomize.py
_INHERITED = ("mlops.revision",)  # never what identifies a trial: a second run with it would be taken for one
_NAME = re.compile(r"^\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


class Environment(Connection):
    """The environment of training processes."""

    def child_environment(
        self,
        run_id: str,
        experiment_id: str,
        experiment_name: str,
        *,
        requirements: Sequence[str] | None,
        run_tags: Mapping[str, str],
    ) -> dict[str, str]:
        """Variables for a training process of run `run_id`; secrets only as far as logging there needs them.

        Args:
            requirements: lines of the lock of the training environment (as of `uv pip freeze` or
                `uv pip compile`): models logged there get their requirements from it, without the seconds
                in which MLflow infers them. None leaves that to MLflow.
            run_tags: the run's tags; those that say where it comes from are put on every further run
                that the process opens, beside the one that says whose process opened it.

        Returns:
            Variables to add to the process's own. `PYTHONPATH` goes before one that is there.
        """
        beside = {key: run_tags[key] for key in _INHERITED if key in run_tags}
        given = {
            "MLFLOW_TRACKING_URI": self.store.uri,
            "MLFLOW_EXPERIMENT_ID": experiment_id,
            "MLFLOW_EXPERIMENT_NAME": experiment_name,
            "MLFLOW_RUN_ID": run_id,
            "MLFLOW_RUN_CONTEXT": json.dumps({**beside, OPENED_BY: run_id, PARENT: run_id}),
            **credentials(self.store, self._location(experiment_id), self._environ),
        }
        if requirements is not None:
            given[_LOCKED] = " ".join(locked_names(requirements))
            given["PYTHONPATH"] = str(CHILD_FOLDER)
        return given

    def _location(self, experiment_id: str) -> str | None:
        """The experiment's artifact location, asked for once."""
        known = self._locations.get(experiment_id)
        if known is None:
            doing = f"reading experiment {experiment_id}"
            known = str(self._call(doing, lambda c: c.get_experiment(experiment_id)).artifact_location)
            self._locations[experiment_id] = known
        return known


def locked_names(lines: Sequence[str]) -> list[str]:
    """The names of the distributions in the lines of a requirements file, normalised as in PEP 503."""
    names = set()
    for line in lines:
        match = _NAME.match(line)
        if match and not line.lstrip().startswith(("#", "-")):
            names.add(re.sub(r"[-_.]+", "-", match[1]).lower())
    return sorted(names)
