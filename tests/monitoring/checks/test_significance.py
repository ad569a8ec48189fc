"""Many measures at once: corrected as scipy corrects them, and quiet as often as promised."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from mlops.monitoring.checks import significance
from mlops.monitoring.checks.significance import adjusted, more_than


def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(significance).failed == 0


def test_adjusted_p_values_are_scipys() -> None:
    p_values = np.random.default_rng(1).random(40) ** 3
    assert adjusted(p_values.tolist()) == pytest.approx(false_discovery_control(p_values).tolist())


def test_what_has_no_p_value_counts_for_nothing() -> None:
    assert adjusted([None, 0.02, None]) == [None, 0.02, None]
    assert adjusted([]) == []


def test_equal_shares_are_called_more_as_often_as_the_level_says() -> None:
    draw = np.random.default_rng(2)
    found = [
        more_than(draw.binomial(1_000, 0.02) / 1_000, 1_000, draw.binomial(5_000, 0.02) / 5_000, 5_000)
        <= 0.05
        for _ in range(2_000)
    ]
    assert 0.02 < np.mean(found) < 0.08
