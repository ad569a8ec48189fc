"""What makes two summaries, or two evaluations, the same: hashes of everything that can change them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from mlops.resources.monitoring_policy import MonitoringPolicySpec

# What only decides when windows are looked at, and what is done about them.
_NOT_JUDGING: Final = {"actions", "decide", "schedule", "suspend", "model", "stage", "data"}


def digest_of(*parts: Any) -> str:
    """A hash of what JSON holds."""
    document = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(document.encode("utf-8", "surrogatepass")).hexdigest()


def judged_by(spec: MonitoringPolicySpec) -> str:
    """A hash of what of a policy decides an evaluation: not its actions, its schedule, or how severe a check is."""
    document = {
        name: value
        for name, value in spec.model_dump(mode="json", by_alias=True).items()
        if name not in _NOT_JUDGING
    }
    document["window"] = {"minRows": spec.window.min_rows}  # which rows these are, the key says itself
    document["labels"] = None if spec.data.labels is None else spec.data.labels.max_delay
    document["checks"] = [
        {name: value for name, value in check.items() if name != "severity"} for check in document["checks"]
    ]
    return digest_of(document)
