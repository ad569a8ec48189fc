"""Rows that depend on each other: thresholds from the reference's own windows do not alarm where fixed ones do."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from mlops.monitoring.detectors import BinDetector, Binned, detector
from mlops.monitoring.detectors.calibration import FEWEST_WINDOWS, against_the_rest, calibrated

ROWS = 500
PSI, KS = detector("psi"), detector("ks")
assert isinstance(PSI, BinDetector)
assert isinstance(KS, BinDetector)


def _windows(draw: np.random.Generator, windows: int, memory: float) -> np.ndarray:
    """Counts in 128 bins of the standard normal, of an AR(1) series cut in windows."""
    noise = draw.normal(size=windows * ROWS + 200)
    series = lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise)[200:].reshape(windows, ROWS)
    edges = np.quantile(np.random.default_rng(0).normal(size=200_000), np.linspace(0, 1, 129)[1:-1])
    places = np.searchsorted(edges, series)
    return np.stack([np.bincount(row, minlength=128) for row in places]).astype(np.float64)


def test_with_memory_fixed_thresholds_alarm_and_calibrated_ones_hardly_do() -> None:
    draw = np.random.default_rng(1)
    bounds = np.arange(129.0)
    fixed = alarms = judged = 0
    for _ in range(25):
        counts = _windows(draw, 60, memory=0.9)
        known, new = counts[:30], counts[30:]
        calibration = calibrated(PSI, against_the_rest(known, bounds))
        assert calibration is not None
        for window in new:
            measured = PSI.measure(Binned.of(known.sum(axis=0), window, bounds=bounds))
            assert measured.p_value is not None
            own = calibration.judged(measured)
            assert own.p_value is not None
            fixed += measured.effect >= 0.2 and measured.p_value <= 0.001
            alarms += measured.effect >= calibration.threshold(50) and own.p_value <= 0.001
            judged += 1
    assert fixed / judged > 0.03  # of one column; of fifty nearly every window
    assert alarms / judged <= 0.001  # over 50 columns one window in twenty, were they all at this


def test_a_shift_beyond_what_the_reference_did_is_found() -> None:
    draw = np.random.default_rng(2)
    counts = _windows(draw, 30, memory=0.9)
    calibration = calibrated(KS, against_the_rest(counts, np.arange(129.0)))
    assert calibration is not None
    moved = np.zeros(128)
    moved[96:] = 500 / 32  # all rows in the upper quarter
    measured = calibration.judged(KS.measure(Binned.of(counts.sum(axis=0), moved, bounds=np.arange(129.0))))
    assert measured.effect >= calibration.threshold(50)
    assert measured.p_value is not None
    assert measured.p_value < 1e-4


def test_too_few_windows_are_no_calibration() -> None:
    counts = _windows(np.random.default_rng(3), FEWEST_WINDOWS - 1, memory=0.0)
    assert calibrated(PSI, against_the_rest(counts, np.arange(129.0))) is None


def test_a_constant_column_calibrates_to_nothing_at_all() -> None:
    calibration = calibrated(PSI, against_the_rest(np.tile([0.0, 100.0, 0.0], (10, 1)), np.arange(4.0)))
    assert calibration is not None
    assert calibration.p_value(0.0) == 1.0
    assert calibration.p_value(0.3) == 0.0
