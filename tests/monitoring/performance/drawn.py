"""Rows of a simulated model: x is normal, the score is the true chance of y, or was before the world changed."""

from collections.abc import Callable

import numpy as np

from mlops.monitoring.performance.concept_drift import chunks_of
from mlops.monitoring.performance.rows import Joined, PredictionRows
from mlops.monitoring.performance.sums import Layout, Sums, predicted, summed

BINARY = Layout("binary", ("no", "yes"))


def chance(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-2 * x))


def drawn(
    rng: np.random.Generator,
    rows: int,
    *,
    truth: Callable[[np.ndarray], np.ndarray] = chance,
    centre: float = 0.0,
    codes: int = 1,
) -> Joined:
    """Rows with x around `centre`, scored by `chance` and labelled by `truth`, the slice code in turn."""
    x = rng.normal(centre, 1, rows)
    scores = chance(x)[:, None]
    found = PredictionRows(
        np.sort(rng.integers(0, 2**63, rows).astype(np.uint64)),
        np.zeros(rows, np.int64),
        np.arange(rows),
        predicted(scores),
        scores,
        (np.arange(rows)[:, None] % codes).astype(np.int32),
    )
    return Joined(found, (rng.random(rows) < truth(x)).astype(float))


def sums(rows: Joined) -> Sums:
    return summed(BINARY, rows.targets, rows.rows.predictions, rows.rows.scores)


def reference(rng: np.random.Generator, rows: int, size: int) -> list[Sums]:
    return [sums(chunk) for chunk in chunks_of(drawn(rng, rows), size)]
