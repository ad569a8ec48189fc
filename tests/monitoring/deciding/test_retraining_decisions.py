"""When a firing leads to a retraining, and what stands in its way: all in event time and windows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from folding import DAY, V1, alert, alerts, retrain, retrained, settings, windows

from mlops.monitoring.deciding import Action, Retrain, Rule, Settings, Watched, fold, outstanding

V2 = Watched("2.0.0", start=10 * DAY, proposed=True)


def said(
    policy: Settings, watched: Watched = V1, done: tuple[Action, ...] = (), first: int = 0, /, **checks: str
) -> list[tuple[str, int, str, str | None, int | None]]:
    return retrained(fold(policy, watched, windows(first, **checks), done).actions)


def test_a_firing_retrains_once_however_long_it_lasts() -> None:
    assert said(settings(retrain()), a="QVV" + "V" * 60) == [("a", 2, "due", None, 2)]


def test_each_firing_retrains_anew() -> None:
    days = [one[4] for one in said(settings(retrain()), a="VVQQQVV")]
    assert days == [1, 6]


def test_warm_up_windows_pass_before_any_retraining_but_alerts_go_out() -> None:
    policy = settings(retrain(), alert(), warmup=3)
    assert said(policy, a="VVV") == [("a", 1, "blocked", "warmup", None)]
    assert said(policy, a="VVVV") == [("a", 1, "due", None, 3)]
    assert said(policy, a="VVIIIIIV") == [("a", 1, "blocked", "warmup", None)]  # judged ones count
    assert alerts(fold(policy, V1, windows(a="VV")).actions) == [("a", "fired", 1, 1)]


def test_what_waits_is_dropped_when_its_check_clears() -> None:
    policy = settings(retrain(), warmup=9)
    assert said(policy, a="VVQQQ") == [("a", 1, "dropped", "cleared", None)]


def test_what_waited_is_not_done_in_a_quiet_window() -> None:
    policy = settings(retrain(), warmup=3)
    assert said(policy, a="VVQQ") == [("a", 1, "blocked", "quiet", None)]
    assert said(policy, a="VVQQV") == [("a", 1, "due", None, 4)]


def test_a_cooldown_is_waited_for_in_event_time() -> None:
    policy = settings(retrain(cooldown=7 * DAY))
    (first, second) = fold(policy, V1, windows(a="VVQQQVVV")).actions
    assert isinstance(second, Retrain)
    assert (second.state, second.reason) == ("blocked", "cooldown")
    assert isinstance(first, Retrain)
    assert first.time is not None
    assert second.until == first.time + 7 * DAY
    assert said(policy, a="VVQQQVVVV") == [("a", 1, "due", None, 1), ("a", 6, "due", None, 8)]


def test_a_cooldown_goes_on_from_version_to_version() -> None:
    policy = settings(retrain(cooldown=7 * DAY))
    done = fold(policy, V1, windows(a="QQQQQQQQVV")).actions  # decided on day 9
    released = Watched("2.0.0", start=10 * DAY)
    assert said(policy, released, done, 10, a="VV") == [("a", 11, "blocked", "cooldown", None)]
    assert said(policy, released, done, 10, a="VVVVVVV") == [("a", 11, "due", None, 16)]


def test_a_budget_is_counted_in_event_time_over_versions() -> None:
    policy = settings(retrain(budget=2, period=30 * DAY))
    done = fold(policy, V1, windows(a="VV" + "Q" * 8)).actions
    released = Watched("2.0.0", start=10 * DAY)
    letters = "VVQQQVV" + "V" * 20
    assert [one[2:] for one in said(policy, released, done, 10, a=letters)] == [
        ("due", None, 11),
        ("due", None, 31),  # 30 days after the first
    ]


def test_two_checks_that_fire_together_make_one_retraining() -> None:
    assert said(settings(retrain("a", "b")), a="QVV", b="QVV") == [
        ("a", 2, "due", None, 2),
        ("b", 2, "dropped", "covered", None),
    ]


def test_a_check_that_fires_right_after_a_retraining_is_covered_by_it() -> None:
    policy = settings(retrain("a", "b"))
    actions = fold(policy, V1, windows(a="VVVVVV", b="QQVVVV")).actions
    assert [one[2:4] for one in retrained(actions)] == [("due", None), ("dropped", "covered")]
    assert isinstance(actions[1], Retrain)
    assert actions[1].by == actions[0].id
    later = said(policy, a="VVVVVVVVV", b="QQQQQQVVV")
    assert [one[2] for one in later] == ["due", "due"]  # a drift that lasts hides no other
    unlike = said(
        settings(retrain("a"), Rule(("b",), retrain=replace(retrain().retrain, experiment="x"))),
        a="VV",
        b="VV",
    )  # type: ignore[type-var]
    assert [one[2] for one in unlike] == ["due", "due"]


def test_an_upstream_change_blocks_retraining_until_it_clears() -> None:
    policy = settings(retrain(), alert("up"))
    assert said(policy, a="VVV", up="VVV") == [("a", 1, "blocked", "upstream", None)]
    assert said(policy, a="VVV", up="QQV")[0][2] == "due"  # on day 1, before it
    assert said(policy, a="QVV", up="QQV") == [("a", 2, "blocked", "upstream", None)]  # its newest window
    assert said(policy, a="QVVV", up="QQVQ") == [("a", 2, "due", None, 3)]
    assert said(policy, a="VVVVVV", up="VVQQQQ") == [("a", 1, "due", None, 4)]  # cleared on day 4
    lifted = replace(policy, checks=tuple(replace(check, blocks=False) for check in policy.checks))
    assert said(lifted, a="VVV", up="VVV") == [("a", 1, "due", None, 1)]


def test_a_retrained_version_that_fires_at_once_does_not_retrain_again() -> None:
    policy = settings(retrain("a", "b"), alert(), warmup=2)
    loop = ("a", 11, "blocked", "loop", None)
    assert said(policy, V2, (), 10, a="VVVVVVVV") == [loop]
    assert alerts(fold(policy, V2, windows(10, a="VV")).actions) == [("a", "fired", 11, 11)]
    # nor does another check, while the loop lasts
    both = said(policy, V2, (), 10, a="VVVVVVVV", b="QQQQVVVV")
    assert both == [loop, ("b", 15, "blocked", "loop", None)]
    # a window that cleared in between lifts it
    assert said(policy, V2, (), 10, a="VVQQQVV")[1:] == [("a", 16, "due", None, 16)]
    assert said(policy, V2, (), 10, a="VVQQQQQQ", b="QQQQVVVV")[1:] == [("b", 15, "due", None, 15)]
    # and so does a person who releases a version
    released = replace(V2, proposed=False)
    assert said(policy, released, (), 10, a="VVV") == [("a", 11, "due", None, 12)]
    # after its first windows it is like any other
    assert said(policy, V2, (), 10, a="QQQVV") == [("a", 14, "due", None, 14)]


def test_the_loop_breaker_covers_the_first_n_windows_when_there_is_no_warm_up() -> None:
    policy = settings(retrain(), warmup=0)
    assert said(policy, V2, (), 10, a="QVV") == [("a", 12, "blocked", "loop", None)]
    assert said(policy, V2, (), 10, a="QQVV") == [("a", 13, "due", None, 13)]


def test_a_check_that_cleared_and_fires_again_during_the_warm_up_is_no_loop() -> None:
    policy = settings(retrain(), fire=1, of=1, clear=1, warmup=5)
    assert [one[3] for one in said(policy, V2, (), 10, a="VQV")] == ["cleared", "warmup"]


def test_a_rule_with_a_severity_waits_for_it() -> None:
    policy = settings(Rule(("c",), severity="critical", retrain=retrain().retrain))
    assert said(policy, c="VVV") == []
    assert said(policy, c="VVVW") == [("c", 1, "due", None, 3)]


def test_row_windows_count_a_cooldown_by_the_event_times_of_their_rows() -> None:
    policy = settings(retrain(cooldown=7 * DAY))
    made = [
        replace(one, start=index * 100, end=index * 100 + 100)
        for index, one in enumerate(windows(a="VVQQQVVV"))
    ]
    times = {one.start: index * 5.0 * DAY for index, one in enumerate(made)}
    timed = fold(policy, V1, made, times=times).actions
    assert [one.state for one in timed if isinstance(one, Retrain)] == ["due", "due"]
    (unknown,) = fold(policy, V1, made[:2], times={}).actions
    assert isinstance(unknown, Retrain)
    assert (unknown.state, unknown.reason) == ("blocked", "time")


@pytest.mark.parametrize("rules", [(retrain(), alert()), (alert(), retrain())])
def test_what_is_outstanding_is_due_and_not_known(rules: tuple[Rule, Rule]) -> None:
    decided = fold(settings(*rules), V1, windows(a="VV")).actions
    assert len(outstanding(decided, ())) == 2
    assert outstanding(decided, decided) == ()
    blocked = fold(settings(*rules, warmup=9), V1, windows(a="VV")).actions
    assert [type(one).__name__ for one in outstanding(blocked, ())] == ["Alert"]
