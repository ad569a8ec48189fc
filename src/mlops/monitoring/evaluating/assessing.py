"""One assessment: read what is new, judge the windows that are due and changed, give their evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from mlops.errors import Stalled, Transient
from mlops.monitoring import samples
from mlops.monitoring.checks.row_measures import Measure
from mlops.monitoring.evaluating.checking import Compared, checked, needs_rows, told
from mlops.monitoring.evaluating.due import Due, due_events, due_rows, numbered, windows_of
from mlops.monitoring.evaluating.estimating import SAMPLE, layouts_of
from mlops.monitoring.evaluating.files import Files, MakeTap, Recipe, SampleTap
from mlops.monitoring.evaluating.keys import ENGINE, digest_of, judged_by
from mlops.monitoring.evaluating.labelled import RowPlan, layout_of
from mlops.monitoring.evaluating.performing import Performances, rows_digest
from mlops.monitoring.evaluating.referencing import digest_of_summary, read_reference
from mlops.monitoring.evaluating.roles import roles_of, task_of, unclear_task
from mlops.monitoring.evaluating.sources import Fixed, Rolling, Source, rolling_plan
from mlops.monitoring.evaluating.values import Assessed, Progress, Start, Stored, Subject, Summaries
from mlops.monitoring.performance.rows import Joined
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.windowed import Group, WindowSummary
from mlops.monitoring.verdicts import CheckVerdict, Evaluation, overall
from mlops.monitoring.windows import EventWindows, RowOrder, RowWindows, revision
from mlops.resources.monitoring_checks import ConceptDrift, TargetDrift
from mlops.resources.monitoring_policy import RollingReference

_ROWS: Final = "sample"  # under which rows for detectors are kept


def assess(
    subject: Subject,
    summaries: Summaries,
    stored: Mapping[Start, Stored],
    *,
    now: float,
    order: RowOrder | None = None,
    progress: Progress | None = None,
    threads: int = 2,
    alibi: Measure | None = None,
) -> Assessed:
    """Judge every closed window whose rows, labels, policy, version or reference changed since it was last judged.

    Args:
        subject: what is watched.
        summaries: where summaries are kept; what is not there is read again.
        stored: of each window of this version, the newest evaluation there is.
        now: seconds since 1970 UTC; it only says which event times are impossible.
        order: what the last assessment gave as `order`.
        progress: is told files done, files to be read, and the name of the next; what it raises ends the assessment.
        threads: columns summed up at the same time.
        alibi: `Worker.measure`, for checks that ask for `alibi/<name>`; without it they are insufficient.
    Raises:
        MlopsError: the reference cannot be read, or `spec.task` has to be set. A file of predictions that cannot be
            read is told in `unread` instead.
    """
    return _Assessment(subject, summaries, now, progress, threads, alibi).run(stored, order or RowOrder())


@dataclass(frozen=True, slots=True)
class _Content:
    """What a window holds, without its sums: digests of its rows and of its labels, and how many there are."""

    summary: str
    labels: str
    labelled: int
    predicted: int
    rows: int


class _Assessment:
    def __init__(
        self,
        subject: Subject,
        summaries: Summaries,
        now: float,
        progress: Progress | None,
        threads: int,
        alibi: Measure | None,
    ) -> None:
        self._alibi = alibi
        self._subject, self._summaries, self._now = subject, summaries, now
        self._windows = windows_of(subject)
        spec = subject.spec
        _needs_times(subject, self._windows)
        task = task_of(subject)
        if task is None and any(isinstance(check, ConceptDrift) for check in spec.checks):
            raise unclear_task(subject)
        self._roles = roles_of(subject, subject.reference or subject.predictions, task)
        fixed: Source | None = None
        if subject.reference is not None:
            reference = read_reference(subject, subject.reference, self._roles, summaries, threads=threads)
            plan = reference.plan
            fixed = Fixed(subject.reference, reference, self._windows, summaries, threads=threads)
        else:
            plan = rolling_plan(subject, self._roles, self._windows, self._span(), summaries, threads=threads)
        self._plan = plan
        self._performances, self._why_not = self._performing(task, plan)
        self._layout = self._sampled(plan)
        self._estimating = self._estimated(plan)
        self._files = Files(
            subject.predictions, self._recipe(plan), summaries, progress=progress, threads=threads
        )
        self._source = fixed or Rolling(
            self._span(), self._files, self._content_digest, self._with_labels, self._rows_of
        )
        self._contents: dict[int, _Content] = {}
        self._known: dict[int, _Content] = {}
        self._judged_by = judged_by(spec)

    def run(self, stored: Mapping[Start, Stored], order: RowOrder) -> Assessed:
        """All of it."""
        due = self._due(stored, order)
        self._recall(due)
        evaluations: dict[Start, tuple[Evaluation, str]] = {}
        for start in due.closed:
            try:
                found = self._evaluated(start, stored.get(start), due)
            except (
                Transient
            ):  # told in `unread`: what was said of the window stands until its files can be read
                continue
            if found is not None:
                evaluations[start] = found
        unread = [*self._files.unread, *(self._performances.unread if self._performances else ())]
        return Assessed(
            tuple(evaluation for evaluation, _ in evaluations.values()),
            {start: record for start, (_, record) in evaluations.items()},
            {
                start: tuple(sorted((file.name, file.digest) for file in self._files.files_of(int(start))))
                for start in evaluations
            },
            len(due.closed),
            due.waiting,
            due.future,
            due.undated,
            tuple(dict.fromkeys(unread)),
            due.times,
            due.order,
            due.watermark,
            self._reference_of,
            lambda start: self._with_labels(int(start)),
        )

    def _evaluated(self, start: int, old: Stored | None, due: Due) -> tuple[Evaluation, str] | None:
        if isinstance(self._windows, RowWindows) and old is not None and self._lost_rows(start):
            return None  # files are gone: a closed window of rows stays as it was
        content = self._content(start)
        end = self._windows.end(start)
        time = float(end) if due.times is None else due.times.get(start)
        labels_due = self._labels_due(content, time, due.watermark)
        record = digest_of(content.summary, content.labels, labels_due)
        reference = self._source.digest(start)
        key = digest_of(
            *(ENGINE, self._judged_by, self._subject.version, reference, [start, end], record),
            self._why_not,
        )
        if old is not None and old.key == key:
            return None
        checks = self._checks(start, content, key, labels_due)
        verdict = overall(check.verdict for check in checks)
        number = revision(None if old is None else (old.record, old.revision), record)
        return Evaluation(start, end, content.rows, verdict, checks, key, number), record

    def _checks(self, start: int, content: _Content, key: str, labels_due: bool) -> tuple[CheckVerdict, ...]:
        window = self._with_labels(start)
        reference = self._source.summary(start)

        def sample() -> samples.RowSample | None:
            if self._layout is None:
                return None
            before = self._source.sample(start, _ROWS, self._layout)
            own = self._sketch(start, _ROWS, self._layout)
            if before is None or own is None:
                return None
            return samples.RowSample.of(before, own, int(key[:8], 16))

        def sketches() -> tuple[samples.Sketch, samples.Sketch] | None:
            if self._estimating is None:
                return None
            of_reference, of_window = self._estimating
            fixed = self._subject.reference is not None
            before = self._source.sample(start, SAMPLE, of_reference if fixed else of_window)
            own = self._sketch(start, SAMPLE, of_window)
            return None if before is None or own is None else (before, own)

        def concept(check: ConceptDrift) -> CheckVerdict:
            if self._performances is None:
                return told(check, "insufficient", self._why_not or "", self._roles.target or "*")
            base = self._source.base(start, self._performances.plan)
            rows = self._rows_of(start)
            return self._performances.judge(
                check, base, rows, sketches, predicted=content.predicted, due=labels_due
            )

        compared = Compared(
            None if isinstance(reference, str) else reference,
            reference if isinstance(reference, str) else "",
            window or self._nothing(),
            sample,
            labels_due,
            concept,
            self._source.calibrated(start),
            self._alibi,
        )
        return checked(self._subject.spec, self._roles, self._subject.predictions.expect, compared)

    def _due(self, stored: Mapping[Start, Stored], order: RowOrder) -> Due:
        listed = self._subject.predictions.files
        if isinstance(self._windows, RowWindows):
            order = numbered(self._files, listed, order)
            return due_rows(self._subject, self._windows, self._files, stored, self._now, order)
        self._files.index(listed)
        return due_events(self._subject, self._windows, self._files, stored, self._now)

    def _labels_due(self, content: _Content, end: float | None, watermark: float | None) -> bool:
        if self._performances is None:
            return True
        return self._performances.are_due(content.labelled, content.predicted, end, watermark)

    def _recall(self, due: Due) -> None:
        """What windows held when they were last looked at, as long as their files are the same."""
        keys = {start: self._content_key(start) for start in {*due.closed, *self._files.starts()}}
        known = self._summaries.get_many(keys.values())
        for start, key in keys.items():
            try:
                self._known[start] = _Content(*json.loads(known[key]))
            except (KeyError, ValueError, TypeError):  # not there, cut off, or not ours: found again
                continue

    def _content(self, start: int) -> _Content:
        if start not in self._known:
            window = self._files.window(start) or self._nothing()
            labels, labelled, predicted = "", 0, window.rows
            if self._performances is not None:
                rows = self._rows_of(start)
                labels, labelled, predicted = rows_digest(rows), rows.labelled, len(rows.targets)
            found = _Content(digest_of_summary(window), labels, labelled, predicted, window.rows)
            told_of = [found.summary, found.labels, found.labelled, found.predicted, found.rows]
            self._summaries.put_many({self._content_key(start): json.dumps(told_of).encode()})
            self._known[start] = found
        return self._known[start]

    def _content_digest(self, start: int) -> str:
        found = self._content(start)
        return digest_of(found.summary, found.labels)

    def _content_key(self, start: int) -> str:
        files = [self._files.identity(file) for file in self._files.files_of(start)]
        labels = self._performances.labels_digest() if self._performances else ""
        return "content:" + digest_of(files, self._files.recipe.digest, labels, start)

    def _with_labels(self, start: int) -> WindowSummary | None:
        window = self._files.window(start)
        if window is None or self._performances is None:
            return window
        return self._performances.with_target(window, self._rows_of(start))

    def _sketch(self, start: int, name: str, layout: samples.Layout) -> samples.Sketch | None:
        parts = self._files.kept(name, start, lambda value: samples.decode(value, layout))
        return samples.merge([sketch for _, sketch in parts]) if parts else None

    def _rows_of(self, start: int) -> Joined:
        assert self._performances is not None
        return self._performances.rows_of(self._files, start)

    def _reference_of(self, start: Start) -> WindowSummary | None:
        found = self._source.summary(int(start))
        return None if isinstance(found, str) else found

    def _lost_rows(self, start: int) -> bool:
        files = self._files.files_of(start)
        return sum(self._files.indexes[file].parts[start].rows for file in files) < (
            self._windows.end(start) - start
        )

    def _nothing(self) -> WindowSummary:
        return WindowSummary(self._plan, Group(0, {}))

    def _span(self) -> int:
        source = self._subject.spec.reference.source
        return int(source.rolling) if isinstance(source, RollingReference) else 0

    def _performing(self, task: str | None, plan: Plan) -> tuple[Performances | None, str | None]:
        """What joins rows with labels, if any check asks for that; else, or if it cannot be, None and why."""
        subject = self._subject
        concept = any(isinstance(check, ConceptDrift) for check in subject.spec.checks)
        late = subject.labels is not None and any(
            isinstance(check, TargetDrift) for check in subject.spec.checks
        )
        if not concept and not late:
            return None, None
        numbers = plan.columns.get(self._roles.target or "") if task is None else None
        if task is None:
            from mlops.monitoring.summaries.plans import NumericPlan

            task = "regression" if isinstance(numbers, NumericPlan) else "multiclass"
        found = layout_of(task, plan, self._roles)
        if isinstance(found, str):
            return None, found
        layout, kind = found
        return Performances(
            subject, RowPlan(plan, self._roles, layout, kind), self._windows, self._summaries
        ), None

    def _sampled(self, plan: Plan) -> samples.Layout | None:
        asking = [check for check in self._subject.spec.checks if needs_rows(check)]
        if not asking:
            return None
        columns = self._subject.predictions.columns
        apart = [name for name in (columns.id,) if name is not None]
        wanted = [*self._roles.features]
        if any(isinstance(check, TargetDrift) for check in asking):
            wanted += [*self._roles.outputs, *([self._roles.target] if self._roles.target else [])]
        return samples.Layout.of(plan, wanted, apart)

    def _estimated(self, plan: Plan) -> tuple[samples.Layout, samples.Layout] | None:
        """What is kept of rows of reference and windows where errors of values are estimated from features."""
        wanted = any(
            isinstance(check, ConceptDrift) and check.estimate for check in self._subject.spec.checks
        )
        known, roles = self._performances, self._roles
        if not wanted or known is None or known.plan.layout.task != "regression":
            return None
        if roles.prediction is None or roles.target is None:
            return None
        min_rows = self._subject.spec.window.min_rows
        return layouts_of(plan, roles.features, roles.prediction, roles.target, min_rows)

    def _recipe(self, plan: Plan) -> Recipe:
        timestamp = self._subject.predictions.columns.timestamp
        taps: list[MakeTap] = []
        if self._performances is not None:
            taps.append(self._performances.tap())
        if self._layout is not None:
            taps.append(partial(SampleTap, _ROWS, self._layout, self._windows, timestamp))
        if self._estimating is not None:
            taps.append(partial(SampleTap, SAMPLE, self._estimating[1], self._windows, timestamp))
        late = not self._roles.inline and self._roles.target is not None
        hidden = frozenset([self._roles.target] if late and self._roles.target else [])
        return Recipe(
            plan, self._windows, timestamp, self._subject.predictions.text, hidden, None, tuple(taps)
        )


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
