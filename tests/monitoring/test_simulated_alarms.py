"""The simulation of false alarms and power, in small: its page tells what the checks do."""

from __future__ import annotations

import numpy as np
import pytest
from sim_monitoring import PAGE, SETTINGS, fires, independent, with_memory

BY_TITLE = {one.title: one for one in SETTINGS}


@pytest.mark.parametrize(
    "title",
    [
        "independent rows, `psi`",
        "independent rows, `ks`",
        "independent rows of 8 categories, `jensenShannon`",
        "AR(1) rows, `ks`, `calibrated`",
    ],
)
def test_default_and_calibrated_checks_are_quiet_without_drift_and_see_a_column_that_moved(
    title: str,
) -> None:
    setting = BY_TITLE[title]
    for seed in range(3):
        assert fires(setting, seed, 8, 0.0)[0] is None
    assert fires(setting, 0, 3, 1.0) == (2, 3)


def test_wasserstein_is_quiet_where_chance_takes_it_over_its_threshold_and_sees_a_quarter_of_a_deviation() -> (
    None
):
    setting = BY_TITLE["independent rows, `wasserstein`"]
    assert fires(setting, 17, 12, 0.0) == (
        None,
        0,
    )  # by its Kolmogorov-Smirnov p-values alone it fires in window 10
    assert fires(setting, 0, 3, 0.25) == (2, 3)


def test_fixed_thresholds_alarm_on_rows_with_memory() -> None:
    assert fires(BY_TITLE["AR(1) rows, `ks`, fixed thresholds"], 0, 4, 0.0)[0] is not None


def test_drawn_counts_are_of_normal_columns_of_which_the_first_moved() -> None:
    middle = np.repeat([0, 1], 64)
    for draw in (independent, with_memory):
        counts = draw(np.random.default_rng(1), 4_000, 0.5)
        assert counts.shape == (50, 128)
        assert (counts.sum(axis=1) == 4_000).all()
        upper = counts @ middle / 4_000
        assert upper[0] == pytest.approx(0.691, abs=0.06)
        assert upper[1:].mean() == pytest.approx(0.5, abs=0.02)


def test_the_page_tells_of_every_setting_as_many_policies_as_are_simulated() -> None:
    table = PAGE.read_text("utf-8").split("<!-- power -->\n")[1].split("<!-- /power -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()[2:]]
    assert rows == [[one.title, f"{one.policies:,}"] for one in SETTINGS]
