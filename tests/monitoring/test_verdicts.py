"""Verdicts are values: the same in, the same bytes out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mlops.errors import Stalled
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Evaluation, overall


def _evaluation(value: float = 0.25, start: float = 0.0) -> Evaluation:
    column = ColumnVerdict("price", None, "psi", value, 0.2, 1e-9, 1e-8, "violated", "a note")
    check = CheckVerdict("inputs", "dataDrift", "violated", 0.5, 0.3, (column,))
    return Evaluation(start, 86400.0, 1200, "violated", (check,), "abc", 0)


def test_an_evaluation_comes_back_from_json_as_it_was() -> None:
    evaluation = _evaluation()
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert Evaluation.from_json(evaluation.to_json()).to_json() == evaluation.to_json()


def test_nan_and_infinity_never_reach_json() -> None:
    for value in (math.nan, math.inf, -math.inf):
        text = _evaluation(value).to_json()
        assert json.loads(text)["checks"][0]["columns"][0]["value"] is None
        assert "NaN" not in text
        assert "Infinity" not in text


def test_equal_evaluations_have_equal_bytes_whatever_the_types_of_their_numbers() -> None:
    assert _evaluation(0.5, 0).to_json() == _evaluation(np.float64(0.5), -0.0).to_json()
    assert _evaluation(1).to_json() == _evaluation(1.0).to_json()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"checks": 1}', '{"checks": [{}]}', b"\xff\xfe"])
def test_what_is_no_evaluation_is_refused_with_an_error_that_quotes_nothing(text: str | bytes) -> None:
    with pytest.raises(Stalled, match="cannot be read"):
        Evaluation.from_json(text)


def test_an_unknown_verdict_is_refused() -> None:
    with pytest.raises(Stalled):
        Evaluation.from_json(_evaluation().to_json().replace('"violated"', '"fine"'))


def test_a_window_is_quiet_only_when_all_its_checks_are() -> None:
    assert overall(["quiet", "quiet"]) == "quiet"
    assert overall(["quiet", "insufficient"]) == "insufficient"
    assert overall(["noData", "violated", "error"]) == "violated"
    assert overall([]) == "noData"
