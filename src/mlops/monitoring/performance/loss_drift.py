"""A change within a window, row by row: detectors that watch the loss in the order of event time.

What a window's mean hides, a detector that runs along its rows sees where it happens. Both are river's, wanted only
here and installed with the extra `river`: ADWIN (Bifet and Gavaldà 2007) and Page's test (Page 1954). They are run
along the reference first, so that they know what the loss was. As for every measure, what they find counts when the
loss also rose by `max_drop`. Neither gives a p-value. Rows that resemble their neighbours in time are taken for
changes; leave `loss` out where they do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlops.errors import Stalled
from mlops.monitoring.performance.rows import Joined
from mlops.monitoring.performance.sums import Layout
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Verdict, overall

LossDetector = Literal["adwin", "pageHinkley"]

MOST_STEPS = 10_000  # of a window and of the reference: longer ones go by means of neighbouring rows
FEWEST_ROWS = 300  # of the reference
FEWEST_STEPS = 30  # of the reference, when rows are taken together
_FARTHEST = 5.0  # standard deviations: a single loss counts no more than that
_ALLOWANCE, _ALARM = (
    0.1,
    60.0,
)  # of Page's test, in standard deviations: chance alone alarms once in 8 million rows


def losses(layout: Layout, rows: Joined) -> NDArray[np.float64]:
    """The loss of each labelled row in the order of event time.

    (1 - p)**2 of the chance p given to the class that it was; without scores, 1 for a mistake; of values, |error|.
    Rows without a usable prediction are left out.
    """
    ordered = rows.by_time()
    targets, found = ordered.targets, ordered.rows.predictions
    scores = ordered.rows.scores
    with np.errstate(invalid="ignore"):
        if layout.task == "regression":
            told = np.abs(targets - found)
        elif scores.shape[1] != layout.score_columns:
            told = np.where(np.isfinite(found), (targets != found).astype(np.float64), np.nan)
        else:
            chances = np.column_stack([1 - scores[:, 0], scores[:, 0]]) if layout.task == "binary" else scores
            known = (targets >= 0) & (targets < len(layout.classes))
            codes = np.where(known, targets, 0).astype(np.int64)
            told = np.where(known, (1 - chances[np.arange(len(codes)), codes]) ** 2, np.nan)
    return told[np.isfinite(told) & np.isfinite(targets)]


def loss_drift(
    name: str,
    column: str,
    detector: LossDetector,
    *,
    max_drop: float,
    min_rows: int,
    window: NDArray[np.float64],
    reference: NDArray[np.float64],
) -> CheckVerdict:
    """Whether `detector` finds that the loss rose within the window or at its start, and by `max_drop` or more.

    `window` and `reference` are what `losses` gave. The value is the relative rise of the mean loss from where the
    change is put to the end of the window; 0 where nothing was found. Raises `Stalled` where the extra `river` is not
    installed.
    """
    note = _why_not(window, reference, min_rows)
    if note:
        return _unjudged(name, column, detector, max_drop, note)
    size = -(-len(window) // MOST_STEPS)
    before, steps = _steps(reference[-MOST_STEPS * size :], size), _steps(window, size)
    if len(before) < FEWEST_STEPS:
        return _unjudged(name, column, detector, max_drop, "the reference is too small beside the window")
    mean = float(reference.mean())
    # Of losses that are all equal, any other is far.
    spread = max(float(before.std(ddof=1)), 1e-9 * mean, 1e-300)
    with np.errstate(over="ignore"):
        seen, run = (np.clip((part - mean) / spread, -_FARTHEST, _FARTHEST) for part in (before, steps))
    found = _first_rise(detector, seen, run)
    value, note = 0.0, "no rise of the loss within the window"
    if found is not None:
        start = size * _change(run[: found + 1])
        after = float(window[start:].mean())
        value = (after - mean) / mean if mean else float("inf")
        note = f"loss {after:.4g} from labelled row {start} of {len(window)} on, before {mean:.4g}"
    verdict: Verdict = "violated" if value >= max_drop else "quiet"
    told = ColumnVerdict(column, None, detector, value, max_drop, None, None, verdict, note)
    return CheckVerdict(name, "conceptDrift", verdict, value, max_drop, (told,))


def beside(performance: CheckVerdict, loss: CheckVerdict) -> CheckVerdict:
    """One check of both: violated where either is. What could not be judged keeps the other from being quiet alone."""
    worst = overall([performance.verdict, loss.verdict])
    shown = performance if performance.verdict == worst or worst != "violated" else loss
    columns = (*performance.columns, *loss.columns)
    estimate = performance.estimate and shown is performance
    return replace(performance, verdict=worst, value=shown.value, columns=columns, estimate=estimate)


def _first_rise(
    detector: LossDetector, before: NDArray[np.float64], steps: NDArray[np.float64]
) -> int | None:
    """The step at which the detector, having seen `before`, alarms with a loss above the reference's."""
    watching = _river(detector)
    for value in before.tolist():
        watching.update(value)
        if watching.drift_detected:  # the reference's own changes are not the window's
            watching = _river(detector)
    for step, value in enumerate(steps.tolist()):
        watching.update(value)
        if watching.drift_detected and _rose(detector, watching):
            return step
    return None


def _change(run: NDArray[np.float64]) -> int:
    """The likeliest step for the mean to have risen from 0 at, to the end (Siegmund and Venkatraman 1995)."""
    rest = np.cumsum(run[::-1])[::-1]
    return int(np.argmax(rest / np.sqrt(np.arange(len(run), 0, -1))))


def _rose(detector: LossDetector, watching: Any) -> bool:
    return detector == "pageHinkley" or watching.estimation > 0


def _river(detector: LossDetector) -> Any:
    try:
        from river import drift
    except ImportError as error:
        raise Stalled(
            f"{detector} needs river, which is not installed",
            fix="Install the extra: pip install 'mlops-controller[river]'",
        ) from error
    if detector == "adwin":
        return drift.ADWIN()
    return drift.PageHinkley(min_instances=30, delta=_ALLOWANCE, threshold=_ALARM, alpha=1.0, mode="up")


def _steps(losses: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    whole = len(losses) // size * size
    means: NDArray[np.float64] = losses[:whole].reshape(-1, size).mean(axis=1)
    return means


def _unjudged(name: str, column: str, detector: str, max_drop: float, note: str) -> CheckVerdict:
    told = ColumnVerdict(column, None, detector, None, max_drop, None, None, "insufficient", note)
    return CheckVerdict(name, "conceptDrift", "insufficient", None, max_drop, (told,))


def _why_not(window: NDArray[np.float64], reference: NDArray[np.float64], min_rows: int) -> str | None:
    if not len(window):
        return "no labelled rows"
    if len(window) < min_rows:
        return f"{len(window)} labelled rows, {min_rows} are needed"
    if len(reference) < FEWEST_ROWS:
        return f"the reference has {len(reference)} labelled rows, {FEWEST_ROWS} are needed"
    return None
