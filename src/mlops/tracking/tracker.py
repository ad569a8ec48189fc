"""The one door to MLflow."""

from __future__ import annotations

from mlops.tracking.environment import Environment
from mlops.tracking.evaluations import Evaluations
from mlops.tracking.observing import Observing
from mlops.tracking.registry import Registry


class Tracker(Evaluations, Registry, Environment, Observing):
    """An MLflow store: observed in few calls, written to idempotently, opened only when it is needed.

    Safe to share between threads. Whatever MLflow raises arrives as `Transient` (unreachable, locked) or
    `Stalled` (not found, refused, invalid), with what was being done and where.
    """
