"""A fold goes on from where an earlier one stands, and ends in the same bytes as one from nothing."""

from __future__ import annotations

from dataclasses import replace

from folding import DAY, V1, alert, alerts, retrain, retrained, settings, windows
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlops.monitoring.deciding import Decided, Rule, State, Watched, document_of, fold, from_document

POLICY = settings(
    alert("a", "b", "c"),
    retrain("a", "b", cooldown=4 * DAY, budget=2, period=12 * DAY),
    Rule(("a", "c"), severity="critical", rollback=True),
    Rule(("b",), retrain=replace(retrain().retrain, experiment="other")),  # type: ignore[type-var]
    warmup=2,
    clear=2,
)
texts = st.text("VVVWQQHIeq", min_size=30, max_size=30)


@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.tuples(texts, texts, texts, texts),
    st.sets(st.integers(1, 29), max_size=6),
    st.booleans(),
    st.sampled_from([V1, Watched("2.0.0", 3 * DAY), Watched("2.0.0", 3 * DAY, proposed=True)]),
)
def test_pieces_give_the_bytes_of_the_whole(
    letters: tuple[str, str, str, str], cuts: set[int], known: bool, watched: Watched
) -> None:
    made = windows(a=letters[0], b=letters[1], c=letters[2], up=letters[3])
    before = fold(POLICY, V1, windows(-20, a="QVV")).actions if watched != V1 else ()
    whole = fold(POLICY, watched, made, before)
    state: State | None = None
    done: dict[str, Decided] = {action.id: action for action in before}
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 30], strict=True):
        one = fold(POLICY, watched, made[start:end], done.values() if known else before, state)
        state = State.from_json(one.state.to_json())
        done |= {each.id: each for each in (*one.transitions, *one.actions)}
    assert state is not None
    assert state.to_json() == whole.state.to_json()
    decided = {each.id: each for each in (*whole.transitions, *whole.actions)}
    assert {name: one for name, one in done.items() if one.version == watched.version} == decided
    again = fold(POLICY, watched, made, done.values())  # from nothing, when all of it has been done
    assert again.state.to_json() == whole.state.to_json()
    assert [from_document(document_of(one)) for one in done.values()] == list(done.values())


def test_the_state_alone_remembers_what_was_decided() -> None:
    cooled = settings(retrain("a", "b", cooldown=7 * DAY))
    state = fold(cooled, V1, windows(a="VVQQQ")).state
    assert retrained(fold(cooled, V1, windows(5, a="VV"), (), state).actions)[0][3] == "cooldown"
    state = fold(cooled, V1, windows(a="VV")).state
    assert retrained(fold(cooled, V1, windows(2, b="VV"), (), state).actions)[0][3] == "covered"
    free = settings(retrain("a", "b"))
    state = fold(free, V1, windows(a="VV")).state
    assert retrained(fold(free, V1, windows(2, b="VV"), (), state).actions)[0][3] == "covered"
    spent = settings(retrain(budget=1, period=30 * DAY))
    state = fold(spent, V1, windows(a="VVQQQ")).state
    assert retrained(fold(spent, V1, windows(5, a="VV"), (), state).actions)[0][3] == "budget"


def test_nothing_new_changes_nothing() -> None:
    state = fold(POLICY, V1, windows(a="VVQV")).state
    assert fold(POLICY, V1, [], (), state).state == state


def test_other_settings_or_another_version_are_folded_from_nothing() -> None:
    made = windows(a="VVQV")
    state = fold(POLICY, V1, made).state
    stricter = replace(POLICY, fire=3)
    assert fold(stricter, V1, made, (), state).state.verdict == "Healthy"
    assert fold(POLICY, Watched("2.0.0"), [], (), state).state.verdict == "Unknown"


def test_a_policy_that_was_edited_retrains_nothing_in_the_past() -> None:
    old = settings(alert(), retrain(), fire=3)
    made = windows(a="VVQVVQ")
    before = fold(old, V1, made)
    assert before.actions == ()
    edited = fold(settings(alert(), retrain(), fire=2), V1, [*made, *windows(6, a="V")], (), before.state)
    assert alerts(edited.actions) == [("a", "fired", 1, 1)]
    assert retrained(edited.actions) == [("a", 1, "due", None, 6)]


def test_the_state_stays_small_however_long_the_history() -> None:
    text = "VVQQQ" * 40
    short, long = (fold(POLICY, V1, windows(a=text[:count], b=text[:count])).state for count in (100, 200))
    assert len(long.to_json()) < 1.1 * len(short.to_json())
