"""Windows and settings for folds, written short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlops.monitoring.deciding import (
    Alert,
    Check,
    Decided,
    Decision,
    Retrain,
    Retraining,
    Rule,
    Settings,
    State,
    Watched,
    fold,
)
from mlops.monitoring.verdicts import CheckVerdict, Evaluation, Verdict, overall

DAY = 86_400
V1 = Watched("1.0.0")
LETTERS: dict[str, tuple[Verdict, float | None]] = {
    "V": ("violated", 1.2),
    "W": ("violated", 2.5),  # more than twice as bad
    "Q": ("quiet", 0.1),
    "H": ("quiet", 0.9),  # quiet, but not below 0.8 of the threshold
    "I": ("insufficient", None),
    "N": ("noData", None),
    "E": ("error", None),
    "e": ("violated", 3.0),  # by an estimate
    "q": ("quiet", 0.1),  # by an estimate
}


def verdict(name: str, letter: str) -> CheckVerdict:
    said, value = LETTERS[letter]
    return CheckVerdict(name, "conceptDrift", said, value, 1.0, (), estimate=letter in "eq")


def windows(first: int = 0, revision: int = 0, /, **checks: str) -> list[Evaluation]:
    """One window a day from day `first` on; a letter a window for each check, as in `LETTERS`."""
    made = []
    for index in range(len(next(iter(checks.values())))):
        judged = tuple(verdict(name, letters[index]) for name, letters in checks.items())
        start = (first + index) * DAY
        made.append(
            Evaluation(
                *(start, start + DAY, 1000, overall(one.verdict for one in judged), judged),
                *(f"{start}-{revision}", revision),
            )
        )
    return made


def settings(*rules: Rule, **changed: Any) -> Settings:
    """2 of 3, clear 3, no warm-up; checks a and b are critical and c is a warning, `up` blocks."""
    checks = (
        *(Check("a", "critical"), Check("b", "critical"), Check("c", "warning")),
        Check("up", "critical", blocks=True),
    )
    return Settings(**{"policy": "p", "checks": checks, "rules": rules, "warmup": 0, **changed})


def alert(*on: str, **changed: Any) -> Rule:
    return Rule(on or ("a",), notify=("team",), **changed)


def retrain(*on: str, **limits: Any) -> Rule:
    return Rule(on or ("a",), retrain=Retraining("gbt", **limits))


def in_pieces(
    policy: Settings, pieces: Sequence[Iterable[Evaluation]], watched: Watched = V1
) -> tuple[State, list[Decided]]:
    """Fold piece after piece, as a daemon does: what was decided is known to the next; all windows are given."""
    state: State | None = None
    known: list[Evaluation] = []
    done: dict[str, Decided] = {}
    for piece in pieces:
        known += piece
        decision = fold(policy, watched, known, done.values(), state)
        state = decision.state
        for one in (*decision.transitions, *decision.actions):
            if one.id not in done or not is_due(done[one.id]):
                done[one.id] = one
    assert state is not None
    return state, list(done.values())


def is_due(action: Decided) -> bool:
    return not isinstance(action, Retrain) or action.state == "due"


def turns(decision: Decision) -> list[tuple[str, int]]:
    """Transitions with the day of their window."""
    return [(one.turn, int(one.at / DAY)) for one in decision.transitions]


def alerts(actions: Iterable[Decided]) -> list[tuple[str, str, int, int]]:
    """Alerts: check, turn, day of the first window, day of the window."""
    return [
        (one.check, one.turn, int(one.window / DAY), int(one.at / DAY))
        for one in actions
        if isinstance(one, Alert)
    ]


def retrained(actions: Iterable[Decided]) -> list[tuple[str, int, str, str | None, int | None]]:
    """Retrainings: check, day of the first window, state, reason, day in which it was decided."""
    return [
        (
            *(one.check, int(one.window / DAY), one.state, one.reason),
            None if one.time is None else int(one.time / DAY) - 1,
        )
        for one in actions
        if isinstance(one, Retrain)
    ]
