"""Experiments and runs: one run an attempt, made whole in one call, ended by the reconciler."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlops.errors import Stalled, Transient
from mlops.observation.observed import ObservedRun, shared
from mlops.tracking.connection import Connection
from mlops.tracking.faults import code, missing

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

DESCRIPTION = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
OPENED_BY = "mlops.openedBy"  # on runs that a training process opened beside the one it was given

_BATCH = 100  # parameters or tags in one call, MLflow's limit
_PARAMETER = 6000  # characters of a parameter's value, MLflow's limit
_METRIC = re.compile(r"[/\w.\- :]{1,250}")
_DIGEST = 36  # characters of a dataset digest, MLflow's limit
_PAGE = 1000
_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


@dataclass(frozen=True, slots=True)
class DatasetInput:
    """A dataset as a run used it: `source` is a URI or a path, `context` its name in the experiment.

    `digest` is whole here; MLflow's own field holds 36 characters of it, and the source the whole.
    """

    name: str
    digest: str
    source: str
    context: str
    columns: Mapping[str, str] | None = None  # name → type


class Runs(Connection):
    """What is done to experiments and runs."""

    def ensure_experiment(self, name: str, *, description: str, tags: Mapping[str, str]) -> str:
        """Make the experiment unless it exists; gives its id. An existing one is left as it is.

        Raises:
            Stalled: it exists but was deleted, and MLflow keeps the name.
        """
        found = self._call(f"reading experiment {name}", lambda c: c.get_experiment_by_name(name))
        if found is None:
            location = f"{self._artifacts}/{name}" if self._artifacts else None
            given = {**({DESCRIPTION: description} if description else {}), **tags}

            def create(client: MlflowClient) -> Any:
                try:
                    made = client.create_experiment(name, artifact_location=location, tags=given)
                except Exception as error:
                    if code(error) == "RESOURCE_ALREADY_EXISTS":  # somebody was quicker
                        return client.get_experiment_by_name(name)
                    raise
                return client.get_experiment(made)

            found = self._call(f"creating experiment {name}", create)
        if found.lifecycle_stage == "deleted":
            raise Stalled(
                f"experiment {name} was deleted in MLflow, which keeps its name in the trash",
                where=self.store.shown,
                fix=f"Restore it with `mlflow experiments restore --experiment-id {found.experiment_id}`, "
                "or remove it for good with `mlflow gc`.",
            )
        self._locations[found.experiment_id] = found.artifact_location
        return str(found.experiment_id)

    def experiment_tags(self, name: str) -> Mapping[str, str]:
        """The tags of an experiment by its full name; none if there is no such experiment, or it was deleted."""
        if not self.store.exists():
            return {}
        found = self._call(f"reading experiment {name}", lambda c: c.get_experiment_by_name(name))
        return dict(found.tags) if found is not None and found.lifecycle_stage == "active" else {}

    def update_experiment(self, experiment_id: str, *, tags: Mapping[str, str | None]) -> None:
        """Set an experiment's tags; None deletes one. The description is the tag `mlflow.note.content`."""

        def update(client: MlflowClient) -> None:
            have = client.get_experiment(experiment_id).tags
            for key, value in tags.items():
                if value is not None and have.get(key) != value:
                    client.set_experiment_tag(experiment_id, key, value)
                elif value is None and key in have:
                    client.delete_experiment_tag(experiment_id, key)

        self._call(f"tagging experiment {experiment_id}", update)

    def create_run(
        self,
        experiment_id: str,
        *,
        name: str,
        tags: Mapping[str, str],
        parameters: Mapping[str, str],
        inputs: Sequence[DatasetInput],
    ) -> str:
        """Make a run with its name and all its tags in one call, then log the rest; gives its id."""
        _check_lengths(parameters, self.store.shown)

        def create(client: MlflowClient) -> str:
            run = client.create_run(experiment_id, self._ms(), dict(tags), run_name=name)
            return str(run.info.run_id)

        run_id = self._call(f"creating a run in experiment {experiment_id}", create)
        if parameters:
            self.log_parameters(run_id, parameters)
        if inputs:
            self.log_inputs(run_id, inputs)
        return run_id

    def log_inputs(self, run_id: str, inputs: Sequence[DatasetInput]) -> None:
        """Log datasets as inputs of a run; one that is logged already is not logged again."""

        def log(client: MlflowClient) -> None:
            from mlflow import entities

            client.log_inputs(
                run_id,
                [
                    entities.DatasetInput(
                        entities.Dataset(
                            name=one.name[:500],
                            digest=one.digest.rpartition(":")[2][:_DIGEST],
                            **_source(one),
                        ),
                        [entities.InputTag("mlflow.data.context", one.context)],
                    )
                    for one in inputs
                ],
            )

        self._call(f"logging the inputs of run {run_id}", log)

    def log_parameters(self, run_id: str, parameters: Mapping[str, str]) -> None:
        """Log parameters; one that the run has with another value is refused by MLflow (Stalled)."""
        _check_lengths(parameters, self.store.shown)

        def log(client: MlflowClient) -> None:
            from mlflow.entities import Param

            for chunk in _chunks(list(parameters.items()), _BATCH):
                client.log_batch(run_id, params=[Param(key, value) for key, value in chunk])

        self._call(f"logging the parameters of run {run_id}", log)

    def tag_run(self, run_id: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of a run; None deletes one."""

        def tag(client: MlflowClient) -> None:
            from mlflow.entities import RunTag

            for chunk in _chunks([(k, v) for k, v in tags.items() if v is not None], _BATCH):
                client.log_batch(run_id, tags=[RunTag(key, value) for key, value in chunk])
            gone = [key for key, value in tags.items() if value is None]
            have = client.get_run(run_id).data.tags if gone else {}
            for key in gone:
                if key in have:
                    client.delete_tag(run_id, key)

        self._call(f"tagging run {run_id}", tag)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, at: float | None = None) -> None:
        """Log one value of each metric, at `at` (seconds since the epoch; now if None)."""
        when = self._ms() if at is None else int(at * 1000)

        def log(client: MlflowClient) -> None:
            from mlflow.entities import Metric

            for chunk in _chunks(list(metrics.items()), _PAGE):
                client.log_batch(run_id, metrics=[Metric(k, float(v), when, 0) for k, v in chunk])

        self._call(f"logging the metrics of run {run_id}", log)

    def log_artifact(self, run_id: str, local: Path, artifact_path: str | None = None) -> None:
        """Copy a file or folder under the run's artifact folder `artifact_path` (its root if None)."""
        doing = f"logging {local.name} to run {run_id}"
        self._call(doing, lambda c: c.log_artifact(run_id, str(local), artifact_path))

    def terminate(self, run_id: str, status: str, *, name: str, tags: Mapping[str, str]) -> None:
        """End a run: tags first, then status, end time and name in one call, then read it back.

        Args:
            status: FINISHED, FAILED or KILLED.
            name: the run's name; training code may have renamed it.

        Raises:
            Transient: it reads differently afterwards.
        """
        if tags:
            self.tag_run(run_id, tags)

        def end(client: MlflowClient) -> Any:
            from mlflow.entities import RunStatus

            client._tracking_client.store.update_run_info(
                run_id, RunStatus.from_string(status), self._ms(), name
            )
            return client.get_run(run_id)

        run = self._call(f"ending run {run_id}", end)
        if run.info.status != status or run.info.run_name != name:
            raise Transient(f"run {run_id} was changed while it was being ended", where=self.store.shown)

    def run(self, run_id: str) -> ObservedRun | None:
        """The run as it is now; None when it does not exist or was deleted."""

        def read(client: MlflowClient) -> ObservedRun | None:
            try:
                run = client.get_run(run_id)
            except Exception as error:
                if missing(error) or code(error) == "INVALID_PARAMETER_VALUE":  # not even the form of an id
                    return None
                raise
            if run.info.lifecycle_stage == "deleted":
                return None
            return observed_run(run, client.get_experiment(run.info.experiment_id).name)

        return self._call(f"reading run {run_id}", read) if self.store.exists() else None

    def runs_tagged(self, experiment_id: str, experiment: str, tag: str, value: str) -> list[ObservedRun]:
        """The runs of an experiment, by its id and full name, with this value of a tag, as they are now."""

        def read(client: MlflowClient) -> list[ObservedRun]:
            query = f"tags.`{tag}` = '{value}'"
            found = pages(lambda t: client.search_runs([experiment_id], query, page_token=t))
            return [observed_run(run, experiment) for run in found]

        return self._call(f"looking for runs of experiment {experiment_id}", read)

    def link_children(self, run_id: str, *, status: str = "KILLED") -> tuple[str, ...]:
        """Link the runs that the training process of `run_id` opened beside it; their ids, oldest first.

        They carry the tag that `child_environment` had put on them, whatever experiment they are in. Those
        that have no parent get this one; those still running, whose process is gone, end as `status`.
        """

        def link(client: MlflowClient) -> tuple[str, ...]:
            from mlflow.entities import RunTag

            everywhere = [e.experiment_id for e in pages(lambda t: client.search_experiments(page_token=t))]
            opened = []
            for some in _chunks(everywhere, 200):
                query = f"tags.`{OPENED_BY}` = '{run_id}'"
                opened += list(pages(lambda t, ids=some, q=query: client.search_runs(ids, q, page_token=t)))  # type: ignore[misc]
            children = sorted((r for r in opened if r.info.run_id != run_id), key=lambda r: r.info.start_time)
            for run in children:
                if PARENT not in run.data.tags:
                    client.log_batch(run.info.run_id, tags=[RunTag(PARENT, run_id)])
                if run.info.status not in _ENDED:
                    client.set_terminated(run.info.run_id, status, self._ms())
            return tuple(run.info.run_id for run in children)

        return self._call(f"looking for runs opened beside {run_id}", link)

    def _ms(self) -> int:
        return int(self._now() * 1000)


def observed_run(run: Any, experiment: str) -> ObservedRun:
    """MLflow's run as a frozen value; of its tags only those that matter to planning."""
    info, data = run.info, run.data
    return ObservedRun(
        run_id=info.run_id,
        experiment=experiment,
        name=info.run_name or "",
        status=info.status,
        started_ms=info.start_time,
        ended_ms=info.end_time or None,
        tags=shared({k: v for k, v in sorted(data.tags.items()) if k.startswith("mlops.") or k == PARENT}),
        parameters=shared(dict(sorted(data.params.items()))),
        metrics={k: v if v == v else math.nan for k, v in sorted(data.metrics.items())},  # one object: equal
    )


def pages(page: Callable[[Any], Any]) -> Iterator[Any]:
    """Every item of a paginated search; `page` takes a token, None for the first."""
    token = None
    while True:
        found = page(token)
        yield from found
        token = found.token
        if not token:
            return


def takes_metric(name: str) -> bool:
    """Whether MLflow takes this as the name of a metric. Source: mlflow/utils/validation.py."""
    plain = posixpath.normpath(name) == name and not name.startswith(("..", "/")) and name != "."
    return plain and _METRIC.fullmatch(name) is not None


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _check_lengths(parameters: Mapping[str, str], where: str) -> None:
    long: Collection[str] = [key for key, value in parameters.items() if len(value) > _PARAMETER]
    if long:
        raise Stalled(
            f"parameter {min(long)} is longer than the {_PARAMETER} characters that MLflow keeps",
            where=where,
            fix="Put it in a file beside the training code and pass the file's name.",
        )


def _source(one: DatasetInput) -> dict[str, str | None]:
    """The source as `mlflow.data.get_source` reads it back; its types are in mlflow/data."""
    scheme = urlsplit(one.source).scheme
    fields: dict[str, str | int]
    if one.digest.startswith("delta:"):
        kind, fields = "delta_table", {"path": one.source}
        version = one.digest.rpartition(":")[2]
        if version.isdecimal():
            fields["delta_table_version"] = int(version)
    elif scheme in ("http", "https"):
        kind, fields = "http", {"url": one.source}
    elif scheme in ("", "file"):
        kind, fields = "local", {"uri": one.source}
    else:
        kind, fields = scheme, {"uri": one.source}
    columns = [{"name": name, "type": kind_} for name, kind_ in (one.columns or {}).items()]
    return {
        "source_type": kind,
        "source": json.dumps({**fields, "digest": one.digest}),
        "schema": json.dumps({"mlops_columns": columns}) if columns else None,
    }
