"""What waits to be said, in a real state database: once, on time, in bounds, and told of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlops.errors import Stalled, Transient, Waiting
from mlops.notifying import outbox as names
from mlops.notifying.addresses import fingerprint
from mlops.notifying.deliveries import Outcome, prepare
from mlops.notifying.message import Attachment, Message
from mlops.notifying.outbox import Outbox, rows_in
from mlops.notifying.rows import Row, delivered, next_try, standing
from mlops.resources.notifier import Notifier
from mlops.state import State, open_state

NOW = 1_800_000_000.0
DAY = 86_400.0
MESSAGE = Message(
    "concept fired", "password is hunter22", "critical", (Attachment("a.png", "image/png", b"\xff"),)
)
Make = Callable[..., Notifier]


def redact(text: str) -> str:
    return text.replace("hunter22", "***")


def down() -> Transient:
    return Transient("the service cannot be reached", where="Notifier/team (url 1)")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state("sqlite:///state.db", base=tmp_path, now=lambda: NOW) as opened:
        yield opened


@pytest.fixture
def box(state: State) -> Outbox:
    return Outbox(state, redact=redact)


def put(state: State, box: Outbox, alert: str, *notifiers: Notifier, now: float = NOW) -> None:
    state.write(box.rows_for(alert, MESSAGE, notifiers, now))


def test_each_address_has_a_row_of_its_own_and_the_text_is_redacted(
    state: State, box: Outbox, notifier: Make
) -> None:
    team, boss = notifier("team", "json://a", "json://b"), notifier("boss", "json://c")
    put(state, box, "id1", team, boss, notifier("asleep", "json://d", suspend=True))
    due = box.due(NOW, {"team": team, "boss": boss})
    assert [(row.notifier, row.index) for row, _ in due] == [("boss", 0), ("team", 0), ("team", 1)]
    assert {message.body for _, message in due} == {"password is ***"}
    assert due[0].message.attachments == MESSAGE.attachments
    assert b"json://" not in b"".join(state.all(names.PENDING).values())


def test_an_alert_is_never_put_twice_also_after_it_was_sent(
    state: State, box: Outbox, notifier: Make
) -> None:
    team = notifier("team", "json://a")
    put(state, box, "id1", team)
    assert box.rows_for("id1", MESSAGE, [team], NOW + 1) == {}
    (due,) = box.due(NOW, {"team": team})
    box.mark([due.row.tried(NOW, None, "f")])
    assert box.rows_for("id1", MESSAGE, [team], NOW + 2) == {}
    assert box.due(NOW + DAY, {"team": team}) == ()
    assert state.all(names.MESSAGES) == {}
    assert delivered("id1", rows_in(state)) == "sent"


def test_who_is_killed_between_sending_and_its_mark_finds_it_due_again(
    tmp_path: Path, notifier: Make
) -> None:
    team = notifier("team", "json://a")
    with open_state("sqlite:///killed.db", base=tmp_path) as first:
        put(first, Outbox(first, redact=redact), "id1", team)
        assert len(Outbox(first, redact=redact).due(NOW, {"team": team})) == 1  # sent, and never marked
    with open_state("sqlite:///killed.db", base=tmp_path) as second:
        (due,) = Outbox(second, redact=redact).due(NOW, {"team": team})
        assert due.row.alert == "id1"


def test_tries_come_after_10_s_doubling_to_10_min_then_hourly_and_end_after_a_day() -> None:
    row, now, gaps = Row("id1", "team", 0, NOW), NOW, []
    while row.state == "pending":
        row = row.tried(now, down(), "f")
        if row.state == "pending":
            gaps.append(row.due - now)
            assert not row.is_due(row.due - 1, "f")
            assert row.is_due(row.due, "f")
            now = row.due
    plain = [10, 20, 40, 80, 160, 320, 600]
    for gap, expected in zip(gaps, plain, strict=False):
        assert 0.8 * expected <= gap <= 1.2 * expected
    assert all(0.8 * 3600 <= gap <= 1.2 * 3600 for gap in gaps[len(plain) : -1])
    assert now - NOW == DAY
    assert row.state == "failed"
    assert len({gap / expected for gap, expected in zip(gaps, plain, strict=False)}) > 3  # jitter


def test_an_address_that_cannot_work_waits_an_hour_or_for_another_url(
    state: State, box: Outbox, notifier: Make
) -> None:
    before, after = notifier("team", "nosuch://a"), notifier("team", "json://a")
    put(state, box, "id1", before)
    (due,) = box.due(NOW, {"team": before})
    box.mark([due.row.tried(NOW, Stalled("no such service"), fingerprint(before, 0))])
    assert box.due(NOW + 1800, {"team": before}) == ()
    assert len(box.due(NOW + 4400, {"team": before})) == 1
    assert len(box.due(NOW + 1, {"team": after})) == 1


def test_a_clock_that_stood_in_the_future_keeps_no_alert_back() -> None:
    row = Row("id1", "team", 0, NOW + 365 * DAY).tried(NOW + 365 * DAY, down(), "f")
    assert row.is_due(NOW, "f")
    again = row.tried(NOW, down(), "f")
    assert again.state == "pending"
    assert again.first == NOW


def test_a_missing_variable_waits_by_its_name_and_holds_nobody_else_up(
    state: State, box: Outbox, notifier: Make
) -> None:
    team, boss = notifier("team", "${TEAM_WEBHOOK}"), notifier("boss", "json://c")
    put(state, box, "id1", team, boss)

    def substitute(text: str) -> str:
        if "${" in text:
            raise Waiting("the environment variable TEAM_WEBHOOK is not set", fix="Export TEAM_WEBHOOK")
        return text

    both = {"team": team, "boss": boss}
    ready, held = prepare(box.due(NOW, both), both, substitute)
    assert [delivery.row.notifier for delivery in ready] == ["boss"]
    assert "json://" not in repr(ready)
    box.mark([outcome.marked(NOW) for outcome in held])
    shown = standing("team", rows_in(state))
    assert shown.pending == 1
    assert "TEAM_WEBHOOK is not set" in (shown.error or "")
    assert standing("boss", rows_in(state)).healthy


def test_what_waits_for_a_suspended_notifier_goes_on_waiting(
    state: State, box: Outbox, notifier: Make
) -> None:
    team = notifier("team", "json://a")
    put(state, box, "id1", team)
    assert box.due(NOW, {"team": notifier("team", "json://a", suspend=True)}) == ()
    assert len(box.due(NOW + 9 * DAY, {"team": team})) == 1


def test_what_has_no_address_any_more_is_given_up(state: State, box: Outbox, notifier: Make) -> None:
    put(state, box, "id1", notifier("team", "json://a", "json://b"), notifier("gone", "json://c"))
    due = box.due(NOW, {"team": notifier("team", "json://a")})
    assert [(row.notifier, row.index) for row, _ in due] == [("team", 0)]
    ended = [row for row in rows_in(state) if row.state == "failed"]
    assert {(row.notifier, row.index) for row in ended} == {("team", 1), ("gone", 0)}


def test_a_text_that_was_lost_and_a_row_that_nobody_understands_stop_nothing(
    state: State, box: Outbox, notifier: Make
) -> None:
    team = notifier("team", "json://a")
    put(state, box, "id1", team)
    put(state, box, "id2", team)
    state.write({names.MESSAGES: {"id1": b"{"}, names.PENDING: {"x": b"garbage", "y": b'{"of": "later"}'}})
    assert [row.alert for row, _ in box.due(NOW, {"team": team})] == ["id2"]
    assert delivered("id1", rows_in(state)) == "failed"


def test_a_long_queue_is_bounded_and_stands_in_nobodys_way(state: State, box: Outbox, notifier: Make) -> None:
    loud, quiet = notifier("loud", "json://a"), notifier("quiet", "json://b")
    rows = [Row(f"id{n:04}", "loud", 0, NOW + n) for n in range(600)]
    text = MESSAGE.to_json()
    state.write(
        {
            names.PENDING: {row.key: row.to_json() for row in rows},
            names.MESSAGES: {row.alert: text for row in rows},
        }
    )
    put(state, box, "last", quiet, now=NOW + 999)
    due = box.due(NOW + 1000, {"loud": loud, "quiet": quiet})
    assert len(due) == 64
    assert "last" in [row.alert for row, _ in due[:2]]
    assert due[0].row.alert == "id0100"
    assert standing("loud", rows_in(state)).pending == 500
    assert len(state.all(names.MESSAGES)) == 501


def test_marks_are_bounded_and_the_newest_stay(state: State, box: Outbox) -> None:
    for hundred in range(11):
        box.mark(
            [
                Row(f"id{hundred:02}-{n:02}", "team", 0, NOW + hundred, state="sent", last=NOW)
                for n in range(100)
            ]
        )
    kept = state.all(names.ENDED)
    assert len(kept) == 1000
    assert "id10-99/team/0" in kept
    assert "id00-00/team/0" not in kept


def test_a_notifier_shows_when_it_last_sent_what_waits_and_the_newest_error() -> None:
    sent = Row("id1", "team", 0, NOW).tried(NOW + 1, None, "f")
    failing = Row("id2", "team", 0, NOW).tried(NOW + 2, down(), "f")
    lost = replace(Row("id3", "team", 1, NOW).tried(NOW + 3, down(), "f"), state="failed", error="HTTP 401")
    shown = standing("team", [lost, failing, sent, Row("id4", "other", 0, NOW)])
    assert (shown.sent, shown.pending, shown.failed, shown.error) == (NOW + 1, 1, 1, "HTTP 401")
    assert not shown.healthy
    healed = standing("team", [lost, sent, replace(sent, alert="id5", index=1, last=NOW + 9)])
    assert (healed.sent, healed.pending, healed.failed, healed.error) == (NOW + 9, 0, 0, None)
    assert next_try([sent, failing, lost]) == failing.due
    assert next_try([sent]) is None
    assert next_try([failing], after=failing.due) is None
    assert delivered("id2", [sent, failing]) == "pending"
    assert delivered("unknown", [sent]) is None


def test_what_is_too_large_to_keep_is_cut_and_the_rest_is_said(
    state: State, box: Outbox, notifier: Make
) -> None:
    files = (Attachment("big.png", "image/png", b"x" * 3_000_000), Attachment("small.png", "image/png", b"x"))
    large = Message("t", "x" * 2_000_000, "info", files)
    team = notifier("team", "json://a")
    state.write(box.rows_for("id1", large, [team], NOW))
    ((_, kept),) = box.due(NOW, {"team": team})
    assert len(kept.body) == 100_000
    assert [attachment.name for attachment in kept.attachments] == ["small.png"]


def test_an_outcome_marks_its_row() -> None:
    row = Row("id1", "team", 0, NOW)
    assert Outcome(row, None, "f").marked(NOW).state == "sent"
    assert Outcome(row, down(), "f").marked(NOW).attempts == 1
