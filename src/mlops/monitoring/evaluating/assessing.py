"""One assessment: read what is new, judge the windows that are due and changed, give their evaluations."""

from __future__ import annotations

from collections.abc import Mapping

from mlops.errors import Transient
from mlops.monitoring import samples
from mlops.monitoring.checks.row_measures import Measure
from mlops.monitoring.engine import ENGINE
from mlops.monitoring.evaluating.checking import Compared, checked, told
from mlops.monitoring.evaluating.contents import ROWS, Content
from mlops.monitoring.evaluating.due import Due, due_events, due_rows, numbered
from mlops.monitoring.evaluating.estimating import SAMPLE
from mlops.monitoring.evaluating.keys import digest_of, judged_by
from mlops.monitoring.evaluating.preparing import prepare
from mlops.monitoring.evaluating.values import Assessed, Progress, Start, Stored, Subject, Summaries
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.verdicts import CheckVerdict, Evaluation, overall
from mlops.monitoring.windows import RowOrder, RowWindows, revision
from mlops.resources.monitoring_checks import ConceptDrift


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
        self._subject, self._now, self._alibi = subject, now, alibi
        self._prepared = prepare(subject, summaries, progress, threads)
        self._contents = self._prepared.contents
        roles, expect = self._prepared.roles, subject.predictions.expect
        self._judged_by = digest_of(
            judged_by(subject.spec),
            [roles.features, roles.target, roles.inline, roles.outputs, roles.id],
            None if expect is None else expect.model_dump(mode="json"),
        )

    def run(self, stored: Mapping[Start, Stored], order: RowOrder) -> Assessed:
        """All of it."""
        due = self._due(stored, order)
        files, performances = self._prepared.files, self._prepared.performances
        self._contents.recall({*due.closed, *files.starts()})
        evaluations: dict[Start, tuple[Evaluation, str]] = {}
        for start in due.closed:
            try:
                found = self._evaluated(start, stored.get(start), due)
            except Transient:  # told in `unread`: what was said of the window stands
                continue
            if found is not None:
                evaluations[start] = found
        self._contents.keep()
        return Assessed(
            tuple(evaluation for evaluation, _ in evaluations.values()),
            {start: record for start, (_, record) in evaluations.items()},
            {
                start: tuple(sorted((file.name, file.digest) for file in files.files_of(int(start))))
                for start in evaluations
            },
            len(due.closed),
            due.waiting,
            due.future,
            due.undated,
            tuple(dict.fromkeys([*files.unread, *(performances.unread if performances else ())])),
            due.times,
            due.order,
            due.watermark,
            self._reference_of,
            lambda start: self._contents.with_labels(int(start)),
        )

    def _evaluated(self, start: int, old: Stored | None, due: Due) -> tuple[Evaluation, str] | None:
        windows = self._prepared.windows
        of_rows = isinstance(windows, RowWindows)
        end = windows.end(start)
        if of_rows and old is not None and self._contents.lost_rows(start, end - start):
            return None  # files are gone: a closed window of rows stays as it was
        content = self._contents.of(start)
        time = float(end) if due.times is None else due.times.get(start)
        labels_due = self._labels_due(content, time, due.watermark)
        record = digest_of(content.summary, content.labels, labels_due)
        reference = self._prepared.source.digest(start)
        key = digest_of(
            *(ENGINE, self._judged_by, self._subject.version, reference, [start, end], record),
            self._prepared.why_not,
        )
        if old is not None and old.key == key:
            return None
        checks = self._checks(start, content, key, labels_due)
        verdict = overall(check.verdict for check in checks)
        number = revision(None if old is None else (old.record, old.revision), record)
        return Evaluation(start, end, content.rows, verdict, checks, key, number), record

    def _checks(self, start: int, content: Content, key: str, labels_due: bool) -> tuple[CheckVerdict, ...]:
        ready, subject = self._prepared, self._subject
        reference = ready.source.summary(start)

        def sample() -> samples.RowSample | None:
            if ready.drawn is None:
                return None
            before = ready.source.sample(start, ROWS, ready.drawn)
            own = self._contents.sample(start, ROWS, ready.drawn)
            if before is None or own is None:
                return None
            return samples.RowSample.of(before, own, int(key[:8], 16))

        def sketches() -> tuple[samples.Sketch, samples.Sketch] | None:
            if ready.estimated is None:
                return None
            of_reference, of_window = ready.estimated
            rolls = subject.reference is None
            before = ready.source.sample(start, SAMPLE, of_window if rolls else of_reference)
            own = self._contents.sample(start, SAMPLE, of_window)
            return None if before is None or own is None else (before, own)

        def concept(check: ConceptDrift) -> CheckVerdict:
            performances = ready.performances
            if performances is None:
                return told(check, "insufficient", ready.why_not or "", ready.roles.target or "*")
            base = ready.source.base(start, performances.plan)
            rows = self._contents.rows(start)
            return performances.judge(
                check, base, rows, sketches, predicted=content.predicted, due=labels_due
            )

        compared = Compared(
            None if isinstance(reference, str) else reference,
            reference if isinstance(reference, str) else "",
            self._contents.with_labels(start),
            sample,
            labels_due,
            concept,
            ready.source.calibrated(start),
            self._alibi,
        )
        return checked(subject.spec, ready.roles, subject.predictions.expect, compared)

    def _due(self, stored: Mapping[Start, Stored], order: RowOrder) -> Due:
        windows, files = self._prepared.windows, self._prepared.files
        listed = self._subject.predictions.files
        if isinstance(windows, RowWindows):
            order = numbered(files, listed, order)
            return due_rows(self._subject, windows, files, stored, self._now, order)
        files.index(listed)
        return due_events(self._subject, windows, files, stored, self._now)

    def _labels_due(self, content: Content, end: float | None, watermark: float | None) -> bool:
        performances = self._prepared.performances
        if performances is None:
            return True
        return performances.are_due(content.labelled, content.predicted, end, watermark)

    def _reference_of(self, start: Start) -> WindowSummary | None:
        found = self._prepared.source.summary(int(start))
        return None if isinstance(found, str) else found
