"""From a policy to what an assessment works with: what columns mean, the reference, and how files are to be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlops.errors import Stalled
from mlops.monitoring import samples
from mlops.monitoring.evaluating.checking import needs_rows
from mlops.monitoring.evaluating.contents import ROWS, Contents
from mlops.monitoring.evaluating.due import windows_of
from mlops.monitoring.evaluating.estimating import SAMPLE, layouts_of
from mlops.monitoring.evaluating.files import Files, MakeTap, Recipe, SampleTap
from mlops.monitoring.evaluating.labelled import RowPlan, layout_of
from mlops.monitoring.evaluating.performing import Performances
from mlops.monitoring.evaluating.referencing import read_reference
from mlops.monitoring.evaluating.roles import Roles, roles_of, task_of, unclear_task
from mlops.monitoring.evaluating.sources import Fixed, Rolling, Source, rolling_plan
from mlops.monitoring.evaluating.values import Progress, Subject, Summaries
from mlops.monitoring.summaries.plans import NumericPlan, Plan
from mlops.monitoring.windows import EventWindows, RowWindows
from mlops.resources.monitoring_checks import ConceptDrift, TargetDrift
from mlops.resources.monitoring_policy import RollingReference


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What an assessment works with.

    Args:
        windows: of the policy.
        roles: what columns mean.
        files: of the predictions, with their indexes once they are asked for.
        performances: joins rows with labels, or None; then `why_not` says why, if a check wants it.
        source: the reference of each window.
        contents: what each window holds.
        drawn: what is kept of rows for detectors that need them, or None.
        estimated: what is kept of rows of reference and window for estimates from features, or None.
    """

    windows: EventWindows | RowWindows
    roles: Roles
    files: Files
    performances: Performances | None
    why_not: str | None
    source: Source
    contents: Contents
    drawn: samples.Layout | None
    estimated: tuple[samples.Layout, samples.Layout] | None


def prepare(subject: Subject, summaries: Summaries, progress: Progress | None, threads: int) -> Prepared:
    """Read the reference, or find what was made of it, and say how files are to be read.

    Raises:
        MlopsError: the reference cannot be read; task or times have to be told.
    """
    windows = windows_of(subject)
    _needs_times(subject, windows)
    task = task_of(subject)
    if task is None and any(isinstance(check, ConceptDrift) for check in subject.spec.checks):
        raise unclear_task(subject)
    roles = roles_of(subject, subject.reference or subject.predictions, task)
    fixed: Fixed | None = None
    rolling = subject.spec.reference.source
    span = int(rolling.rolling) if isinstance(rolling, RollingReference) else 0
    if subject.reference is not None:
        reference = read_reference(subject, subject.reference, roles, summaries, threads=threads)
        plan = reference.plan
        fixed = Fixed(subject.reference, reference, windows, summaries, threads=threads)
    else:
        plan = rolling_plan(subject, roles, windows, span, summaries, threads=threads)
    performances, why_not = _performing(subject, roles, task, plan, windows, summaries)
    if fixed is not None and performances is not None:
        fixed.performed(performances.plan)
    drawn = _drawn(subject, roles, plan)
    estimated = _estimated(subject, roles, performances, plan)
    recipe = _recipe(subject, roles, plan, windows, performances, drawn, estimated)
    files = Files(subject.predictions, recipe, summaries, progress=progress, threads=threads)
    contents = Contents(files, performances, drawn, summaries)
    source: Source = fixed or Rolling(
        span, files, lambda start: contents.of(start).digest, contents.with_labels, contents.rows
    )
    return Prepared(windows, roles, files, performances, why_not, source, contents, drawn, estimated)


def _performing(
    subject: Subject,
    roles: Roles,
    task: str | None,
    plan: Plan,
    windows: EventWindows | RowWindows,
    summaries: Summaries,
) -> tuple[Performances | None, str | None]:
    """What joins rows with labels, if a check asks for that; else, or if it cannot be, None and why."""
    checks = subject.spec.checks
    late = subject.labels is not None and any(isinstance(check, TargetDrift) for check in checks)
    if not late and not any(isinstance(check, ConceptDrift) for check in checks):
        return None, None
    if task is None:  # only for the target's own drift: as it was summed up
        numbers = isinstance(plan.columns.get(roles.target or ""), NumericPlan)
        task = "regression" if numbers else "multiclass"
    found = layout_of(task, plan, roles)
    if isinstance(found, str):
        return None, found
    layout, kind = found
    return Performances(subject, RowPlan(plan, roles, layout, kind), windows, summaries), None


def _drawn(subject: Subject, roles: Roles, plan: Plan) -> samples.Layout | None:
    asking = [check for check in subject.spec.checks if needs_rows(check)]
    if not asking:
        return None
    known = subject.predictions.columns.id
    wanted = [*roles.features]
    if any(isinstance(check, TargetDrift) for check in asking):
        wanted += [*roles.outputs, *([roles.target] if roles.target else [])]
    return samples.Layout.of(plan, wanted, [] if known is None else [known])


def _estimated(
    subject: Subject, roles: Roles, performances: Performances | None, plan: Plan
) -> tuple[samples.Layout, samples.Layout] | None:
    wanted = any(isinstance(check, ConceptDrift) and check.estimate for check in subject.spec.checks)
    if not wanted or performances is None or performances.plan.layout.task != "regression":
        return None
    if roles.prediction is None or roles.target is None:
        return None
    return layouts_of(plan, roles.features, roles.prediction, roles.target, subject.spec.window.min_rows)


def _recipe(
    subject: Subject,
    roles: Roles,
    plan: Plan,
    windows: EventWindows | RowWindows,
    performances: Performances | None,
    drawn: samples.Layout | None,
    estimated: tuple[samples.Layout, samples.Layout] | None,
) -> Recipe:
    timestamp = subject.predictions.columns.timestamp
    taps: list[MakeTap] = []
    if performances is not None:
        taps.append(performances.tap())
    draw: Callable[..., SampleTap] = SampleTap
    if drawn is not None:
        taps.append(partial(draw, ROWS, drawn, windows, timestamp))
    if estimated is not None:
        taps.append(partial(draw, SAMPLE, estimated[1], windows, timestamp))
    elsewhere = not roles.inline and roles.target is not None
    hidden = frozenset([roles.target] if elsewhere and roles.target else [])
    return Recipe(plan, windows, timestamp, subject.predictions.text, hidden, None, tuple(taps))


def _needs_times(subject: Subject, windows: EventWindows | RowWindows) -> None:
    """Raises Stalled where windows or seasons need event times, of which the predictions have none."""
    if subject.predictions.columns.timestamp is not None:
        return
    if isinstance(windows, EventWindows) or subject.spec.reference.season != "none":
        raise Stalled(
            "Its predictions have no column of event times, which windows of time and seasons need",
            where=f"Dataset/{subject.predictions.name}",
            fix="Set columns.timestamp of the Dataset, or count rows with window.rows and no season.",
        )
