"""Performance of windows: rows with labels, those of the reference, and checks of concept drift over both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlops.monitoring import samples
from mlops.monitoring.evaluating import estimating, labelled
from mlops.monitoring.evaluating.checking import told
from mlops.monitoring.evaluating.estimating import Chunks, size_of
from mlops.monitoring.evaluating.files import Files, MakeTap
from mlops.monitoring.evaluating.labelled import RowPlan, RowTap
from mlops.monitoring.evaluating.late_labels import LateLabels, in_order
from mlops.monitoring.evaluating.values import Subject, Summaries, Unread
from mlops.monitoring.performance.concept_drift import (
    chunks_of,
    concept_drift,
    meanwhile,
    sums_of,
)
from mlops.monitoring.performance.loss_drift import beside, loss_drift, losses
from mlops.monitoring.performance.metrics import Metric, default_metric, metric_for
from mlops.monitoring.performance.rows import (
    Joined,
    joined,
    labels_are_due,
)
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import Group, WindowSummary
from mlops.monitoring.verdicts import CheckVerdict
from mlops.monitoring.windows import EventWindows, RowWindows, season_keys
from mlops.resources.monitoring_checks import ConceptDrift

T = TypeVar("T")
_NO_IDS: Final = (
    "no row has an id that labels could be joined on: see columns.id of the Dataset, or joinOn of the policy"
)
_MADE: Final = 64  # seasons and sizes that are kept at once


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """The reference's rows: all of them, and in the parts that it is made of (None: it is cut as windows are)."""

    rows: Joined
    parts: tuple[Joined, ...] | None = None


class Performances:
    """Joins windows with labels and judges their performance.

    Args:
        subject: what is watched.
        plan: what is kept of each row.
        windows: of the policy.
    """

    def __init__(
        self, subject: Subject, plan: RowPlan, windows: EventWindows | RowWindows, summaries: Summaries
    ) -> None:
        self.plan = plan
        self._subject, self._windows = subject, windows
        self._labels = None if subject.labels is None else LateLabels(subject.labels, plan, summaries)
        self._order = {file: place for place, file in enumerate(in_order(subject.predictions.files))}
        self._made: dict[tuple[int, Hashable], tuple[object, Any]] = {}
        self._last: tuple[int, Joined] | None = None

    def tap(self) -> MakeTap:
        """Keeps rows of the files of predictions."""
        return partial(RowTap, self.plan, self._windows, self._subject.predictions.columns.timestamp)

    @property
    def unread(self) -> list[Unread]:
        """Files of labels that could not be read."""
        return [] if self._labels is None else self._labels.unread

    @property
    def labels_digest(self) -> str:
        """Of the files of labels there are: as long as it is the same, no window has new labels."""
        return "" if self._labels is None else self._labels.digest

    def rows_of(self, files: Files, start: int) -> Joined:
        """A window's predictions with the labels there are."""
        if self._last is not None and self._last[0] == start:
            return self._last[1]
        parts = list(files.kept("rows", start, labelled.decode))
        if self._labels is None:
            found = labelled.ordered(
                labelled.put_together([(one.rows, one.targets) for _, one in parts], self.plan)
            )
        else:
            found = joined(
                [(self._order[file], one.rows) for file, one in parts], self._labels.latest(), start
            )
            if not parts:
                found = labelled.put_together([], self.plan)
        self._last = (start, found)
        return found

    def are_due(self, labelled_rows: int, predicted: int, end: float | None, watermark: float | None) -> bool:
        """Whether a window's labels are as complete as they get; those in the file of the predictions always are."""
        labels = self._subject.spec.data.labels
        if labels is None:
            return True
        delay = labels.max_delay
        timed = None if delay is None or end is None else watermark
        return labels_are_due(
            predicted, labelled_rows, end=end or 0.0, watermark=timed, max_delay=delay or 0.0
        )

    def with_target(self, window: WindowSummary, rows: Joined) -> WindowSummary:
        """The window with the joined labels as one more column."""
        target = self.plan.roles.target or ""
        if self.plan.roles.inline or target not in window.plan.columns or not rows.labelled:
            return window
        found = _target_summary(self.plan, window.plan, target, rows)
        columns = {**window.columns, target: found.columns[target]}
        whole = Group(window.rows, {name: columns[name] for name in sorted(columns)})
        seasons = dict(window.seasons)
        for (season, part), group in found.seasons.items():
            if part is None and (season, None) in seasons:
                known = seasons[season, None]
                seasons[season, None] = replace(known, cells={**known.cells, **group.cells})
        return replace(window, whole=whole, seasons=seasons)

    def judge(
        self,
        check: ConceptDrift,
        base: Base | str,
        rows: Joined,
        sketches: Callable[[], tuple[samples.Sketch, samples.Sketch] | None],
        *,
        predicted: int,
        due: bool,
    ) -> CheckVerdict:
        """The verdict of a check of performance.

        Args:
            check: of the policy.
            base: the reference's rows, or why there are none.
            rows: the window's.
            sketches: samples of both for estimates from features; None where none are kept.
            predicted: rows of the window, with labels or without.
            due: whether labels are as complete as they get.
        """
        layout, column = self.plan.layout, self.plan.roles.target or "*"
        metric = metric_for(check.metric or default_metric(layout.task), layout.task)
        if isinstance(base, str):
            return told(check, "insufficient", base, column)
        if not self.plan.roles.outputs:
            return told(check, "insufficient", "the Dataset of predictions names no column of them", column)
        if not np.isfinite(base.rows.rows.predictions).any() and not np.isfinite(base.rows.rows.scores).any():
            why = "the reference has no predictions, and the model could not be asked for them"
            return told(check, "insufficient", why, column)
        if not base.rows.labelled:
            return told(check, "insufficient", "the reference has no labels", column)
        if self._labels is not None and predicted == 0:
            return told(check, "insufficient", _NO_IDS, column)
        base = self._same_season(base, rows)
        min_rows = self._subject.spec.window.min_rows
        found = concept_drift(
            check.name,
            column,
            metric,
            max_drop=check.max_drop,
            min_rows=min_rows,
            window=sums_of(layout, rows, self.plan.slices),
            reference=self._sums(base, rows.labelled) if due else {},
            predicted=predicted,
            due=due,
        )
        for detector in check.loss if due else ():
            run = loss_drift(
                check.name,
                column,
                detector,
                max_drop=check.max_drop,
                min_rows=min_rows,
                window=losses(layout, rows),
                reference=losses(layout, base.rows),
            )
            found = beside(found, run)
        if check.estimate and found.verdict in ("insufficient", "noData"):
            found = meanwhile(found, self._estimated(check, column, metric, base, rows, sketches))
        return found

    def _estimated(
        self,
        check: ConceptDrift,
        column: str,
        metric: Metric,
        base: Base,
        rows: Joined,
        sketches: Callable[[], tuple[samples.Sketch, samples.Sketch] | None],
    ) -> CheckVerdict:
        min_rows = self._subject.spec.window.min_rows
        if self.plan.layout.task != "regression":
            known = self._once(base, "chances", lambda: estimating.fitted(self.plan, base.rows))
            if isinstance(known, str):
                return estimating.not_estimated(check, column, known)
            return estimating.by_chances(check, column, metric, self.plan, base.rows, known, rows, min_rows)
        both = sketches()
        if both is None:
            return estimating.not_estimated(check, column, "there is no sample of rows to estimate from")
        trees = self._once(both[0], metric.name, lambda: estimating.grown(metric, self.plan, both[0]))
        if isinstance(trees, str):
            return estimating.not_estimated(check, column, trees)
        return estimating.by_trees(check, column, metric, self.plan, trees, both[1], min_rows)

    def _same_season(self, base: Base, rows: Joined) -> Base:
        """The reference's rows of the seasons that the window has."""
        season = self._subject.spec.reference.season
        if season == "none" or not len(rows.targets):
            return base
        wanted = np.unique(season_keys(rows.rows.times, season))

        def chosen() -> Base:
            parts = (
                None
                if base.parts is None
                else tuple(_of_seasons(part, season, wanted) for part in base.parts)
            )
            return Base(_of_seasons(base.rows, season, wanted), parts)

        return self._once(base, tuple(wanted.tolist()), chosen)

    def _sums(self, base: Base, labelled_rows: int) -> Chunks:
        """Sums of the reference in parts of about the window's size."""
        size = size_of(labelled_rows, self._subject.spec.window.min_rows)

        def summed() -> Chunks:
            whole = _with_targets(base.rows)
            parts = chunks_of(whole, size) if base.parts is None else map(_with_targets, base.parts)
            found: Chunks = {}
            for part in parts:
                for label, sums in sums_of(self.plan.layout, part, self.plan.slices).items():
                    found.setdefault(label, []).append(sums)
            return found

        return self._once(base, size, summed)

    def _once(self, of: object, what: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, kept for the next windows with the same reference (which is kept too)."""
        key = id(of), what
        if key not in self._made:
            if len(self._made) >= _MADE:
                self._made.clear()
            self._made[key] = (of, make())
        found: T = self._made[key][1]
        return found


def rows_digest(rows: Joined) -> str:
    """A hash of rows with predictions and labels: what sums of single columns do not tell."""
    found = hashlib.sha256()
    known = rows.rows
    for values in (known.ids, known.times, known.predictions, known.scores, known.slices, rows.targets):
        found.update(np.where(np.isnan(values), np.nan, values).tobytes())  # one NaN of the many
    return found.hexdigest()


def reference_rows(
    batches: Callable[[], Iterator[Any]], plan: RowPlan, timestamp: str | None, key: str, summaries: Summaries
) -> Joined:
    """The rows of a reference table with targets and predictions, from the store or else from its files."""
    name = f"rows:{key}:{plan.digest}"
    found = labelled.decode(summaries.get_many([name]).get(name))
    if found is None:
        tap = RowTap(plan, None, timestamp, 0)
        for batch in batches():
            tap.add(batch)
        found = tap.rows()
        summaries.put_many({name: labelled.encode(found)})
    return found


def _with_targets(rows: Joined) -> Joined:
    known = np.isfinite(rows.targets)
    return Joined(rows.rows.take(known), rows.targets[known])


def _of_seasons(rows: Joined, season: Any, wanted: NDArray[np.int64]) -> Joined:
    here = np.isin(season_keys(rows.rows.times, season), wanted)
    return Joined(rows.rows.take(here), rows.targets[here])


def _target_summary(plan: RowPlan, whole: Plan, target: str, rows: Joined) -> WindowSummary:
    """Joined labels summed up as the reference's target is."""
    import pyarrow as pa

    known = np.isfinite(rows.targets)
    targets, times = rows.targets[known], rows.rows.times[known]
    if plan.layout.task == "regression":
        values = pa.array(targets)
    else:
        names = pa.array([*plan.layout.classes, "(a new class)"])
        values = names.take(pa.array(targets.astype(np.int64)))
    moments = pa.array(times, pa.timestamp("us", "UTC"))
    time = f"{target} "  # a name that the target does not have
    batch = pa.RecordBatch.from_arrays([values, moments], names=[target, time])
    only = Plan({target: whole.columns[target]}, {}, whole.season)
    timestamp = None if whole.season == "none" else time
    found = summarise(
        [batch.select([target]) if timestamp is None else batch], only, timestamp=timestamp, threads=1
    )
    return found.windows[0]
