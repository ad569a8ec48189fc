"""Concept drift: performance on labels against the reference's own variation; a change of P(Y given X).

What it cannot see is a change that leaves the metric where it was:
- `rocAuc` and `averagePrecision` look at order only. Where all chances double, they stay; `logLoss` and `brier` see it.
- `accuracy`, `f1` and the rest are means: what gets worse here may get better there. `slices` tell them apart.
- A change of X to where the model always was weaker lowers the metric as well: read it beside `dataDrift`.
- A reference that the model was trained on flatters it. Where that matters, name data of its own as the reference.
A metric that got better is noted and violates nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mlops.monitoring.performance.judging import Baseline, Q, Subject, judged
from mlops.monitoring.performance.measuring import measurable, measure
from mlops.monitoring.performance.metrics import Metric
from mlops.monitoring.performance.rows import Joined
from mlops.monitoring.performance.sums import Layout, Sums, merged, no_sums, summed
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Verdict

Sliced = Mapping[str | None, Sums]
Chunked = Mapping[str | None, Sequence[Sums]]


def concept_drift(
    name: str,
    column: str,
    metric: Metric,
    *,
    max_drop: float,
    min_rows: int,
    window: Sliced,
    reference: Chunked,
    predicted: int,
    due: bool,
    q: float = Q,
) -> CheckVerdict:
    """The verdict on a window's labelled rows.

    Args:
        name: of the check; `column`: of the target.
        max_drop: the relative worsening that counts, 0.03 for 3 %.
        min_rows: labelled rows that a judgement needs, of the whole window and of a slice alike.
        window: sums of labelled rows by slice, all of them under None.
        reference: for the same slices, sums of each of the reference's chunks of about a window's size.
        predicted: rows of the window, with labels or without.
        due: whether labels are as complete as they get (`labels_are_due`); until then it is `insufficient`.
        q: false discovery rate over slices.
    """
    labelled = window[None].rows
    if not predicted or not due:
        note = f"labels of {labelled} of {predicted} rows are here: more are waited for"
        return _unjudged(name, column, metric, max_drop, predicted, note)
    subjects = list(_subjects(metric, window, reference))
    return judged(name, column, metric.name, subjects, max_drop=max_drop, min_rows=min_rows, q=q)


def estimated_drift(
    name: str,
    column: str,
    metric: Metric,
    detector: str,
    *,
    max_drop: float,
    min_rows: int,
    window: Sliced,
    reference: Chunked,
    q: float = Q,
) -> CheckVerdict:
    """The same of estimated performance: sums as `cbpe` or `dle` (the `detector`) expect them, on both sides.

    It is marked as an estimate and is `violated`, `insufficient` or `noData`: what was not seen clears nothing.
    """
    if not window[None].rows:
        return replace(_unjudged(name, column, metric, max_drop, 0, "no rows"), estimate=True)
    subjects = list(_subjects(metric, window, reference))
    found = judged(name, column, detector, subjects, max_drop=max_drop, min_rows=min_rows, q=q)
    columns = tuple(_as_estimate(one) for one in found.columns)
    verdict = "insufficient" if found.verdict == "quiet" else found.verdict
    return replace(found, verdict=verdict, columns=columns, estimate=True)


def meanwhile(labels: CheckVerdict, estimate: CheckVerdict) -> CheckVerdict:
    """What is told of a window: what its labels say where they can be judged, else the estimate beside it."""
    if labels.verdict not in ("insufficient", "noData") or estimate.verdict == "noData":
        return labels
    return replace(estimate, columns=(*labels.columns, *estimate.columns))


def sums_of(layout: Layout, rows: Joined, slices: Sequence[Mapping[int, str]] = ()) -> dict[str | None, Sums]:
    """Sums of a window's labelled rows: all under None, and those of each slice.

    `slices` gives, for each slicing column, the names of its codes; other codes are in no slice.
    """
    scores = rows.rows.scores if layout.score_columns and rows.rows.scores.shape[1] else None
    predictions = rows.rows.predictions
    found: dict[str | None, Sums] = {None: summed(layout, rows.targets, predictions, scores)}
    for place, names in enumerate(slices):
        for code, called in sorted(names.items()):
            here = rows.rows.slices[:, place] == code
            found[called] = summed(
                layout,
                rows.targets[here],
                predictions[here],
                None if scores is None else scores[here],
            )
    return found


def chunks_of(rows: Joined, size: int) -> list[Joined]:
    """The rows in order of event time, in chunks of `size` or a little more; one where there are fewer."""
    ordered = rows.by_time()
    places = np.array_split(np.arange(len(rows.targets)), max(1, len(rows.targets) // max(1, size)))
    return [Joined(ordered.rows.take(part), ordered.targets[part]) for part in places]


def _subjects(metric: Metric, window: Sliced, reference: Chunked) -> Iterator[Subject]:
    for called, current in sorted(window.items(), key=lambda item: (item[0] is not None, item[0] or "")):
        chunks = list(reference.get(called, ()))
        whole = merged(chunks, current.layout) if chunks else no_sums(current.layout, current.unit)
        # A mean over classes is compared over those that both have.
        both = set(measurable(metric, current)) & set(measurable(metric, whole)) if metric.macro else set()
        among = sorted(both) if metric.macro and both else None
        yield Subject(
            called,
            measure(metric, current, among),
            Baseline(measure(metric, whole, among), tuple(measure(metric, chunk, among) for chunk in chunks)),
        )


def _unjudged(name: str, column: str, metric: Metric, max_drop: float, rows: int, note: str) -> CheckVerdict:
    verdict: Verdict = "insufficient" if rows else "noData"
    told = ColumnVerdict(column, None, metric.name, None, max_drop, None, None, verdict, note)
    return CheckVerdict(name, "conceptDrift", verdict, None, max_drop, (told,))


def _as_estimate(found: ColumnVerdict) -> ColumnVerdict:
    note = "; ".join(filter(None, ["estimated, no labels yet", found.note]))
    return replace(found, verdict="insufficient" if found.verdict == "quiet" else found.verdict, note=note)
