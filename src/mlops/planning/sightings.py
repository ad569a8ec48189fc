"""Short hashes of how each thing that a plan depends on was found, by which a saved plan is held to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlops.planning.canonical import sha256_of
from mlops.planning.context import APPLIED_REVISION, RESOURCE_TAG, Context
from mlops.planning.plan import Block, Step
from mlops.planning.runs import OUTCOME
from mlops.resources import Dataset, Experiment, Key, Model, ModelVersion, Promotion, Stage


def sightings(context: Context, steps: Iterable[Step], blocked: Iterable[Block]) -> dict[str, str]:
    """`Kind/name` → hash, for every resource with a step or a block and all that it refers to."""
    names = {step.resource for step in steps} | {block.resource for block in blocked}
    if not names:
        return {}
    runs = _runs(context)
    keys = context.graph.closure([Key(*name.split("/", 1)) for name in names])
    found = {key: _sighting(context, key, runs.get(str(key), [])) for key in keys}
    found[Key("Project", context.desired.project)] = {APPLIED_REVISION: context.base}
    return {str(key): sha256_of(value)[:16] for key, value in sorted(found.items())}


def _runs(context: Context) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {}
    for run in context.ledger.runs.values():
        # metrics as text: NaN is not equal to itself, and no JSON
        metrics = sorted((name, repr(value)) for name, value in run.metrics.items())
        row = [run.run_id, run.status, run.tags.get(OUTCOME), metrics]
        rows.setdefault(run.tags.get(RESOURCE_TAG, ""), []).append(row)
    return rows


def _sighting(context: Context, key: Key, runs: list[Any]) -> Any:
    resource = context.desired.resources.get(key)
    match resource:
        case Dataset():
            seen = context.datasets.get(key.name)
            return [seen.digest, seen.reason] if seen else None
        case Experiment():
            live = context.ledger.experiments.get(context.desired.ledger_name(key.name))
            return [live.experiment_id, dict(live.tags), sorted(runs)] if live else [sorted(runs)]
        case Model():
            model = context.ledger.models.get(context.registered_name(key.name))
            return [model.description, dict(model.tags)] if model else None
        case ModelVersion():
            version = context.numbers.get(key.name)
            run = context.run(resource.spec.source.run_id)
            return [
                [version.number, version.description, dict(version.tags)] if version else None,
                [run.status, run.tags.get(OUTCOME)] if run else None,
            ]
        case Promotion():
            stage = context.desired.resources.get(Key("Stage", resource.spec.stage))
            alias = (stage.spec.alias or resource.spec.stage) if isinstance(stage, Stage) else ""
            model = context.ledger.models.get(context.registered_name(resource.spec.model))
            made = context.made.get(key)
            return [model.aliases.get(alias) if model else None, made.status.get("gates") if made else None]
        case _:
            return _gone(context, key)


def _gone(context: Context, key: Key) -> Any:
    """What left git: the versions and aliases that its name is written on."""
    return sorted(
        [version.model, version.number, sorted(version.tags.items())]
        for version in context.ledger.versions.values()
        if version.tags.get(RESOURCE_TAG) == str(key)
    )
