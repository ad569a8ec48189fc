"""Datasets and experiments: which trials have their run, which are to be trained, which cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from mlops.observation.observed import ObservedDataset
from mlops.planning.canonical import sha256_of
from mlops.planning.conditions import Assessment, Condition, assess
from mlops.planning.context import (
    ARCHIVED_TAG,
    DECLARED_TAG,
    DESCRIPTION_TAG,
    LABEL_PREFIX,
    PROJECT_TAG,
    RESOURCE_TAG,
    Context,
)
from mlops.planning.plan import Action, Block, Change, Step
from mlops.planning.reasons import why_train
from mlops.planning.runs import DATASET_DIGEST, MESSAGE, TrialState, best
from mlops.planning.trials import trials
from mlops.planning.work import TrainTrial, Trial, UpdateExperiment, Work
from mlops.resources import Dataset, Experiment, Key, Resource
from mlops.resources.model import RESERVED_TAGS

TAGS_TAG: Final = "mlops.tags"  # on a model: the names of those that git declares beside our own

MOVED: Final = "DigestMismatch"  # why a pinned dataset cannot be used: it has another content now


def dataset(context: Context, resource: Dataset) -> Assessment:
    """A dataset is never acted on: it is there as declared, or it blocks what needs it."""
    seen = context.datasets.get(resource.metadata.name)
    if seen is None:
        return assess(resource.key, unknown=True, message="not observed")
    status = {"digest": seen.digest, "size": seen.size, "rows": seen.rows, "columns": seen.columns}
    status = {name: value for name, value in status.items() if value is not None}
    if seen.reason == MOVED and _served(context, resource):
        behind = Condition("DataCurrent", "False", "DataMoved", seen.message or "")
        text = f"pinned to {_short(resource.spec.digest)}, with which all is trained; the data has moved on"
        return assess(
            resource.key, conditions=(behind,), status=status, suspended=resource.spec.suspend, message=text
        )
    if seen.reason is not None:
        block = Block(str(resource.key), "Ready", seen.reason, seen.message or seen.reason)
        return assess(
            resource.key,
            blocks=(block,),
            status=status,
            exists=seen.reason != "NotFound",
            suspended=resource.spec.suspend,
        )
    return assess(resource.key, status=status, suspended=resource.spec.suspend, message=_short(seen.digest))


def _served(context: Context, resource: Dataset) -> bool:
    """Whether the experiments that train on a dataset all did so with the content that it is pinned to."""
    users = [
        one
        for one in context.desired.resources.values()
        if isinstance(one, Experiment) and resource.metadata.name in one.spec.datasets.values()
    ]
    return bool(users) and all(
        states and block is None and all(state.state == "finished" for state in states)
        for states, block in (_states(context, one) for one in users)
    )


def experiment(context: Context, resource: Experiment) -> Assessment:
    """Steps for the trials that have no finished run, and for tags that are not as declared."""
    key = resource.key
    suspended = resource.spec.suspend
    states, block = _states(context, resource)
    context.trials[resource.metadata.name] = states
    live = context.ledger.experiments.get(context.desired.ledger_name(resource.metadata.name))
    steps = [] if suspended or live is None else _update(context, resource)
    blocks = [block] if block is not None else []
    for state in states:
        if state.state == "finished" or suspended:
            continue
        allowed = 0 if state.stalled else resource.spec.retries + 1 - len(state.failures)
        again = context.options.retry_stalled or _step_id(state.trial) in context.options.retry
        if again and allowed <= 0:
            allowed = resource.spec.retries + 1
        if state.state == "absent" and allowed <= 0:
            blocks.append(_stalled(resource, state))
        elif state.state == "open" or not blocks or blocks[0].reason == "TrainingFailed":
            steps.append(_train(context, resource, state, max(allowed, 1)))
    unfinished = [state for state in states if state.state != "finished"]
    if suspended and unfinished:
        blocks.append(
            Block(
                str(key), "Trained", "Suspended", f"{len(unfinished)} of {len(states)} trials have no run yet"
            )
        )
    if any(block.reason == "TrainingFailed" for block in blocks):
        trained = Condition("Trained", "False", "TrainingFailed", blocks[0].message)
    elif unfinished or blocks:
        trained = Condition("Trained", "False", "TrialsMissing", f"{len(unfinished)} of {len(states)} trials")
    else:
        trained = Condition("Trained", "True", "AllFinished", f"{len(states)} of {len(states)} trials")
    conditions = [trained]
    moved = [state for state in states if not state.current]
    if resource.spec.datasets:
        conditions.append(_data_current(context, resource, moved))
    return assess(
        key,
        steps=tuple(steps),
        blocks=tuple(blocks),
        conditions=tuple(conditions),
        status=_status(resource, states),
        message=_summary(resource, states),
        exists=live is not None,
        suspended=suspended,
        stalled=any(block.reason == "TrainingFailed" for block in blocks),
    )


def declared_tags(
    project: str, resource: Resource, more: Mapping[str, str] | None = None, *, described: str = ""
) -> dict[str, str]:
    """The tags that an MLflow object of `resource` carries: labels, owner, and a hash of what git declares.

    The hash tells a change in git from one by hand; `described` is part of it, as the description is not a tag.
    """
    tags = {f"{LABEL_PREFIX}{name}": value for name, value in sorted(resource.metadata.labels.items())}
    tags |= more or {}
    tags |= {PROJECT_TAG: project, RESOURCE_TAG: str(resource.key)}
    tags[DECLARED_TAG] = sha256_of([tags, described])[:16]
    return tags


def experiment_tags(project: str, resource: Experiment) -> dict[str, str]:
    """The tags and description of an Experiment's MLflow experiment."""
    text = resource.metadata.annotations.get("description")
    return declared_tags(project, resource, {DESCRIPTION_TAG: text} if text else None)


def _states(context: Context, resource: Experiment) -> tuple[tuple[TrialState, ...], Block | None]:
    """Where each trial stands, and what keeps missing ones from being trained."""
    key = resource.key
    code = context.desired.code.get(resource.metadata.name)
    if code is None or code.problem is not None:
        what = code.problem if code and code.problem else "its code was not read"
        return (), Block(str(key), "Trained", "CodeMissing", what)
    hold = resource.spec.on_data_change == "hold" and resource.metadata.name not in context.options.refresh
    seen: dict[str, ObservedDataset] = {}
    absent: str | None = None
    for name in resource.spec.datasets.values():
        found = context.data_of(key).get(name) or ObservedDataset(name, "", None, reason="NotObserved")
        if found.reason is not None:
            absent = absent or f"Dataset/{name}: {found.message or found.reason}"
        pin = _pin(context, key, name) if found.reason == MOVED else None
        if found.digest is None and pin is None and not (hold and found.outside and not found.pinned):
            block = Block(str(key), "Trained", "DependencyFailed", absent or f"Dataset/{name} has no digest")
            return (), block
        seen[name] = replace(found, digest=pin or found.digest or "unknown")  # a pin says what is meant
    states = tuple(context.index.state(trial, hold=hold) for trial in trials(resource, code, seen))
    if all(state.state == "finished" for state in states):
        return states, None
    if absent is not None:
        return states, Block(str(key), "Trained", "DependencyFailed", absent)
    if resource.spec.executor not in context.desired.executors:
        known = ", ".join(sorted(context.desired.executors))
        return states, Block(
            str(key),
            "Trained",
            "ExecutorMissing",
            f"no executor {resource.spec.executor!r} is installed; installed: {known}",
        )
    return states, None


def _pin(context: Context, experiment: Key, name: str) -> str | None:
    """The content that a Dataset is pinned to, as an experiment sees it."""
    kept = context.desired.kept_data.get(name) if experiment in context.desired.kept else None
    declared = kept or context.desired.resources.get(Key("Dataset", name))
    return declared.spec.digest if isinstance(declared, Dataset) else None


def _train(context: Context, resource: Experiment, state: TrialState, attempts: int) -> Step:
    trial = state.trial
    if state.state == "open":
        reason = f"run {state.run.run_id if state.run else ''} is open: go on with it"
    elif state.failures:
        reason = f"attempt {state.next_attempt}: the last one failed"
    else:
        before = context.index.by_experiment.get(context.desired.ledger_name(trial.experiment), ())
        reason = why_train(before, trial, context.desired.code[trial.experiment])
    step_id = _step_id(trial)
    first = context.training.setdefault(trial.fingerprint, step_id)
    if first != step_id:
        reason = f"{first} trains the same, and gives its run"
    shown = [Change(f"parameters.{name}", None, value) for name, value in sorted(trial.parameters.items())]
    shown += [
        Change(f"datasets.{item.role}", None, f"{item.dataset}@{_short(item.digest)}") for item in trial.data
    ]
    return Step(
        id=step_id,
        resource=str(resource.key),
        action="train",
        reason=reason,
        work=TrainTrial(trial, state.run.run_id if state.run else None, state.next_attempt, attempts),
        changes=(Change("fingerprint", None, trial.fingerprint), *shown),
        needs=() if first == step_id else (first,),
    )


def _step_id(trial: Trial) -> str:
    return f"train:Experiment/{trial.experiment}:{trial.fingerprint[:12]}"


def _stalled(resource: Experiment, state: TrialState) -> Block:
    last = state.failures[-1]
    why = (last.tags.get(MESSAGE) or f"run {last.run_id} failed").rstrip(". ")
    tried, allowed = len(state.failures), resource.spec.retries + 1
    if not state.stalled:
        why = f"{tried} of {max(tried, allowed)} attempts failed. {why}. See `mlops logs {resource.key}`"
    return Block(
        str(resource.key),
        "Trained",
        "TrainingFailed",
        f"{state.trial.name}: {why}; it is tried again when its inputs change, "
        "or by `mlops apply --retry-stalled`",
    )


def _update(context: Context, resource: Experiment) -> list[Step]:
    name = context.desired.ledger_name(resource.metadata.name)
    live = context.ledger.experiments[name].tags
    want = experiment_tags(context.desired.project, resource)
    return mend(resource, live, want, lambda tags: UpdateExperiment(name, tags))


def mend(
    resource: Resource,
    live: Mapping[str, str],
    want: Mapping[str, str],
    work: Callable[[Mapping[str, str | None]], Work],
    changes: tuple[Change, ...] = (),
) -> list[Step]:
    """The step that puts tags (and the fields in `changes`) right: `update` when git changed, else `heal`."""
    wrong: dict[str, str | None] = {tag: value for tag, value in want.items() if live.get(tag) != value}
    named = {tag for tag in live.get(TAGS_TAG, "").split(",") if not tag.startswith(RESERVED_TAGS)}
    ours = named | {ARCHIVED_TAG, DESCRIPTION_TAG, TAGS_TAG}
    for tag in live:  # what was taken out of git, and the mark of an earlier removal
        if tag not in want and (tag in ours or tag.startswith(LABEL_PREFIX)):
            wrong[tag] = None
    if DECLARED_TAG in wrong:  # written last: until then a killed update is told from a change by hand
        wrong[DECLARED_TAG] = wrong.pop(DECLARED_TAG)
    if not wrong and not changes:
        return []
    by_hand = live.get(DECLARED_TAG) == want[DECLARED_TAG] and ARCHIVED_TAG not in wrong
    action: Action = "heal" if by_hand else "update"
    shown = [Change(f"tags.{tag}", live.get(tag), value) for tag, value in sorted(wrong.items())]
    return [
        Step(
            id=f"{action}:{resource.key}",
            resource=str(resource.key),
            action=action,
            reason=_why(live, by_hand),
            work=work(wrong),
            changes=(*changes, *shown),
        )
    ]


def _why(live: Mapping[str, str], by_hand: bool) -> str:
    if by_hand:
        return "changed outside git"
    return "changed in git" if DECLARED_TAG in live else "found in MLflow, not kept by git yet"


def _data_current(context: Context, resource: Experiment, moved: list[TrialState]) -> Condition:
    seen = [context.data_of(resource.key).get(name) for name in resource.spec.datasets.values()]
    if any(one is None or one.digest is None for one in seen):  # absent, or its document is broken
        return Condition("DataCurrent", "Unknown", "DataAbsent", "outside data could not be observed")
    if not moved:
        return Condition("DataCurrent", "True", "Current")
    names = sorted(
        {
            item.dataset
            for state in moved
            for item in state.trial.data
            if state.run and state.run.tags.get(DATASET_DIGEST + item.role) != item.digest
        }
    )
    return Condition(
        "DataCurrent",
        "False",
        "DataMoved",
        f"{', '.join(names)} moved since training; held by onDataChange: hold. "
        f"`mlops train {resource.metadata.name} --refresh` trains on it",
    )


def _status(resource: Experiment, states: tuple[TrialState, ...]) -> dict[str, Any]:
    runs = []
    for state in states:
        run = state.run or (state.failures[-1] if state.failures else None)
        shown = {"finished": "Finished", "open": "Running"}.get(
            state.state, "Failed" if state.failures else "Pending"
        )
        runs.append(
            {
                "runId": run.run_id if run else None,
                "fingerprint": state.trial.fingerprint,
                "state": shown,
                "parameters": dict(state.trial.parameters),
                "metrics": dict(run.metrics) if run else {},
                "attempts": len(state.failures) + (state.run is not None),
            }
        )
    winner = best_run(resource, states)
    return {"runs": runs, "best": winner.run_id if winner else None}


def best_run(resource: Experiment, states: tuple[TrialState, ...]) -> Any:
    """The best finished run by the objective; without one, the run of the only trial."""
    finished = [state.run for state in states if state.state == "finished" and state.run is not None]
    if resource.spec.objective is None:
        return finished[0] if len(finished) == 1 else None
    return best(finished, resource.spec.objective.metric, resource.spec.objective.goal)


def _summary(resource: Experiment, states: tuple[TrialState, ...]) -> str:
    winner = best_run(resource, states)
    count = f"{len(states)} trial{'s' if len(states) != 1 else ''}"
    if winner is None or resource.spec.objective is None:
        return count
    metric = resource.spec.objective.metric
    return f"{count}, best {metric} = {winner.metrics[metric]:.6g}"


def _short(digest: str | None) -> str:
    """A digest as people read it: its algorithm and first twelve characters."""
    if digest is None:
        return ""
    return digest[:19] if digest.startswith("sha256:") else digest
