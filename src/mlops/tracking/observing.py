"""One project's part of MLflow, read in pages: no call per run, per model or per version."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlops.observation.observed import (
    Ledger,
    ObservedExperiment,
    ObservedModel,
    ObservedRun,
    ObservedVersion,
)
from mlops.tracking.connection import Connection
from mlops.tracking.faults import code
from mlops.tracking.registry import observed_model, observed_version
from mlops.tracking.runs import observed_run, pages

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

_PAGE = 1000  # the most that a server gives of experiments and models
_RUNS = 5000
_EXPERIMENTS = 200  # in one search of runs
_NAMES = 1500  # characters of names in one filter: a filter travels in a URL


class Observing(Connection):
    """Reads the ledger."""

    def observe(self, project: str, experiments: Collection[str], models: Collection[str]) -> Ledger:
        """Everything of `project` that MLflow holds.

        Args:
            project: its experiments are `project` and `project/…`, its models are tagged `mlops.project`.
            experiments: experiments to read too; a bare name is one of the project's.
            models: registered names to read whether or not they are tagged.
        """
        if not self.store.exists():
            return Ledger()
        found = self._call("reading experiments", lambda c: _experiments(c, project, experiments))
        runs = self._call("reading runs", lambda c: _runs(c, project, found))
        registered = self._call("reading models", lambda c: _models(c, project, models))
        versions = self._call("reading model versions", lambda c: _versions(c, sorted(registered)))
        return Ledger(
            {one.name: one for one in found},
            {one.run_id: one for one in runs},
            registered,
            {(one.model, one.number): one for one in versions},
        )


def _experiments(client: MlflowClient, project: str, names: Collection[str]) -> list[ObservedExperiment]:
    prefix = f"{project}/"
    query = f"name LIKE '{_quoted(prefix)}%'"
    found = [
        e
        for e in pages(
            lambda t: client.search_experiments(max_results=_PAGE, filter_string=query, page_token=t)
        )
        if e.name.startswith(prefix)  # LIKE takes _ and % for more than themselves
    ]
    for name in {project, *(n for n in names if "/" in n and not n.startswith(prefix))}:
        one = client.get_experiment_by_name(name)
        if one is not None and one.lifecycle_stage == "active":
            found.append(one)
    observed = [ObservedExperiment(e.name, str(e.experiment_id), dict(sorted(e.tags.items()))) for e in found]
    return sorted(observed, key=lambda e: e.name)


def _runs(client: MlflowClient, project: str, experiments: Sequence[ObservedExperiment]) -> list[ObservedRun]:
    names = {e.experiment_id: e.name for e in experiments if not e.name.startswith(f"{project}/monitoring/")}
    ids = list(names)
    runs = []
    for start in range(0, len(ids), _EXPERIMENTS):
        some = ids[start : start + _EXPERIMENTS]

        def page(token: str | None, some: list[str] = some) -> Any:
            return client.search_runs(some, max_results=_RUNS, page_token=token)

        runs += [observed_run(run, names[run.info.experiment_id]) for run in pages(page)]
    return sorted(runs, key=lambda r: (r.started_ms, r.run_id))


def _models(client: MlflowClient, project: str, names: Collection[str]) -> dict[str, ObservedModel]:
    def search(query: str) -> Iterator[Any]:
        return pages(
            lambda t: client.search_registered_models(filter_string=query, max_results=_PAGE, page_token=t)
        )

    found = {m.name: m for m in search(f"tags.`mlops.project` = '{_quoted(project)}'")}
    missing = sorted(set(names) - set(found))
    try:
        for some in _filters(missing):
            found |= {m.name: m for m in search(f"name IN ({some})")}
    except Exception as error:
        if code(error) != "INVALID_PARAMETER_VALUE":
            raise
        # A server of an MLflow that does not know IN for models: read all its models.
        found |= {
            m.name: m
            for m in pages(lambda t: client.search_registered_models(max_results=_PAGE, page_token=t))
            if m.name in names
        }
    return {name: observed_model(found[name]) for name in sorted(found)}


def _versions(client: MlflowClient, models: Sequence[str]) -> list[ObservedVersion]:
    def search(query: str) -> Iterator[Any]:
        return pages(lambda t: client.search_model_versions(query, max_results=_PAGE, page_token=t))

    found: list[Any] = []
    try:
        for some in _filters(models):
            found += search(f"name IN ({some})")
    except Exception as error:
        if code(error) != "INVALID_PARAMETER_VALUE":
            raise
        wanted = set(models)  # an older MLflow knows no IN here either
        found = [v for v in search("") if v.name in wanted]
    return sorted((observed_version(v) for v in found), key=lambda v: (v.model, v.number))


def _filters(names: Sequence[str]) -> Iterator[str]:
    """The names as lists for `IN`, none longer than a URL may be."""
    some: list[str] = []
    length = 0
    for name in names:
        quoted = f"'{_quoted(name)}'"
        if some and length + len(quoted) > _NAMES:
            yield ", ".join(some)
            some, length = [], 0
        some.append(quoted)
        length += len(quoted) + 2
    if some:
        yield ", ".join(some)


def _quoted(text: str) -> str:
    return text.replace("'", "''")
