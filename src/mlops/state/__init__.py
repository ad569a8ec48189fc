"""The cache, which may be deleted at any time, and the lease that makes one process the writer.

`open_state` opens it; planning is given a `StateReader`, applying a `State`.
"""

from __future__ import annotations

from mlops.state.events import Event, Severity
from mlops.state.holder import Holder
from mlops.state.lease import Lease, LeaseHeld, LeaseLost, acquire
from mlops.state.opening import open_state
from mlops.state.store import Namespace, Pruned, State, StateReader

__all__ = [
    "Event",
    "Holder",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Namespace",
    "Pruned",
    "Severity",
    "State",
    "StateReader",
    "acquire",
    "open_state",
]
