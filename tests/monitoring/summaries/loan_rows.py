"""Rows to sum up: a few columns of each kind, with everything that is unpleasant in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.monitoring.summaries.plans import Plan, Season
from mlops.monitoring.summaries.reference import plan_of

TYPES = {
    "price": "double",
    "rooms": "integer",
    "seen": "timestamp",
    "country": "string",
    "sold": "boolean",
    "tags": "list",
    "at": "timestamp",
}
MONDAY = 1_577_664_000  # 2019-12-30T00:00:00Z, seconds


def loans(rows: int, seed: int = 0, *, days: float = 3.0, scale: float = 1.0, new: bool = False) -> pa.Table:
    """`rows` rows over `days` days from a Monday on; `new` adds categories that others do not have."""
    random = np.random.default_rng(seed)
    price = scale * random.lognormal(3, 1, rows)
    price[random.random(rows) < 0.05] = 0.0
    price[random.random(rows) < 0.02] = np.nan
    price[random.random(rows) < 0.01] = np.inf
    countries = np.array(["FR", "CI", "SN", "Côte d'Ivoire", ""] + (["XX", "YY"] if new else []))
    at = ((MONDAY + random.random(rows) * days * 86_400) * 1e6).astype(np.int64)
    seen = at - random.integers(0, 10**12, rows)
    return pa.table(
        {
            "price": pa.array(price, mask=random.random(rows) < 0.03),
            "rooms": pa.array(random.integers(-2, 9, rows), pa.int32()),
            "seen": pa.array(seen, pa.timestamp("us", "UTC")),
            "country": pa.array(
                countries[random.integers(0, len(countries), rows)], mask=random.random(rows) < 0.1
            ),
            "sold": pa.array(random.random(rows) < 0.3),
            "tags": pa.array([[1]] * rows),
            "at": pa.array(at, pa.timestamp("us")),
        }
    )


def in_batches(table: pa.Table, size: int) -> Iterator[Any]:
    """The rows in batches of `size`."""
    yield from table.combine_chunks().to_batches(max_chunksize=size)


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    """The same rows in another order."""
    return table.take(np.random.default_rng(seed).permutation(table.num_rows))


def loan_plan(*, season: Season = "none", slices: tuple[str, ...] = ("country",), rows: int = 5_000) -> Plan:
    """From a reference of its own."""
    reference = loans(rows, seed=99)
    return plan_of(in_batches(reference, 1000), TYPES, slices=slices, season=season, excluded=["at"])
