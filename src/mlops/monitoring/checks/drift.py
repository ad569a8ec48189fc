"""Data drift and target drift: a shift of columns, each by its effect and its significance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from mlops.monitoring.alibi.catalogue import AlibiDetector
from mlops.monitoring.checks.judging import Calibrations as Calibrations
from mlops.monitoring.checks.judging import DriftSettings as DriftSettings
from mlops.monitoring.checks.judging import Judged, chosen_for, judged, multivariate, told_by_alibi, unjudged
from mlops.monitoring.checks.pairs import against_the_rest, pairs, small_slices
from mlops.monitoring.checks.row_measures import ALL_COLUMNS, Measure
from mlops.monitoring.checks.significance import adjusted
from mlops.monitoring.detectors import BinDetector, detector
from mlops.monitoring.detectors.calibration import Calibration, calibrated
from mlops.monitoring.samples import RowSample
from mlops.monitoring.summaries.plans import NumericPlan
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Verdict


def data_drift(
    settings: DriftSettings,
    reference: WindowSummary,
    window: WindowSummary,
    columns: Sequence[str] | None = None,
    *,
    calibrations: Calibrations | None = None,
    rows: RowSample | None = None,
    alibi: Measure | None = None,
) -> CheckVerdict:
    """Whether the features' distributions moved: per column, in all rows and in each slice.

    A column drifted when its effect is at or over the threshold *and* its p-value, corrected over columns and slices,
    is at or below q. One that cannot be judged is marked with a note. The check's value is the share of drifted columns
    (the largest of all rows and the slices), or without `share` the largest effect over its threshold among significant
    ones, of which 1 is the threshold: both fall towards 0 as drift goes away.

    Args:
        columns: the features (default: all of the reference).
        calibrations: from `calibrate`, for `thresholds: calibrated`.
        rows: for detectors that need rows: `settings.multivariate`, and those of alibi-detect.
        alibi: `Worker.measure`, for those of alibi-detect.
    """
    return _drift("dataDrift", settings, reference, window, columns, calibrations, rows, alibi)


def target_drift(
    settings: DriftSettings,
    reference: WindowSummary,
    window: WindowSummary,
    columns: Sequence[str],
    *,
    calibrations: Calibrations | None = None,
    rows: RowSample | None = None,
    alibi: Measure | None = None,
) -> CheckVerdict:
    """Whether labels or predictions moved: `data_drift` of those `columns`, such as target, prediction and score."""
    return _drift("targetDrift", settings, reference, window, columns, calibrations, rows, alibi)


def calibrate(
    settings: DriftSettings, windows: Sequence[WindowSummary], columns: Sequence[str] | None = None
) -> Calibrations:
    """For `thresholds: calibrated`: what is measured between the reference's own windows.

    Args:
        windows: the reference cut in windows of the watched size, all of one plan.
    """
    found: dict[tuple[str, str | None], Calibration | None] = {}
    parts = [None, *sorted({part for window in windows for part in window.slices}, key=lambda one: one.label)]
    plan = windows[0].plan.columns if windows else {}
    for part in parts:
        for name in plan if columns is None else columns:
            numeric = isinstance(plan.get(name), NumericPlan)
            chosen = detector(settings.numeric if numeric else settings.categorical)
            if isinstance(chosen, BinDetector):
                compared = [
                    pair.binned() for pair in against_the_rest(windows, part, name) if not pair.why_not()
                ]
                found[name, part.label if part else None] = calibrated(chosen, compared)
    return found


def _drift(
    kind: Literal["dataDrift", "targetDrift"],
    settings: DriftSettings,
    reference: WindowSummary,
    window: WindowSummary,
    columns: Sequence[str] | None,
    calibrations: Calibrations | None,
    rows: RowSample | None,
    alibi: Measure | None,
) -> CheckVerdict:
    if rows is not None and columns is not None:
        rows = rows.only(columns)
    if window.rows < max(1, settings.min_rows):
        verdict: Verdict = "noData" if not window.rows else "insufficient"
        return CheckVerdict(settings.name, kind, verdict, None, _check_threshold(settings), ())
    compared = [
        pair
        for pair in pairs(reference, window, columns, settings.min_rows)
        if pair.slice is None or not isinstance(chosen_for(settings, pair), AlibiDetector)  # of all rows only
    ]
    told = told_by_alibi(settings, compared, rows, alibi)
    measures = [judged(settings, pair, calibrations, told) for pair in compared]
    wanted = reference.plan.columns if columns is None else columns
    for name in wanted:
        if name not in window.columns or name not in reference.columns:
            measures.append(
                Judged(
                    unjudged(name, None, "", "gone" if name in reference.columns else "not in the reference")
                )
            )
    if settings.multivariate is not None:
        measures.append(Judged(multivariate(settings, settings.multivariate, rows, told)))
    small = [
        unjudged(ALL_COLUMNS, part, "", f"{count} rows, fewer than {settings.min_rows}")
        for part, count in small_slices(reference, window, settings.min_rows)
    ]
    verdicts = [*_corrected(settings, measures), *small]
    return _checked(kind, settings, verdicts)


def _corrected(settings: DriftSettings, found: Sequence[Judged]) -> list[ColumnVerdict]:
    """Each with its adjusted p-value and its verdict."""
    measures = sum(one.verdict.p_value is not None for one in found)
    corrected = adjusted([one.verdict.p_value for one in found])
    result = []
    for one, p_adjusted in zip(found, corrected, strict=True):
        verdict = one.verdict
        if p_adjusted is not None and verdict.value is not None and verdict.threshold is not None:
            threshold = verdict.threshold if one.calibration is None else one.calibration.threshold(measures)
            drifted = verdict.value >= threshold and p_adjusted <= settings.q
            verdict = replace(
                verdict,
                threshold=threshold,
                p_adjusted=p_adjusted,
                verdict="violated" if drifted else "quiet",
            )
            if not drifted and one.most is not None and one.most() < threshold:
                # A window that could not have drifted has not been quiet.
                verdict = replace(verdict, p_adjusted=None, verdict="insufficient", note=_powerless(verdict))
        result.append(verdict)
    return result


def _powerless(verdict: ColumnVerdict) -> str:
    why = "no power: with so few rows its calibrated threshold is out of reach; take larger windows"
    return why + ("" if verdict.detector in ("ks", "wasserstein") else ", or wasserstein or ks for numbers")


def _checked(kind: str, settings: DriftSettings, verdicts: Sequence[ColumnVerdict]) -> CheckVerdict:
    threshold = _check_threshold(settings)
    measured = [one for one in verdicts if one.p_adjusted is not None]
    if not measured:
        verdict: Verdict = "error" if any(one.verdict == "error" for one in verdicts) else "insufficient"
        return CheckVerdict(settings.name, kind, verdict, None, threshold, tuple(verdicts))
    if settings.share is None:
        value = max(_over(one, settings.q) for one in measured)
    else:
        parts: dict[str | None, list[bool]] = {}
        for one in measured:
            if one.column != ALL_COLUMNS:
                parts.setdefault(one.slice, []).append(one.verdict == "violated")
        value = max((sum(drifted) / len(drifted) for drifted in parts.values()), default=0.0)
        if any(one.column == ALL_COLUMNS and one.verdict == "violated" for one in measured):
            value = max(value, threshold)  # all columns at once speak for themselves
    if value >= threshold:
        verdict = "violated"
    else:
        verdict = "error" if any(one.verdict == "error" for one in verdicts) else "quiet"
    return CheckVerdict(settings.name, kind, verdict, value, threshold, tuple(verdicts))


def _check_threshold(settings: DriftSettings) -> float:
    return 1.0 if settings.share is None else settings.share


def _over(one: ColumnVerdict, q: float) -> float:
    """The effect in thresholds, where it is significant."""
    if one.value is None or not one.threshold or one.p_adjusted is None or one.p_adjusted > q:
        return 0.0
    return one.value / one.threshold
