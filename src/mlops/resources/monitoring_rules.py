"""What has to hold within a MonitoringPolicy, and between it and the documents that it names.

Broken documents are read, too, so that one pass names every mistake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlops.resources.fields import View, find, steps, text_at, value_at
from mlops.resources.key import Key
from mlops.resources.monitoring_checks import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    SCORED_METRICS,
    UPSTREAM,
)
from mlops.resources.nearest import Nearest
from mlops.resources.problem import FieldPath, Finding, shown

_CHECKS = steps("spec.checks.*")
_ACTIONS = steps("spec.actions.*")
_ON = steps("on.*")
_PREDICTIONS = steps("spec.data.predictions")
_LABELS = steps("spec.data.labels")
_TASK = steps("spec.task")
_MODEL = steps("spec.model")
_COLUMNS = steps("spec.columns")
_DATASETS = steps("spec.datasets.*")
_RETRAIN = steps("retrain")
_EXPERIMENT = steps("retrain.experiment")
_RETRAINED = steps("retrain.datasets.*")
_PROPOSED = steps("retrain.propose")
_BLOCK = steps("blockRetrain")
_NAME, _TYPE, _METRIC, _ESTIMATE = steps("name"), steps("type"), steps("metric"), steps("estimate")
_DATASET, _JOIN_ON = steps("dataset"), steps("joinOn")
_EFFECTS, _DETECTORS = steps("thresholds.*"), steps("detectors")
_DRIFT = {"numeric": "psi", "categorical": "jensenShannon", "multivariate": None}
_IN_TIME = {
    "windows of event time": [steps("spec.window.size")],
    "a season": [steps("spec.reference.season")],
    "a rolling reference": [steps("spec.reference.source.rolling")],
    "a delay of labels": [steps("spec.data.labels.maxDelay")],
    "a cooldown": [steps("spec.actions.*.retrain.cooldown")],
    "a budget": [steps("spec.actions.*.retrain.budget")],
}

TASKS = ("binary", "multiclass", "regression")
LookUp = Callable[[Key], View | None]


def policy_rules(view: View, nearest: Nearest) -> Iterator[Finding]:
    """What is wrong with a policy beyond its single fields."""
    checks = find(view, _CHECKS)
    types = {text_at(check, _NAME): text_at(check, _TYPE) for _, check in checks}
    named = Counter(name for _, check in checks if (name := text_at(check, _NAME)))
    for path, check in checks:
        if named[text_at(check, _NAME) or ""] > 1:
            yield Finding((*path, "name"), "is the name of another check", "Give each check its own name.")
        yield from _thresholds(path, check, nearest)
        yield from _metric(path, check, text_at(view, _TASK))
    for path, action in find(view, _ACTIONS):
        for at, name in find(action, _ON):
            if isinstance(name, str) and name not in named:
                near = nearest.nearest(name, list(named))
                fix = f"Did you mean {near}?" if near else f"The checks are {', '.join(named) or 'none'}."
                yield Finding((*path, *at), f"there is no check {shown(name, 'of that name')}", fix)
    yield from _blocks(view, types)


def policy_relations(view: View, look_up: LookUp, nearest: Nearest) -> Iterator[Finding]:
    """What a policy asks of the documents that it names, and does not find in them.

    Args:
        view: the policy.
        look_up: the document of a key, None where there is none or its content is not known.
        nearest: suggests names.
    """
    yield from _retrainings(view, look_up, nearest)
    predictions = look_up(Key("Dataset", text_at(view, _PREDICTIONS) or ""))
    if predictions is None:
        return
    columns = value_at(predictions, _COLUMNS)
    if not _has(columns, "timestamp"):
        for what, patterns in _IN_TIME.items():
            if any(value != "none" for pattern in patterns for _, value in find(view, pattern)):
                yield _lacks("timestamp", f"which {what} needs")
                break
    labelled = _has(columns, "target")
    labels = value_at(view, _LABELS)
    if labels is not None:
        yield from _labels(labels, look_up, columns)
        if labelled:
            what = "stands beside columns.target of the predictions"
            yield Finding(("spec", "data", "labels"), what, "Keep one of them.", on_key=True)
    yield from _needed(view, columns, labelled=labelled or labels is not None)


def _has(columns: Any, field: str) -> bool:
    return columns is not None and value_at(columns, steps(field)) is not None


def _lacks(column: str, why: str) -> Finding:
    what = f"declares no columns.{column}, {why}"
    return Finding(
        ("spec", "data", "predictions"), what, f"Name that column in the Dataset's columns.{column}."
    )


def _thresholds(path: FieldPath, check: Any, nearest: Nearest) -> Iterator[Finding]:
    match text_at(check, _TYPE):
        case "upstreamChange":
            chosen = value_at(check, _DETECTORS) or UPSTREAM
            used = [str(name) for name in chosen] if isinstance(chosen, list | tuple) else []
        case "dataDrift" | "targetDrift":
            given = [value_at(check, steps(field)) or default for field, default in _DRIFT.items()]
            used = [name for name in given if isinstance(name, str)]
        case _:
            return
    for at, _ in find(check, _EFFECTS):
        if at[-1] not in used:
            near = nearest.nearest(str(at[-1]), used)
            fix = f"Did you mean {near}?" if near else f"It uses {', '.join(dict.fromkeys(used))}."
            what = "is a detector that this check does not use"
            yield Finding((*path, *at), what, fix, on_key=True)


def _metric(path: FieldPath, check: Any, task: str | None) -> Iterator[Finding]:
    fitting = REGRESSION_METRICS if task == "regression" else CLASSIFICATION_METRICS
    metric = text_at(check, _METRIC)
    if task in TASKS and metric in (*REGRESSION_METRICS, *CLASSIFICATION_METRICS) and metric not in fitting:
        yield Finding(
            (*path, "metric"), f"is no metric of task {task}", f"Choose one of {', '.join(fitting)}."
        )


def _blocks(view: View, types: Mapping[str | None, str | None]) -> Iterator[Finding]:
    """Checks that are said to block and not to block, and retrainings that their own check blocks for ever."""
    said: dict[str, bool] = {}
    actions = find(view, _ACTIONS)
    for path, action in actions:
        block = value_at(action, _BLOCK)
        for _, name in find(action, _ON) if isinstance(block, bool) else ():
            if isinstance(name, str) and said.setdefault(name, block) != block:
                what = f"is {str(block).lower()} for {shown(name)}, and another action says otherwise"
                yield Finding((*path, "blockRetrain"), what, "Say it once.")
    for path, action in actions:
        for at, name in find(action, _ON) if value_at(action, _RETRAIN) is not None else ():
            if isinstance(name, str) and said.get(name, types.get(name) == "upstreamChange"):
                what = "blocks retraining, so it can never lead to one"
                yield Finding((*path, *at), what, "Remove it here, or set blockRetrain: false for it.")


def _retrainings(view: View, look_up: LookUp, nearest: Nearest) -> Iterator[Finding]:
    model = text_at(view, _MODEL)
    for path, action in find(view, _ACTIONS):
        promotion = look_up(Key("Promotion", text_at(action, _PROPOSED) or ""))
        other = text_at(promotion, _MODEL) if promotion is not None else None
        if model and other and other != model:
            what = f"promotes the model {shown(other, 'of another name')}"
            fix = f"Name a Promotion of {shown(model, 'this model')}."
            yield Finding((*path, "retrain", "propose"), what, fix)
        experiment = look_up(Key("Experiment", text_at(action, _EXPERIMENT) or ""))
        if experiment is None:
            continue
        known = [str(at[-1]) for at, _ in find(experiment, _DATASETS)]
        for at, _ in find(action, _RETRAINED):
            if at[-1] not in known:
                near = nearest.nearest(str(at[-1]), known)
                fix = f"Did you mean {near}?" if near else f"Its datasets are {', '.join(known) or 'none'}."
                yield Finding((*path, *at), "is no dataset of that experiment", fix, on_key=True)


def _labels(labels: Any, look_up: LookUp, predictions: Any) -> Iterator[Finding]:
    dataset = look_up(Key("Dataset", text_at(labels, _DATASET) or ""))
    if dataset is not None and not _has(value_at(dataset, _COLUMNS), "target"):
        what = "declares no columns.target, so nothing in it is a label"
        fix = "Name that column in the Dataset's columns.target."
        yield Finding(("spec", "data", "labels", "dataset"), what, fix)
    if value_at(labels, _JOIN_ON) is None and not _has(predictions, "id"):
        what = "is required, as the predictions declare no columns.id"
        fix = "Name the column that both have."
        yield Finding(("spec", "data", "labels", "joinOn"), what, fix, on_key=True)


def _needed(view: View, columns: Any, *, labelled: bool) -> Iterator[Finding]:
    """Columns that the checks need."""
    scored = _has(columns, "probability")
    predicted = scored or _has(columns, "prediction")
    for path, check in find(view, _CHECKS):
        kind, metric = text_at(check, _TYPE), text_at(check, _METRIC)
        if kind == "conceptDrift" and not labelled and value_at(check, _ESTIMATE) is not True:
            fix = "Give spec.data.labels, or the predictions' Dataset columns.target."
            yield Finding((*path, "type"), "needs labels, and there are none", fix)
        if kind == "conceptDrift" and metric in SCORED_METRICS and not scored:
            what = "needs probabilities, and the predictions declare no columns.probability"
            yield Finding((*path, "metric"), what, "Name that column there, or choose another metric.")
        elif not predicted and (kind == "conceptDrift" or (kind == "targetDrift" and not labelled)):
            what = (
                "needs predictions, and their Dataset declares no columns.prediction or columns.probability"
            )
            yield Finding((*path, "type"), what, "Name one of them in that Dataset.")
