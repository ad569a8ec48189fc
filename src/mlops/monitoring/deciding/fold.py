"""Decisions: a pure fold over the stored evaluations of one watched version.

Evaluations are taken by window, never by arrival, and of each window only the newest revision: the same
evaluations give the same state and actions, whenever, wherever and in however many pieces they are folded. Only what
late data changes after something was done about it is held to what was done (see `incidents`): nothing is done twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mlops.monitoring.deciding.actions import (
    Action,
    Alert,
    Decided,
    Happened,
    Retrain,
    Rollback,
    Window,
    action_id,
)
from mlops.monitoring.deciding.incidents import Track, Transition
from mlops.monitoring.deciding.retraining import Retrainings, Tick
from mlops.monitoring.deciding.settings import Settings, Watched, rank
from mlops.monitoring.deciding.state import State
from mlops.monitoring.verdicts import Evaluation


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of the folded windows; of an action with the id of an older one, this is how it stands now."""

    state: State
    transitions: tuple[Happened, ...]
    actions: tuple[Action, ...]


def fold(
    settings: Settings,
    watched: Watched,
    evaluations: Iterable[Evaluation],
    done: Iterable[Decided] = (),
    state: State | None = None,
    times: Mapping[Window, float] | None = None,
) -> Decision:
    """Decide.

    Args:
        settings: of the policy.
        watched: the version.
        evaluations: of that version's windows, in any order and with any number of revisions. With `state` the newer
            ones are enough; as soon as one is not newer than the state, all have to be given, and all are folded.
        done: what was decided before for this policy, actions and transitions, for this version and those before it.
        state: where an earlier fold stands. It is not gone on from where settings, version or an old window changed;
            retrainings that only then turn up in old windows are decided at its end, not back then.
        times: event time of the end of row windows, by their start. Time windows end at their `end`.
    """
    windows = _newest_revisions(evaluations)
    done = tuple(done)
    basis = state if state is not None and _goes_on(state, settings, watched, windows) else None
    decided = state.until if state is not None and basis is None and state.watched == watched else None
    told = _told(done, watched, None if basis is None else basis.until)
    tracks = [
        Track(settings, check, basis.check(check.name) if basis else None, told[check.name], decided)
        for check in settings.checks
    ]
    walk = _Walk(watched, tracks, basis)
    ticks = [walk.take(window, _time(window, times)) for window in windows]
    retrainings = Retrainings(
        settings, watched, basis, [one for one in done if isinstance(one, Retrain)], decided
    )
    for tick in ticks:
        retrainings.take(tick)
    until, time = (ticks[-1].start, ticks[-1].time) if ticks else (None, None)
    if basis is not None and not ticks:
        until, time = basis.until, basis.time
    tripped, requests, past = retrainings.leave(time)
    checks = tuple(track.freeze() for track in tracks)
    transitions = [(tick, transition) for tick in ticks for transition in tick.transitions]
    return Decision(
        State(
            *(settings.digest, watched, until, time, walk.own, walk.silent, settings.of),
            *(checks, tripped, requests, past),
        ),
        tuple(_happened(settings, watched, transition) for _, transition in transitions),
        (
            *(action for tick, one in transitions for action in _at_once(settings, watched, tick, one)),
            *retrainings.actions.values(),
        ),
    )


class _Walk:
    """All checks through the windows, one after the other."""

    def __init__(self, watched: Watched, tracks: list[Track], basis: State | None) -> None:
        self._start, self._tracks = watched.start, tracks
        self._by_name = {track.name: track for track in tracks}
        self._blockers = [track for track in tracks if track.check.blocks]
        self.own, self.silent = (basis.own, basis.silent) if basis else (0, 0)

    def take(self, window: Evaluation, time: float | None) -> Tick:
        start = window.start
        if self._start is not None and start < self._start:
            return Tick(start, time, self.own, False, (), ())
        transitions: list[Transition] = []
        judged = False
        for check in window.checks:
            verdict = check.verdict
            if (verdict != "quiet" or check.estimate) and verdict != "violated":
                continue
            if (track := self._by_name.get(check.name)) is None:
                continue
            judged = True
            turned = track.quiet(check, start) if verdict == "quiet" else track.violated(check, start)
            if turned is not None:
                transitions.append(turned)
        for track in self._tracks:
            if (track.told or track.incident is not None) and (turned := track.announced(start)) is not None:
                transitions.append(turned)
        self.own, self.silent = (self.own + 1, 0) if judged else (self.own, self.silent + 1)
        return Tick(
            start,
            time,
            self.own,
            any(track.blocked for track in self._blockers),
            tuple(track.name for track in self._tracks if track.acute),
            tuple(transitions),
        )


def _newest_revisions(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    newest: dict[Window, Evaluation] = {}
    for one in evaluations:
        other = newest.get(one.start)
        if other is None or (one.revision, one.key) > (other.revision, other.key):
            newest[one.start] = one
    return [newest[start] for start in sorted(newest)]


def _goes_on(state: State, settings: Settings, watched: Watched, windows: list[Evaluation]) -> bool:
    if state.settings != settings.digest or state.watched != watched:
        return False
    return not windows or state.until is None or windows[0].start > state.until


def _time(window: Evaluation, times: Mapping[Window, float] | None) -> float | None:
    return float(window.end) if times is None else times.get(window.start)


def _told(
    done: Iterable[Decided], watched: Watched, until: Window | None
) -> Mapping[str, dict[Window, Window | None]]:
    """By check: first windows of firings that something was done for, and where they were said to have cleared."""
    told: dict[str, dict[Window, Window | None]] = defaultdict(dict)
    for action in done:
        early = watched.start is not None and action.window < watched.start
        if action.version != watched.version or early or (until is not None and action.window <= until):
            continue
        if isinstance(action, Retrain) and action.state != "due":
            continue
        end = action.at if isinstance(action, Alert | Happened) and action.turn == "cleared" else None
        windows = told[action.check]
        windows[action.window] = windows.get(action.window) if end is None else end
    return told


def _happened(settings: Settings, watched: Watched, one: Transition) -> Happened:
    window = one.incident.named
    return Happened(
        action_id(settings.policy, one.check, window, *_detail(one)),
        *(one.check, watched.version, window, one.turn, one.at, one.severity, one.incident.note),
    )


def _detail(one: Transition) -> tuple[str | int, ...]:
    return (one.turn, one.ordinal) if one.turn == "worse" else (one.turn,)


def _at_once(settings: Settings, watched: Watched, tick: Tick, one: Transition) -> Iterator[Action]:
    """The alert that a transition makes, and the rollback: neither waits for anything."""
    window, wanted = one.incident.named, dict(settings.notifiers)
    rules = [
        rule for rule in settings.rules if one.check in rule.on and rank(rule.severity) <= rank(one.severity)
    ]
    names = dict.fromkeys(name for rule in rules for name in rule.notify)
    notify = tuple(name for name in names if rank(wanted.get(name, "info")) <= rank(one.severity))
    if notify:
        yield Alert(
            action_id(settings.policy, one.check, window, "alert", *_detail(one)),
            *(one.check, watched.version, window, one.turn, one.at, one.severity, notify, tick.time),
            one.incident.note,
        )
    newly = one.turn != "cleared" and any(
        rule.rollback and rank(one.before) < rank(rule.severity) for rule in rules
    )
    if newly:
        yield Rollback(
            action_id(settings.policy, one.check, window, "rollback"),
            *(one.check, watched.version, window, tick.time),
        )
