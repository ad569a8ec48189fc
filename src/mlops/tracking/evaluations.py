"""Evaluations of monitoring policies: one run each, found by the evaluation's key, so that none is logged twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mlops.tracking.artifacts import Artifacts
from mlops.tracking.runs import Runs, pages, takes_metric

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

KEY: Final = "mlops.evaluation"  # tag: the evaluation's key, with its revision
FILE: Final = "evaluation.json"  # artifact: all that is needed to go on from it
_BATCH: Final = 1000


class Evaluations(Runs, Artifacts):
    """What is written and read of evaluations."""

    def log_evaluation(
        self,
        experiment_id: str,
        *,
        key: str,
        name: str,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        at: float,
        step: int,
        artifacts: Mapping[str, bytes],
    ) -> str:
        """Log an evaluation as a run of its own, or go on with the run that was begun for it; gives its id.

        Args:
            key: names the evaluation; a run that carries it and has ended is whole and left as it is.
            at: seconds since the epoch, of the metrics; `step` grows from window to window.
            artifacts: path → content.
        """

        def find(client: MlflowClient) -> Any:
            query = f"tags.`{KEY}` = '{key}'"
            found = client.search_runs([experiment_id], query, max_results=1)
            return found[0] if found else None

        run = self._call(f"looking for evaluation {key[:12]}", find)
        if run is not None and run.info.status == "FINISHED":
            return str(run.info.run_id)
        run_id = (
            str(run.info.run_id)
            if run is not None
            else self.create_run(experiment_id, name=name, tags={**tags, KEY: key}, parameters={}, inputs=())
        )

        def log(client: MlflowClient) -> None:
            from mlflow.entities import Metric

            taken = [(metric, value) for metric, value in sorted(metrics.items()) if takes_metric(metric)]
            for start in range(0, len(taken), _BATCH):
                some = [
                    Metric(one, float(value), int(at * 1000), step)
                    for one, value in taken[start : start + _BATCH]
                ]
                client.log_batch(run_id, metrics=some)

        self._call(f"logging evaluation {key[:12]}", log)
        for path, content in artifacts.items():
            self.write_artifact(run_id, path, content)
        self.terminate(run_id, "FINISHED", name=name, tags={})
        return run_id

    def evaluations(self, experiment: str) -> list[tuple[str, bytes]]:
        """Run id and `FILE` of every whole evaluation of an experiment (its full name), oldest first."""
        if not self.store.exists():
            return []

        def read(client: MlflowClient) -> list[str]:
            found = client.get_experiment_by_name(experiment)
            if found is None or found.lifecycle_stage != "active":
                return []
            ids = [found.experiment_id]
            runs = [
                run
                for run in pages(
                    lambda t: client.search_runs(ids, "attributes.status = 'FINISHED'", page_token=t)
                )
                if KEY in run.data.tags
            ]
            return [run.info.run_id for run in sorted(runs, key=lambda r: (r.info.start_time, r.info.run_id))]

        ids = self._call(f"reading the evaluations in {experiment}", read)
        contents = ((run_id, self.read_artifact(run_id, FILE)) for run_id in ids)
        return [(run_id, content) for run_id, content in contents if content is not None]
