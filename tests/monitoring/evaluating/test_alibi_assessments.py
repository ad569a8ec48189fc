"""alibi-detect itself, in its child process, judges the same windows as the built-in detectors: the two agree.

Runs where alibi-detect is installed, or with MLOPS_ALIBI_PYTHON, the Python of an environment that has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scored_loans import loans
from scored_tables import assessed, spec, subject, table, written

from mlops.monitoring.alibi.catalogue import PYTHON
from mlops.monitoring.alibi.worker import Worker
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict


def _has(*modules: str) -> bool:
    python = os.environ.get(PYTHON) or sys.executable
    code = f"import importlib.util as u, sys; sys.exit(not all(u.find_spec(one) for one in {modules!r}))"
    return subprocess.run([python, "-I", "-c", code], check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not _has("alibi_detect", "torch"),
    reason=f"alibi-detect and torch are not installed, and {PYTHON} names no Python that has them",
)

CHECKS: Mapping[str, Mapping[str, str]] = {
    "own": {"numeric": "ks", "categorical": "chiSquare", "multivariate": "domainClassifier"},
    "theirs": {"numeric": "alibi/ks", "categorical": "alibi/chiSquare", "multivariate": "alibi/mmd"},
    "cvm": {"numeric": "alibi/cvm", "multivariate": "alibi/lsdd"},
    "tabular": {"numeric": "ks", "multivariate": "alibi/tabular"},
    "classifier": {"numeric": "ks", "multivariate": "alibi/classifier"},
    "spot": {"numeric": "ks", "multivariate": "alibi/spotTheDiff"},
}


def rows(seed: int, count: int, day: float, **how: float) -> dict[str, Any]:
    """Loans with a category that may move, and a tenth of the incomes unknown."""
    found = loans(seed, count, day, shift=how.get("shift", 0.0))
    draw = np.random.default_rng(seed + 500)
    share = how.get("share", 0.5)
    found["channel"] = pa.array(draw.choice(["web", "branch", "phone"], count, p=[share, 0.8 - share, 0.2]))
    income = found["income"].to_numpy()
    found["income"] = pa.array(income, mask=draw.random(count) < 0.1)
    found["age"] = pa.array(found["age"].to_numpy().astype(np.float64))
    return found


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, CheckVerdict]]:
    """Checks by name of a quiet window, one with other incomes, and one with other channels."""
    folder = tmp_path_factory.mktemp("loans")
    train = table("train", [written(folder, "train.parquet", rows(1, 1_500, 0))])
    how: list[dict[str, float]] = [{}, {"shift": 0.6}, {"share": 0.25}, {}]
    paths = [
        written(folder, f"{place}.parquet", rows(20 + place, 900, 10 + place, **one))
        for place, one in enumerate(how)
    ]
    checks = [{"name": name, "type": "dataDrift", **one} for name, one in CHECKS.items()]
    with Worker() as worker:
        found = assessed(subject(spec(checks=checks), train, table("scored", paths)), alibi=worker.measure)
    return [{check.name: check for check in one.checks} for one in found.evaluations]


def of_column(check: CheckVerdict, column: str) -> ColumnVerdict:
    return next(one for one in check.columns if one.column == column)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("column", ["income", "age", "country", "channel"])
def test_both_measure_the_same_on_the_same_rows(
    windows: list[dict[str, CheckVerdict]], place: int, column: str
) -> None:
    own, theirs = (of_column(windows[place][name], column) for name in ("own", "theirs"))
    assert theirs.detector == f"alibi/{own.detector}"
    assert own.value is not None
    assert own.p_value is not None
    assert theirs.p_value is not None
    exact = 1e-3 if own.detector == "chiSquare" else 1 / 128  # quantile bins see a distance this well
    assert theirs.value == pytest.approx(own.value, abs=exact)
    if min(own.p_value, theirs.p_value) > 1e-6:
        assert np.log10(theirs.p_value) == pytest.approx(np.log10(own.p_value), abs=0.7)
    assert (own.verdict, own.threshold) == (theirs.verdict, theirs.threshold)


def test_all_of_them_find_what_moved_and_nothing_else(windows: list[dict[str, CheckVerdict]]) -> None:
    quiet, incomes, channels = windows
    assert {name: check.verdict for name, check in quiet.items()} == dict.fromkeys(CHECKS, "quiet")
    assert {name: check.verdict for name, check in incomes.items()} == dict.fromkeys(CHECKS, "violated")
    assert of_column(incomes["cvm"], "income").verdict == "violated"
    of_all = {name: of_column(check, "*").verdict for name, check in incomes.items()}
    assert of_all == dict.fromkeys(CHECKS, "violated")
    for name in ("own", "theirs"):
        moved = [one.column for one in channels[name].columns if one.verdict == "violated"]
        assert set(moved) - {"*"} == {"channel"}
