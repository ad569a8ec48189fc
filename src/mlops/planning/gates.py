"""Gates: what a version must show before a stage takes it. All are evaluated, never only the first.

No model is loaded here. What only the model can tell is read from evidence; where there is none yet, the gate is
`pending` and names the check that makes it. What cannot be known at all is an `error`: it blocks, for nothing may pass
because nobody could look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from mlops.observation.observed import ObservedDataset, ObservedRun
from mlops.planning.evidence import Check, Evidence, Example, Reproduction, Scoring
from mlops.planning.metrics import NAMES, metric_named
from mlops.planning.plan import UNKNOWN, Block
from mlops.planning.soaking import Soaking, soaked
from mlops.resources import Dataset, Key, Stage
from mlops.resources.quantities import render_duration, render_improvement
from mlops.resources.stage import (
    ChampionComparison,
    ChampionGate,
    MetricBounds,
    MetricGate,
    ReproducibleGate,
    SignatureGate,
    SoakGate,
)

Verdict = Literal["passed", "failed", "pending", "skipped", "error"]
_ROUNDING: Final = 1e-14  # relative, of a difference of two doubles
MADE_BY: Final = "made by `mlops apply` or `mlops train`"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's verdict, with what was observed and what was required.

    `lacks` names the checks that would tell, each with whether it is of the champion. `passes_at` is when a gate that
    waits for time alone passes, in seconds since the epoch; `closed` tells of a pending one that nothing which can be
    done now would open.
    """

    name: str
    status: Verdict
    observed: Any
    required: str
    message: str
    evidence: Any = None
    lacks: tuple[tuple[bool, Check], ...] = ()
    passes_at: float | None = None
    closed: bool = False

    @property
    def shown(self) -> str:
        """The verdict in a plan, with why, once there is one."""
        return self.status if self.status == "pending" else f"{self.status}: {self.message}"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "observed": self.observed,
            "required": self.required,
            "evidence": self.evidence,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """A model that gates look at: what people call it, and the evidence of it that there is."""

    name: str
    evidence: Callable[[Check], Evidence | None]


@dataclass(frozen=True, slots=True)
class Case:
    """All that the gates of a stage look at when they judge one version.

    Args:
        run: where the version comes from; None: not known yet.
        model: the version's model; None as long as it is not known.
        champion: the version that is in the stage now; None: there is none.
        dataset: gives a Dataset of the revision by its name.
        datasets: what was observed of them, by name.
        soaking: how long it has been in the stage before, and how it does there.
        returns: whether the version was in the stage before.
    """

    run: ObservedRun | None
    model: Judged | None = None
    champion: Judged | None = None
    dataset: Callable[[str], Dataset | None] = lambda name: None
    datasets: Mapping[str, ObservedDataset] = field(default_factory=dict)
    soaking: Soaking = field(default_factory=Soaking)
    returns: bool = False


def evaluate(stage: Stage, case: Case) -> tuple[GateResult, ...]:
    """Every gate of `stage` for the version of `case`; each has a name of its own."""
    found = [(_evaluate(stage, gate, case), _distinction(gate)) for gate in stage.spec.gates]
    names = [result.name for result, _ in found]
    return tuple(
        replace(result, name=f"{result.name}:{more}") if more and names.count(result.name) > 1 else result
        for result, more in found
    )


def gate_block(key: Key, gates: tuple[GateResult, ...], *, moving: bool = False) -> Block | None:
    """The block for gates that do not let a version pass; None where none stands in the way.

    Args:
        moving: whether the version is about to move: then nothing may be pending any longer.
    """
    bad = [gate for gate in gates if gate.status in ("failed", "error")]
    shut = [gate for gate in gates if gate.status == "pending" and (gate.closed or moving)]
    if not bad and not shut:
        return None
    statuses = {gate.status for gate in bad}
    reason = "GateFailed" if "failed" in statuses else "GateNotAvailable" if bad else "GatePending"
    what = "; ".join(f"{gate.name}: {gate.message}" for gate in (*bad, *shut))
    return Block(str(key), "GatesPassed", reason, what)


def load_block(key: Key, version: str, seen: Evidence | None) -> Block | None:
    """The block of a version that is to come back and cannot be loaded any longer."""
    why = (seen.error or seen.failed) if seen is not None else None
    if why is None:
        return None
    what = (
        f"{version} was in this stage before, and cannot be loaded any longer: {why}. Restore its artifact and "
        "`mlops apply --retry-stalled`, or promote another version"
    )
    return Block(str(key), "Ready", "ModelUnloadable", what)


def _evaluate(stage: Stage, gate: Any, case: Case) -> GateResult:
    match gate:
        case MetricGate(metric=rule) if rule.dataset is None:
            return _metric(rule, case.run.metrics if case.run is not None else None)
        case MetricGate(metric=rule):
            return _metric_on(rule, case)
        case ChampionGate(champion=comparison):
            return _champion(comparison, case)
        case SoakGate(soak=seconds):
            return _soak(stage, seconds, case)
        case SignatureGate():
            return _signature(case)
        case ReproducibleGate(reproducible=rule):
            return _reproducible(rule.tolerance, case)
        case _:
            raise TypeError(f"there is no gate {type(gate).__name__}")


def _distinction(gate: Any) -> str:
    """What tells a gate from another of its kind in the same stage."""
    if isinstance(gate, ChampionGate):
        return f"{gate.champion.metric}@{gate.champion.dataset}"
    return ""


def _bounds(rule: MetricBounds) -> str:
    bounds = []
    if rule.min is not None:
        bounds.append(f">= {rule.min:g}")
    if rule.max is not None:
        bounds.append(f"<= {rule.max:g}")
    return " and ".join(bounds)


def _metric(rule: MetricBounds, metrics: Mapping[str, float] | None) -> GateResult:
    required, name = _bounds(rule), f"metric:{rule.name}"
    if metrics is None:
        return GateResult(name, "pending", UNKNOWN, required, "known when the run has finished")
    value = metrics.get(rule.name)
    if value is None:
        logged = ", ".join(sorted(metrics)[:8]) or "none"
        return GateResult(
            name, "failed", None, required, f"the run logged no metric {rule.name}; it logged: {logged}"
        )
    return _within(rule, name, value, rule.name)


def _within(rule: MetricBounds, name: str, value: float, shown: str) -> GateResult:
    required = _bounds(rule)
    if math.isnan(value):
        return GateResult(name, "failed", "NaN", required, f"{shown} is NaN")
    passed = (rule.min is None or value >= rule.min) and (rule.max is None or value <= rule.max)
    verb = "is within" if passed else "is not"
    message = f"{shown} = {value:g} {verb} {required}"
    return GateResult(name, "passed" if passed else "failed", _shown(value), required, message)


def _metric_on(rule: MetricBounds, case: Case) -> GateResult:
    name, required = f"metric:{rule.name}@{rule.dataset}", _bounds(rule)
    scoring = _scoring(rule.name, str(rule.dataset), case)
    if isinstance(scoring, str):
        return GateResult(name, "error", None, required, scoring)
    metric, check = scoring
    told = _value(case.model, metric, check, champion=False)
    if not isinstance(told, _Value):
        return replace(told, name=name, required=required)
    judged = _within(rule, name, told.value, f"{rule.name} on {rule.dataset}{told.note}")
    return replace(judged, evidence={"data": check.data, "model": told.evidence.to_json()})


def _champion(rule: ChampionComparison, case: Case) -> GateResult:
    margin = render_improvement(rule.min_improvement)
    required = f"{rule.metric} on {rule.dataset} better than the champion's" + (
        f" by {margin}" if rule.min_improvement.value else ""
    )
    if case.returns:
        what = "it was in this stage before, and goes back"
        return GateResult("champion", "skipped", None, required, what)
    if case.champion is None:
        return GateResult("champion", "passed", None, required, "no version is in the stage yet")
    scoring = _scoring(rule.metric, rule.dataset, case)
    if isinstance(scoring, str):
        return GateResult("champion", "error", None, required, scoring)
    metric, check = scoring
    sides = [
        _value(case.model, metric, check, champion=False),
        _value(case.champion, metric, check, champion=True),
    ]
    wanting = [side for side in sides if not isinstance(side, _Value)]
    if wanting:
        lacks = tuple(lack for side in wanting for lack in side.lacks)
        worst = next((side for side in wanting if side.status != "pending"), wanting[0])
        message = "; ".join(dict.fromkeys(side.message for side in wanting))
        return replace(worst, name="champion", required=required, lacks=lacks, message=message)
    mine, theirs = (side for side in sides if isinstance(side, _Value))
    observed = {
        "challenger": _shown(mine.value),
        "champion": _shown(theirs.value),
        "version": case.champion.name,
    }
    better = theirs.value - mine.value if rule.goal == "minimize" else mine.value - theirs.value
    least = rule.min_improvement.value * (abs(theirs.value) if rule.min_improvement.relative else 1.0)
    # Equal is not better; with a margin, reaching it is enough (0.81 - 0.80 is a little less than 0.01 in doubles).
    passed = better > 0 and better >= least - _ROUNDING * max(abs(mine.value), abs(theirs.value))
    share = abs(better / theirs.value) if theirs.value else 0.0
    message = (
        f"{rule.metric} {mine.value:.6g} against {theirs.value:.6g} of {case.champion.name} on {rule.dataset}"
    )
    if share:
        message = f"{share:.2%} {'better' if better > 0 else 'worse'}: {message}"
    message += mine.note
    if not passed:
        message += f"; it has to be {'lower' if rule.goal == 'minimize' else 'higher'}"
        message += f" by {margin}" if rule.min_improvement.value else ""
    evidence = {
        "data": check.data,
        "challenger": mine.evidence.to_json(),
        "champion": theirs.evidence.to_json(),
    }
    return GateResult("champion", "passed" if passed else "failed", observed, required, message, evidence)


@dataclass(frozen=True, slots=True)
class _Value:
    """A metric's value with the evidence that it is from, and a remark for people."""

    value: float
    evidence: Evidence
    note: str


def _value(model: Judged | None, metric: str, check: Scoring, *, champion: bool) -> _Value | GateResult:
    """A metric of a model on a dataset, or what keeps it from being known."""
    if model is None:
        return GateResult("", "pending", UNKNOWN, "", "known when the run has finished")
    found = model.evidence(check)
    if found is None:
        what = f"{model.name} is not evaluated on {check.dataset} yet; {MADE_BY}"
        return GateResult("", "pending", UNKNOWN, "", what, lacks=((champion, check),))
    if found.error is not None or found.failed is not None:
        what = f"{model.name} cannot be evaluated on {check.dataset}: {found.error or found.failed}"
        return GateResult("", "error", None, "", what, found.to_json())
    value = found.metrics.get(metric)
    if value is None:
        has = ", ".join(found.metrics) or "none"
        what = f"{metric} cannot be told of {model.name} on {check.dataset}: its answers give {has}"
        return GateResult("", "error", None, "", what, found.to_json())
    if math.isnan(value):
        what = f"{metric} of {model.name} on {check.dataset} is NaN: it is not defined, or predictions are missing"
        return GateResult("", "failed", "NaN", "", what, found.to_json())
    note = f" ({found.left_out} rows without a target left out)" if found.left_out else ""
    return _Value(value, found, note)


def _scoring(name: str, dataset: str, case: Case) -> tuple[str, Scoring] | str:
    """The metric and the check that tells it, or why nothing can."""
    known = metric_named(name)
    if known is None:
        there = "; ".join(f"for {task}: {', '.join(names)}" for task, names in NAMES.items())
        return f"nothing here computes a metric {name} on a dataset. There are, {there}"
    declared, seen = case.dataset(dataset), case.datasets.get(dataset)
    target = declared.spec.columns.target if declared is not None else None
    if target is None:
        return f"Dataset/{dataset} does not say which column to predict. Write spec.columns.target there"
    if seen is None or seen.digest is None:
        why = (seen.message or seen.reason) if seen is not None else None
        return f"Dataset/{dataset} cannot be used: {why or 'it is not there'}"
    metric, task = known
    return metric, Scoring(dataset, seen.digest, target, task)


def _soak(stage: Stage, seconds: float, case: Case) -> GateResult:
    before = str(stage.spec.after)
    required = f"{render_duration(seconds)} in {before}, and no monitor there Degraded"
    if case.returns:
        return GateResult("soak", "skipped", None, required, "it was in this stage before, and goes back")
    told = soaked(case.soaking, before, seconds)
    return GateResult(
        "soak",
        told.status,
        told.observed,
        required,
        told.message,
        passes_at=told.passes_at,
        closed=told.status == "pending",
    )


def _signature(case: Case) -> GateResult:
    required = "a signature, and an input example that the model accepts"
    if case.model is None:
        return GateResult("signature", "pending", UNKNOWN, required, "known when the run has finished")
    found = case.model.evidence(Example())
    if found is None:
        what = f"{case.model.name} is not looked into yet; {MADE_BY}"
        return GateResult("signature", "pending", UNKNOWN, required, what, lacks=((False, Example()),))
    if found.error is not None:
        what = f"{case.model.name} cannot be looked into: {found.error}"
        return GateResult("signature", "error", None, required, what, found.to_json())
    if found.failed is not None:
        return GateResult("signature", "failed", found.failed, required, found.failed, found.to_json())
    what = "it has both, and accepts its example"
    return GateResult("signature", "passed", what, required, what, found.to_json())


def _reproducible(tolerance: float, case: Case) -> GateResult:
    name, required = "reproducible", f"metrics within {tolerance:g} when trained again"
    check = Reproduction()
    if case.model is None:
        return GateResult(name, "pending", UNKNOWN, required, "known when the run has finished")
    found = case.model.evidence(check)
    if found is None:
        what = f"{case.model.name} is not trained again yet; {MADE_BY}"
        return GateResult(name, "pending", UNKNOWN, required, what, lacks=((False, check),))
    if found.failed is not None:
        return GateResult(name, "failed", found.failed, required, found.failed, found.to_json())
    if found.error is not None or case.run is None:
        what = f"{case.model.name} cannot be trained again: {found.error or 'its run is not there'}"
        return GateResult(name, "error", None, required, what, found.to_json())
    first = {metric: case.run.metrics.get(metric, math.nan) for metric in found.metrics}
    apart = {metric: difference(first[metric], again) for metric, again in found.metrics.items()}
    worst = max(apart, key=lambda metric: (apart[metric], metric), default=None)
    if worst is None:
        what = "its run logged no metric to compare"
        return GateResult(name, "error", None, required, what, found.to_json())
    passed = apart[worst] <= tolerance
    observed = {
        "metric": worst,
        "first": _shown(first[worst]),
        "again": _shown(found.metrics[worst]),
        "difference": _shown(apart[worst]),
    }
    message = f"{worst} was {first[worst]:.9g}, and is {found.metrics[worst]:.9g} when trained again"
    message += "" if passed else f", more than {tolerance:g} from it"
    return GateResult(name, "passed" if passed else "failed", observed, required, message, found.to_json())


def difference(first: float, again: float) -> float:
    """How far two values of a metric are apart: NaN and NaN, and equal infinities, are not."""
    if first == again or (math.isnan(first) and math.isnan(again)):
        return 0.0
    apart = abs(first - again)
    return math.inf if math.isnan(apart) else apart


def _shown(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
