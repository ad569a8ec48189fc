"""Gates beside the daemon's loop: evidence is made while it goes on, and a soak ends at its moment."""

from __future__ import annotations

from collections.abc import Callable

from driven import DAY, HOUR, MINUTE, DrivenDaemon
from git_project import GitProject
from judged import ROWS, TRAIN, base, fitted, promoted, stages, version
from running import configure

from mlops.daemon.loop import Pace

Make = Callable[..., GitProject]


def test_a_version_moves_on_when_it_has_soaked_and_not_before(make_project: Make) -> None:
    gates = stages({"soak": "24h"}, {"metric": {"name": "rmse", "max": 30, "dataset": "judge"}})
    it = make_project(base(fitted("one", 1.0), version("1.0.0", "one"), *gates, *promoted("1.0.0")))
    it.write("training/train.py", TRAIN)
    it.write("data/judge.csv", ROWS)
    configure(it, source={"branch": "main", "interval": "7d"})
    it.commit("models")
    daemon = DrivenDaemon(it.root, pace=Pace(glance=MINUTE))
    daemon.run(DAY + HOUR)
    moved = [event for event in daemon.told.events if event.reason == "Promoted"]
    assert [event.resource for event in moved] == ["Promotion/m-dev", "Promotion/m-prod"]
    first, second = (event.at for event in moved)
    assert DAY - 0.001 <= second - first < DAY + 2 * MINUTE  # records are kept in milliseconds
    [judged] = [event for event in daemon.told.events if event.reason == "Evaluated"]
    assert judged.at < first + HOUR  # while it soaked
    assert "rmse = 23.5" in judged.message
    waited = [event for event in daemon.told.events if event.reason == "GatePending"]
    assert any("passes at" in event.message for event in waited)
    assert len(daemon.told.passes) < 30
