"""Numbers, times and verdicts as a report writes them. Glyphs tell verdicts apart without colour."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from mlops.monitoring.deciding.actions import Reason
from mlops.monitoring.reporting.about import Unit
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Verdict
from mlops.resources.problem import printable

GLYPHS: Final[dict[Verdict, str]] = {
    "quiet": "·",
    "violated": "▲",
    "insufficient": "?",
    "noData": "○",
    "error": "!",
}
VERDICTS: Final[dict[Verdict, str]] = {
    "quiet": "quiet",
    "violated": "violated",
    "insufficient": "insufficient",
    "noData": "no data",
    "error": "error",
}
REASONS: Final[dict[Reason, str]] = {
    "late": "late data fired it: it waits for windows that were not decided yet",
    "loop": "a version that a retraining proposed fired at once: training again would not help",
    "upstream": "an upstream change: a new model would learn the fault",
    "quiet": "the newest window of its check does not violate",
    "warmup": "the version is still warming up",
    "cooldown": "the cooldown since the last retraining is not over",
    "budget": "the budget of retrainings is spent",
    "time": "row windows without event time, and a limit that needs it",
    "covered": "another retraining answers for it",
    "cleared": "the check cleared before it was done",
}
DETECTORS: Final[dict[str, str]] = {
    "psi": "Population stability index on quantile bins of the reference, less what chance alone makes of it.",
    "jensenShannon": "Jensen–Shannon distance, the root of the base-2 divergence: 0 the same, 1 nothing in common.",
    "ks": "Kolmogorov–Smirnov: the largest difference of the cumulative shares.",
    "wasserstein": "Wasserstein distance in standard deviations of the reference.",
    "chiSquare": "Chi-square test of homogeneity; the effect is Cramér's V.",
    "totalVariation": "Total variation: the share of rows that would have to change to make both alike.",
    "domainClassifier": "How well a classifier tells rows of the window from rows of the reference.",
    "schema": "Share of the rows in which a column is gone, renamed or of another type.",
    "nullRate": "Share of rows without a usable value, less the reference's.",
    "newCategory": "Share of the most frequent category that the reference does not have.",
    "constant": "One value in all rows of a column that had several.",
    "unitRatio": "Ratio of the scales where the window is the reference in another unit.",
    "tailExceedance": "Share of rows beyond the reference's 0.1 % or 99.9 % quantile while the others look like it.",
    "expect": "What the Dataset itself expects of its files.",
    "cbpe": "Performance estimated from calibrated probabilities, without labels.",
    "dle": "Performance estimated by a model of the loss, without labels.",
    "adwin": "Relative rise of the mean loss where ADWIN finds a change.",
    "pageHinkley": "Relative rise of the mean loss where the Page–Hinkley test finds a change.",
}
TYPES: Final[dict[str, str]] = {
    "upstreamChange": "upstream change",
    "dataDrift": "data drift",
    "targetDrift": "target drift",
    "conceptDrift": "concept drift",
}
MISSING: Final = "–"


def text(value: str, most: int = 300) -> str:
    """A text from data or names: nothing that steers a terminal or turns the reading direction, and not too long."""
    cut = value if len(value) <= most else f"{value[: most - 1]}…"
    return printable(cut)


def number(value: float | None) -> str:
    """Three significant digits, or whole numbers as they are."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else MISSING
    if value == 0:
        return "0"
    if abs(value) < 1e-4 or abs(value) >= 1e9:
        return f"{value:.2e}"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(value: float | None) -> str:
    """A share as `12.3 %`; what is above 0 never reads 0."""
    if value is None or not math.isfinite(value):
        return MISSING
    if 0 < abs(value) < 0.0005:
        return "<0.1 %"
    return f"{value * 100:,.1f} %" if abs(value) < 10 else f"{value * 100:,.0f} %"


def chance(value: float | None) -> str:
    """A p-value."""
    if value is None:
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def moment(seconds: float) -> str:
    """UTC in ISO 8601, a day where it is midnight; what no calendar holds as a number."""
    try:
        at = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (OverflowError, ValueError, OSError):
        return number(seconds)
    if not (at.hour or at.minute or at.second or at.microsecond):
        return at.date().isoformat()
    return f"{at.isoformat(timespec='seconds' if at.second or at.microsecond else 'minutes')}Z"


def bound(value: float | int, unit: Unit) -> str:
    """Where a window starts or ends."""
    return moment(value) if unit == "time" else f"row {int(value):,}"


def effect(value: float | None, check: str, detector: str) -> str:
    """A value in the measure of its detector."""
    return percent(value) if check == "conceptDrift" or detector in _SHARES else number(value)


def meaning(check: CheckVerdict) -> str:
    """What the value of a check counts."""
    match check.type:
        case "upstreamChange":
            return "changes found"
        case "conceptDrift":
            return "worsening against the reference"
        case "dataDrift" | "targetDrift":
            return "largest effect, in thresholds" if check.threshold == 1.0 else "share of drifted columns"
        case _:
            return "value"


def excess(measure: ColumnVerdict) -> float:
    """How many thresholds a value is: what is worst first. Infinite for a violation that no number measures."""
    if measure.value is None or not measure.threshold:
        return math.inf if measure.verdict == "violated" else 0.0
    return measure.value / measure.threshold


_SHARES = ("nullRate", "newCategory", "tailExceedance", "schema")
