"""The stores that all tests here share, and what keeps the tests apart in them."""

from __future__ import annotations

import itertools

import pytest

from mlops.tracking import Tracker

_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", "server"])
def tracker(request: pytest.FixtureRequest) -> Tracker:
    found = request.getfixturevalue("sqlite_tracker" if request.param == "sqlite" else "served_tracker")
    assert isinstance(found, Tracker)
    return found


@pytest.fixture
def project() -> str:
    """A project name nobody else uses: the stores are shared."""
    return f"project-{next(_numbers)}"
