"""When a check fires, gets worse and clears, and who is told."""

from __future__ import annotations

import pytest
from folding import V1, alert, alerts, settings, turns, windows

from mlops.monitoring.deciding import Alert, Check, Rollback, Rule, Settings, Watched, fold
from mlops.monitoring.verdicts import CheckVerdict, ColumnVerdict, Evaluation


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("QVQQVQQ", []),  # 1 of 3 is not enough
        ("QVV", [("fired", 2)]),
        ("VQV", [("fired", 2)]),
        ("VQQVQ", []),
        ("VIINEV", [("fired", 5)]),  # what cannot be judged is passed over
        ("VqV", [("fired", 2)]),  # a quiet estimate is no window
        ("VqqqqV", [("fired", 5)]),
        ("ee", [("fired", 1)]),  # an estimate helps to fire
        ("VVQQQ", [("fired", 1), ("cleared", 4)]),
        ("VVQQ", [("fired", 1)]),  # clearing needs its own windows
        ("VVQQHQQ", [("fired", 1)]),  # quiet, but above 0.8 of the threshold
        ("VVQQHQQQ", [("fired", 1), ("cleared", 7)]),
        ("VVQQVQQ", [("fired", 1)]),
        ("VVqqqqqq", [("fired", 1)]),  # an estimate never clears
        ("VVQIQNEQ", [("fired", 1), ("cleared", 7)]),
        ("VVIIIIII", [("fired", 1)]),
        ("VVVVVVVV", [("fired", 1)]),  # one a transition, never one a window
        ("VVQQQV", [("fired", 1), ("cleared", 4)]),  # after clearing it starts from nothing
        ("VVQQQVV", [("fired", 1), ("cleared", 4), ("fired", 6)]),
        ("VVWWW", [("fired", 1), ("worse", 2)]),
        ("VVeee", [("fired", 1)]),  # an estimate makes nothing worse
    ],
)
def test_a_check_fires_and_clears(letters: str, expected: list[tuple[str, int]]) -> None:
    decision = fold(settings(alert()), V1, windows(a=letters))
    assert turns(decision) == expected
    assert [(turn, day) for _, turn, _, day in alerts(decision.actions)] == expected


def test_the_newest_window_has_to_violate_for_firing() -> None:
    assert turns(fold(settings(of=3), V1, windows(a="VQ"))) == []
    ready = settings(fire=2, of=4)
    assert turns(fold(ready, V1, windows(a="VQQV"))) == [("fired", 3)]
    assert turns(fold(settings(fire=1, of=1, clear=1), V1, windows(a="VQVQ"))) == [
        *[("fired", 0), ("cleared", 1)],
        *[("fired", 2), ("cleared", 3)],
    ]


def column(value: float, p: float | None, part: str | None = None, detector: str = "psi") -> ColumnVerdict:
    return ColumnVerdict("x", part, detector, value, 0.2, p, p, "quiet", None)


NOTHING = column(0.01, 0.5)


@pytest.mark.parametrize(
    ("kind", "value", "columns", "cleared"),
    [
        ("dataDrift", 0.0, [NOTHING] * 10, True),
        ("dataDrift", 0.25, [NOTHING] * 10, False),  # 0.8 of a share of 0.3
        ("dataDrift", 0.0, [column(0.19, 0.001)] * 3 + [NOTHING] * 7, False),  # 3 of 10 at 0.8 of theirs
        ("dataDrift", 0.0, [column(0.19, 0.001)] * 2 + [NOTHING] * 8, True),
        ("dataDrift", 0.0, [column(0.19, 0.4)] * 10, True),  # large by chance
        ("dataDrift", 0.0, [column(0.15, 0.001)] * 10, True),  # below 0.8 of 0.2
        ("dataDrift", 0.0, [column(0.19, 0.001, "fr")] * 2 + [NOTHING] * 9, False),  # all of a slice
        ("conceptDrift", 0.1, [column(0.1, 0.001)], True),
        ("conceptDrift", 0.19, [column(0.19, 0.001)], False),
        ("conceptDrift", 0.4, [column(0.4, 0.3)], True),
        ("conceptDrift", 0.1, [column(0.1, 0.3), column(0.19, 0.001, "fr")], False),
        ("conceptDrift", 0.25, [], False),
        ("upstreamChange", 0.0, [column(0.19, 0.001, detector="nullRate")], False),
        ("upstreamChange", 0.0, [column(0.9, 0.001, detector="tailExceedance")], True),  # a tail, and no unit
    ],
)
def test_a_window_clears_when_four_fifths_of_the_thresholds_would_keep_it_quiet(
    kind: str, value: float, columns: list[ColumnVerdict], cleared: bool
) -> None:
    policy = Settings("p", (Check("a"),), fire=1, of=1, clear=1)
    made = []
    for start, check in enumerate(
        (
            CheckVerdict("a", kind, "violated", 0.5, 0.3, ()),
            CheckVerdict("a", kind, "quiet", value, 0.3, tuple(columns)),
        )
    ):
        made.append(Evaluation(start, start + 1, 10, check.verdict, (check,), str(start), 0))
    check = fold(policy, V1, made).state.check("a")
    assert check is not None
    assert check.fired != cleared


def test_severity_rises_with_each_worsening_and_reaches_who_wants_only_the_worst() -> None:
    policy = settings(
        Rule(("c",), notify=("team", "boss")), notifiers=(("team", "info"), ("boss", "critical"))
    )
    actions = fold(policy, V1, windows(c="VVWQQQ")).actions
    told = [(a.turn, a.severity, a.notify) for a in actions if isinstance(a, Alert)]
    assert told == [
        ("fired", "warning", ("team",)),
        ("worse", "critical", ("team", "boss")),
        ("cleared", "critical", ("team", "boss")),
    ]


def test_several_rules_make_one_alert_of_a_transition() -> None:
    policy = settings(alert("a", "b"), Rule(("a",), notify=("boss", "team")))
    (one,) = fold(policy, V1, windows(a="VV", b="QQ")).actions
    assert isinstance(one, Alert)
    assert one.notify == ("team", "boss")


def test_a_rollback_is_proposed_once_a_firing_from_its_severity_on() -> None:
    policy = settings(Rule(("a", "c"), severity="critical", rollback=True))

    def days(**checks: str) -> list[int]:
        return [
            int(a.time or 0) // 86_400 - 1
            for a in fold(policy, V1, windows(**checks)).actions
            if isinstance(a, Rollback)
        ]

    assert days(a="VVVVQQQVV") == [1, 8]
    assert days(c="VVVV") == []
    assert days(c="VVVW") == [3]


@pytest.mark.parametrize(
    ("letters", "verdict"),
    [
        ("", "Unknown"),
        ("I", "Unknown"),
        ("Q", "Healthy"),
        ("V", "Healthy"),
        ("VV", "Degraded"),
        ("QIE", "Healthy"),
        ("QINE", "Unknown"),  # the newest n
        ("VVIII", "Degraded"),  # nothing has cleared it
        ("VVQQQ", "Healthy"),
    ],
)
def test_the_verdict_of_the_policy(letters: str, verdict: str) -> None:
    assert fold(settings(), V1, windows(a=letters)).state.verdict == verdict


def test_windows_before_the_version_was_watched_decide_nothing() -> None:
    late = Watched("2.0.0", start=3 * 86_400)
    assert turns(fold(settings(), late, windows(a="VVVQQV"))) == []
    decision = fold(settings(), late, windows(a="VVVQVV"))
    assert turns(decision) == [("fired", 5)]
    assert fold(settings(), late, windows(a="VVV")).state.verdict == "Unknown"


def test_a_check_that_the_policy_no_longer_has_is_passed_over() -> None:
    assert turns(fold(settings(), V1, windows(gone="VVV", a="QQQ"))) == []
