"""Loans, with a chance of default that depends on income, and a model that knows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def loans(
    seed: int, rows: int, day: float = 0.0, days: float = 1.0, *, shift: float = 0.0, flip: float = 0.0
) -> dict[str, Any]:
    """Columns of `rows` loans, made at times spread over `days` from `day` on; `flip`: share of defaults turned."""
    rng = np.random.default_rng(seed)
    income = rng.normal(shift, 1.0, rows)
    age = rng.integers(18, 80, rows)
    country = rng.choice(["DE", "ES", "FR"], rows, p=[0.5, 0.3, 0.2])
    chance = 1 / (1 + np.exp(1.5 * income + 0.5))
    default = (rng.random(rows) < chance).astype(np.int64)
    default = np.where(rng.random(rows) < flip, 1 - default, default)
    times = np.sort((day + days * rng.random(rows)) * 86_400e6).astype(np.int64)
    return {
        "id": pa.array(np.arange(rows) + seed * 1_000_000),
        "time": pa.array(times, pa.timestamp("us")),
        "income": pa.array(income),
        "age": pa.array(age),
        "country": pa.array(country),
        "score": pa.array(chance),
        "prediction": pa.array((chance >= 0.5).astype(np.int64)),
        "default": pa.array(default),
    }


def only(rows: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: rows[name] for name in names}


def without(rows: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: values for name, values in rows.items() if name not in names}
