"""Late data makes a new revision of a window: the record changes, and nothing is done a second time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from folding import (
    DAY,
    V1,
    alert,
    alerts,
    in_pieces,
    is_due,
    retrain,
    retrained,
    settings,
    windows,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlops.monitoring.deciding import (
    Alert,
    Happened,
    Incident,
    Retrain,
    State,
    Watched,
    action_id,
    fold,
    outstanding,
)
from mlops.monitoring.verdicts import Evaluation

POLICY = settings(alert("a", "b"), retrain("a", "b"))


def incident(state: State, check: str = "a") -> Incident:
    found = state.check(check)
    assert found is not None
    assert found.incident is not None
    return found.incident


def test_the_newest_revision_of_a_window_counts_whenever_it_comes() -> None:
    old, new = windows(a="VV"), windows(0, 1, a="QQ")
    assert fold(POLICY, V1, [*old, *new]) == fold(POLICY, V1, [*new, *old]) == fold(POLICY, V1, new)


def test_ids_are_of_the_policy_the_check_and_the_first_window() -> None:
    decision = fold(POLICY, V1, windows(a="QVVVV"))
    assert [one.id for one in decision.actions] == [
        action_id("p", "a", 2 * DAY, "alert", "fired"),
        action_id("p", "a", 2 * DAY, "retrain", "gbt"),
    ]
    assert action_id("p", "a", 2.0 * DAY, "alert", "fired") == decision.actions[0].id
    assert (
        len({action_id(*each) for each in [("p", "a", 1), ("p", "a", 2), ("p", "b", 1), ("q", "a", 1)]}) == 4
    )


def test_a_window_that_changes_without_consequence_does_nothing_again() -> None:
    _, actions = in_pieces(POLICY, [windows(a="QVVV"), windows(1, 1, a="W"), windows(4, a="V")])
    assert alerts(actions) == [("a", "fired", 2, 2)]
    assert [one[2] for one in retrained(actions)] == ["due"]


def test_a_firing_that_moves_earlier_keeps_its_name() -> None:
    state, actions = in_pieces(POLICY, [windows(a="QQVVV"), windows(1, 1, a="V"), windows(5, a="QQQ")])
    assert alerts(actions) == [("a", "fired", 3, 3), ("a", "cleared", 3, 7)]
    assert retrained(actions) == [("a", 3, "due", None, 3)]
    moved, _ = in_pieces(POLICY, [windows(a="QQVVV"), windows(1, 1, a="V")])
    assert (incident(moved).first, incident(moved).named) == (2 * DAY, 3 * DAY)  # the record says so
    assert not incident(moved).held
    assert state.verdict == "Healthy"


def test_a_firing_that_moves_later_keeps_its_name() -> None:
    state, actions = in_pieces(POLICY, [windows(a="QVV"), windows(2, 1, a="Q"), windows(3, a="VV")])
    assert alerts(actions) == [("a", "fired", 2, 2)]
    assert retrained(actions) == [("a", 2, "due", None, 2)]
    assert (incident(state).first, incident(state).named) == (3 * DAY, 2 * DAY)
    assert not incident(state).held


def test_a_firing_that_late_data_takes_back_is_held_until_it_clears() -> None:
    back = [windows(a="QVV"), windows(2, 1, a="Q")]
    held, actions = in_pieces(POLICY, back)
    assert incident(held).held
    assert held.verdict == "Degraded"
    assert alerts(actions) == [("a", "fired", 2, 2)]
    over, actions = in_pieces(POLICY, [*back, windows(3, a="QQQ")])
    assert alerts(actions) == [("a", "fired", 2, 2), ("a", "cleared", 2, 5)]
    assert retrained(actions) == [("a", 2, "due", None, 2)]
    assert over.verdict == "Healthy"
    notes = [one.note for one in actions if isinstance(one, Alert)]
    assert notes == [None, "late data took the firing back"]


def test_what_was_said_to_have_cleared_stays_so_and_fires_anew() -> None:
    pieces = [windows(a="VVQQQ"), windows(4, 1, a="V"), windows(5, a="QVV")]
    state, actions = in_pieces(POLICY, pieces)
    assert alerts(actions) == [("a", "fired", 1, 1), ("a", "cleared", 1, 4), ("a", "fired", 7, 7)]
    assert state.verdict == "Degraded"


def test_late_data_does_not_split_a_firing_that_was_told() -> None:
    over = [windows(a="VVQQVQVVQQQ"), windows(4, 1, a="Q")]
    _, actions = in_pieces(POLICY, over)
    assert alerts(actions) == [("a", "fired", 1, 1), ("a", "cleared", 1, 10)]
    state, actions = in_pieces(POLICY, [windows(a="VVQQVVV"), windows(4, 1, a="Q")])
    assert alerts(actions) == [("a", "fired", 1, 1)]
    assert [one[2] for one in retrained(actions)] == ["due"]
    assert state.verdict == "Degraded"


def test_what_cleared_without_a_word_stays_so() -> None:
    pieces = [windows(a="VVQQQQVV"), windows(3, 1, a="H"), windows(8, a="V")]
    state, decided = in_pieces(settings(retrain()), pieces)
    assert [one.turn for one in decided if isinstance(one, Happened)] == ["fired", "cleared", "fired"]
    assert incident(state).first == 7 * DAY


def test_late_data_that_would_have_cleared_a_firing_clears_it_now() -> None:
    state, actions = in_pieces(POLICY, [windows(a="VVVVV"), windows(2, 1, a="QQQ")])
    assert alerts(actions) == [("a", "fired", 1, 1), ("a", "cleared", 1, 4)]
    assert state.verdict == "Healthy"


def test_labels_that_come_late_fire_once_in_their_own_windows() -> None:
    pieces = [
        windows(a="IIIIIIII", b="QQQQQQQQ"),
        windows(0, 1, a="QVV", b="QQQ"),
        windows(3, 1, a="VV", b="QQ"),
    ]
    state, actions = in_pieces(POLICY, pieces)
    assert alerts(actions) == [("a", "fired", 2, 2)]
    assert incident(state).first == 2 * DAY
    assert retrained(actions) == [("a", 2, "due", None, 7)]  # not dated back before what was decided


def test_a_retraining_that_late_labels_ask_for_heeds_the_cooldown_of_a_newer_one() -> None:
    policy = settings(alert("a", "b"), retrain("a", "b", cooldown=7 * DAY))
    first = windows(a="I" * 20, b="Q" * 18 + "VV")
    labelled = windows(0, 1, a="VV" + "I" * 18, b="Q" * 18 + "VV")
    state, actions = in_pieces(policy, [first, labelled])
    assert [one[2:4] for one in retrained(actions)] == [("due", None), ("dropped", "covered")]
    assert state.verdict == "Degraded"


def test_what_was_done_is_never_said_to_be_dropped() -> None:
    policy = settings(retrain("a", "b"), warmup=5)
    (done,) = fold(policy, V1, windows(a="VVVVVV")).actions
    assert isinstance(done, Retrain)
    assert done.state == "due"
    assert fold(policy, V1, windows(a="VVQQQQ"), [done]).actions == ()
    other = replace(done, id=action_id("p", "b", DAY, "retrain", "gbt"), check="b", time=8.0 * DAY)
    both = fold(policy, V1, windows(a="V" * 9, b="V" * 9), [done, other])
    assert both.actions == ()


def test_firings_of_another_stay_or_version_are_not_this_one_s() -> None:
    told = fold(POLICY, V1, windows(a="VV")).actions
    again = Watched("1.0.0", start=5 * DAY)
    assert fold(POLICY, again, windows(5, a="QQ"), told).state.verdict == "Healthy"
    assert fold(POLICY, Watched("2.0.0"), windows(a="QQ"), told).state.verdict == "Healthy"


def test_two_that_fold_the_same_decide_the_same_ids() -> None:
    made = windows(a="QVVVQQQVV")
    one = fold(POLICY, V1, made[:6])
    other = fold(POLICY, V1, made)
    known = {action.id for action in other.actions}
    assert {action.id for action in one.actions} <= known
    assert outstanding(other.actions, one.actions) == other.actions[2:4] or len(known) == 5


letters = st.text("VWQHIeq", min_size=1, max_size=25)


late_windows = st.tuples(
    *(st.integers(0, 4), st.integers(0, 24)),
    *[st.sampled_from("VWQHI")] * 3,
)
LATE_DATA = st.tuples(
    *[st.text("VWQHI", min_size=25, max_size=25)] * 3,
    st.sets(st.integers(1, 24), max_size=4),
    st.lists(late_windows, max_size=4),
)
History = tuple[str, str, str, set[int], list[tuple[int, int, str, str, str]]]


def pieces_of(history: History) -> list[list[Evaluation]]:
    """Windows of three checks in pieces, with windows that are revised after some of them."""
    made = windows(a=history[0], b=history[1], up=history[2])
    cuts = sorted(history[3])
    pieces = [made[start:end] for start, end in zip([0, *cuts], [*cuts, 25], strict=True)]
    for revision, (after, day, a, b, up) in enumerate(history[4], start=1):
        pieces.insert(min(after, len(pieces)), windows(day, revision, a=a, b=b, up=up))
    return pieces


@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
@given(LATE_DATA, st.booleans())
def test_nothing_is_decided_twice_however_late_data_comes(history: History, told: bool) -> None:
    rules = (retrain("a", "b", cooldown=3 * DAY, budget=3, period=20 * DAY), alert("a", "b"))
    _, actions = in_pieces(settings(*rules[: 1 + told], warmup=2), pieces_of(history))
    for check in ("a", "b"):
        for kind in (Happened, Alert)[: 1 + told]:
            said = [one for one in actions if isinstance(one, kind) and one.check == check]
            turns = [one.turn for one in sorted(said, key=lambda one: one.at) if one.turn != "worse"]
            assert turns == ["fired", "cleared"] * (len(turns) // 2) + ["fired"] * (len(turns) % 2)
    times = sorted(one[4] for one in retrained(actions) if one[2] == "due" and one[4] is not None)
    assert all(later - sooner >= 3 for sooner, later in pairwise(times))


@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
@given(letters, st.randoms())
def test_the_order_of_arrival_does_not_matter(text: str, random: object) -> None:
    made = windows(a=text, up=text[::-1])
    shuffled = list(made)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(POLICY, V1, shuffled) == fold(POLICY, V1, made)


def test_all_that_is_due_is_known_to_the_next_fold() -> None:
    _, actions = in_pieces(POLICY, [windows(a="QVVQQQ")])
    assert all(map(is_due, actions))
    assert outstanding(fold(POLICY, V1, windows(a="QVVQQQ")).actions, actions) == ()


@pytest.mark.parametrize("broken", ["", "{}", "null", '{"format": 1}', '{"format": 9}', "[1]"])
def test_a_state_that_cannot_be_read_says_what_to_do(broken: str) -> None:
    from mlops.errors import Stalled

    with pytest.raises(Stalled, match="Delete the state"):
        State.from_json(broken)
