"""Decisions: when a check fires and clears, and what is done about it. Pure: no I/O, no clock, no store.

`fold` goes over the stored evaluations of a watched version; `State` is what it carries on, `Action`s come of it.
"""

from mlops.monitoring.deciding.actions import (
    Action,
    Alert,
    Decided,
    Happened,
    Retrain,
    Rollback,
    action_id,
    document_of,
    from_document,
    outstanding,
)
from mlops.monitoring.deciding.fold import Decision, fold
from mlops.monitoring.deciding.from_policy import settings_of
from mlops.monitoring.deciding.settings import (
    Check,
    Retraining,
    Rule,
    Settings,
    Severity,
    Watched,
)
from mlops.monitoring.deciding.state import CheckState, Incident, Past, Request, State

__all__ = [
    "Action",
    "Alert",
    "Check",
    "CheckState",
    "Decided",
    "Decision",
    "Happened",
    "Incident",
    "Past",
    "Request",
    "Retrain",
    "Retraining",
    "Rollback",
    "Rule",
    "Settings",
    "Severity",
    "State",
    "Watched",
    "action_id",
    "document_of",
    "fold",
    "from_document",
    "outstanding",
    "settings_of",
]
