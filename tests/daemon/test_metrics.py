"""Metrics: named as Prometheus asks, bounded in number, and each explained in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops.daemon.metrics import MOST_WORDS, Metrics

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"


@pytest.fixture
def told() -> Metrics:
    """Metrics of a daemon that was told one of everything."""
    metrics = Metrics()
    metrics.role(True)
    metrics.reconciled(0.3, "changed")
    metrics.resources({("Model", "Synced", "Healthy"): 3, ("Promotion", "OutOfSync", "Degraded"): 1})
    metrics.queue(4)
    metrics.jobs(running=2, waiting=1)
    metrics.called("git", "fetch", 0.2, failed=True)
    metrics.called("mlflow", "reading runs of p/fit", 0.02, failed=False)
    metrics.event("Healed")
    metrics.wakeups("webhook")
    metrics.webhook("unsigned")
    metrics.revision("a" * 40, 1_700_000_000.0)
    metrics.drift("weather", "violated")
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"mlops_{name}", tuple(sorted(labels.items()))))


def test_what_was_told_is_read_back(told: Metrics) -> None:
    assert value(told, "leader") == 1
    assert value(told, "resources", kind="Model", sync="Synced", health="Healthy") == 3
    assert value(told, "reconcile_duration_seconds_count", result="changed") == 1
    assert value(told, "queue_length") == 4
    assert value(told, "jobs", state="running") == 2
    assert value(told, "call_duration_seconds_sum", service="git", operation="fetch") == 0.2
    assert value(told, "call_failures_total", service="git", operation="fetch") == 1
    assert value(told, "call_duration_seconds_count", service="mlflow", operation="reading") == 1
    assert value(told, "call_failures_total", service="mlflow", operation="reading") is None
    assert value(told, "events_total", reason="Healed") == 1
    assert value(told, "wakeups_total", reason="webhook") == 1
    assert value(told, "revision_info", revision="a" * 40) == 1
    assert value(told, "revision_timestamp_seconds") == 1_700_000_000.0
    assert value(told, "drift_verdict", policy="weather", verdict="violated") == 1


def test_what_is_gone_is_told_no_longer(told: Metrics) -> None:
    told.resources({("Model", "Synced", "Healthy"): 2})
    assert value(told, "resources", kind="Promotion", sync="OutOfSync", health="Degraded") is None
    told.revision("b" * 40, 1.0)
    assert value(told, "revision_info", revision="a" * 40) is None
    told.drift("weather", "passed")
    assert value(told, "drift_verdict", policy="weather", verdict="violated") is None
    told.role(False)
    assert value(told, "leader") == 0


def test_no_label_grows_without_bound() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.event(f"Reason{number}")
        metrics.called("mlflow", f"reading{number} run", 0.1, failed=True)
        metrics.wakeups(f"x{number}" * 100)
        metrics.drift(f"policy-{number}", "passed")
    rows = samples(metrics)
    assert len([key for key in rows if key[0] == "mlops_events_total"]) == MOST_WORDS + 1
    assert rows["mlops_events_total", (("reason", "other"),)] == 1000 - MOST_WORDS
    assert rows["mlops_wakeups_total", (("reason", "other"),)] == 1000
    assert len(rows) < 10 * (MOST_WORDS + 1) * 5


def test_labels_are_escaped() -> None:
    metrics = Metrics()
    metrics.event('x"} 1\nmlops_leader 5 # \\')
    assert value(metrics, "leader") == 0
    assert value(metrics, "events_total", reason='x"} 1\nmlops_leader 5 # \\') == 1


def test_two_daemons_in_a_process_share_nothing(told: Metrics) -> None:
    assert value(Metrics(), "events_total", reason="Healed") is None


def test_names_follow_the_conventions_and_are_documented(told: Metrics) -> None:
    documented = OPERATIONS.read_text("utf-8")
    for family in text_string_to_metric_families(told.render().decode()):
        assert re.fullmatch(r"(mlops|process)_[a-z_]+", family.name), family.name
        assert family.documentation
        if family.name.startswith("mlops_") and not family.name.endswith("_created"):
            shown = f"{family.name}_total" if family.type == "counter" else family.name
            assert f"`{shown}`" in documented, shown
            labels: set[Any] = {name for sample in family.samples for name in sample.labels} - {"le"}
            row = next(line for line in documented.splitlines() if f"`{shown}`" in line)
            assert all(f"`{label}`" in row for label in labels), (shown, labels)
