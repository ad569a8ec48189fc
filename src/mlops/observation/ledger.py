"""MLflow's side of the picture, read again only when the store says that something changed in it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from mlops.observation.observed import Ledger, ObservedRun
from mlops.planning.desired import Desired
from mlops.planning.plan import sha256_of
from mlops.resources import Experiment, Model, ModelVersion
from mlops.tracking import Tracker

FORMAT = 1  # of the cached picture


class Cache(Protocol):
    """Bytes by key; may forget."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]: ...

    def put_many(self, items: Mapping[str, bytes]) -> None: ...


def observe_ledger(tracker: Tracker, desired: Desired, cache: Cache) -> Ledger:
    """Everything of the project that MLflow holds.

    A store that tells by an exact token that nothing moved since the cached picture is not asked again,
    and MLflow is not even imported.
    """
    resources = desired.resources.values()
    experiments = sorted(r.metadata.name for r in resources if isinstance(r, Experiment))
    models = sorted(r.spec.registered_name or r.metadata.name for r in resources if isinstance(r, Model))
    runs = sorted(
        {str(r.spec.source.run_id) for r in resources if isinstance(r, ModelVersion) and r.spec.source.run_id}
    )
    token = tracker.token()
    asked = sha256_of([FORMAT, desired.project, experiments, models, runs, tracker.store.shown])
    if token is not None and (kept := cache.get_many((asked,)).get(asked)) is not None:
        stored = json.loads(zlib.decompress(kept))
        if stored["token"] == token:
            return Ledger.from_json(stored["ledger"])
    ledger = _with_runs(tracker, tracker.observe(desired.project, experiments, models), runs)
    if token is not None and tracker.token() == token:
        row = json.dumps({"token": token, "ledger": ledger.to_json()}, separators=(",", ":"))
        cache.put_many({asked: zlib.compress(row.encode(), 1)})
    return ledger


def _with_runs(tracker: Tracker, ledger: Ledger, run_ids: list[str]) -> Ledger:
    """With the runs that are named by their id, wherever they are."""
    named: dict[str, ObservedRun] = {}
    for run_id in run_ids:
        if run_id not in ledger.runs and (run := tracker.run(run_id)) is not None:
            named[run_id] = run
    if not named:
        return ledger
    return Ledger(ledger.experiments, {**ledger.runs, **named}, ledger.models, ledger.versions)
