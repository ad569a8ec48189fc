"""Gates: what a version must show before a stage takes it. All are evaluated, never only the first.

A gate of a kind that this release cannot evaluate is `error`: it blocks, for nothing may pass because it
is not implemented.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlops.observation.observed import ObservedRun
from mlops.planning.plan import UNKNOWN
from mlops.resources import Stage

Verdict = Literal["passed", "failed", "pending", "skipped", "error"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's verdict, with what was observed and what was required."""

    name: str
    status: Verdict
    observed: Any
    required: str
    message: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "observed": self.observed,
            "required": self.required,
            "message": self.message,
        }


def evaluate(stage: Stage, run: ObservedRun | None) -> tuple[GateResult, ...]:
    """Every gate of `stage` for a version that comes from `run` (None: not known yet)."""
    return tuple(_evaluate(gate, run) for gate in stage.spec.gates)


def _evaluate(gate: Any, run: ObservedRun | None) -> GateResult:
    rule = getattr(gate, "metric", None)
    if rule is not None and rule.dataset is None:
        return _metric(rule, run.metrics if run is not None else None)
    kind = next(iter(gate.model_dump(exclude_none=True, by_alias=True)))
    name = f"{kind}:{rule.name}@{rule.dataset}" if rule is not None else kind
    what = "a metric evaluated on a dataset" if rule is not None else f"the gate `{kind}`"
    return GateResult(name, "error", None, kind, f"this release cannot evaluate {what}, so it blocks")


def _metric(rule: Any, metrics: Mapping[str, float] | None) -> GateResult:
    bounds = []
    if rule.min is not None:
        bounds.append(f">= {rule.min:g}")
    if rule.max is not None:
        bounds.append(f"<= {rule.max:g}")
    required = " and ".join(bounds)
    name = f"metric:{rule.name}"
    if metrics is None:
        return GateResult(name, "pending", UNKNOWN, required, "known when the run has finished")
    value = metrics.get(rule.name)
    if value is None:
        logged = ", ".join(sorted(metrics)[:8]) or "none"
        return GateResult(
            name, "failed", None, required, f"the run logged no metric {rule.name}; it logged: {logged}"
        )
    if math.isnan(value):
        return GateResult(name, "failed", "NaN", required, f"{rule.name} is NaN")
    passed = (rule.min is None or value >= rule.min) and (rule.max is None or value <= rule.max)
    observed: Any = value if math.isfinite(value) else str(value)
    verb = "is within" if passed else "is not"
    return GateResult(
        name,
        "passed" if passed else "failed",
        observed,
        required,
        f"{rule.name} = {value:g} {verb} {required}",
    )
