"""What an alert says was done."""

from __future__ import annotations

from mlops.applying.decided import did
from mlops.observation.policies import PolicyAction, PolicyRecord


def test_an_alert_tells_what_was_done_about_this_firing_and_not_about_an_earlier_one() -> None:
    earlier = PolicyAction("a", "retrain", "concept", 0.0, "blocked", "upstream")
    now = PolicyAction("b", "retrain", "concept", 7.0, "due")
    record = PolicyRecord(actions=(earlier, now))
    assert did(record, "concept", 7.0) == ["a retraining is proposed on a branch"]
    assert did(record, "concept", 0.0) == ["a retraining is held back (upstream)"]
