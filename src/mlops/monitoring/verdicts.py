"""What an evaluation says of a window, as values: of a column, of a check, of the whole.

Equal values have equal bytes: numbers are made plain (no NaN or infinity, no -0.0, no numpy types) when a value is
made, and JSON is written with sorted keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mlops.errors import Stalled

Verdict = Literal["quiet", "violated", "insufficient", "noData", "error"]

_WORST_FIRST: tuple[Verdict, ...] = ("violated", "error", "insufficient", "noData", "quiet")


@dataclass(frozen=True, slots=True)
class ColumnVerdict:
    """One measure of one column, in one slice or (`None`) in all rows.

    `value` passes when it is at or over `threshold`; `p_value` is the test's own, `p_adjusted` the one
    corrected over all measures of the check. `note` says what numbers do not: why a column could not be judged, or a
    ratio and the name of a known factor.
    """

    column: str
    slice: str | None
    detector: str
    value: float | None
    threshold: float | None
    p_value: float | None
    p_adjusted: float | None
    verdict: Verdict
    note: str | None

    def __post_init__(self) -> None:
        for name in ("value", "threshold", "p_value", "p_adjusted"):
            object.__setattr__(self, name, _plain(getattr(self, name)))

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "column": self.column,
            "slice": self.slice,
            "detector": self.detector,
            "value": self.value,
            "threshold": self.threshold,
            "pValue": self.p_value,
            "pAdjusted": self.p_adjusted,
            "verdict": self.verdict,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class MetricValue:
    """A metric of performance over all rows of a window, and over the reference's, each in the metric's own unit."""

    name: str
    window: float | None
    reference: float | None

    def __post_init__(self) -> None:
        for name in ("window", "reference"):
            object.__setattr__(self, name, _plain(getattr(self, name)))

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"name": self.name, "window": self.window, "reference": self.reference}


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """One check over a window. An `estimate` (performance without labels) may violate and never clears.

    `metric` is what a check of performance measured, of all rows; its `value` is how much worse that is.
    """

    name: str
    type: str
    verdict: Verdict
    value: float | None
    threshold: float | None
    columns: tuple[ColumnVerdict, ...]
    estimate: bool = False
    metric: MetricValue | None = None

    def __post_init__(self) -> None:
        for name in ("value", "threshold"):
            object.__setattr__(self, name, _plain(getattr(self, name)))

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "name": self.name,
            "type": self.type,
            "verdict": self.verdict,
            "value": self.value,
            "threshold": self.threshold,
            "columns": [column.document() for column in self.columns],
            "estimate": self.estimate,
            "metric": None if self.metric is None else self.metric.document(),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One window of one watched version.

    `start` and `end` (exclusive) are seconds since 1970 UTC, or row numbers. `revision` is 0 and grows by 1 each
    time late rows changed the window's record.
    """

    start: float | int
    end: float | int
    rows: int
    verdict: Verdict
    checks: tuple[CheckVerdict, ...]
    key: str
    revision: int

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            bound = getattr(self, name)
            object.__setattr__(self, name, int(bound) if float(bound).is_integer() else float(bound))

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "start": self.start,
            "end": self.end,
            "rows": self.rows,
            "verdict": self.verdict,
            "checks": [check.document() for check in self.checks],
            "key": self.key,
            "revision": self.revision,
        }

    def to_json(self) -> str:
        """One line of JSON, the same for equal evaluations."""
        return json.dumps(self.document(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Evaluation:
        """The evaluation that `to_json` wrote. Raises `Stalled` when `text` is no such thing."""
        try:
            raw = json.loads(text)
            checks = tuple(_check(check) for check in raw["checks"])
            return cls(
                raw["start"],
                raw["end"],
                int(raw["rows"]),
                _verdict(raw),
                checks,
                raw["key"],
                int(raw["revision"]),
            )
        except (
            ValueError,
            TypeError,
            KeyError,
            OverflowError,
        ) as error:  # without its text, which may quote data
            what = f"A stored evaluation cannot be read ({type(error).__name__})"
            raise Stalled(what, fix="Delete the state; it is built again from MLflow and the data") from None


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a window from those of its checks: the worst; quiet only where all are, noData of none."""
    found = set(verdicts)
    return next((verdict for verdict in _WORST_FIRST if verdict in found), "noData")


def _check(raw: Mapping[str, Any]) -> CheckVerdict:
    columns = tuple(_column(column) for column in raw["columns"])
    return CheckVerdict(
        raw["name"],
        raw["type"],
        _verdict(raw),
        raw["value"],
        raw["threshold"],
        columns,
        bool(raw["estimate"]),
        _metric(raw.get("metric")),
    )


def _metric(raw: Mapping[str, Any] | None) -> MetricValue | None:
    return None if raw is None else MetricValue(raw["name"], raw["window"], raw["reference"])


def _column(raw: Mapping[str, Any]) -> ColumnVerdict:
    return ColumnVerdict(
        raw["column"],
        raw["slice"],
        raw["detector"],
        raw["value"],
        raw["threshold"],
        raw["pValue"],
        raw["pAdjusted"],
        _verdict(raw),
        raw["note"],
    )


def _verdict(raw: Mapping[str, Any]) -> Verdict:
    if raw["verdict"] not in get_args(Verdict):
        raise ValueError("verdict")
    verdict: Verdict = raw["verdict"]
    return verdict


def _plain(number: float | None) -> float | None:
    if number is None or not math.isfinite(number):
        return None
    return float(number) + 0.0  # -0.0 + 0.0 is 0.0
