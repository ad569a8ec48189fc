"""Upstream change: a feature whose meaning changed at its source, which no model should be retrained on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mlops.monitoring.checks.cumulative import SMIRNOV
from mlops.monitoring.checks.drift import Calibrations
from mlops.monitoring.checks.pairs import Pair, pairs
from mlops.monitoring.checks.significance import adjusted
from mlops.monitoring.checks.upstream import new_category, null_rate, tail_exceedance
from mlops.monitoring.checks.upstream.constant import Dependence, constant
from mlops.monitoring.checks.upstream.expect import expect
from mlops.monitoring.checks.upstream.findings import Finding
from mlops.monitoring.checks.upstream.schema import schema
from mlops.monitoring.checks.upstream.unit_ratio import unit_ratio
from mlops.monitoring.detectors.calibration import Calibration
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Verdict

TYPE = "upstreamChange"
PARTS = ("schema", "nullRate", "newCategory", "constant", "unitRatio", "tailExceedance", "expect")
_THRESHOLD = 1.0  # one change is enough


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """How an upstream change is looked for.

    Args:
        name: of the check in its policy.
        units: what columns are declared to be in, which narrows the known factors.
        detectors: which parts look (default: all).
        thresholds: effects from which on `nullRate`, `newCategory` and `tailExceedance` are a change; their own where
            not named.
        min_rows: fewest rows of a window, or of a slice, that are judged.
        q: how many of the changes found may be false, as a share (Benjamini-Hochberg).
    """

    name: str
    units: Mapping[str, str] = field(default_factory=dict)
    detectors: Collection[str] = PARTS
    thresholds: Mapping[str, float] = field(default_factory=dict)
    min_rows: int = field(kw_only=True)
    q: float = 0.05


def upstream_change(
    settings: UpstreamSettings,
    reference: WindowSummary,
    window: WindowSummary,
    columns: Sequence[str] | None = None,
    *,
    expectations: Collection[str] = (),
    calibrations: Calibrations | None = None,
    dependence: Callable[[tuple[str, ...]], Dependence] | None = None,
) -> CheckVerdict:
    """Whether columns came gone, renamed, retyped, emptied, frozen, with new categories or in another unit.

    Every part measures every column in all rows and each slice; what a test can doubt is corrected over all of them by
    Benjamini-Hochberg. The check's value is how many changes there are, its threshold 1.

    Args:
        columns: those that are watched (default: all of the reference).
        expectations: phrases of what the Dataset's `expect` finds wrong with the window's files.
        calibrations: of `ks` on the reference's own windows (`calibrate`), for data whose rows depend on each other.
        dependence: how rows depend on each other (`dependence_of`) in the columns that came frozen.
    """
    if window.rows < max(1, settings.min_rows):
        verdict: Verdict = "noData" if not window.rows else "insufficient"
        return CheckVerdict(settings.name, TYPE, verdict, None, _THRESHOLD, ())
    wanted = list(reference.plan.columns if columns is None else columns)
    findings = [*expect(expectations), *schema(reference, window, wanted)]
    findings = [one for one in findings if one.part in settings.detectors]
    for pair in pairs(reference, window, wanted, settings.min_rows):
        calibration = None if calibrations is None else calibrations.get((pair.column, pair.slice))
        findings += _of_column(settings, pair, calibration)
    judged = _judged(findings, settings.q)
    frozen = {one.column for one in judged if one.detector == "constant" and one.verdict == "violated"}
    if frozen and dependence is not None:
        worth = dependence(tuple(sorted(frozen)))
        again = {
            (pair.column, pair.slice): constant(pair, worth.get((pair.column, pair.slice)) or 1.0)
            for pair in pairs(reference, window, frozen, settings.min_rows)
        }
        findings = [
            again.get((one.column, one.slice)) or one if one.part == "constant" else one for one in findings
        ]
        judged = _judged(findings, settings.q)
    changes = sum(one.verdict == "violated" for one in judged)
    return CheckVerdict(
        settings.name, TYPE, "violated" if changes else "quiet", float(changes), _THRESHOLD, tuple(judged)
    )


def _of_column(settings: UpstreamSettings, pair: Pair, calibration: Calibration | None) -> list[Finding]:
    asked, unit = settings.detectors, settings.units.get(pair.column)
    rates, news, tails = (
        settings.thresholds.get(part, own)
        for part, own in (
            ("nullRate", null_rate.THRESHOLD),
            ("newCategory", new_category.THRESHOLD),
            ("tailExceedance", tail_exceedance.THRESHOLD),
        )
    )
    found = [null_rate.null_rate(pair, rates)] if "nullRate" in asked else []
    if pair.why_not() is None:
        # As many independent rows as would be as far from the reference by chance.
        worth = None if calibration is None else (SMIRNOV / max(calibration.limit(0.05), 1e-3)) ** 2
        whole = unit_ratio(pair, unit, worth) if {"unitRatio", "tailExceedance"} & set(asked) else None
        found.append(whole if "unitRatio" in asked else None)
        found.append(new_category.new_category(pair, news) if "newCategory" in asked else None)
        found.append(constant(pair) if "constant" in asked else None)
        # Where all rows changed their unit none of them are a part.
        if "tailExceedance" in asked and (whole is None or not whole.changed):
            found.append(tail_exceedance.tail_exceedance(pair, unit, tails))
    return [one for one in found if one is not None]


def _judged(findings: Sequence[Finding], q: float) -> list[ColumnVerdict]:
    corrected = adjusted([one.p_value for one in findings])
    result = []
    for one, p_adjusted in zip(findings, corrected, strict=True):
        changed = one.changed and (p_adjusted is None or p_adjusted <= q)
        verdict: Verdict = "violated" if changed else "quiet"
        result.append(
            ColumnVerdict(
                one.column,
                one.slice,
                one.part,
                one.value,
                one.threshold,
                one.p_value,
                p_adjusted,
                verdict,
                one.note,
            )
        )
    return result
