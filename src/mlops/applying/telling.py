"""What is told of an evaluation: messages to people, a run in MLflow for each window, the report as a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from mlops.applying.decided import Evaluated, did
from mlops.applying.monitored import Kept, Window, told
from mlops.applying.watching import Watching
from mlops.applying.world import World
from mlops.errors import Stalled
from mlops.observation.policies import PolicyRecord
from mlops.planning.context import PROJECT_TAG, RESOURCE_TAG, REVISION_TAG, VERSION_TAG
from mlops.resources import Key, MonitoringPolicy, Notifier

if TYPE_CHECKING:  # the monitoring room stands on numpy: it is imported by the functions that evaluate
    from mlops.monitoring.reporting import About, Executed
    from mlops.state import StateReader

REPORT: Final = "report.html"


def messages(world: World, found: Evaluated) -> Mapping[str, Mapping[str, bytes]]:
    """The rows of the outbox for alerts that nobody was told of yet."""
    from mlops.monitoring.deciding import Alert
    from mlops.monitoring.reporting import picture
    from mlops.notifying.outbox import Outbox
    from mlops.notifying.wording import message

    outbox = Outbox(world.state, redact=world.redactor.redact)
    puts: dict[str, dict[str, bytes]] = {}
    evaluations = [window.evaluation for window in found.windows]
    resource = found.watching.resource
    for alert in found.decision.actions:
        action = found.record.action(alert.id)
        if not isinstance(alert, Alert) or action is None or action.state != "pending":
            continue
        notifiers = [
            notifier
            for name in alert.notify
            if isinstance(notifier := world.desired.resources.get(Key("Notifier", name)), Notifier)
        ]
        until = [one for one in evaluations if one.start <= alert.at]
        text = message(
            alert,
            policy=resource,
            evaluation=until[-1] if until else None,
            did=did(found.record, alert.check, alert.window),
            picture=picture(alert.check, until, unit=_unit(resource)),
        )
        for namespace, rows in outbox.rows_for(alert.id, text, notifiers, world.now()).items():
            puts.setdefault(namespace, {}).update(rows)
    return puts


def experiment_of(world: World, policy: str) -> str:
    """The id of the policy's experiment in MLflow, made if it is not there."""
    tags = {PROJECT_TAG: world.desired.project, RESOURCE_TAG: f"MonitoringPolicy/{policy}"}
    return world.tracker.ensure_experiment(place_of(world.desired.project, policy), description="", tags=tags)


def place_of(project: str, policy: str) -> str:
    """The full name of a policy's experiment in MLflow."""
    return f"{project}/monitoring/{policy}"


def log(
    world: World,
    experiment: str,
    found: Evaluated,
    kept: Kept,
    window: Window,
    executed: Mapping[str, Executed] | None,
) -> str:
    """Log a window as a run, found by its key if it is there; gives the run's id.

    Args:
        executed: what became of decisions by now, for its report; None: it has none.
    """
    one, watching = window.evaluation, found.watching
    artifacts: dict[str, bytes] = {"evaluation.json": told(window, found.watched, kept)}
    if executed is not None:
        page = page_of(world.desired.project, world.desired.revision, found, window, executed)
        artifacts[REPORT] = page.encode()
    return world.tracker.log_evaluation(
        experiment,
        key=f"{one.key}.{one.revision}"[:250],
        name=f"{watching.policy} {_moment(window)}",
        tags={
            PROJECT_TAG: world.desired.project,
            RESOURCE_TAG: f"MonitoringPolicy/{watching.policy}",
            REVISION_TAG: world.desired.revision,
            VERSION_TAG: watching.number,
            "mlops.verdict": one.verdict,
            **{f"mlops.verdict.{check.name}": check.verdict for check in one.checks},
        },
        metrics=_metrics(window),
        at=window.time if window.time is not None else float(one.end),
        step=int(one.start // max(one.end - one.start, 1)),
        artifacts=artifacts,
    )


def report_of(state: StateReader, project: str, revision: str, found: Evaluated) -> str:
    """The page of the newest window of an evaluation.

    Raises:
        Stalled: no window is closed yet.
    """
    if not found.windows:
        raise Stalled(
            f"MonitoringPolicy/{found.watching.policy} has no closed window yet", fix="Wait for data"
        )
    executed = executed_of(state, found.record)
    return page_of(project, revision, found, found.windows[-1], executed)


def page_of(
    project: str, revision: str, found: Evaluated, window: Window, executed: Mapping[str, Executed]
) -> str:
    """The page of a window, with those before it."""
    from mlops.monitoring.reporting import page

    start, assessed = window.evaluation.start, found.assessed
    until = [one.evaluation for one in found.windows if one.evaluation.start <= start]
    reference, shown = assessed.reference_of(start), assessed.window_of(start)
    return page(
        _about(project, revision, found.watching),
        until,
        found.decision,
        reference,
        shown,
        window.files,
        executed=executed,
        before=[one.evaluation.start for one in found.windows if one.before(found.watching.promoted_at)],
    )


def executed_of(state: StateReader, record: PolicyRecord) -> dict[str, Executed]:
    """What became of a policy's decisions by now, by their ids."""
    from mlops.monitoring.reporting import Executed
    from mlops.notifying.outbox import rows_in
    from mlops.notifying.rows import delivered

    pending = any(action.state == "pending" for action in record.actions)
    rows = rows_in(state) if pending else ()
    return {
        one.id: Executed(
            (delivered(one.id, rows) if one.state == "pending" else None) or one.state,
            one.message,
            one.branch,
            one.version,
            one.run_id,
            one.pull_request,
        )
        for one in record.actions
    }


def _about(project: str, revision: str, watching: Watching) -> About:
    from mlops import __version__
    from mlops.monitoring.reporting import About
    from mlops.resources.quantities import render_duration

    resource = watching.resource
    spec = resource.spec
    source = spec.reference.source
    reference = (
        "training data" if isinstance(source, str) else next(iter(source.model_dump(mode="json").items()))
    )
    return About(
        project=project,
        policy=resource.metadata.name,
        model=spec.model,
        stage=spec.stage,
        version=watching.number,
        reference=reference if isinstance(reference, str) else " ".join(map(str, reference)),
        window=f"{spec.window.rows} rows" if spec.window.size is None else render_duration(spec.window.size),
        engine=__version__,
        unit=_unit(resource),
        revision=revision,
    )


def _unit(resource: MonitoringPolicy) -> Literal["time", "rows"]:
    return "rows" if resource.spec.window.size is None else "time"


def _metrics(window: Window) -> dict[str, float]:
    """Check and column values by name: `inputs`, `inputs.psi.temp`, `inputs.psi.temp.country=FR`, `concept.rmse`."""
    found: dict[str, float] = {"rows": float(window.evaluation.rows)}
    for check in window.evaluation.checks:
        if check.value is not None:
            found[check.name] = check.value
        if check.metric is not None and check.metric.window is not None:
            found[f"{check.name}.{check.metric.name}"] = check.metric.window
        for one in check.columns:
            if one.value is not None:
                part = f".{one.slice}" if one.slice else ""
                found[f"{check.name}.{one.detector}.{one.column}{part}"] = one.value
    return found


def _moment(window: Window) -> str:
    if window.time is not None:
        return f"rows {window.evaluation.start} to {window.evaluation.end}"
    try:
        return datetime.fromtimestamp(float(window.evaluation.start), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return str(window.evaluation.start)
