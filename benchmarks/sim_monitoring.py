"""False alarms and power of drift checks, simulated: the real checks and decisions on summaries of drawn bin counts.

`python benchmarks/sim_monitoring.py` writes docs/monitoring-power.md in some minutes; `--quick` prints a small one.
A policy watches 50 columns of independent normal values and fires when 2 of 3 windows violate, the newest among them.
"""

from __future__ import annotations

import argparse
import statistics
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from mlops.monitoring.checks import DriftSettings, calibrate, data_drift
from mlops.monitoring.checks.drift import Calibrations
from mlops.monitoring.deciding import Check, Settings, Watched, fold
from mlops.monitoring.summaries.histogram import EMPTY
from mlops.monitoring.summaries.numeric import NumericSummary
from mlops.monitoring.summaries.plans import NumericPlan, Plan
from mlops.monitoring.summaries.windowed import Group, WindowSummary
from mlops.monitoring.verdicts import Evaluation

COLUMNS, WINDOWS, BINS = 50, 30, 128
SHIFTED_WINDOWS = 10
MEMORY = 0.7  # of a row of the one before: AR(1)
_EDGES = ndtri(np.arange(1, BINS) / BINS)
_NAMES = [f"x{place:02}" for place in range(COLUMNS)]
_PLAN = Plan({name: NumericPlan(name, "double", _EDGES) for name in _NAMES})
_UNIT = 1 << 1074
PAGE = Path(__file__).parent.parent / "docs" / "monitoring-power.md"

Counts = NDArray[np.int64]
Draw = Callable[[np.random.Generator, int, float], Counts]


@dataclass(frozen=True, slots=True)
class Setting:
    """Data and a check: the detector, rows of a window and of the reference, how rows are drawn, how thresholds are."""

    title: str
    numeric: str
    rows: int
    reference: int
    draw: Draw
    calibrated: bool = False
    policies: int = 1_000
    shifted: int = 100


def independent(random: np.random.Generator, rows: int, shift: float) -> Counts:
    """Counts (columns, bins) of so many independent rows, the first column's mean moved by `shift` deviations."""
    counts = random.multinomial(rows, np.full(BINS, 1 / BINS), COLUMNS)
    if shift:
        shares = np.diff(np.concatenate(([0.0], ndtr(_EDGES - shift), [1.0])))
        counts[0] = random.multinomial(rows, shares)
    return counts


def with_memory(random: np.random.Generator, rows: int, shift: float) -> Counts:
    """The same of rows that are alike when they are neighbours."""
    noise = random.normal(0.0, np.sqrt(1 - MEMORY**2), (COLUMNS, rows))
    start = MEMORY * random.normal(size=(COLUMNS, 1))
    values, _ = lfilter([1.0], [1.0, -MEMORY], noise, axis=1, zi=start)
    values[0] += shift
    bins = np.minimum((ndtr(values) * BINS).astype(np.int64), BINS - 1)
    flat = bins + np.arange(COLUMNS)[:, None] * BINS
    return np.bincount(flat.ravel(), minlength=COLUMNS * BINS).reshape(COLUMNS, BINS)


def summary(counts: Counts) -> WindowSummary:
    """What is kept of standard normal columns with these counts."""
    columns = {}
    for name, bins in zip(_NAMES, counts, strict=True):
        plan = _PLAN.columns[name]
        assert isinstance(plan, NumericPlan)
        rows = int(bins.sum())
        columns[name] = NumericSummary(
            plan, rows, 0, 0, 0, 0, 0, rows // 2, -4.0, 4.0, 0, rows * _UNIT, bins, EMPTY, {"double": rows}
        )
    return WindowSummary(_PLAN, Group(int(counts[0].sum()), columns))


def fires(setting: Setting, seed: int, windows: int, shift: float) -> tuple[int | None, int]:
    """In which window (from 1) a policy first fires, None if it does not, and how many windows violate."""
    name = zlib.crc32(setting.title.encode())
    random = np.random.default_rng([name, seed, int(shift * 1000)])
    check = DriftSettings("inputs", numeric=setting.numeric, min_rows=100)
    parts = [setting.draw(random, setting.rows, 0.0) for _ in range(setting.reference // setting.rows)]
    calibrations: Calibrations | None = None
    if setting.calibrated:
        calibrations = calibrate(check, [summary(part) for part in parts])
    reference = summary(np.sum(parts, axis=0))
    evaluations = []
    for start in range(windows):
        window = summary(setting.draw(random, setting.rows, shift))
        found = data_drift(check, reference, window, calibrations=calibrations)
        evaluations.append(Evaluation(start, start + 1, setting.rows, found.verdict, (found,), f"{start}", 0))
    decided = fold(Settings("policy", (Check("inputs"),)), Watched("1"), evaluations)
    fired = [int(one.at) + 1 for one in decided.transitions if one.turn == "fired"]
    return min(fired, default=None), sum(one.verdict == "violated" for one in evaluations)


SETTINGS = (
    Setting("independent rows, `psi`", "psi", 1_000, 10_000, independent, shifted=30),
    Setting("independent rows, `ks`", "ks", 1_000, 10_000, independent, policies=100, shifted=30),
    Setting(
        "independent rows, `wasserstein`", "wasserstein", 1_000, 10_000, independent, policies=100, shifted=30
    ),
    Setting("AR(1) rows, `ks`, fixed thresholds", "ks", 1_000, 30_000, with_memory, policies=10, shifted=10),
    Setting("AR(1) rows, `ks`, `calibrated`", "ks", 1_000, 30_000, with_memory, True, 100, 15),
    Setting("AR(1) rows, `psi`, `calibrated`", "psi", 1_000, 30_000, with_memory, True, 20, 5),
)
SHIFTS = (0.1, 0.25, 0.5)


def table(quick: bool) -> str:
    """The page's table: one row a setting."""
    lines = [
        "| data and detector | policies without drift | that fired | windows violated | "
        + " | ".join(f"{shift} σ" for shift in SHIFTS)
        + " |",
        "|---|---|---|---|" + "---|" * len(SHIFTS),
    ]
    for setting in SETTINGS:
        policies, shifted = (
            (max(2, setting.policies // 200), 2) if quick else (setting.policies, setting.shifted)
        )
        quiet = [fires(setting, seed, WINDOWS, 0.0) for seed in range(policies)]
        alarms = sum(first is not None for first, _ in quiet)
        violated = sum(count for _, count in quiet) / (policies * WINDOWS)
        cells = [setting.title, f"{policies:,}", f"{alarms:,}", f"{violated:.2%}"]
        for shift in SHIFTS:
            found = [fires(setting, seed, SHIFTED_WINDOWS, shift)[0] for seed in range(shifted)]
            seen = [first for first in found if first is not None]
            after = f", in window {statistics.median_low(seen)}" if seen else ""
            cells.append(f"{len(seen) / shifted:.0%}{after}")
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def page(rows: str) -> str:
    """docs/monitoring-power.md."""
    independent_rows = round(1_000 * (1 - MEMORY) / (1 + MEMORY))
    return f"""# How often monitoring alarms, and how much it sees

Simulated by `python benchmarks/sim_monitoring.py` with the checks and decisions that the daemon runs: a policy over
{COLUMNS} independent normal columns, {WINDOWS} windows of 1,000 rows, default thresholds, `decide: {{fire: 2 of 3}}`.
The reference has 10 windows of independent rows, or 30 of rows with memory: AR(1), {MEMORY} of each row is the one
before, and 1,000 such rows say as much of a mean as {independent_rows} independent ones.

The last columns are policies where **one** of the {COLUMNS} columns moved by so many of its standard deviations: how
many of them fired within {SHIFTED_WINDOWS} windows, and in which window half of those had (the second is the first
possible).

{rows}

How to read it: the threshold of an effect is what a shift has to reach, whatever the number of rows; p-values keep
chance out. `psi` 0.2 is a shift of about 0.45 σ, `ks` 0.1 of 0.25 σ, `wasserstein` 0.1 of 0.1 σ. Chance alone takes
`wasserstein` over a threshold that low in windows of 1,000 rows; its own p-value keeps that quiet, and larger
windows see smaller shifts. Where rows have memory p-values do not hold: fixed
thresholds then alarm without any drift, and `thresholds: calibrated` asks for what the reference's own windows never
did, which costs power.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few policies; prints, and writes nothing")
    quick = parser.parse_args().quick
    rows = table(quick)
    if not quick:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
