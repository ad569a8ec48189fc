"""Some weeks of a loan model, simulated: drift from the second week on, a change of currency in the last days."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pyarrow as pa

from mlops.monitoring.checks.drift import DriftSettings, data_drift
from mlops.monitoring.checks.upstream_change import UpstreamSettings, upstream_change
from mlops.monitoring.deciding import Check, Decision, Retraining, Rule, Settings, Watched, fold
from mlops.monitoring.reporting import About
from mlops.monitoring.summaries.reference import plan_of
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.verdicts import (
    CheckVerdict,
    ColumnVerdict,
    Evaluation,
    MetricValue,
    Verdict,
    overall,
)

DAY = 86_400
START = 20_500 * DAY  # 2026-02-16
TYPES = {
    **{"income": "double", "price": "double", "age": "integer"},
    **{"rate": "double", "country": "string", "since": "timestamp"},
}
ABOUT = About(
    project="loans",
    policy="loan-production",
    model="loan",
    stage="production",
    version="7",
    reference="training data “loans-2025”",
    window="1d, lateness 6h",
    engine="0.4.0",
    experiment="loan-gbt",
    revision="9b1c7e2",
    reference_digest="sha256:6a1f",
    links=(("run in MLflow", "https://mlflow.example.org/#/experiments/1/runs/2"),),
)
SETTINGS = Settings(
    "loan-production",
    (Check("upstream", "critical", blocks=True), Check("inputs"), Check("concept", "critical")),
    (
        Rule(("inputs", "upstream"), notify=("team",)),
        Rule(("concept", "inputs"), retrain=Retraining("loan-gbt", cooldown=7 * DAY)),
        Rule(("concept",), severity="critical", rollback=True),
    ),
)


@dataclass(frozen=True)
class Weeks:
    """What a report is made of."""

    evaluations: tuple[Evaluation, ...]
    decision: Decision
    reference: WindowSummary
    window: WindowSummary


@cache
def weeks(days: int = 28, rows: int = 2_000) -> Weeks:
    """Quiet for ten days; then `income` and `age` move; in the last three `price` comes in CFA francs."""
    source = np.random.default_rng(7)
    first = _rows(source, 20_000, 0.0, francs=False)
    plan = plan_of([first], TYPES, slices=["country"], threads=1)
    reference = summarise([first], plan, threads=1).windows[0]
    made, window = [], reference
    for day in range(days):
        moved = max(0.0, min((day - 10) / 10, 1.0))
        batch = _rows(source, rows, moved, francs=day >= 25)
        window = summarise([batch], plan, threads=1).windows[0]
        drift = data_drift(DriftSettings("inputs", share=0.2, min_rows=100), reference, window, [*TYPES])
        upstream = upstream_change(UpstreamSettings("upstream", min_rows=100), reference, window, [*TYPES])
        made.append(_evaluation(day, rows, [upstream, drift, _concept(day, moved)]))
    if days > 6:
        silent = [
            CheckVerdict(check.name, check.type, "noData", None, check.threshold, ())
            for check in made[4].checks
        ]
        made[4] = replace(_evaluation(4, 0, silent), rows=0)
    return Weeks(tuple(made), fold(SETTINGS, Watched("7"), made), reference, window)


def _rows(source: np.random.Generator, count: int, moved: float, *, francs: bool) -> pa.RecordBatch:
    price = np.exp(source.normal(3.5, 0.8, count)) * (655.957 if francs else 1.0)
    countries = np.array(["FR", "DE", "BE", "Lëtzebuerg", "CI"])
    share = np.array([0.5, 0.3, 0.1, 0.1 * (1 - 0.5 * moved), 0.03 if francs else 0.0])
    nulls = source.random(count) < 0.02 + 0.01 * moved
    return pa.record_batch(
        {
            "income": source.normal(2_400 + 900 * moved, 600, count),
            "price": price,
            "age": pa.array(np.clip(source.normal(44 - 8 * moved, 6, count), 25, 60).astype(np.int64)),
            "rate": pa.array(source.gamma(2.0, 1.5, count), mask=nulls),
            "country": countries[source.choice(5, count, p=share / share.sum())],
            "since": pa.array((source.integers(0, 9_000, count) * DAY * 1_000_000).astype("datetime64[us]")),
        }
    )


def _concept(day: int, moved: float) -> CheckVerdict:
    late = day >= 20
    worse = 0.004 + 0.09 * moved + 0.002 * (day % 3)
    verdict: Verdict = "violated" if worse >= 0.03 else "insufficient" if late else "quiet"
    note = f"{'estimated, no labels yet; ' if late else ''}rocAuc {0.84 * (1 - worse):.4g} ± 0.01, reference 0.84"
    chance = 0.0004 if verdict == "violated" else 0.4
    detector = "cbpe" if late else "rocAuc"
    told = ColumnVerdict("defaulted", None, detector, worse, 0.03, chance, chance, verdict, note)
    metric = MetricValue("rocAuc", 0.84 * (1 - worse), 0.84)
    return CheckVerdict(
        "concept", "conceptDrift", verdict, worse, 0.03, (told,), estimate=late, metric=metric
    )


def _evaluation(day: int, rows: int, checks: list[CheckVerdict]) -> Evaluation:
    start = START + day * DAY
    verdict = overall(check.verdict for check in checks)
    return Evaluation(start, start + DAY, rows, verdict, tuple(checks), f"{day:064x}", 0)
