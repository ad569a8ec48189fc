"""The part of a picture that one step needs: a job of ten hours must not keep ten thousand resources in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from mlops.observation.observed import Ledger, Observed, ObservedDataset
from mlops.planning.desired import Desired
from mlops.planning.graph import Graph
from mlops.planning.plan import Step
from mlops.planning.planner import Planned
from mlops.planning.runs import FINGERPRINT
from mlops.resources import Experiment, Key, Model


def _some(datasets: Mapping[str, ObservedDataset], keys: Collection[Key]) -> dict[str, ObservedDataset]:
    return {key.name: datasets[key.name] for key in keys if key.kind == "Dataset" and key.name in datasets}


def around(
    desired: Desired, observed: Observed, planned: Planned, step: Step
) -> tuple[Desired, Observed, Planned]:
    """What `step` and all that its resource depends on are made from."""
    keys = planned.graph.closure([Key.parse(step.resource)])
    resources = {key: desired.resources[key] for key in keys if key in desired.resources}
    experiments = {r.metadata.name for r in resources.values() if isinstance(r, Experiment)}
    models = {r.registered_name for r in resources.values() if isinstance(r, Model)}
    ledger = observed.ledger
    names = {desired.project, *(desired.ledger_name(name) for name in experiments)}
    trials = {name: planned.trials[name] for name in experiments if name in planned.trials}
    fingerprints = {state.trial.fingerprint for states in trials.values() for state in states}
    runs = {
        run_id: run
        for run_id, run in ledger.runs.items()
        if run.experiment in names or run.tags.get(FINGERPRINT) in fingerprints
    }
    part = Ledger(
        {name: ledger.experiments[name] for name in names if name in ledger.experiments},
        runs,
        {name: ledger.models[name] for name in models if name in ledger.models},
        {place: version for place, version in ledger.versions.items() if place[0] in models},
    )
    versions = {key.name for key in resources if key.kind == "ModelVersion"}
    return (
        replace(
            desired,
            resources=resources,
            invalid=frozenset(),
            code={name: desired.code[name] for name in experiments if name in desired.code},
            rules={},
            kept=desired.kept & keys,
            why={},
            kept_data={name: one for name, one in desired.kept_data.items() if Key("Dataset", name) in keys},
        ),
        Observed(part, _some(observed.datasets, keys), _some(observed.kept_data, keys)),
        Planned(
            replace(planned.plan, steps=(), blocked=(), observed={}),
            Graph.of(resources),
            trials=trials,
            bound={name: planned.bound[name] for name in versions if name in planned.bound},
            by_model={name: planned.by_model[name] for name in models if name in planned.by_model},
        ),
    )
