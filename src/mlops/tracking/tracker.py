"""The one door to MLflow."""

from __future__ import annotations

from mlops.tracking.artifacts import Artifacts
from mlops.tracking.environment import Environment
from mlops.tracking.observing import Observing
from mlops.tracking.registry import Registry
from mlops.tracking.runs import Runs


class Tracker(Runs, Registry, Artifacts, Environment, Observing):
    """An MLflow store: observed in few calls, written to idempotently, opened only when it is needed.

    Safe to share between threads. Whatever MLflow raises arrives as `Transient` (unreachable, locked) or
    `Stalled` (not found, refused, invalid), with what was being done and where.
    """
