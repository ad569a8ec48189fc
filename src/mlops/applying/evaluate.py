"""Make the evidence that gates wait for: load a model in a process of its own, look into it, write down what came.

The one write is the last thing, and is named after all that can change its content. Killed before it, the next pass
does the same again; after it, nobody does. What is wrong with a model is written down as well, so that it is not loaded
again by each pass; what is wrong with the machine or the data is not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, assert_never

from mlops.applying.bind import source_run
from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.applying.train import environment_of
from mlops.applying.world import World
from mlops.errors import Stalled, Transient
from mlops.observation.observed import ObservedRun
from mlops.planning.context import RESOURCE_TAG
from mlops.planning.evidence import MOST_TEXT, Evidence, Example, Loading, Reproduction, Scoring, find
from mlops.planning.plan import Block, Step
from mlops.planning.work import EvaluateModel
from mlops.resources import Experiment, Key, ModelVersion

PATIENCE: Final = 600.0  # seconds to load a model, and to answer for some ten thousand rows
_MODEL: Final = "MLmodel"  # what an MLflow model's folder holds


def evaluate(world: World, step: Step, work: EvaluateModel) -> Outcome:
    """Bring the evidence of one check into being, unless it is there."""
    run = _run(world, step, work)
    if isinstance(run, Block):
        return Blocked(run)
    known = find(run.tags, work.check, work.digest, work.artifact)
    if known is None or (known.error is not None and work.again):
        made = _look_into(world, step, work, run)
        if not isinstance(made, Evidence):
            return made
        if world.stop.is_set():
            return Left("stopped before it was written down")
        world.check_lease()
        world.tracker.tag_run(run.run_id, {made.tag: made.text()})
        known, run = made, replace(run, tags={**run.tags, made.tag: made.text()})
    world.runs[run.run_id] = run
    return Done(f"{work.subject} {_summary(work, known)}")


def _summary(work: EvaluateModel, known: Evidence) -> str:
    if known.error is not None:
        return f"cannot be judged: {known.error}"
    if known.failed is not None:
        return known.failed
    match work.check:
        case Scoring(dataset=dataset):
            shown = ", ".join(f"{name} = {value:.6g}" for name, value in list(known.metrics.items())[:4])
            return f"on {known.rows} rows of {dataset}: {shown}"
        case Example():
            return "has a signature, and accepts its input example"
        case Loading():
            return "can be loaded"
        case Reproduction():
            return f"was trained again: {len(known.metrics)} metrics are compared"
        case _:
            assert_never(work.check)


def _run(world: World, step: Step, work: EvaluateModel) -> ObservedRun | Block:
    """The run that the model is of, as it is now: another machine may have evaluated it since it was planned."""
    run_id = work.run_id
    if run_id is None and work.model_version is not None:
        resource = world.desired.resources[Key("ModelVersion", work.model_version)]
        assert isinstance(resource, ModelVersion)
        found = source_run(world, resource)
        if isinstance(found, Block):
            return found
        run_id = found.run_id
    run = world.tracker.run(run_id) if run_id is not None else None
    if run is None:
        what = f"{work.subject} comes from no run that MLflow has ({run_id})"
        return Block(step.resource, "GatesPassed", "RunMissing", what)
    return run


@dataclass(frozen=True, slots=True)
class _Found:
    """A model's bytes, by their digest."""

    digest: str
    problem: str | None


def _look_into(world: World, step: Step, work: EvaluateModel, run: ObservedRun) -> Evidence | Outcome:
    found = _bytes(world, work, run)
    if isinstance(found, Blocked):
        return found
    blank = Evidence(found.digest, work.artifact, tuple(work.check.identity))
    if found.problem is not None:
        return replace(blank, error=_shown(world, found.problem))
    from mlops.applying.scoring import Unreadable
    from mlops.execution.predicting import Refused

    try:
        if isinstance(work.check, Reproduction):
            return _again(world, step, work, run, blank)
        return _judged(world, step, work, run, blank)
    except Unreadable as error:
        return Failed(error.why)
    except Refused as error:
        wrong = _shown(world, _whole(error))
        return (
            replace(blank, failed=wrong) if isinstance(work.check, Example) else replace(blank, error=wrong)
        )
    except Stalled as error:
        return replace(blank, error=_shown(world, _whole(error)))


def _bytes(world: World, work: EvaluateModel, run: ObservedRun) -> _Found | Blocked:
    """The digest of the model's bytes as they are, held against what was bound."""
    try:
        artifact = world.artifact(run.run_id, work.artifact)
    except Stalled as error:
        if work.digest is None:
            raise
        return _Found(work.digest, _whole(error))
    if artifact is None:
        what = f"run {run.run_id} has no artifact {work.artifact!r} any more; restore it, or train again"
        if work.digest is None:
            return Blocked(Block(f"ModelVersion/{work.model_version}", "Bound", "ArtifactMissing", what))
        return _Found(work.digest, what)
    if work.digest not in (None, artifact.digest):
        what = (
            f"its bytes are not those that were bound: they have digest {artifact.digest}, not {work.digest}"
        )
        return _Found(str(work.digest), what)
    return _Found(artifact.digest, None)


def _again(
    world: World, step: Step, work: EvaluateModel, run: ObservedRun, blank: Evidence
) -> Evidence | Outcome:
    from mlops.applying.reproduce import Reproduced, reproduce

    told = reproduce(world, step, run, again=work.again)
    if not isinstance(told, Reproduced):
        return told
    failed = _shown(world, told.failed) if told.failed is not None else None
    return replace(blank, metrics=told.metrics, failed=failed)


def _judged(world: World, step: Step, work: EvaluateModel, run: ObservedRun, blank: Evidence) -> Evidence:
    from mlops.execution.predicting import Predictor

    where = f"model {work.subject}"
    experiment = _trained_by(world, run)
    needs = experiment.spec.resources if experiment is not None else None
    world.progress.says(step, f"loading {work.subject}")
    with world.tracker.artifact_here(run.run_id, work.artifact) as model:
        if model is None or not (model / _MODEL).is_file():
            if isinstance(work.check, Loading) and model is not None:
                return blank  # a plain file: it is there, with the bytes that were bound
            raise Stalled(
                f"{work.artifact} is a plain file or folder, not an MLflow model",
                fix="Log it with mlflow.<flavor>.log_model, so that it can be loaded and asked.",
            )
        python = environment_of(world, experiment, step).python if experiment is not None else None
        given: dict[str, Any] = {
            "where": where,
            "home": world.home / "evaluating",
            "python": python,
            "environ": world.environ,
            "timeout": PATIENCE,
            "memory": (needs.memory if needs is not None else None) or most_memory(),
            "stop": world.stop,
        }
        match work.check:
            case Scoring():
                return _scored(world, work.check, blank, model, given)
            case Example() | Loading():
                asked = isinstance(work.check, Example)
                with Predictor(model, wants=["prediction"], example=asked, **given) as predictor:
                    predictor.load()
                return blank
            case Reproduction():
                raise TypeError("a run is trained again without loading its model")
            case _:
                assert_never(work.check)


def _scored(world: World, check: Scoring, blank: Evidence, model: Path, given: dict[str, Any]) -> Evidence:
    from mlops.applying.scoring import Unreadable, score
    from mlops.execution.predicting import Predictor

    try:
        dataset, rows = world.rows(check.dataset, check.data, None)
    except Stalled as error:
        raise Unreadable(error) from error
    metrics, count, left_out = score(
        rows,
        dataset.spec.columns,
        check,
        lambda wants: Predictor(model, wants=wants, types=rows.types, **given),
    )
    return replace(blank, metrics=metrics, rows=count, left_out=left_out)


def _trained_by(world: World, run: ObservedRun) -> Experiment | None:
    """The Experiment whose environment the model was trained in, where it is declared."""
    kind, _, name = run.tags.get(RESOURCE_TAG, "").partition("/")
    found = world.desired.resources.get(Key("Experiment", name)) if kind == "Experiment" else None
    return found if isinstance(found, Experiment) else None


def most_memory() -> int:
    """Bytes that a model may take where its experiment says nothing: half of what the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _whole(error: Stalled | Transient) -> str:
    return f"{error.what}. {error.fix}" if error.fix else error.what


def _shown(world: World, text: str) -> str:
    return world.redactor.redact(text)[:MOST_TEXT]
