"""The watched model, asked for what it says about a reference without predictions, in a child process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops.applying.train import environment_of
from mlops.applying.world import World
from mlops.observation.observed import ObservedVersion
from mlops.planning.plan import Step
from mlops.resources import Experiment, ModelVersion, MonitoringPolicy

if TYPE_CHECKING:
    from mlops.monitoring.evaluating import Predict, Table

_MODEL = "MLmodel"  # what an MLflow model's folder holds


@contextmanager
def predicting(
    world: World,
    step: Step,
    resource: MonitoringPolicy,
    version: ObservedVersion,
    number: str,
    reference: Table | None,
    predictions: Table,
) -> Iterator[Predict | None]:
    """What answers for the watched model; None where nobody has to be asked, or the version is no MLflow model."""
    declared = next(
        (
            one
            for one in world.desired.resources.values()
            if isinstance(one, ModelVersion)
            and (one.spec.model, one.spec.version) == (resource.spec.model, number)
        ),
        None,
    )
    if reference is None or declared is None or version.run_id is None or not _asks(resource, reference):
        yield None
        return
    from mlops.execution.predicting import Predictor

    experiment = next(
        (
            one
            for one in world.desired.resources.values()
            if isinstance(one, Experiment) and one.metadata.name == declared.spec.source.experiment
        ),
        None,
    )
    wanted = predictions.columns.probability
    probabilities = (
        ["probability"] if isinstance(wanted, str) else [f"probability:{name}" for name in wanted or ()]
    )
    with world.tracker.artifact_here(version.run_id, declared.spec.source.artifact) as model:
        if model is None or not (model / _MODEL).is_file():
            yield None
            return
        needs = experiment.spec.resources if experiment is not None else None
        with Predictor(
            model,
            where=f"{resource.key}: model {resource.spec.model} {number}",
            home=world.home / "predicting",
            wants=["prediction", *probabilities],
            types=reference.types,
            python=environment_of(world, experiment, step).python if experiment is not None else None,
            environ=world.environ,
            memory=needs.memory if needs is not None else None,
            stop=world.stop,
        ) as predict:
            yield predict


def _asks(resource: MonitoringPolicy, reference: Table) -> bool:
    """Whether a check compares predictions, and the reference has none."""
    if not any(check.type in ("conceptDrift", "targetDrift") for check in resource.spec.checks):
        return False
    return reference.columns.prediction not in reference.types
