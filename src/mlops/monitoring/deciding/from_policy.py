"""What a MonitoringPolicy says about decisions, with its defaults."""

from __future__ import annotations

from collections.abc import Iterable

from mlops.monitoring.deciding.settings import Check, Retraining, Rule, Settings, Severity
from mlops.resources.monitoring_actions import Retrain
from mlops.resources.monitoring_policy import MonitoringPolicy
from mlops.resources.notifier import Notifier

_CRITICAL = ("upstreamChange", "conceptDrift")
_BLOCKS = "upstreamChange"


def settings_of(policy: MonitoringPolicy, notifiers: Iterable[Notifier] = ()) -> Settings:
    """How to decide for a policy.

    Args:
        policy: the policy.
        notifiers: those it may name, for the severities that they want to hear of; a suspended one hears nothing.
    """
    spec = policy.spec
    blocks = {
        name: action.block_retrain
        for action in spec.actions
        if action.block_retrain is not None
        for name in action.on
    }
    checks = []
    for check in spec.checks:
        default: Severity = "critical" if check.type in _CRITICAL else "warning"
        blocking = blocks.get(check.name, check.type == _BLOCKS)
        checks.append(Check(check.name, check.severity or default, blocking))
    known = {notifier.metadata.name: notifier.spec for notifier in notifiers}
    quiet = {name for name, spec in known.items() if spec.suspend}
    return Settings(
        policy=policy.metadata.name,
        checks=tuple(checks),
        rules=tuple(
            Rule(
                action.on,
                action.severity or "info",
                tuple(name for name in action.alert if name not in quiet),
                _retraining(action.retrain),
                action.rollback is not None,
            )
            for action in spec.actions
        ),
        fire=spec.decide.fire.k,
        of=spec.decide.fire.n,
        clear=spec.decide.clear,
        warmup=spec.decide.warmup,
        notifiers=tuple(sorted((name, spec.min_severity) for name, spec in known.items())),
    )


def _retraining(retrain: Retrain | None) -> Retraining | None:
    if retrain is None:
        return None
    budget = retrain.budget
    return Retraining(
        retrain.experiment,
        retrain.cooldown,
        budget.times if budget else None,
        budget.period if budget else None,
    )
