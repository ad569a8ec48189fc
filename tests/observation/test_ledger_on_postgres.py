"""MLflow's store on a PostgreSQL server: it has no token, and marks as a file has them."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from seeing import HANDS, Watched, at_first_sight, desired, populate

from mlops.observation.ledger import METRICS_EVERY, WHOLE_EVERY
from mlops.tracking import Tracker


@pytest.fixture(scope="module")
def tracker(cluster: Any) -> Tracker:
    uri = cluster.new_schema().replace("postgresql://", "postgresql+psycopg://")
    return Tracker(uri, None, environ=dict(os.environ), now=time.time)


@pytest.mark.slow
def test_what_anybody_changes_is_seen_by_the_next_look_on_a_server(tracker: Tracker) -> None:
    for number, (what, hand) in enumerate(HANDS.items()):
        name = f"seen-{number}"
        made, watched, at = populate(tracker, name), Watched(tracker), desired(name)
        before = watched.look(at)
        assert watched.look(at) is before, what
        assert watched.asked == [], what
        hand(tracker._client(), made)
        after = watched.look(at)
        assert after != before, what
        assert after == at_first_sight(tracker, at), what
        assert watched.read_whole == (what == "a renamed experiment")
        watched.clock.time += METRICS_EVERY
        assert watched.look(at) is after, what


@pytest.mark.slow
def test_a_store_that_has_no_token_is_read_whole_once_a_day(tracker: Tracker) -> None:
    populate(tracker, "daily")
    watched, at = Watched(tracker), desired("daily")
    first = watched.look(at)
    watched.clock.time += WHOLE_EVERY
    assert watched.look(at) is first
    assert watched.read_whole
    assert watched.look(at) is first
    assert not watched.read_whole


@pytest.mark.slow
def test_archived_versions_rest_on_a_server_too(tracker: Tracker) -> None:
    made = populate(tracker, "archive")
    watched, at, client = Watched(tracker), desired("archive"), tracker._client()
    watched.look(at)
    client.set_model_version_tag(made["model"], "2", "mlops.archived", "r2")
    watched.look(at)
    client.set_model_version_tag(made["model"], "2", "mlops.version", "7")
    client.set_model_version_tag(made["model"], "1", "mlops.version", "8")
    found = watched.look(at)
    assert [found.versions[made["model"], n].tags["mlops.version"] for n in (1, 2)] == ["8", "2"]
    client.delete_model_version_tag(made["model"], "2", "mlops.archived")
    assert watched.look(at) == at_first_sight(tracker, at)
