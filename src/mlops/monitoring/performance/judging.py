"""Is a metric worse than it was: by more than is allowed, and by more than chance and the reference's own variation?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr

from mlops.monitoring.checks.significance import adjusted
from mlops.monitoring.performance.measuring import Performance
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, MetricValue, Verdict

Q = 0.01
"""False discovery rate over the slices of a window. Not 0.05: where chance moves a metric by more than `maxDrop`, the
test alone keeps a window quiet, and 2 of 3 windows at 5 % would fire in one of seven quiet policies of 30 windows."""

FEWEST_CHUNKS = 5  # below it, how much chunks differ says next to nothing


@dataclass(frozen=True, slots=True)
class Baseline:
    """A metric over the whole reference, and over each of its own chunks of about a window's size."""

    whole: Performance
    chunks: tuple[Performance, ...] = ()

    @property
    def between(self) -> float:
        """The variance between chunks beyond what their rows' chance explains (DerSimonian and Laird 1986)."""
        told = [
            (chunk.value, chunk.standard_error or 0.0) for chunk in self.chunks if chunk.value is not None
        ]
        if len(told) < FEWEST_CHUNKS:
            return 0.0
        values, errors = np.array(told).T
        return max(0.0, float(values.var(ddof=1) - (errors**2).mean()))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of what is known of the variation; infinite where it is theory's."""
        told = sum(chunk.value is not None for chunk in self.chunks)
        return told - 1 if told >= FEWEST_CHUNKS else math.inf


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged as one: all rows (`slice` None) or those of a slice, against the reference's of the same."""

    slice: str | None
    current: Performance
    baseline: Baseline


def p_value(current: Performance, baseline: Baseline) -> float | None:
    """One-sided: how likely chance alone makes the metric this much worse. None where a value is missing.

    t of the difference over sqrt(e_w**2 + e_r**2 + b (1 + 1/k)): e_w is the window's standard error, at least what
    the reference's rows say of so many rows (a window of equal losses is not certain); e_r the reference's; b
    the variance between its k chunks.
    """
    whole = baseline.whole
    if current.value is None or whole.value is None or not current.rows or not whole.rows:
        return None
    of_reference = whole.standard_error or 0.0
    of_window = max(current.standard_error or 0.0, of_reference * math.sqrt(whole.rows / current.rows))
    spread = of_window**2 + of_reference**2 + baseline.between * (1 + 1 / max(1, len(baseline.chunks)))
    worse = current.value - whole.value
    if current.metric.higher_is_better:
        worse = -worse
    if not spread:
        return 0.0 if worse > 0 else 1.0
    return float(stdtr(baseline.freedom, -worse / math.sqrt(spread)))


def judged(
    name: str,
    column: str,
    detector: str,
    subjects: Sequence[Subject],
    *,
    max_drop: float,
    min_rows: int,
    q: float = Q,
) -> CheckVerdict:
    """The verdict of a check over all rows and slices: violated where any of them is.

    Each is violated where its worsening comes to `max_drop` (0.03 is 3 %) *and* its p-value, corrected over all of
    them by Benjamini and Hochberg (1995), to `q`. The value of the check is the greatest worsening of those that are
    violated, else that of all rows. Less than `min_rows` rows are `insufficient`.
    """
    columns = [_measured(column, detector, subject, max_drop, min_rows) for subject in subjects]
    corrected = adjusted([found.p_value for found in columns])
    columns = [_decided(*each, max_drop, q) for each in zip(columns, subjects, corrected, strict=True)]
    violated = [found for found in columns if found.verdict == "violated"]
    shown = max(violated, key=_severity) if violated else next(c for c in columns if c.slice is None)
    whole = next(each for each in subjects if each.slice is None)
    metric = MetricValue(whole.current.metric.name, whole.current.value, whole.baseline.whole.value)
    return CheckVerdict(
        name, "conceptDrift", shown.verdict, shown.value, max_drop, tuple(columns), metric=metric
    )


def _measured(column: str, detector: str, subject: Subject, max_drop: float, min_rows: int) -> ColumnVerdict:
    current, whole = subject.current, subject.baseline.whole
    worsening = chance = None
    if current.value is None:
        note = current.note or "not defined"
    elif whole.value is None:
        note = f"reference: {whole.note or 'not defined'}"
    else:
        worsening = current.metric.worsening(whole.value, current.value)
        note = _told(current, subject.baseline)
        if current.rows < min_rows:
            note = f"{current.rows} rows, {min_rows} are needed; {note}"
        else:
            chance = p_value(current, subject.baseline)
    return ColumnVerdict(
        column, subject.slice, detector, worsening, max_drop, chance, None, "insufficient", note
    )


def _decided(
    found: ColumnVerdict, subject: Subject, corrected: float | None, max_drop: float, q: float
) -> ColumnVerdict:
    value, whole = subject.current.value, subject.baseline.whole.value
    if corrected is None or value is None or whole is None:
        return found
    worsening = subject.current.metric.worsening(whole, value)
    verdict: Verdict = "violated" if worsening >= max_drop and corrected <= q else "quiet"
    return replace(found, p_adjusted=corrected, verdict=verdict)


def _told(current: Performance, baseline: Baseline) -> str:
    whole = baseline.whole
    margin = math.hypot(current.standard_error or 0.0, math.sqrt(baseline.between))
    notes = [f"{current.metric.name} {current.value:.4g} ± {margin:.2g}, reference {whole.value:.4g}"]
    if baseline.freedom == math.inf:
        notes.append("the reference has too few chunks to show its own variation")
    p_better = p_value(current, baseline)
    if p_better is not None and p_better >= 1 - Q:
        notes.append("better than the reference")
    return "; ".join(filter(None, [*notes, current.note]))


def _severity(found: ColumnVerdict) -> float:
    return math.inf if found.value is None else found.value  # an infinite worsening is None in a verdict
