"""A column that came in another unit, in all of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mlops.monitoring.checks.cumulative import SLACK, SMIRNOV, Cumulative, distance, noise, of_pair
from mlops.monitoring.checks.known_units import TOLERANCE, Conversion, affine, named, of_ratio
from mlops.monitoring.checks.pairs import Pair
from mlops.monitoring.checks.upstream.findings import Finding
from mlops.monitoring.detectors.binned import Floats
from mlops.monitoring.detectors.ks import ks_p_value
from mlops.monitoring.summaries.numeric import NumericSummary

SPREAD = 0.1  # of the log-ratios of the deciles, as a standard deviation
FIT = 0.03  # Kolmogorov-Smirnov distance after rescaling, beside sampling noise
ERROR = 0.03  # most that sampling may add to the 5 % around a known factor that is not far from 1
FAR = 5.0  # a ratio beyond 1/5 or 5 is a change of unit whether or not it is known
MOVED = 0.5  # Kolmogorov-Smirnov distance that an offset has to make: 32 °F are nothing to a price
VAGUE = 0.1  # two standard errors of such a ratio's logarithm beyond which no factor is looked for
HOTTEST = 3_000.0  # a column with a larger median in size is no temperature, unless it is declared as one
RESOLVED = 0.02  # deviation over mean below which the scale's buckets, 0.8 % of a value, are too coarse
POSITIVE = 0.99  # share of rows above zero from which on logarithms are taken

_DECILES = np.arange(1, 10) / 10
_APART = 0.05  # of shares, for the slope of a quantile function


@dataclass(frozen=True, slots=True)
class Rescaled:
    """A conversion that turns the reference into the window: how well, and what it is called (None: nobody knows)."""

    ratio: float
    name: str | None
    fit: float
    spread: float | None = None


def unit_ratio(pair: Pair, unit: str | None = None, worth: float | None = None) -> Finding | None:
    """Whether the window is the reference in another unit; the value is the ratio of their scales.

    Differences of the log-quantiles at the nine deciles: their median is the ratio, their standard deviation the
    spread. It is a change of unit when the spread is at most 0.1, the Kolmogorov-Smirnov distance after rescaling at
    most 0.03 + 1.36·√(1/n+1/m), and the ratio is within 5 % of a known factor or beyond [1/5, 5]. Spread and ratio are
    allowed what sampling adds to them. Rescaling must also explain something: before it the window differs from the
    reference by more than it may afterwards, and by twice of what is left; a ratio within [1/5, 5] must also leave
    half of what a plain shift leaves, which a true change of a narrow column is as well. Known conversions with an
    offset (°C, °F, K) are tried the same way where values may be temperatures; one that is all offset has to stand out
    of the window's own error. Columns with more than 1 % of zeros or negative values have no logarithm: known factors
    are taken from the quartiles' distances.

    Args:
        pair: of a numeric column; None is returned for others.
        unit: what the column is declared to be in.
        worth: how many independent rows the window is worth, where its rows depend on each other.
    """
    both = of_pair(pair)
    if both is None:
        return None
    reference, window = both
    if worth is not None:
        window = replace(window, size=min(window.size, worth))
    allowed = FIT + noise(reference, window)
    raw = distance(reference, window)
    p_value = ks_p_value(raw, reference.size, window.size)
    if raw <= allowed:
        return Finding(pair.column, pair.slice, "unitRatio", 1.0, None, False, p_value)
    exact = _with_offset(reference, window, unit)
    candidates = _by_moments(pair, unit)
    ratio: float | None = None
    if min(reference.share(*_ABOVE_ZERO), window.share(*_ABOVE_ZERO)) >= POSITIVE:
        logarithms = reference.logarithm(), window.logarithm()
        found = rescaled(*logarithms, unit)
        ratio = math.exp(float(np.median(_differences(*logarithms))))
        candidates += [found] if found is not None else []
    elif reference.spread > 0 and window.spread > 0:
        ratio = window.spread / reference.spread
        candidates += _by_quartiles(reference, window, ratio, unit)
    explained = [
        min(fitting, key=lambda one: one.fit)
        for some in (
            exact,
            candidates,
        )  # a conversion that leaves nothing to fit, before a ratio that was fitted
        if (fitting := [one for one in some if one.fit <= raw / 2 or one.fit == math.inf])
    ]
    best = explained[0] if explained else None
    if best is None or (best not in exact and best.fit < math.inf and _is_a_shift(reference, window, best)):
        return Finding(pair.column, pair.slice, "unitRatio", ratio, None, False, p_value)
    spread = "" if best.spread is None else f"spread {best.spread:.3f}, "
    fit = f"{spread}KS after rescaling {best.fit:.3f}" if best.fit < math.inf else "by mean and deviation"
    note = f"×{best.ratio:.6g}: {best.name or 'no known conversion'} ({fit})"
    return Finding(pair.column, pair.slice, "unitRatio", best.ratio, None, True, p_value, note)


_ABOVE_ZERO = (1e-300, math.inf)


def _is_a_shift(reference: Cumulative, window: Cumulative, found: Rescaled) -> bool:
    """Whether a ratio that is not far from 1 explains the window hardly better than an offset would."""
    if not 1 / FAR <= found.ratio <= FAR:
        return False
    offset = float(np.median(_differences(reference, window)))
    return distance(reference.moved(1.0, offset), window) < 2 * found.fit


def rescaled(reference: Cumulative, window: Cumulative, unit: str | None = None) -> Rescaled | None:
    """The factor between two samples, given as their logarithms; None when it is no change of unit."""
    differences = _differences(reference, window)
    middle = float(np.median(differences))
    with np.errstate(invalid="ignore"):  # of values as far apart as doubles can be
        spread = float(differences.std())
    errors = _standard_errors(reference, window)
    if math.isnan(spread) or spread > math.hypot(SPREAD, float(np.sqrt(np.mean(errors**2)))):
        return None
    fit = distance(reference.moved(1.0, middle), window, SLACK * reference.spread)
    if fit > FIT + noise(reference, window):
        return None
    ratio = math.exp(middle)
    known = _known(ratio, 2 * float(errors[len(errors) // 2]), unit)
    if not known and 1 / FAR <= ratio <= FAR:
        return None
    return Rescaled(ratio, named(known) if known else None, fit, spread)


def _known(ratio: float, error: float, unit: str | None) -> list[Conversion]:
    """Known factors near a ratio that is known to `error` (two standard errors of its logarithm).

    Between 1/5 and 5 the factor is what tells a change of unit from drift: it is given less room there, and a ratio
    that is hardly known says nothing.
    """
    if 1 / FAR <= ratio <= FAR:
        return of_ratio(ratio, math.log1p(TOLERANCE) + min(error, ERROR), unit) if error <= VAGUE else []
    return of_ratio(ratio, math.log1p(TOLERANCE) + min(error, 2 * VAGUE), unit)


def _with_offset(reference: Cumulative, window: Cumulative, unit: str | None) -> list[Rescaled]:
    allowed = FIT + noise(reference, window)
    found = []
    for conversion in _offsets(float(reference.quantile(np.array([0.5]))[0]), unit):
        # All offset: any drift of about that much would do, unless the window's median is known well.
        if conversion.slope == 1 and _standard_error(window) > VAGUE / 2 * abs(conversion.offset):
            continue
        moved = reference.moved(conversion.slope, conversion.offset)
        unmoved = reference.moved(conversion.slope, 0.0)
        if min(distance(reference, moved), distance(unmoved, moved)) < MOVED:
            continue
        fit = distance(moved, window, SLACK * moved.spread)
        if fit <= allowed:
            found.append(Rescaled(conversion.slope, conversion.label, fit))
    return found


def _by_quartiles(
    reference: Cumulative, window: Cumulative, ratio: float, unit: str | None
) -> list[Rescaled]:
    """Known factors by the distance of the quartiles, which has no need of logarithms."""
    allowed = FIT + noise(reference, window)
    # The standard error of the logarithm of a quartiles' distance is 1.17/√n for normal values.
    error = 2 * 1.2 * noise(reference, window) / SMIRNOV
    known, fits = [], []
    for conversion in _known(ratio, error, unit):
        slack = SLACK * reference.spread * conversion.slope
        fit = distance(reference.moved(conversion.slope, 0.0), window, slack)
        if fit <= allowed:
            known.append(conversion)
            fits.append(fit)
    return [Rescaled(ratio, named(known), min(fits))] if known else []


def _by_moments(pair: Pair, unit: str | None) -> list[Rescaled]:
    """Of a column so tight that the window's scale cannot resolve it outside the edges: by mean and deviation."""
    reference, window = pair.reference, pair.window
    if pair.seasonal or not isinstance(reference, NumericSummary) or not isinstance(window, NumericSummary):
        return []
    before, now, old, new = reference.mean, window.mean, reference.deviation, window.deviation
    if not before or not now or not old or not new:
        return []
    if new >= RESOLVED * abs(now) or not math.isfinite(old):
        return []
    error = math.sqrt(1 / reference.finite + 1 / window.finite)

    def widened(slope: float) -> bool:
        return slope > 0 and abs(math.log(new) - math.log(old) - math.log(slope)) <= TOLERANCE + 3 * error

    found = [
        Rescaled(one.slope, one.label, math.inf)
        for one in _offsets(before, unit)
        if widened(one.slope) and abs(now - one.slope * before - one.offset) <= (FIT + 3 * error) * new
    ]
    ratio = now / before
    known = of_ratio(ratio, TOLERANCE, unit)
    if widened(ratio) and (known or not 1 / FAR <= ratio <= FAR):
        found.append(Rescaled(ratio, named(known) if known else None, math.inf))
    return found


def _offsets(middle: float, unit: str | None) -> tuple[Conversion, ...]:
    return affine(unit) if unit is not None or abs(middle) <= HOTTEST else ()


def _standard_error(window: Cumulative) -> float:
    """Of the median; 1.25 σ/√n for normal values, σ being the quartiles' distance over 1.35."""
    return 0.93 * window.spread / math.sqrt(window.size)


def _differences(reference: Cumulative, window: Cumulative) -> Floats:
    return window.quantile(_DECILES) - reference.quantile(_DECILES)


def _standard_errors(reference: Cumulative, window: Cumulative) -> Floats:
    """Of the differences: √(p(1−p)(1/n+1/m)) times the slope of the quantile function (Mosteller 1946)."""
    slope = (reference.quantile(_DECILES + _APART) - reference.quantile(_DECILES - _APART)) / (2 * _APART)
    return np.sqrt(_DECILES * (1 - _DECILES)) * slope * (noise(reference, window) / SMIRNOV)
