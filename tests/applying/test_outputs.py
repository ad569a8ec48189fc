"""What a training script leaves in MLOPS_OUTPUT, and that nothing in it stops the end of its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlops.applying.collect import METRICS_LIMIT, read_metrics


def test_metrics_are_read_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"rmse": 1, "a/b": 2.5, "nan": NaN}')
    found = read_metrics(path)
    assert not isinstance(found, str)
    assert (found["rmse"], found["a/b"], str(found["nan"])) == (1.0, 2.5, "nan")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[1]", "must be one object"),
        (json.dumps({"rmse": 10**400}), "larger than any"),
        ('{"rmse": true}', "'rmse' is not a number"),
        ('{"a*b": 1}', "takes no metric of the name 'a*b'"),
        ('{"../a": 1}', "takes no metric"),
        (json.dumps({"x" * 251: 1}), "takes no metric"),
        (" " * (METRICS_LIMIT + 1), "larger than 16 MiB"),
    ],
    ids=["cut", "deep", "list", "huge", "bool", "sign", "path", "long", "large"],
)
def test_metrics_that_cannot_be_logged_are_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    found = read_metrics(path)
    assert isinstance(found, str)
    assert words in found
