"""The cache behaves alike in SQLite and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mlops.errors import MlopsError, Transient
from mlops.state import Event, State, StateReader

DAY = 86_400.0
Open = Callable[..., State]


def test_what_was_put_is_got_also_by_a_later_opening(opened: Open, uri: str) -> None:
    with opened(uri) as state:
        state.put_many("yaml", {"a": b"1", "b": b"\x00\xff", "empty": b""})
        state.put_many("yaml", {"a": b"2"})
    again = opened(uri)
    assert again.get_many("yaml", ["a", "b", "empty", "absent", "a"]) == {
        "a": b"2",
        "b": b"\x00\xff",
        "empty": b"",
    }
    assert again.get("yaml", "absent") is None
    assert again.get("other", "a") is None
    assert again.all("yaml") == {"a": b"2", "b": b"\x00\xff", "empty": b""}


def test_any_name_that_git_allows_is_a_key(opened: Open, uri: str) -> None:
    names = [
        "",
        "ü/☃",
        "a\0b",
        "\udcff\udc80",
        "\ud800",
        "'; DROP TABLE mlops_cache; --",
        "%s ? {x}",
        "x" * 4096,
    ]
    items = {name: name.encode("utf-8", "surrogatepass") for name in names}
    state = opened(uri)
    state.put_many("names", items)
    assert state.get_many("names", names) == items
    assert state.all("names") == items


def test_ten_thousand_entries_go_in_and_come_out_at_once(opened: Open, uri: str) -> None:
    items = {f"{number:040x}": number.to_bytes(4) * 50 for number in range(10_000)}
    state = opened(uri)
    state.put_many("n", items)
    state.put_many("n", items)
    assert state.get_many("n", items) == items
    state.delete_many("n", [f"{number:040x}" for number in range(1, 10_000)])
    assert list(state.all("n")) == [f"{0:040x}"]


def test_replacing_a_namespace_leaves_nothing_old_and_touches_no_other(opened: Open, uri: str) -> None:
    state = opened(uri)
    state.put_many("status", {"a": b"1", "b": b"1"})
    state.put_many("other", {"a": b"1"})
    state.replace("status", {"b": b"2", "c": b"2"})
    assert state.all("status") == {"b": b"2", "c": b"2"}
    assert state.all("other") == {"a": b"1"}
    state.replace("status", {})
    assert state.all("status") == {}


def test_a_write_that_fails_half_way_changes_nothing(opened: Open, uri: str) -> None:
    state = opened(uri)
    state.put_many("status", {"a": b"1"})
    with pytest.raises((TypeError, MlopsError)):
        state.replace("status", {"b": b"2", "c": object()})  # type: ignore[dict-item]
    assert state.all("status") == {"a": b"1"}
    state.put_many("status", {"d": b"3"})
    assert state.all("status") == {"a": b"1", "d": b"3"}


def test_several_namespaces_are_written_in_one_transaction_or_not_at_all(opened: Open, uri: str) -> None:
    state = opened(uri)
    state.put_many("outbox", {"a": b"1", "b": b"1"})
    state.write({"ended": {"a": b"2"}, "status": {"x": b"3"}}, {"outbox": ["a", "absent"]})
    assert state.all("outbox") == {"b": b"1"}
    assert (state.all("ended"), state.all("status")) == ({"a": b"2"}, {"x": b"3"})
    with pytest.raises((TypeError, MlopsError)):
        state.write({"ended": {"b": b"2"}, "status": {"x": object()}}, {"outbox": ["b"]})  # type: ignore[dict-item]
    assert state.all("outbox") == {"b": b"1"}
    assert (state.all("ended"), state.all("status")) == ({"a": b"2"}, {"x": b"3"})
    state.write({"outbox": {"b": b"2"}}, {"outbox": ["b"]})
    assert state.all("outbox") == {"b": b"2"}


def test_projects_in_one_database_do_not_see_each_other(opened: Open, uri: str) -> None:
    one, two = opened(uri, project="one"), opened(uri, project="two")
    one.put_many("status", {"a": b"1"})
    one.add_events([Event(1.0, "Model/m", "Ready", "fine")])
    two.replace("status", {"a": b"2"})
    two.prune(events_per_resource=0, most_bytes=0)
    assert one.all("status") == {"a": b"1"}
    assert len(one.events()) == 1
    assert two.all("status") == {}
    assert two.events() == []


def test_a_repeated_event_is_counted_and_becomes_the_newest(opened: Open, uri: str) -> None:
    state = opened(uri)
    failed = Event(10.0, "Experiment/e", "Failed", "exit 3", severity="warning", revision="abc", duration=1.5)
    state.add_events(
        [failed, Event(11.0, "Model/m", "Ready", "fine", revision="abc", step="bind", cause="commit")]
    )
    state.add_events(
        [Event(12.0, "Experiment/e", "Failed", "exit 3", severity="warning", revision="abc", step="s")]
    )
    state.add_events([Event(13.0, "Experiment/e", "Failed", "exit 3", revision="def", count=4)])
    assert state.events() == [
        Event(13.0, "Experiment/e", "Failed", "exit 3", revision="def", count=4, last_at=13.0),
        Event(10.0, "Experiment/e", "Failed", "exit 3", "warning", "abc", "s", None, None, 2, 12.0),
        Event(11.0, "Model/m", "Ready", "fine", "normal", "abc", "bind", None, "commit", 1, 11.0),
    ]
    assert [event.revision for event in state.events("Experiment/e")] == ["def", "abc"]
    assert [event.resource for event in state.events(limit=1)] == ["Experiment/e"]


def test_an_event_of_any_text_is_kept_in_bounds(opened: Open, uri: str) -> None:
    state = opened(uri)
    state.add_events([Event(1.0, "Model/\0", "Odd", "\udcff\0☃" + "x" * 100_000, cause="\ud800")])
    (event,) = state.events("Model/\0")
    assert event.resource == "Model/\ufffd"
    assert event.message.startswith("\\udcff\ufffd☃xxx")
    assert len(event.message) < 10_000
    assert event.cause == "\\ud800"


def test_order_of_events_does_not_follow_a_clock_that_jumps_back(opened: Open, uri: str) -> None:
    state = opened(uri)
    state.add_events([Event(2e9, "A/a", "One", "")])
    state.add_events([Event(1.0, "A/a", "Two", "")])
    assert [event.reason for event in state.events()] == ["Two", "One"]


def test_history_is_bounded_for_each_resource_and_for_all(
    opened: Open, uri: str, clock: Callable[[], float]
) -> None:
    state, began = opened(uri), clock()
    state.add_events(
        Event(began + number, f"Model/{number % 2}", "Tick", str(number)) for number in range(20)
    )
    assert state.prune(events_per_resource=3).events == 14
    assert [event.message for event in state.events()] == ["19", "18", "17", "16", "15", "14"]
    assert state.prune(most_events=1).events == 5
    assert [event.message for event in state.events()] == ["19"]


def test_events_are_kept_for_their_time_counted_from_when_they_last_happened(
    opened: Open, uri: str, clock: Callable[[], float]
) -> None:
    state, began = opened(uri), clock()
    once, often = (Event(began, "Model/m", "Tick", message) for message in ("once", "often"))
    state.add_events([once, often])
    clock.time += 2 * DAY  # type: ignore[attr-defined]
    state.add_events([replace(often, at=clock())])
    assert state.prune(events_for=3 * DAY).events == 0
    clock.time += 2 * DAY  # type: ignore[attr-defined]
    assert state.prune(events_for=3 * DAY).events == 1
    assert [event.message for event in state.events()] == ["often"]
    assert opened(uri, project="other").prune(events_for=0.0).events == 0
    clock.time += 89 * DAY  # type: ignore[attr-defined]
    assert state.prune().events == 1


def test_an_event_of_a_clock_that_stood_in_the_future_goes_in_its_time(
    opened: Open, uri: str, clock: Callable[[], float]
) -> None:
    state = opened(uri)
    state.add_events([Event(clock() + 10_000 * DAY, "Model/m", "Tick", "later")])
    assert state.prune(events_for=DAY).events == 0
    clock.time += 2 * DAY  # type: ignore[attr-defined]
    assert state.prune(events_for=DAY).events == 1


def test_entries_that_nobody_uses_go_and_those_in_use_stay(
    opened: Open, uri: str, clock: Callable[[], float]
) -> None:
    state = opened(uri)
    state.put_many("n", {"used": b"1", "unused": b"1"})
    clock.time += 20 * DAY  # type: ignore[attr-defined]
    assert state.get("n", "used") == b"1"
    assert state.prune().entries == 0
    clock.time += 20 * DAY  # type: ignore[attr-defined]
    assert state.prune().entries == 1
    assert state.all("n") == {"used": b"1"}


def test_the_longest_unused_entries_make_room(opened: Open, uri: str, clock: Callable[[], float]) -> None:
    state = opened(uri)
    for name in "abc":
        state.put_many("n", {name: b"x" * 999})
        clock.time += 10.0  # type: ignore[attr-defined]
    assert state.prune(most_bytes=2000).entries == 1
    assert list(state.all("n")) == ["b", "c"]


def test_a_clock_that_stood_in_the_future_keeps_nothing_for_ever(
    opened: Open, uri: str, clock: Callable[[], float]
) -> None:
    state = opened(uri)
    clock.time += 10_000 * DAY  # type: ignore[attr-defined]
    state.put_many("n", {"a": b"1"})
    clock.time -= 10_000 * DAY  # type: ignore[attr-defined]
    assert state.prune().entries == 0
    clock.time += 31 * DAY  # type: ignore[attr-defined]
    assert state.prune().entries == 1


def test_a_reader_has_no_way_to_write() -> None:
    writers = {"put_many", "delete_many", "replace", "add_events", "prune", "namespace"}
    assert not writers & set(dir(StateReader))
    assert writers <= set(dir(State))


def test_a_namespace_gets_and_puts_and_forgets_rather_than_fail(opened: Open) -> None:
    state = opened(timeout=0.05)
    cache = state.namespace("yaml")
    cache.put_many({"a": b"1"})
    assert cache.get_many(["a", "b"]) == {"a": b"1"}
    other = opened()
    with pytest.raises(RuntimeError, match="done"):
        other.database.write(lambda session: _locked(cache, state))
    assert len(state.warnings) == 1
    assert "locked" in state.warnings[0]


def _locked(cache: object, state: State) -> None:
    cache.put_many({"c": b"1"})  # type: ignore[attr-defined]
    assert cache.get_many(["a"]) == {}  # type: ignore[attr-defined]  # it does not wait a second time
    with pytest.raises(Transient, match="locked"):
        state.put_many("yaml", {"c": b"1"})
    raise RuntimeError("done")
