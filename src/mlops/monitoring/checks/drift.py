"""Data drift and target drift: a shift of columns, each by its effect and its significance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mlops.errors import MlopsError
from mlops.monitoring.alibi.catalogue import OFFERED, AlibiDetector
from mlops.monitoring.checks.pairs import Pair, against_the_rest, pairs, small_slices
from mlops.monitoring.checks.row_measures import ALL_COLUMNS, Measure, Told, asked
from mlops.monitoring.checks.significance import adjusted
from mlops.monitoring.detectors import BinDetector, Binned, Detector, Measured, RowDetector, detector
from mlops.monitoring.detectors.calibration import Calibration, calibrated
from mlops.monitoring.samples import RowSample
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import NumericPlan
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Verdict

FEWEST_VALUES = 20  # of a column in a window, below which nothing is said of it

Calibrations = Mapping[tuple[str, str | None], Calibration | None]


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """How columns are compared.

    Args:
        name: of the check in its policy.
        numeric, categorical: the detector of such columns.
        multivariate: a detector of all columns at once, beside those; None for none.
        thresholds: effect from which on there is drift, by detector; the detector's own where not named.
        share: the share of judged columns that makes the check violated when so many drifted. By default (None) one
            column is enough: corrected over columns, one is no accident, and one broken feature can break a model.
        min_rows: fewest rows of a window, or of a slice, that are judged.
        q: how many of the columns called drifted may be false, as a share (Benjamini-Hochberg).
    """

    name: str
    numeric: str = "psi"
    categorical: str = "jensenShannon"
    multivariate: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    share: float | None = None
    min_rows: int = field(kw_only=True)
    q: float = 0.05


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


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """One measure before the correction over all of them."""

    verdict: ColumnVerdict
    calibration: Calibration | None = None


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
        if pair.slice is None or not isinstance(_chosen(settings, pair), AlibiDetector)  # of all rows only
    ]
    told = _told(settings, compared, rows, alibi)
    judged = [_judged(settings, pair, calibrations, told) for pair in compared]
    wanted = reference.plan.columns if columns is None else columns
    for name in wanted:
        if name not in window.columns or name not in reference.columns:
            judged.append(
                _Judged(
                    _unjudged(name, None, "", "gone" if name in reference.columns else "not in the reference")
                )
            )
    if settings.multivariate is not None:
        judged.append(_Judged(_multivariate(settings, settings.multivariate, rows, told)))
    small = [
        _unjudged(ALL_COLUMNS, part, "", f"{count} rows, fewer than {settings.min_rows}")
        for part, count in small_slices(reference, window, settings.min_rows)
    ]
    verdicts = [*_corrected(settings, judged), *small]
    return _checked(kind, settings, verdicts)


def _chosen(settings: DriftSettings, pair: Pair) -> Detector | MlopsError:
    """The column's detector, or why there is none."""
    try:
        return detector(settings.numeric if _is_numeric(pair) else settings.categorical)
    except MlopsError as error:  # an unknown detector: the rest is judged all the same
        return error


def _told(
    settings: DriftSettings, compared: Sequence[Pair], rows: RowSample | None, alibi: Measure | None
) -> dict[str, Told]:
    """What alibi-detect says of columns, and of all of them."""
    wanted: dict[str, AlibiDetector] = {}
    for pair in compared:
        chosen = _chosen(settings, pair)
        if isinstance(chosen, AlibiDetector) and _why_not(pair) is None:
            wanted[pair.column] = chosen
    if settings.multivariate is not None and settings.multivariate in OFFERED:
        wanted[ALL_COLUMNS] = OFFERED[settings.multivariate]
    return asked(wanted, rows, alibi, len(compared) + 1)


def _why_not(pair: Pair) -> str | None:
    why_not = pair.why_not()
    if why_not is None and pair.rows_with_values < FEWEST_VALUES:
        why_not = f"{pair.rows_with_values:.0f} values, fewer than {FEWEST_VALUES}"
    return why_not


def _judged(
    settings: DriftSettings, pair: Pair, calibrations: Calibrations | None, told: Mapping[str, Told]
) -> _Judged:
    name = settings.numeric if _is_numeric(pair) else settings.categorical

    def unjudged(note: str) -> _Judged:
        return _Judged(_unjudged(pair.column, pair.slice, name, note))

    why_not = _why_not(pair)
    if why_not is not None:
        return unjudged(why_not)
    chosen = _chosen(settings, pair)
    if isinstance(chosen, RowDetector):
        return unjudged("this detector compares all columns at once")
    calibration = None if calibrations is None else calibrations.get((pair.column, pair.slice))
    if calibrations is not None and calibration is None and not isinstance(chosen, MlopsError):
        few = isinstance(chosen, BinDetector)
        return unjudged(
            "too few windows of the reference to calibrate on"
            if few
            else "thresholds of it are not calibrated"
        )
    match chosen:
        case BinDetector():
            measured: Told = _measured(chosen, pair.binned())
        case AlibiDetector():
            measured = told[pair.column]
        case MlopsError():
            measured = chosen
    if isinstance(measured, MlopsError):
        return _Judged(replace(_unjudged(pair.column, pair.slice, name, _said(measured)), verdict="error"))
    if isinstance(measured, str):
        return unjudged(measured)
    if not math.isfinite(measured.effect) or measured.p_value is None:
        return unjudged(measured.note or "it could not be measured")
    if calibration is not None:
        measured = calibration.judged(measured)
    assert not isinstance(chosen, MlopsError)
    threshold = settings.thresholds.get(name, chosen.threshold)
    notes = [measured.note] if measured.note else []
    if pair.cells is not None and pair.cells.covered < 1:
        notes.append(f"{1 - pair.cells.covered:.1%} of the rows are of seasons that the reference lacks")
    verdict = ColumnVerdict(
        pair.column,
        pair.slice,
        name,
        measured.effect,
        threshold,
        measured.p_value,
        None,
        "quiet",
        "; ".join(notes) or None,
    )
    return _Judged(verdict, calibration)


def _is_numeric(pair: Pair) -> bool:
    return isinstance(pair.reference, NumericSummary)


def _said(error: MlopsError) -> str:
    return f"{error.what}. {error.fix}" if error.fix else error.what


def _measured(chosen: BinDetector, counts: Binned) -> Measured | MlopsError:
    try:
        return chosen.measure(counts)
    except Exception as error:  # a plug-in's own fault must stop only its columns
        return MlopsError(f"the detector {chosen.name} failed: {type(error).__name__}")


def _multivariate(
    settings: DriftSettings, name: str, rows: RowSample | None, told: Mapping[str, Told]
) -> ColumnVerdict:
    try:
        chosen = detector(name)
    except MlopsError as error:
        return replace(_unjudged(ALL_COLUMNS, None, name, error.what), verdict="error")
    if isinstance(chosen, AlibiDetector):
        measured = told[ALL_COLUMNS]
    elif rows is None:
        measured = "there are no rows to compare"
    elif isinstance(chosen, RowDetector):
        try:
            measured = chosen.measure(rows.reference, rows.window, rows.categorical, rows.seed)
        except Exception as error:  # a plug-in's own fault, or a library's, must stop only this measure
            measured = MlopsError(f"it failed: {type(error).__name__}")
    else:
        measured = "it compares one column"
    if isinstance(measured, MlopsError):
        return replace(_unjudged(ALL_COLUMNS, None, name, _said(measured)), verdict="error")
    if isinstance(measured, str):
        return _unjudged(ALL_COLUMNS, None, name, measured)
    if not math.isfinite(measured.effect) or measured.p_value is None:
        return _unjudged(ALL_COLUMNS, None, name, measured.note or "it could not be measured")
    threshold = settings.thresholds.get(name, chosen.threshold)
    return ColumnVerdict(
        ALL_COLUMNS, None, name, measured.effect, threshold, measured.p_value, None, "quiet", measured.note
    )


def _unjudged(column: str, part: str | None, name: str, note: str) -> ColumnVerdict:
    return ColumnVerdict(column, part, name, None, None, None, None, "insufficient", note)


def _corrected(settings: DriftSettings, judged: Sequence[_Judged]) -> list[ColumnVerdict]:
    """Each with its adjusted p-value and its verdict."""
    measures = sum(one.verdict.p_value is not None for one in judged)
    corrected = adjusted([one.verdict.p_value for one in judged])
    result = []
    for one, p_adjusted in zip(judged, corrected, strict=True):
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
        result.append(verdict)
    return result


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
