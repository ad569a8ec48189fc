"""False alarms and power of drift checks, simulated: the real checks and decisions on summaries of drawn bin counts.

`python benchmarks/sim_monitoring.py` writes its table into docs/monitoring.md in some minutes; `--quick` prints a small
one, `--only PART` the rows of which the first column has this part. A policy watches 50 columns of independent normal
values and fires when 2 of 3 windows violate, the newest among them.
"""

from __future__ import annotations

import argparse
import re
import statistics
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
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

COLUMNS, WINDOWS, BINS, CATEGORIES = 50, 30, 128, 8
SHIFTED_WINDOWS = 10
MEMORY = 0.7  # of a row of the one before: AR(1)
_NAMES = [f"x{place:02}" for place in range(COLUMNS)]
_UNIT = 1 << 1074
PAGE = Path(__file__).parent.parent / "docs" / "monitoring.md"
_PART = re.compile(r"(?<=<!-- power -->\n).*?(?=<!-- /power -->)", re.DOTALL)

Counts = NDArray[np.int64]
Draw = Callable[[np.random.Generator, int, float, int], Counts]


@dataclass(frozen=True, slots=True)
class Setting:
    """Data and a check: the detector, rows of a window and of the reference, how rows are drawn, how thresholds are.

    `bins` equally probable ones: as many as a column of numbers has, or a few that stand for categories.
    """

    title: str
    numeric: str
    rows: int
    reference: int
    draw: Draw
    calibrated: bool = False
    policies: int = 1_000
    shifted: int = 100
    bins: int = BINS


@cache
def _edges(bins: int) -> NDArray[np.float64]:
    return ndtri(np.arange(1, bins) / bins)  # type: ignore[no-any-return]


@cache
def _plan(bins: int) -> Plan:
    return Plan({name: NumericPlan(name, "double", _edges(bins)) for name in _NAMES})


def independent(random: np.random.Generator, rows: int, shift: float, bins: int = BINS) -> Counts:
    """Counts (columns, bins) of so many independent rows, the first column's mean moved by `shift` deviations."""
    counts = random.multinomial(rows, np.full(bins, 1 / bins), COLUMNS)
    if shift:
        shares = np.diff(np.concatenate(([0.0], ndtr(_edges(bins) - shift), [1.0])))
        counts[0] = random.multinomial(rows, shares)
    return counts


def with_memory(random: np.random.Generator, rows: int, shift: float, bins: int = BINS) -> Counts:
    """The same of rows that are alike when they are neighbours."""
    noise = random.normal(0.0, np.sqrt(1 - MEMORY**2), (COLUMNS, rows))
    start = MEMORY * random.normal(size=(COLUMNS, 1))
    values, _ = lfilter([1.0], [1.0, -MEMORY], noise, axis=1, zi=start)
    values[0] += shift
    places = np.minimum((ndtr(values) * bins).astype(np.int64), bins - 1)
    flat = places + np.arange(COLUMNS)[:, None] * bins
    return np.bincount(flat.ravel(), minlength=COLUMNS * bins).reshape(COLUMNS, bins)


def summary(counts: Counts) -> WindowSummary:
    """What is kept of standard normal columns with these counts."""
    columns, whole = {}, _plan(counts.shape[1])
    for name, bins in zip(_NAMES, counts, strict=True):
        plan = whole.columns[name]
        assert isinstance(plan, NumericPlan)
        rows = int(bins.sum())
        columns[name] = NumericSummary(
            plan, rows, 0, 0, 0, 0, 0, rows // 2, -4.0, 4.0, 0, rows * _UNIT, bins, EMPTY, {"double": rows}
        )
    return WindowSummary(whole, Group(int(counts[0].sum()), columns))


def fires(setting: Setting, seed: int, windows: int, shift: float) -> tuple[int | None, int]:
    """In which window (from 1) a policy first fires, None if it does not, and how many windows violate."""
    name = zlib.crc32(setting.title.encode())
    random = np.random.default_rng([name, seed, int(shift * 1000)])
    check = DriftSettings("inputs", numeric=setting.numeric, min_rows=100)
    parts = [
        setting.draw(random, setting.rows, 0.0, setting.bins)
        for _ in range(setting.reference // setting.rows)
    ]
    calibrations: Calibrations | None = None
    if setting.calibrated:
        calibrations = calibrate(check, [summary(part) for part in parts])
    reference = summary(np.sum(parts, axis=0))
    evaluations = []
    for start in range(windows):
        window = summary(setting.draw(random, setting.rows, shift, setting.bins))
        found = data_drift(check, reference, window, calibrations=calibrations)
        evaluations.append(Evaluation(start, start + 1, setting.rows, found.verdict, (found,), f"{start}", 0))
    decided = fold(Settings("policy", (Check("inputs"),)), Watched("1"), evaluations)
    fired = [int(one.at) + 1 for one in decided.transitions if one.turn == "fired"]
    return min(fired, default=None), sum(one.verdict == "violated" for one in evaluations)


def _settings() -> Iterator[Setting]:
    """All rows of the table. Where nothing fires the rows of a policy cost most, so that they are fewer."""
    numbers, categories = ("psi", "ks", "wasserstein"), ("jensenShannon", "chiSquare", "totalVariation")
    for name in (*numbers, *categories):
        of = "" if name in numbers else f" of {CATEGORIES} categories"
        bins = BINS if name in numbers else CATEGORIES
        policies = 1_000 if name == "psi" else 100 if name in numbers else 60
        known = Setting("", name, 1_000, 10_000, independent, policies=policies, bins=bins)
        yield replace(known, title=f"independent rows{of}, `{name}`", shifted=30 if name in numbers else 15)
        known = replace(known, reference=30_000, draw=with_memory)
        policies = 40 if name == "psi" else 10
        yield replace(
            known, title=f"AR(1) rows{of}, `{name}`, fixed thresholds", policies=policies, shifted=10
        )
        policies, shifted = {"psi": (20, 5), "ks": (100, 15)}.get(name, (12, 4))
        title = f"AR(1) rows{of}, `{name}`, `calibrated`"
        yield replace(known, title=title, calibrated=True, policies=policies, shifted=shifted)


SETTINGS = tuple(_settings())
SHIFTS = (0.1, 0.25, 0.5)


def table(quick: bool, only: str) -> str:
    """The page's table: one row a setting."""
    lines = [
        "| data and detector | policies without drift | that fired | windows violated | "
        + " | ".join(f"{shift} σ" for shift in SHIFTS)
        + " |",
        "|---|---|---|---|" + "---|" * len(SHIFTS),
    ]
    for setting in SETTINGS:
        if only not in setting.title:
            continue
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few policies; prints, and writes nothing")
    parser.add_argument(
        "--only", default="", metavar="PART", help="only these rows; prints, and writes nothing"
    )
    given = parser.parse_args()
    rows = table(given.quick, given.only)
    if not given.quick and not given.only:
        page = PAGE.read_text("utf-8")
        PAGE.write_text(_PART.sub(lambda _: f"{rows}\n", page), "utf-8")


if __name__ == "__main__":
    main()
