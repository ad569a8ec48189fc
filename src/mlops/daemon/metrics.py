"""What Prometheus is told. Labels are bounded: kinds, fixed words, and a cap where a word comes from elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, Literal

from mlops import __version__

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST_WORDS: Final = 100  # values of one label; later ones are counted as "other"

Result = Literal["changed", "unchanged", "interrupted", "failed"]
Hook = Literal["accepted", "unsigned", "too_large", "limited", "broken"]

_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_QUICK: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


class Metrics:
    """Counters and gauges of one daemon in a registry of their own. Every method may be called from any thread."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        ours = self._registry = CollectorRegistry()
        ProcessCollector(registry=ours)
        self._lock = threading.Lock()  # nobody reads a gauge between its emptying and its filling
        self._words: dict[str, set[str]] = {}
        self._verdicts: dict[str, str] = {}

        def counter(name: str, text: str, *labels: str) -> Any:
            return Counter(f"mlops_{name}", text, labels, registry=ours)

        def gauge(name: str, text: str, *labels: str) -> Any:
            return Gauge(f"mlops_{name}", text, labels, registry=ours)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Any:
            return Histogram(f"mlops_{name}", text, labels, buckets=buckets, registry=ours)

        gauge("build_info", "The version that runs.", "version").labels(__version__).set(1)
        self._leader = gauge("leader", "1 while this process holds the project's lease, else 0.")
        self._passes = histogram(
            "reconcile_duration_seconds", "How long passes took, by their result.", _SECONDS, "result"
        )
        self._resources = gauge(
            "resources", "Resources of the last pass by kind, sync and health.", "kind", "sync", "health"
        )
        self._queue = gauge("queue_length", "Steps of the plan that are not done yet.")
        self._jobs = gauge("jobs", "Jobs beside the loop, by state: running or waiting.", "state")
        self._calls = histogram(
            "call_duration_seconds", "How long calls of git and MLflow took.", _QUICK, "service", "operation"
        )
        self._failures = counter(
            "call_failures", "Calls of git and MLflow that failed.", "service", "operation"
        )
        self._events = counter("events", "Events recorded, by reason.", "reason")
        self._wakeups = counter("wakeups", "Why passes were asked for.", "reason")
        self._hooks = counter("webhooks", "Webhooks received, by what became of them.", "result")
        self._revision = gauge("revision_info", "1 for the revision in force.", "revision")
        self._in_force_at = gauge(
            "revision_timestamp_seconds", "When the revision in force came into force (Unix time)."
        )
        self._drift = gauge(
            "drift_verdict", "1 for the verdict that a monitoring policy has.", "policy", "verdict"
        )
        for state in ("running", "waiting"):
            self._jobs.labels(state).set(0)

    def role(self, leader: bool) -> None:
        """Whether this process holds the lease."""
        self._leader.set(1 if leader else 0)

    def reconciled(self, seconds: float, result: Result) -> None:
        """A pass ended after `seconds`."""
        self._passes.labels(result).observe(seconds)

    def resources(self, counts: Mapping[tuple[str, str, str], int]) -> None:
        """How many resources there are by (kind, sync, health); what is not named is no longer there."""
        with self._lock:
            self._resources.clear()
            for labels, count in counts.items():
                self._resources.labels(*labels).set(count)

    def queue(self, length: int) -> None:
        """How many steps wait to be done."""
        self._queue.set(length)

    def jobs(self, *, running: int, waiting: int) -> None:
        """How many jobs run, and how many wait for their turn."""
        self._jobs.labels("running").set(running)
        self._jobs.labels("waiting").set(waiting)

    def called(self, service: Literal["git", "mlflow"], doing: str, seconds: float, failed: bool) -> None:
        """A call of git or MLflow ended after `seconds`; the first word of `doing` says what it was for."""
        word = self._bounded(f"{service} operation", doing.partition(" ")[0])
        self._calls.labels(service, word).observe(seconds)
        if failed:
            self._failures.labels(service, word).inc()

    def event(self, reason: str) -> None:
        """An event of this reason was recorded."""
        self._events.labels(self._bounded("event", reason)).inc()

    def wakeups(self, reason: str) -> None:
        """A pass was asked for."""
        self._wakeups.labels(self._bounded("wakeup", reason)).inc()

    def webhook(self, result: Hook) -> None:
        """A webhook was answered."""
        self._hooks.labels(result).inc()

    def revision(self, sha: str, at: float) -> None:
        """The revision in force, and since when (seconds since the epoch)."""
        with self._lock:
            self._revision.clear()
            self._revision.labels(sha).set(1)
            self._in_force_at.set(at)

    def drift(self, policy: str, verdict: str) -> None:
        """The verdict of a policy: `Healthy`, `Degraded` or `Unknown`."""
        policy, verdict = self._bounded("policy", policy), self._bounded("verdict", verdict)
        with self._lock:
            if (before := self._verdicts.get(policy)) is not None:
                self._drift.remove(policy, before)
            self._verdicts[policy] = verdict
            self._drift.labels(policy, verdict).set(1)

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        from prometheus_client import generate_latest

        with self._lock:
            return generate_latest(self._registry)

    def _bounded(self, label: str, word: str) -> str:
        """`word`, or "other" where this label has very many already: each is kept for the life of the process."""
        known = self._words.setdefault(label, set())
        if word in known:
            return word
        if len(known) >= MOST_WORDS or len(word) > 100:
            return "other"
        known.add(word)
        return word
