"""What a policy asks of a window, each check as a pure function of two summaries that gives a verdict.

Drift (`data_drift`, `target_drift`) compares column by column with a detector; `upstream_change` looks for a feature
whose meaning changed at its source. Imported only from inside functions of other rooms.
"""

from mlops.monitoring.checks.drift import DriftSettings, calibrate, data_drift, target_drift
from mlops.monitoring.checks.upstream_change import UpstreamSettings, upstream_change

__all__ = [
    "DriftSettings",
    "UpstreamSettings",
    "calibrate",
    "data_drift",
    "target_drift",
    "upstream_change",
]
