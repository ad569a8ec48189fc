"""Detectors that compare rows get a sample of them, in whatever files they came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scipy.stats import ks_2samp
from scored_loans import loans
from scored_tables import assessed, spec, subject, table, written

from mlops.errors import MlopsError
from mlops.monitoring.alibi.requests import Request
from mlops.monitoring.detectors import Measured

POLICY = spec(
    checks=[
        {"name": "inputs", "type": "dataDrift", "numeric": "alibi/ks", "multivariate": "alibi/classifier"},
        {"name": "target", "type": "targetDrift", "numeric": "alibi/ks"},
    ],
    task="binary",
)


def ask(requests: Sequence[Request]) -> list[Measured | MlopsError]:
    """In the place of the child process."""
    found: list[Measured | MlopsError] = []
    for request in requests:
        tests = [
            ks_2samp(request.reference[:, place], request.window[:, place])
            for place in range(request.window.shape[1])
        ]
        found.append(
            request.measured([max(test.statistic for test in tests)], [min(test.pvalue for test in tests)])
        )
    return found


def test_alibi_is_asked_for_features_and_predictions_of_the_windows_rows(tmp_path: Path) -> None:
    train = table("train", [written(tmp_path, "train.parquet", loans(1, 2_000))])
    paths = [
        written(tmp_path, f"{day}.parquet", loans(day, 400, day, shift=0.8 * (day == 11)))
        for day in range(10, 13)
    ]
    watched = subject(POLICY, train, table("scored", paths))
    quiet, moved = assessed(watched, alibi=ask).evaluations
    assert [check.verdict for check in quiet.checks] == ["quiet", "quiet"]
    inputs, target = moved.checks
    assert {one.column: one.verdict for one in inputs.columns if one.detector.startswith("alibi/")} == {
        "income": "violated",
        "age": "quiet",
        "*": "violated",
    }
    assert {one.column: one.verdict for one in target.columns if one.detector == "alibi/ks"}[
        "score"
    ] == "violated"


def test_where_nobody_asks_alibi_its_columns_are_insufficient_and_never_quiet(tmp_path: Path) -> None:
    train = table("train", [written(tmp_path, "train.parquet", loans(1, 2_000))])
    paths = [written(tmp_path, f"{day}.parquet", loans(day, 400, day)) for day in (10, 11)]
    (found,) = assessed(subject(POLICY, train, table("scored", paths))).evaluations
    notes = {(one.column, one.verdict, one.note) for one in found.checks[0].columns}
    assert ("income", "insufficient", "there are no rows to compare") in notes
    assert ("*", "insufficient", "there are no rows to compare") in notes
