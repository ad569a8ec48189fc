"""A declared policy decides as it says, and where it says nothing as documented."""

from __future__ import annotations

from typing import Any

from mlops.monitoring.deciding import Check, Retraining, Rule, settings_of
from mlops.resources.monitoring_policy import MonitoringPolicy
from mlops.resources.notifier import Notifier
from mlops.resources.yaml_reading import read_values

HEAD = {"apiVersion": "mlops/v1", "kind": "Notifier"}
POLICY = """
apiVersion: mlops/v1
kind: MonitoringPolicy
metadata: {name: p}
spec:
  model: loan
  stage: production
  data: {predictions: scored}
  window: {size: 1d}
  checks:
    - {name: upstream, type: upstreamChange}
    - {name: inputs, type: dataDrift}
    - {name: target, type: targetDrift, severity: info}
    - {name: concept, type: conceptDrift}
"""


def policy(more: str = "") -> MonitoringPolicy:
    _, (document,) = read_values(POLICY + more)
    return MonitoringPolicy.model_validate(document)


def notifier(name: str, **spec: Any) -> Notifier:
    return Notifier.model_validate(
        {**HEAD, "metadata": {"name": name}, "spec": {"urls": ["json://localhost"], **spec}}
    )


def test_severities_and_blocking_are_as_documented() -> None:
    made = settings_of(policy())
    assert made.checks == (
        Check("upstream", "critical", blocks=True),
        Check("inputs", "warning"),
        Check("target", "info"),
        Check("concept", "critical"),
    )
    assert (made.policy, made.fire, made.of, made.clear, made.warmup) == ("p", 2, 3, 3, 3)
    assert made.rules == ()


def test_block_retrain_lifts_and_sets_what_blocks() -> None:
    made = settings_of(
        policy("  actions: [{on: [upstream], blockRetrain: false}, {on: [target], blockRetrain: true}]")
    )
    assert [check.name for check in made.checks if check.blocks] == ["target"]


def test_actions_become_rules() -> None:
    text = """
  decide: {fire: 3 of 5, clear: 2, warmup: 0}
  actions:
    - {on: [concept, inputs], alert: [team, asleep], retrain: {experiment: gbt, cooldown: 7d, budget: 4 per 30d}}
    - {on: [concept], severity: critical, rollback: propose}
"""
    made = settings_of(
        policy(text), [notifier("team", minSeverity="warning"), notifier("asleep", suspend=True)]
    )
    assert made.rules == (
        Rule(("concept", "inputs"), "info", ("team",), Retraining("gbt", 7 * 86_400, 4, 30 * 86_400)),
        Rule(("concept",), "critical", (), None, rollback=True),
    )
    assert (made.fire, made.of, made.clear, made.warmup) == (3, 5, 2, 0)
    assert dict(made.notifiers)["team"] == "warning"
