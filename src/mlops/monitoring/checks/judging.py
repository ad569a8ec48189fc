"""One column of a check, or all of them, measured by its detector: before the correction over all measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mlops.errors import MlopsError
from mlops.monitoring.alibi.catalogue import OFFERED, AlibiDetector
from mlops.monitoring.checks.pairs import Pair
from mlops.monitoring.checks.row_measures import ALL_COLUMNS, Measure, Told, asked
from mlops.monitoring.detectors import BinDetector, Binned, Detector, Measured, RowDetector, detector
from mlops.monitoring.detectors.calibration import Calibration, most_of
from mlops.monitoring.samples import RowSample
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.verdicts import ColumnVerdict

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


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One measure before the correction over all of them."""

    verdict: ColumnVerdict
    calibration: Calibration | None = None
    most: Callable[[], float] | None = None  # the effect that no window of so many rows exceeds


def chosen_for(settings: DriftSettings, pair: Pair) -> Detector | MlopsError:
    """The column's detector, or why there is none."""
    try:
        return detector(settings.numeric if _is_numeric(pair) else settings.categorical)
    except MlopsError as error:  # an unknown detector: the rest is judged all the same
        return error


def told_by_alibi(
    settings: DriftSettings, compared: Sequence[Pair], rows: RowSample | None, alibi: Measure | None
) -> dict[str, Told]:
    """What alibi-detect says of columns, and of all of them."""
    wanted: dict[str, AlibiDetector] = {}
    for pair in compared:
        chosen = chosen_for(settings, pair)
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


def judged(
    settings: DriftSettings, pair: Pair, calibrations: Calibrations | None, told: Mapping[str, Told]
) -> Judged:
    """One column by its counts, or by what alibi-detect said of it."""
    name = settings.numeric if _is_numeric(pair) else settings.categorical

    def not_judged(note: str) -> Judged:
        return Judged(unjudged(pair.column, pair.slice, name, note))

    why_not = _why_not(pair)
    if why_not is not None:
        return not_judged(why_not)
    chosen = chosen_for(settings, pair)
    if isinstance(chosen, RowDetector):
        return not_judged("this detector compares all columns at once")
    calibration = None if calibrations is None else calibrations.get((pair.column, pair.slice))
    if calibrations is not None and calibration is None and not isinstance(chosen, MlopsError):
        few = isinstance(chosen, BinDetector)
        return not_judged(
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
        return Judged(replace(unjudged(pair.column, pair.slice, name, _said(measured)), verdict="error"))
    if isinstance(measured, str):
        return not_judged(measured)
    if not math.isfinite(measured.effect) or measured.p_value is None:
        return not_judged(measured.note or "it could not be measured")
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
    most = None
    if calibration is not None and isinstance(chosen, BinDetector):
        most = partial(most_of, chosen, pair.binned())
    return Judged(verdict, calibration, most)


def _is_numeric(pair: Pair) -> bool:
    return isinstance(pair.reference, NumericSummary)


def _said(error: MlopsError) -> str:
    return f"{error.what}. {error.fix}" if error.fix else error.what


def _measured(chosen: BinDetector, counts: Binned) -> Measured | MlopsError:
    try:
        return chosen.measure(counts)
    except Exception as error:  # a plug-in's own fault must stop only its columns
        return MlopsError(f"the detector {chosen.name} failed: {type(error).__name__}")


def multivariate(
    settings: DriftSettings, name: str, rows: RowSample | None, told: Mapping[str, Told]
) -> ColumnVerdict:
    """All columns at once."""
    try:
        chosen = detector(name)
    except MlopsError as error:
        return replace(unjudged(ALL_COLUMNS, None, name, error.what), verdict="error")
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
        return replace(unjudged(ALL_COLUMNS, None, name, _said(measured)), verdict="error")
    if isinstance(measured, str):
        return unjudged(ALL_COLUMNS, None, name, measured)
    if not math.isfinite(measured.effect) or measured.p_value is None:
        return unjudged(ALL_COLUMNS, None, name, measured.note or "it could not be measured")
    threshold = settings.thresholds.get(name, chosen.threshold)
    return ColumnVerdict(
        ALL_COLUMNS, None, name, measured.effect, threshold, measured.p_value, None, "quiet", measured.note
    )


def unjudged(column: str, part: str | None, name: str, note: str) -> ColumnVerdict:
    """Said of what could not be measured."""
    return ColumnVerdict(column, part, name, None, None, None, None, "insufficient", note)
