"""One project's part of MLflow, read in pages: no call per run, per model or per version.

Of a database it can also be asked what moved, and that be read again alone: see `marks`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlops.observation.observed import (
    Ledger,
    ObservedExperiment,
    ObservedModel,
    ObservedRun,
    ObservedVersion,
    shared,
)
from mlops.tracking.connection import Connection
from mlops.tracking.faults import code, missing
from mlops.tracking.marks import (
    POSTGRESQL,
    SQLITE,
    Marks,
    Unmarked,
    read_marks,
    server_rows,
    sqlite_rows,
)
from mlops.tracking.registry import observed_model, observed_version
from mlops.tracking.runs import observed_run, pages

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient

_PAGE = 200  # a server gives up to 1,000; of each, MLflow makes a dozen objects that are in memory at once
_RUNS = 5000
_EXPERIMENTS = 200  # in one search of runs
_FEW = 50  # objects that are read one by one: a search looks through whole tables
_NAMES = 1500  # characters of names in one filter: a filter travels in a URL


class Observing(Connection):
    """Reads the ledger."""

    def observe(self, project: str, models: Collection[str]) -> Ledger:
        """Everything of `project` that MLflow holds.

        Args:
            project: its experiments are `project` and `project/…`, its models are tagged `mlops.project`.
            models: registered names to read whether or not they are tagged.
        """
        if not self.store.exists():
            return Ledger()
        found = self._call("reading experiments", lambda c: _experiments(c, project))
        runs = self._call("reading runs", lambda c: _runs(c, project, found))
        registered = self._call("reading models", lambda c: _models(c, project, models))
        versions = self._call("reading model versions", lambda c: _versions(c, sorted(registered)))
        return Ledger(
            {one.name: one for one in found},
            {one.run_id: one for one in runs},
            registered,
            {(one.model, one.number): one for one in versions},
        )

    def marks(
        self,
        project: str,
        models: Collection[str],
        runs: Collection[str],
        resting: Mapping[tuple[str, int], int] | None = None,
    ) -> Marks | None:
        """A mark for each object that `observe` would read, and each of `runs`; a moved one has another mark.

        Archived versions keep the mark that `resting` has of them, and are not looked at.

        None where there are none: not a database, one of another kind, or with tables that are not as expected.
        """
        if not self.store.exists():
            return None
        try:
            match self.store.scheme:
                case "sqlite" if self.store.sqlite_path is not None:
                    with sqlite_rows(self.store.sqlite_path) as rows:
                        return read_marks(rows, SQLITE, project, models, runs, resting)
                case "postgresql":
                    engine = getattr(self._client()._tracking_client.store, "engine", None)
                    with server_rows(engine) as rows:
                        return read_marks(rows, POSTGRESQL, project, models, runs, resting)
        except Unmarked:
            pass  # it is a hint: reading everything by MLflow says what is wrong, if anything is
        return None

    def experiments_again(self, ids: Collection[str]) -> list[ObservedExperiment]:
        """These experiments as they are now; those that were deleted are left out."""

        def read(client: MlflowClient) -> list[ObservedExperiment]:
            found = (_there(client.get_experiment, one) for one in ids)
            return [observed_experiment(e) for e in found if e is not None and e.lifecycle_stage == "active"]

        return self._call("reading experiments again", read)

    def versions_again(self, places: Collection[tuple[str, int]]) -> list[ObservedVersion]:
        """These versions as they are now, and others of their models; those that were deleted are left out."""
        if len(places) > _FEW:
            names = sorted({model for model, _ in places})
            return self._call("reading model versions again", lambda c: _versions(c, names))

        def read(client: MlflowClient) -> list[ObservedVersion]:
            found = (_there(client.get_model_version, model, str(number)) for model, number in sorted(places))
            return [observed_version(one) for one in found if one is not None]

        return self._call("reading model versions again", read)

    def models_again(self, names: Collection[str]) -> dict[str, ObservedModel]:
        """These registered models as they are now; those that were deleted are left out."""
        return self._call("reading models again", lambda c: _named_models(c, sorted(names)))


def observed_experiment(experiment: Any) -> ObservedExperiment:
    """MLflow's experiment as a frozen value."""
    tags = shared(dict(sorted(experiment.tags.items())))
    return ObservedExperiment(experiment.name, str(experiment.experiment_id), tags)


def _there(read: Callable[..., Any], *place: str) -> Any:
    """What `read` gives; None where MLflow says that there is no such thing."""
    try:
        return read(*place)
    except Exception as error:
        if missing(error):
            return None
        raise


def _experiments(client: MlflowClient, project: str) -> list[ObservedExperiment]:
    prefix = f"{project}/"
    query = f"name LIKE '{_quoted(prefix)}%'"
    found = [
        observed_experiment(e)
        for e in pages(
            lambda t: client.search_experiments(max_results=_PAGE, filter_string=query, page_token=t)
        )
        if e.name.startswith(prefix)  # LIKE takes _ and % for more than themselves
    ]
    one = client.get_experiment_by_name(project)
    if one is not None and one.lifecycle_stage == "active":
        found.append(observed_experiment(one))
    return sorted(found, key=lambda e: e.name)


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
    found = {m.name: m for m in _search_models(client, f"tags.`mlops.project` = '{_quoted(project)}'")}
    found |= _named_models(client, sorted(set(names) - set(found)))
    return {name: found[name] for name in sorted(found)}


def _named_models(client: MlflowClient, names: Sequence[str]) -> dict[str, ObservedModel]:
    try:
        found = [m for some in _filters(names) for m in _search_models(client, f"name IN ({some})")]
    except Exception as error:
        if code(error) != "INVALID_PARAMETER_VALUE":
            raise
        # A server of an MLflow that does not know IN for models: read all its models.
        wanted = set(names)
        found = [m for m in _search_models(client, None) if m.name in wanted]
    return {m.name: m for m in found}


def _search_models(client: MlflowClient, query: str | None) -> Iterator[ObservedModel]:
    found: Iterable[Any] = pages(
        lambda t: client.search_registered_models(filter_string=query, max_results=_PAGE, page_token=t)
    )
    return map(observed_model, found)


def _versions(client: MlflowClient, models: Sequence[str]) -> list[ObservedVersion]:
    def search(query: str) -> Iterator[ObservedVersion]:
        found = pages(lambda t: client.search_model_versions(query, max_results=_PAGE, page_token=t))
        return map(observed_version, found)

    try:
        versions = [v for some in _filters(models) for v in search(f"name IN ({some})")]
    except Exception as error:
        if code(error) != "INVALID_PARAMETER_VALUE":
            raise
        wanted = set(models)  # an older MLflow knows no IN here either
        versions = [v for v in search("") if v.model in wanted]
    return sorted(versions, key=lambda v: (v.model, v.number))


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
