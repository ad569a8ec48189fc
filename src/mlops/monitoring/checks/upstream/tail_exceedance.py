"""A column that came in another unit, in a part of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from mlops.monitoring.checks.cumulative import Cumulative, distance, noise, of_pair, of_summary
from mlops.monitoring.checks.known_units import TOLERANCE, named, of_ratio
from mlops.monitoring.checks.pairs import Pair
from mlops.monitoring.checks.significance import more_than
from mlops.monitoring.checks.upstream.findings import Finding
from mlops.monitoring.checks.upstream.unit_ratio import FIT, POSITIVE, SPREAD
from mlops.monitoring.detectors.binned import Floats
from mlops.monitoring.summaries.numeric import NumericSummary

THRESHOLD = 0.01  # of the rows
OUTER = 0.001  # of the reference's rows, on each side
BULK = 0.1  # Kolmogorov-Smirnov distance of the rows within up to which they still look like the reference
APART = 0.005  # p-value of the test that the rows beyond are only a tail
_NEARER = 2 - math.sqrt(2)
_FEWEST_WITHIN = 50.0
_ABOVE_ZERO = (1e-300, math.inf)
_DECILES = np.arange(1, 10) / 10


@dataclass(frozen=True, slots=True)
class _Beyond:
    """Rows beyond one end of the reference."""

    share: float
    expected: float
    apart: bool
    ratio: tuple[float, str | None] | None


def tail_exceedance(pair: Pair, unit: str | None = None, threshold: float = THRESHOLD) -> Finding | None:
    """The share of rows beyond the reference's 0.1 % or 99.9 % quantile, while the rest still looks like it.

    A change from `threshold` on, at one end, when the rows within keep their distribution (Kolmogorov-Smirnov
    distance at most 0.1, or sampling noise where that is more) and those beyond stand apart: a tail that grew heavier
    thins out from the quantile on, rows in another unit are a heap of their own. The ratio of their unit is told where
    the rows beyond are the reference rescaled.

    Args:
        pair: of a numeric column; None is returned for others.
        unit: what the column is declared to be in.
        threshold: the share.
    """
    both = of_pair(pair)
    whole = of_summary(pair.reference) if isinstance(pair.reference, NumericSummary) else None
    if both is None or whole is None:
        return None
    mixed, window = both
    low, high = (float(end) for end in whole.quantile(np.array([OUTER, 1 - OUTER])))
    high = math.nextafter(high, math.inf)
    below, above = (
        _beyond(whole, window, end, threshold, upper=upper, unit=unit)
        for end, upper in ((low, False), (high, True))
    )
    most = max((below, above), key=lambda side: (side.apart, side.share))
    p_value = more_than(most.share, window.size, most.expected, whole.size)
    large = most.share >= threshold and most.apart
    changed = large and _still_itself(mixed, window, low, high)
    note = None
    if changed:
        note = f"{most.share:.1%} of the rows are {'above' if most is above else 'below'} the reference"
        if most.ratio is not None:
            ratio, name = most.ratio
            note += f", at ×{ratio:.6g}: {name or 'no known conversion'}"
    return Finding(pair.column, pair.slice, "tailExceedance", most.share, threshold, changed, p_value, note)


def _still_itself(reference: Cumulative, window: Cumulative, low: float, high: float) -> bool:
    if (
        low >= high
        or window.share(low, high) * window.size < _FEWEST_WITHIN
        or not reference.share(low, high)
    ):
        return False
    inner, own = reference.within(low, high), window.within(low, high)
    return distance(inner, own) <= max(BULK, noise(inner, own))


def _beyond(
    reference: Cumulative, window: Cumulative, end: float, threshold: float, *, upper: bool, unit: str | None
) -> _Beyond:
    """What lies beyond `end`, on a line on which a rescaling is a shift and the far side is to the right."""
    outer = (end, math.inf) if upper else (-math.inf, end)
    share, expected = window.share(*outer), reference.share(*outer)
    if share < threshold:
        return _Beyond(share, expected, False, None)
    positive = reference.share(*_ABOVE_ZERO) >= POSITIVE and (upper or end > 0)
    middle = 0.0 if positive else float(reference.quantile(np.array([0.5]))[0])
    points = window.points[window.points > end] if upper else window.points[window.points < end]
    counted = window.at(points) - reference.at(points) * (1 - share)
    counted = counted - counted[0] if upper else counted
    distances = _far(points, end, middle, upper=upper, logarithm=positive)
    if distances is None:
        return _Beyond(share, expected, False, None)
    if not upper:  # from the end of the reference outwards
        distances, counted = distances[::-1], (counted[-1] - counted)[::-1]
    counted = np.maximum.accumulate(np.clip(counted, 0.0, None))
    if counted[-1] <= 0:
        return _Beyond(share, expected, False, None)
    apart = _apart(distances, counted * window.size)
    ratio = _ratio(reference, window, end, upper, unit) if apart and positive else None
    return _Beyond(share, expected, apart, ratio)


def _apart(distances: Floats, rows: Floats) -> bool:
    """Whether rows, counted from the end outwards, are a heap of their own.

    Beyond a quantile a distribution thins out like a power of the distance or faster (Pareto's law), which on this
    line of logarithms is exponential: of the rows up to the median 2 - √2 lie in the nearer half of the way. A sign
    test says whether there are fewer.
    """
    median = float(np.interp(rows[-1] / 2, rows, distances))
    nearer = float(np.interp(median / 2, distances, rows))
    return bool(bdtr(math.floor(nearer), math.floor(rows[-1] / 2), _NEARER) <= APART)


def _far(points: Floats, end: float, middle: float, *, upper: bool, logarithm: bool) -> Floats | None:
    """How far out each point is, as the logarithm of its distance from zero or from the median; 0 at the end."""
    if logarithm:
        apart = np.log(np.maximum(points, 1e-300)) - math.log(end)
        return apart if upper else -apart
    if end == middle:
        return None
    with np.errstate(over="ignore"):  # infinitely far is far
        return np.log(np.abs(points - middle)) - math.log(abs(end - middle))


def _ratio(
    reference: Cumulative, window: Cumulative, end: float, upper: bool, unit: str | None
) -> tuple[float, str | None] | None:
    """The factor that turns rows of the reference into those beyond its end, where one does.

    Only rows that the factor carries beyond the end are seen there: those are compared, so it is found by iteration.
    """
    limits = (end, math.inf) if upper else (1e-300, end)
    if window.share(*limits) * window.size < 2:
        return None
    beyond = window.within(*limits).logarithm()
    shift = float(np.median(beyond.quantile(_DECILES) - reference.logarithm().quantile(_DECILES)))
    seen = reference
    for _ in range(20):
        bound = end / math.exp(shift)
        carried = (bound, math.inf) if upper else (1e-300, bound)
        if reference.share(*carried) <= 0.01:
            return None
        seen = reference.within(*carried)
        differences = beyond.quantile(_DECILES) - seen.logarithm().quantile(_DECILES)
        shift = float(np.median(differences))
    noisy = noise(seen, beyond)
    if (
        float(differences.std()) > SPREAD + noisy
        or distance(seen.logarithm().moved(1.0, shift), beyond) > FIT + noisy
    ):
        return None
    ratio = math.exp(shift)
    known = of_ratio(ratio, math.log1p(TOLERANCE) + noisy, unit)
    return ratio, named(known) if known else None
