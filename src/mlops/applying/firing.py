"""What is told in a proposal: of the firing that it answers, and of the code since the version that is watched."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from mlops.applying.monitored import Kept, moment
from mlops.applying.world import World
from mlops.errors import MlopsError
from mlops.observation.policies import PolicyAction
from mlops.planning.context import REVISION_TAG
from mlops.resources import Experiment, Key, MonitoringPolicy

if TYPE_CHECKING:
    from mlops.proposing.proposal import Evidence

_SHOWN: Final = 8  # columns of a finding


def evidence_of(world: World, resource: MonitoringPolicy, action: PolicyAction, kept: Kept) -> Evidence:
    """Why an action was decided, as people are told: by how much, in which window, and what was before it."""
    from mlops.proposing.proposal import Evidence

    findings: list[str] = []
    report, seen = "", []
    for window in kept.of(action.watched or ""):
        check = next((one for one in window.evaluation.checks if one.name == action.check), None)
        if check is None or window.evaluation.start > action.window:
            continue
        seen.append(check)
        if window.evaluation.start == action.window:
            report = _report(world, resource, window.run_id)
            findings = [
                f"{one.column}{f' ({one.slice})' if one.slice else ''}: {one.detector} "
                f"{_number(one.value)}, threshold {_number(one.threshold)}"
                for one in [one for one in check.columns if one.verdict == "violated"][:_SHOWN]
            ]
    rows = resource.spec.window.size is None
    shown = f"from row {action.window:.0f} on" if rows else str(moment(action.window))
    return Evidence(
        action=action.id,
        policy=resource.metadata.name,
        check=action.check,
        window=shown,
        watched=action.watched or "",
        findings=tuple(findings),
        values=tuple(one.value for one in seen),
        threshold=seen[-1].threshold if seen else None,
        report=report,
    )


def code_since(world: World, run_id: str | None, version: str, experiment: str, base: str) -> str:
    """Which files of an experiment's code differ between the revision of a version's run and a commit, a sentence."""
    from mlops.proposing.proposal import quoted

    run = world.run(run_id) if run_id is not None else None
    resource = world.desired.resources.get(Key("Experiment", experiment))
    then = run.tags.get(REVISION_TAG, "") if run is not None else ""
    if not then or not isinstance(resource, Experiment):
        return ""
    try:
        changed = world.repository.changed(then, base)
    except MlopsError:  # a revision that is not here any more
        return f"Which code changed since {version} was trained, at {quoted(then[:12])}, is not known here."
    code = PurePosixPath(world.folder, resource.spec.source.path)
    files = [path for path in changed if PurePosixPath(path).is_relative_to(code)]
    if not files:
        return f"No code changed since {version} was trained."
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f"Code that changed since {version} was trained: {', '.join(map(quoted, files[:_SHOWN]))}{more}."


def _report(world: World, resource: MonitoringPolicy, run_id: str | None) -> str:
    """Where the report of a window is: a link where MLflow is a server, else the run that holds it."""
    if run_id is None:
        return ""
    place = f"{world.desired.project}/monitoring/{resource.metadata.name}"
    experiment = world.observed.ledger.experiments.get(place)
    server = world.tracker.store.shown
    if experiment is None or not server.startswith(("http://", "https://")):
        return run_id
    return f"{server.rstrip('/')}/#/experiments/{experiment.experiment_id}/runs/{run_id}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
