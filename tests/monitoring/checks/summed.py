"""Summaries of arrays, on quantile edges of a reference, for tests of the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.monitoring.summaries.hashing import hashes_of
from mlops.monitoring.summaries.plans import CategoricalPlan, NumericPlan, Plan
from mlops.monitoring.summaries.summarising import summarise
from mlops.monitoring.summaries.windowed import WindowSummary
from mlops.monitoring.windows import Season


def plan_of(
    columns: Mapping[str, Any], slices: Mapping[str, tuple[str, ...]] | None = None, season: Season = "none"
) -> Plan:
    """128 quantile bins for numbers, with a bin of its own for what is tied over one; all categories for texts."""
    made = {}
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind in "fi":
            finite = array[np.isfinite(array)]
            edges = (
                np.quantile(finite, np.linspace(0, 1, 129), method="inverted_cdf") if len(finite) else finite
            )
            found, times = np.unique(edges, return_counts=True)
            edges = np.union1d(found, np.nextafter(found[(times > 1) | (found == found[-1:])], np.inf))
            made[name] = NumericPlan(
                name, "integer" if array.dtype.kind == "i" else "double", edges.astype(float)
            )
        else:
            names, counts = np.unique([str(one) for one in values if one is not None], return_counts=True)
            top = [str(names[place]) for place in np.lexsort((names, -counts))]
            hashes = hashes_of(pa.array(top, pa.string()))
            order = np.argsort(hashes)
            slots = np.minimum(order, 1_000).astype(np.int64)
            made[name] = CategoricalPlan(name, "string", tuple(top[:1_000]), hashes[order], slots, True)
    return Plan(made, slices or {}, season)


def summed(plan: Plan, columns: Mapping[str, Any], timestamp: str | None = None) -> WindowSummary:
    """All rows as one window."""
    arrays = [values if isinstance(values, pa.Array) else pa.array(values) for values in columns.values()]
    batch = pa.record_batch(arrays, names=list(columns))
    return summarise([batch], plan, timestamp=timestamp, threads=1).windows[0]


def beside(
    reference: Mapping[str, Any], window: Mapping[str, Any], slices: Sequence[str] = ()
) -> tuple[WindowSummary, WindowSummary]:
    """Reference and window, summed up by a plan made of the reference."""
    values = {name: tuple(dict.fromkeys(map(str, reference[name]))) for name in slices}
    plan = plan_of(reference, values)
    return summed(plan, reference), summed(plan, window)
