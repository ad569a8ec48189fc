"""The checks of a policy over one window. One that fails says so and stops no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from mlops.errors import MlopsError
from mlops.monitoring.checks import DriftSettings, UpstreamSettings, data_drift, target_drift, upstream_change
from mlops.monitoring.checks.drift import Calibrations, calibrate
from mlops.monitoring.checks.row_measures import Measure
from mlops.monitoring.checks.upstream.constant import Dependence, dependence_of
from mlops.monitoring.evaluating.expecting import broken
from mlops.monitoring.evaluating.roles import Roles
from mlops.monitoring.samples import RowSample
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Verdict
from mlops.resources.dataset import Expect
from mlops.resources.monitoring_checks import ConceptDrift, DataDrift, TargetDrift, UpstreamChange
from mlops.resources.monitoring_policy import MonitoringPolicySpec

AnyCheck = UpstreamChange | DataDrift | TargetDrift | ConceptDrift
Concept = Callable[[ConceptDrift], CheckVerdict]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """A window beside its reference.

    Args:
        reference: None where there is none yet, and `why` says why.
        window: its rows, the target among the columns where labels are here.
        sample: of both, for detectors that need rows; None where there is none.
        labels_due: whether labels are as complete as they get.
        concept: judges a check of performance.
        calibrations: of the reference's own windows.
        alibi: asks alibi-detect; None where nobody does.
    """

    reference: WindowSummary | None
    why: str
    window: WindowSummary
    sample: Callable[[], RowSample | None]
    labels_due: bool
    concept: Concept
    calibrations: Calibrated
    alibi: Measure | None = None


@dataclass(slots=True)
class Calibrated:
    """What detectors measure between the reference's own windows, found when a check first asks for it."""

    own: Callable[[], list[WindowSummary]]
    _found: dict[tuple[str, str, tuple[str, ...]], Calibrations] = field(default_factory=dict)
    _dependence: dict[tuple[str, ...], Dependence] = field(default_factory=dict)

    def of(self, settings: DriftSettings, columns: tuple[str, ...]) -> Calibrations:
        """Of a check's detectors on these columns."""
        key = settings.numeric, settings.categorical, columns
        if key not in self._found:
            self._found[key] = calibrate(settings, self.own(), columns)
        return self._found[key]

    def dependence(self, columns: tuple[str, ...]) -> Dependence:
        """How the reference's rows depend on each other in these columns."""
        if columns not in self._dependence:
            self._dependence[columns] = dependence_of(self.own(), columns)
        return self._dependence[columns]


def checked(
    spec: MonitoringPolicySpec, roles: Roles, expect: Expect | None, compared: Compared
) -> tuple[CheckVerdict, ...]:
    """The verdicts of all checks, in their order in the policy."""
    return tuple(_checked(spec, roles, expect, check, compared) for check in spec.checks)


def _checked(
    spec: MonitoringPolicySpec, roles: Roles, expect: Expect | None, check: AnyCheck, compared: Compared
) -> CheckVerdict:
    if not compared.window.rows:
        return told(check, "noData", "no rows")
    if compared.reference is None:
        return told(check, "insufficient", compared.why)
    try:
        match check:
            case UpstreamChange():
                return _upstream(spec, roles, expect, check, compared, compared.reference)
            case DataDrift():
                return _data(spec, roles, check, compared, compared.reference)
            case TargetDrift():
                return _target(spec, roles, check, compared, compared.reference)
            case ConceptDrift():
                return compared.concept(check)
            case _:
                assert_never(check)
    except MlopsError as error:
        return told(check, "error", error.what)
    except (
        Exception
    ) as error:  # a fault in one check, ours or a plug-in's: told without its text, which may quote data
        return told(check, "error", f"it failed: {type(error).__name__}")


def told(check: AnyCheck, verdict: Verdict, note: str, column: str = "*") -> CheckVerdict:
    """A check that could not be judged, and why."""
    why = ColumnVerdict(column, None, "", None, None, None, None, verdict, note)
    return CheckVerdict(check.name, check.type, verdict, None, None, (why,))


def _upstream(
    spec: MonitoringPolicySpec,
    roles: Roles,
    expect: Expect | None,
    check: UpstreamChange,
    compared: Compared,
    reference: WindowSummary,
) -> CheckVerdict:
    units = {name: known.unit for name, known in spec.columns.overrides.items() if known.unit is not None}
    settings = UpstreamSettings(
        check.name, units, check.detectors, check.thresholds, min_rows=spec.window.min_rows
    )
    phrases = broken(expect, compared.window) if "expect" in check.detectors else []
    calibrations = None
    if any(isinstance(other, DataDrift) and other.thresholds == "calibrated" for other in spec.checks):
        calibrations = compared.calibrations.of(DriftSettings(check.name, "ks", min_rows=1), roles.features)
    return upstream_change(
        settings,
        reference,
        compared.window,
        roles.features,
        expectations=phrases,
        calibrations=calibrations,
        dependence=compared.calibrations.dependence,
    )


def _data(
    spec: MonitoringPolicySpec, roles: Roles, check: DataDrift, compared: Compared, reference: WindowSummary
) -> CheckVerdict:
    settings = DriftSettings(
        check.name,
        check.numeric,
        check.categorical,
        check.multivariate,
        _thresholds(check.thresholds),
        check.share,
        min_rows=spec.window.min_rows,
    )
    calibrated = check.thresholds == "calibrated"
    return data_drift(
        settings,
        reference,
        compared.window,
        roles.features,
        calibrations=compared.calibrations.of(settings, roles.features) if calibrated else None,
        rows=compared.sample() if needs_rows(check) else None,
        alibi=compared.alibi,
    )


def _target(
    spec: MonitoringPolicySpec, roles: Roles, check: TargetDrift, compared: Compared, reference: WindowSummary
) -> CheckVerdict:
    columns = tuple(
        name
        for name in dict.fromkeys((*roles.outputs, *([roles.target] if roles.target else [])))
        if name in reference.plan.columns and (name != roles.target or compared.labels_due)
    )
    if not columns:
        waits = roles.target is not None and roles.target in reference.plan.columns
        why = "labels are waited for" if waits else "the reference has neither labels nor predictions"
        return told(check, "insufficient", why)
    settings = DriftSettings(
        check.name,
        check.numeric,
        check.categorical,
        thresholds=_thresholds(check.thresholds),
        min_rows=spec.window.min_rows,
    )
    calibrated = check.thresholds == "calibrated"
    return target_drift(
        settings,
        reference,
        compared.window,
        columns,
        calibrations=compared.calibrations.of(settings, columns) if calibrated else None,
        rows=compared.sample() if needs_rows(check) else None,
        alibi=compared.alibi,
    )


def needs_rows(check: AnyCheck) -> bool:
    """Whether a detector of the check may compare rows instead of sums."""
    if isinstance(check, DataDrift) and check.multivariate is not None:
        return True
    return isinstance(check, DataDrift | TargetDrift) and ("/" in check.numeric or "/" in check.categorical)


def _thresholds(given: Mapping[str, float] | str) -> Mapping[str, float]:
    return {} if isinstance(given, str) else given
