"""The record of a version's stays, as the version's own tags: read back whole, and held against tampering."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from revisions import desired, experiment, observed, resource
from store_in_memory import Memory

from mlops.applying import promote
from mlops.observation.history import at, parse_time, promotions
from mlops.observation.observed import Ledger, ObservedModel, ObservedVersion
from mlops.planning.planner import make_plan
from mlops.planning.stays import HISTORY_LIMIT, History, Stay, history, lasting, stages

_texts = st.text(max_size=20)
_moments = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
_stays = st.builds(
    Stay,
    promotion=_texts,
    alias=_texts,
    since=_moments,
    revision=_texts,
    until=st.none() | _moments,
    base=st.none() | _texts,
    evidence=st.none() | _texts,
    digest=st.none() | _texts,
    approved_by=st.lists(st.dictionaries(_texts, _texts), max_size=2).map(tuple),
)


def present(tags: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if value is not None}


def stay(day: int, until: int | None = None, **more: Any) -> Stay:
    end = f"2026-01-{until:02}T00:00:00.000Z" if until else None
    return Stay("m-prod", "prod", f"2026-01-{day:02}T00:00:00.000Z", "a" * 40, end, **more)


@given(st.lists(_stays, min_size=1, max_size=4).map(tuple), st.none() | st.text(min_size=1, max_size=9))
def test_what_is_written_into_tags_is_read_back(stays: tuple[Stay, ...], older: str | None) -> None:
    past = History(stays, older)
    tags = present(past.tags("prod"))
    assert history(tags, "prod") == past
    assert list(stages(tags)) == ["prod"]
    assert lasting(tags, "prod") == past.open
    assert history(tags, "dev") == History()
    last = stays[-1]
    assert tags["mlops.stage.prod.since"] == last.since
    assert tags.get("mlops.stage.prod.until") == last.until
    assert len(json.loads(tags["mlops.stage.prod.history"])) == len(stays) + (older is not None)


def test_a_return_ends_the_stay_before_and_overwrites_nothing() -> None:
    past = History().opened(stay(1)).closed(stay(2).since).opened(stay(3))
    assert [(s.since[8:10], s.until and s.until[8:10]) for s in past.stays] == [("01", "02"), ("03", None)]
    assert past.open == past.stays[-1]
    again = past.opened(stay(5))
    assert [s.until and s.until[8:10] for s in again.stays] == ["02", "05", None]
    assert History().closed(stay(1).since) == History()
    assert present(History().tags("prod")) == {}


BROKEN = [
    "no json",
    "{}",
    "[1]",
    '"text"',
    "null",
    "[[]]",
    "[" * 4900,
    "[{}]",
    '[{"since": 5}]',
    '[{"since": "yesterday"}]',
    '[{"since": "2026-01-01", "until": 7}]',
    '[{"since": "2026-01-01", "until": "never"}]',
    '[{"since": "2026-01-01", "approvedBy": 5}]',
    '[{"since": "2026-01-01", "approvedBy": ["ann"]}]',
    '[{"since": "2026-01-01", "promotion": {}}]',
    '[{"older": 7}]',
    '[{"since": "2026-01-01", "base": []}]',
]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:40])
def test_a_history_that_was_broken_by_hand_stops_nobody(text: str) -> None:
    tags = {"mlops.stage.prod.history": text, "mlops.project": "p", "mlops.version": "1.0.0"}
    assert history(tags, "prod") == History(legible=False)
    told: list[str] = []
    version = ObservedVersion("m", 1, "r" * 32, "", "", tags)
    ledger = Ledger(models={"m": ObservedModel("m", "", {}, {"prod": 1})}, versions={("m", 1): version})
    assert promotions(ledger, "p", lambda run, path: None, told.append) == ()
    assert told == ["m v1 in prod: its history was changed by hand and cannot be read"]
    declared = desired(
        experiment(),
        resource("Model", "m"),
        resource(
            "ModelVersion",
            "m-1",
            {"model": "m", "version": "1.0.0", "source": {"experiment": "fit", "artifact": "x"}},
        ),
        resource("Stage", "prod"),
        resource("Promotion", "q", {"model": "m", "stage": "prod", "version": "1.0.0"}),
    )
    plan = make_plan(declared, observed(ledger)).plan
    assert [step.resource for step in plan.steps if step.action == "promote"] == ["Promotion/q"]
    json.dumps(plan.to_json())


@given(
    st.text(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["since", "until", "older", "approvedBy"]), inner, max_size=3)
        ),
    ).flatmap(lambda value: st.sampled_from([json.dumps(value), json.dumps(value, separators=(",", ":"))]))
)
def test_any_text_in_the_tag_is_a_history_or_is_said_to_be_none(text: str) -> None:
    past = history({"mlops.stage.prod.history": text}, "prod")
    assert past.legible or past.stays == ()
    assert lasting({"mlops.stage.prod.history": text}, "prod") == past.open
    for one in past.stays:
        parse_time(one.since)


def test_a_long_history_moves_into_artifacts_and_is_told_whole() -> None:
    store = Memory()
    store.models["m"] = ObservedModel("m", "", {}, {})
    store.versions["m", 1] = ObservedVersion("m", 1, "r" * 32, "", "", {"mlops.project": "p"})
    world: Any = SimpleNamespace(tracker=store, check_lease=lambda: None, remember=lambda version: None)
    for day in range(1, 29):
        version = store.versions["m", 1]
        past = history(version.tags, "prod").opened(
            stay(day, digest="sha256:" + "d" * 64, evidence="sha256:" + "e" * 64)
        )
        promote._record(world, version, "prod", past)
        assert all(len(value) <= HISTORY_LIMIT for value in store.versions["m", 1].tags.values())
    assert len(store.files) > 1
    told: list[str] = []
    rows = promotions(store.ledger(), "p", store.read_artifact, told.append)
    assert [row.stay.since[8:10] for row in reversed(rows)] == [f"{day:02}" for day in range(1, 29)]
    assert [row.stay.until is None for row in rows].count(True) == 1
    assert told == []
    [then] = at(rows, parse_time("2026-01-05T12:00"))
    assert then.stay.since[8:10] == "05"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not there"),
        (b"no json", "cannot be read"),
        (b"[5]", "cannot be read"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_history_that_lost_its_artifact_says_so(content: bytes | None, words: str) -> None:
    tags = present(History((stay(5),), "mlops/history/old.json").tags("prod"))
    version = ObservedVersion("m", 1, "r" * 32, "", "", {**tags, "mlops.project": "p"})
    told: list[str] = []
    [row] = promotions(Ledger(versions={("m", 1): version}), "p", lambda run, path: content, told.append)
    assert row.stay == stay(5)
    [line] = told
    assert words in line
    assert "mlops/history/old.json" in line


def test_artifacts_that_name_each_other_end() -> None:
    tags = present(History((stay(5),), "a.json").tags("prod"))
    version = ObservedVersion("m", 1, "r" * 32, "", "", {**tags, "mlops.project": "p"})
    text = History((stay(1, 2),), "a.json").text().encode()
    rows = promotions(Ledger(versions={("m", 1): version}), "p", lambda run, path: text, print)
    assert len(rows) == 2


def test_a_stay_does_not_end_before_it_began_though_the_clock_went_back() -> None:
    past = History().opened(stay(9)).closed(stay(2).since)
    assert past.stays[0].until == stay(9).since
