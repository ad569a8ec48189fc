"""A model trained again on fresh data: the data pinned, a new version declared, the promotion asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from mlops.errors import Stalled
from mlops.proposing.declared import Draft, declared
from mlops.proposing.proposal import Evidence, Moot, Proposal, branch_of, told
from mlops.proposing.versions import document, file_for, next_version, versions_of
from mlops.resources.dataset import Dataset
from mlops.resources.experiment import Experiment
from mlops.resources.loading import Loaded
from mlops.resources.model_version import ModelVersion
from mlops.resources.monitoring_actions import Retrain
from mlops.resources.monitoring_policy import MonitoringPolicy
from mlops.resources.promotion import LATEST, Promotion
from mlops.source.editing import SetField

_DELTA = re.compile(r"delta:[0-9A-Za-z-]+:([0-9]+)")


def retraining(
    loaded: Loaded,
    texts: Mapping[str, str],
    policy: MonitoringPolicy,
    retrain: Retrain,
    outside: Mapping[str, str],
    evidence: Evidence,
    *,
    registered: Iterable[str] = (),
) -> Proposal | Moot:
    """What to change in git so that a model is trained again, and asked for.

    The same revision and digests give the same proposal. From a newer revision it is made again: then it has the
    next free version.

    Args:
        loaded: what the revision declares.
        texts: the text of the files that it is declared in, by path from the project's root.
        policy: the policy that asks for it.
        retrain: the action of it.
        outside: the present digest of each Dataset whose bytes are outside of git, by name, whatever it is pinned to.
        evidence: why; its `watched` is the version that drifted.
        registered: versions of the model that MLflow knows.

    Raises:
        Stalled: something that it needs is not declared, or cannot be pinned or edited.
    """
    model = policy.spec.model
    experiment = declared(loaded, Experiment, retrain.experiment)
    if experiment.spec.suspend:
        where = loaded.locations[experiment.key]
        raise Stalled(f"{experiment.key} is suspended, so it is not trained", where=where, fix="Resume it.")
    promotion = promotion_of(loaded, policy, retrain.propose)
    asked = promotion.spec.version
    if promotion.spec.stage == policy.spec.stage and asked not in (LATEST, evidence.watched):
        return Moot(f"{promotion.key} asks for {asked} now; it was {evidence.watched} that drifted")
    version, name = next_version(loaded, model, registered)
    versions = versions_of(loaded, model)
    last = versions[-1] if versions else None

    draft = Draft(loaded, texts)
    for role, dataset in retrain.datasets.items():
        draft.edit([SetField(experiment.key, ("spec", "datasets", role), dataset)])
    datasets = {**experiment.spec.datasets, **retrain.datasets}
    pinned: list[str] = []
    for dataset in sorted(set(datasets.values())):
        known = declared(loaded, Dataset, dataset)
        moved = known.spec.digest is not None and known.spec.digest != outside.get(dataset)
        pins = pins_of(loaded, known, outside, again=moved or dataset in retrain.datasets.values())
        if pins:
            draft.edit(pins)
            pinned.append(dataset)
    file = file_for(loaded, last, version, loaded.locations[promotion.key].file, texts.keys())
    artifact = _artifact(versions, experiment.metadata.name)
    draft.add(document(name, model, version, experiment.metadata.name, artifact), file)
    if asked != LATEST:
        draft.edit([SetField(promotion.key, ("spec", "version"), version)])
    followed = f"{promotion.key} follows the latest version and stays as it is." if asked == LATEST else ""
    return Proposal(
        branch=branch_of(promotion.key, version),
        title=f"Train {model} again: {version} for {promotion.spec.stage}",
        body=told(evidence, _pinned(loaded, pinned, outside, experiment), followed),
        files=draft.files(),
        promotion=promotion.metadata.name,
        version=version,
        model_version=name,
        experiment=experiment.metadata.name,
        datasets=datasets,
    )


def promotion_of(loaded: Loaded, policy: MonitoringPolicy, name: str | None = None) -> Promotion:
    """The Promotion of that name, else the one of the policy's model and stage.

    Raises:
        Stalled: there is none.
    """
    if name is not None:
        return declared(loaded, Promotion, name)
    for key, resource in loaded.resources.items():
        if (
            isinstance(resource, Promotion)
            and (resource.spec.model, resource.spec.stage) == (policy.spec.model, policy.spec.stage)
            and key not in loaded.kept
        ):
            return resource
    raise Stalled(
        f"no Promotion brings {policy.spec.model} to {policy.spec.stage}",
        where=loaded.locations.get(policy.key),
        fix="Declare one, or name another in retrain.propose.",
    )


def pins_of(
    loaded: Loaded, dataset: Dataset, outside: Mapping[str, str], *, again: bool
) -> tuple[SetField, ...]:
    """What pins a Dataset to its present content; nothing where git has it, or where it is pinned to it.

    Args:
        loaded: what the revision declares.
        dataset: which one.
        outside: the present digest of each Dataset whose bytes are outside of git, by name.
        again: whether one that is pinned to something else is pinned anew.

    Raises:
        Stalled: a policy watches it, or it has nothing that it could be pinned to.
    """
    pins = tuple(_pins(dataset, outside, again=again))
    if pins:
        _check_not_watched(loaded, dataset)
    return pins


def _pins(dataset: Dataset, outside: Mapping[str, str], *, again: bool) -> Iterator[SetField]:
    spec, digest = dataset.spec, outside.get(dataset.metadata.name)
    if digest is None or ((spec.digest is not None or spec.version is not None) and not again):
        return
    if spec.format == "delta":
        found = _DELTA.fullmatch(digest)
        if found is None:
            raise Stalled(f"{dataset.key} has no version that it could be pinned to", fix="Pin it by hand.")
        if spec.version != int(found[1]):
            yield SetField(dataset.key, ("spec", "version"), int(found[1]))
    if (spec.format != "delta" or spec.digest is not None) and spec.digest != digest:
        yield SetField(dataset.key, ("spec", "digest"), digest)


def _check_not_watched(loaded: Loaded, dataset: Dataset) -> None:
    """A pinned dataset does not grow, so nothing new would be monitored."""
    for resource in loaded.resources.values():
        if isinstance(resource, MonitoringPolicy):
            data = resource.spec.data
            if dataset.metadata.name in (data.predictions, data.labels.dataset if data.labels else None):
                raise Stalled(
                    f"{dataset.key} is what {resource.key} watches: pinned, it would not grow any more",
                    where=loaded.locations[dataset.key],
                    fix="Declare another Dataset of the same uri, and name it in retrain.datasets.",
                )


def _artifact(versions: list[ModelVersion], experiment: str) -> str:
    """The name of the model in its run, as it was for this experiment's versions, else for the model's."""
    own = [one for one in versions if one.spec.source.experiment == experiment]
    return (own or versions)[-1].spec.source.artifact if versions else "model"


def _pinned(loaded: Loaded, pinned: list[str], outside: Mapping[str, str], experiment: Experiment) -> str:
    """Which data were pinned, and whom that touches."""
    lines = []
    for name in pinned:
        users = sorted(
            str(key)
            for key, resource in loaded.resources.items()
            if isinstance(resource, Experiment)
            and key != experiment.key
            and name in resource.spec.datasets.values()
        )
        also = f"; {', '.join(users)} trains on it, too, and is trained again" if users else ""
        lines.append(f"- Dataset/{name} is pinned to {outside[name]}{also}")
    return "\n".join(lines)
