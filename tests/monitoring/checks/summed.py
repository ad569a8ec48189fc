"""Summaries of arrays, for tests of the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mlops.data.tallies import type_name
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.reference import plan_of as plan_of_batches
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.windows import Season


def plan_of(columns: Mapping[str, Any], slices: Sequence[str] = (), season: Season = "none") -> Plan:
    """The plan that these columns make as a reference."""
    batch = _batch(columns)
    types = {field.name: type_name(field.type) for field in batch.schema}
    return plan_of_batches([batch], types, slices=slices, season=season, threads=1)


def summed(plan: Plan, columns: Mapping[str, Any], timestamp: str | None = None) -> WindowSummary:
    """All rows as one window."""
    return summarise([_batch(columns)], plan, timestamp=timestamp, threads=1).windows[0]


def beside(
    reference: Mapping[str, Any], window: Mapping[str, Any], slices: Sequence[str] = ()
) -> tuple[WindowSummary, WindowSummary]:
    """Reference and window, summed up by a plan made of the reference."""
    plan = plan_of(reference, slices)
    return summed(plan, reference), summed(plan, window)


def _batch(columns: Mapping[str, Any]) -> Any:
    arrays = [values if isinstance(values, pa.Array) else pa.array(values) for values in columns.values()]
    return pa.record_batch(arrays, names=list(columns))
