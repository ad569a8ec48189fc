"""Which of the retrainings that firings ask for are decided, and when: in event time and windows, never by the clock.

A request waits while anything blocks it and is dropped when its check clears. What blocks, in the order in which it is
said: the loop breaker, an upstream change, a newest window that is quiet, the warm-up, the cooldown, the budget. One
retraining answers all requests for the same experiment that wait with it, and those of checks that fire after it within
the cooldown (n windows, where none is given) while the firing that it answers is open: it is the same trouble.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlops.monitoring.deciding.actions import Reason, Retrain, Standing, Window, action_id
from mlops.monitoring.deciding.incidents import Transition
from mlops.monitoring.deciding.settings import Retraining, Settings, Watched, rank
from mlops.monitoring.deciding.state import Past, Request, State


@dataclass(frozen=True, slots=True)
class Tick:
    """A folded window: what happened in it, and whether a check blocks retraining after it.

    `own` counts the judged windows of the version up to here; `time` is the event time of its end; `acute` are the
    checks that have fired and whose newest judged windows violate.
    """

    start: Window
    time: float | None
    own: int
    blocked: bool
    acute: tuple[str, ...]
    transitions: tuple[Transition, ...]


class Retrainings:
    """The requests while they are folded.

    Args:
        settings: of the policy.
        watched: the version.
        state: where they stood; None: before the first window.
        done: retrainings that were decided already, for any version.
        decided: until that window all was decided; what late data asks for in earlier ones waits until there.
    """

    def __init__(
        self,
        settings: Settings,
        watched: Watched,
        state: State | None,
        done: Iterable[Retrain],
        decided: Window | None,
    ) -> None:
        self._settings, self._watched, self._decided = settings, watched, decided
        self._tripped = list(state.tripped) if state else []
        self._requests = list(state.requests) if state else []
        self._past = {past.id: past for past in state.past} if state else {}
        self._done = {one.id: one for one in done if one.state == "due"}
        for one in self._done.values():
            past = Past(one.id, one.experiment, one.check, one.time, None, open=False)
            self._past.setdefault(one.id, past)
        self._own = state.own if state else 0
        self.actions: dict[str, Retrain] = {}

    def take(self, tick: Tick) -> None:
        """Fold one window."""
        self._own = tick.own
        for transition in tick.transitions:
            if transition.turn == "cleared":
                self._clear(transition.check)
            else:
                self._trip(transition)
                self._ask(transition)
        if self._requests:
            self._settle(tick)

    def leave(self, time: float | None) -> tuple[tuple[str, ...], tuple[Request, ...], tuple[Past, ...]]:
        """Tripped checks, waiting requests and past retrainings, as the state holds them after event time `time`."""
        for request in self._requests:
            if request.id not in self._done:
                self._say(request, "blocked", None, request.reason, request.until)
        past = [one for one in self._past.values() if self._matters(one, time)]
        past.sort(key=lambda one: (one.time or 0.0, one.id))
        return tuple(self._tripped), tuple(self._requests), tuple(past)

    def _clear(self, check: str) -> None:
        self._tripped = [name for name in self._tripped if name != check]
        for request in self._requests:
            if request.check == check and request.id not in self._done:
                self._say(request, "dropped", None, "cleared")
        self._requests = [request for request in self._requests if request.check != check]
        for one in self._past.values():
            if one.check == check and one.open:
                self._past[one.id] = replace(one, open=False)

    def _trip(self, transition: Transition) -> None:
        """The loop breaker: a version that this policy's retraining proposed fires at once."""
        check, at_once = transition.check, self._own <= max(self._settings.warmup, self._settings.of)
        if not self._watched.proposed or transition.turn != "fired" or not at_once or transition.again:
            return
        if any(rule.retrain and check in rule.on for rule in self._settings.rules):
            self._tripped.append(check)

    def _ask(self, transition: Transition) -> None:
        for index, rule in enumerate(self._settings.rules):
            newly = rank(transition.before) < rank(rule.severity) <= rank(transition.severity)
            if rule.retrain is None or transition.check not in rule.on or not newly:
                continue
            window, target = transition.incident.named, rule.retrain.experiment
            name = action_id(self._settings.policy, transition.check, window, "retrain", target)
            asked = any(request.id == name for request in self._requests)
            decided = name in self._past and self._past[name].own is not None
            if not asked and not decided:
                self._requests.append(Request(name, transition.check, window, index, None, None))

    def _settle(self, tick: Tick) -> None:
        """Decide what can be decided after a window: first what was decided already, last what that covers."""
        waiting: list[Request] = []
        for request in self._requests:
            if (done := self._done.get(request.id)) is None:
                waiting.append(request)
            elif done.time is not None and tick.time is not None and tick.time < done.time:
                waiting.append(replace(request, reason=None, until=None))
            else:
                self._past[request.id] = self._issued(request, done.time)
        waiting = [
            request if request.id in self._done else self._decide(request, tick) for request in waiting
        ]
        self._requests = [request for request in waiting if not self._answered(request, tick)]

    def _answered(self, request: Request, tick: Tick) -> bool:
        """Whether it is decided now, or another one answers it."""
        past = self._past.get(request.id)
        if past is not None and past.own is not None:
            return True
        cover = None if request.id in self._done else self._cover(self._rule(request), tick)
        if cover is not None:
            self._say(request, "dropped", None, "covered", by=cover)
        return cover is not None

    def _decide(self, request: Request, tick: Tick) -> Request:
        """The request with why it has to wait; it is done where nothing makes it."""
        rule = self._rule(request)
        if self._decided is not None and tick.start < self._decided:
            return replace(request, reason="late", until=None)
        if self._cover(rule, tick) is not None:
            return request
        blocked = self._blocked(request, rule, tick)
        if blocked is not None:
            return replace(request, reason=blocked[0], until=blocked[1])
        self._past[request.id] = self._issued(request, tick.time)
        self._say(request, "due", tick.time)
        return request

    def _blocked(self, request: Request, rule: Retraining, tick: Tick) -> tuple[Reason, float | None] | None:
        if self._tripped:
            return "loop", None
        if tick.blocked:
            return "upstream", None
        if request.check not in tick.acute:
            return "quiet", None
        if tick.own <= self._settings.warmup:
            return "warmup", None
        if rule.cooldown is None and rule.budget is None:
            return None
        if tick.time is None:
            return "time", None
        times = sorted(
            one.time
            for one in self._past.values()
            if one.experiment == rule.experiment and one.time is not None and one.time <= tick.time
        )
        if rule.cooldown is not None and times and tick.time - times[-1] < rule.cooldown:
            return "cooldown", times[-1] + rule.cooldown
        if rule.budget is not None and rule.period is not None:
            spent = [time for time in times if tick.time - time < rule.period]
            if len(spent) >= rule.budget:
                return "budget", spent[-rule.budget] + rule.period
        return None

    def _cover(self, rule: Retraining, tick: Tick) -> str | None:
        """The id of a retraining for this version that is about the same trouble."""
        for one in self._past.values():
            if one.experiment == rule.experiment and one.open and self._recent(one, rule, tick.time):
                return one.id
        return None

    def _recent(self, one: Past, rule: Retraining, time: float | None) -> bool:
        if rule.cooldown is None:
            return one.own is not None and self._own - one.own < self._settings.of
        return time is not None and one.time is not None and time - one.time < rule.cooldown

    def _matters(self, one: Past, time: float | None) -> bool:
        """Whether cooldown, budget or cover may still depend on it."""
        for rule in self._settings.rules:
            retrain = rule.retrain
            if retrain is None or retrain.experiment != one.experiment:
                continue
            if one.open and self._recent(one, retrain, time):
                return True
            longest = max(retrain.cooldown or 0.0, retrain.period or 0.0)
            if time is not None and one.time is not None and 0 <= time - one.time < longest:
                return True
        return False

    def _issued(self, request: Request, time: float | None) -> Past:
        experiment = self._rule(request).experiment
        return Past(request.id, experiment, request.check, time, self._own, open=True)

    def _rule(self, request: Request) -> Retraining:
        rule = self._settings.rules[request.rule].retrain
        if rule is None:
            raise ValueError("a request of a rule that does not retrain")
        return rule

    def _say(
        self,
        request: Request,
        state: Standing,
        time: float | None,
        reason: Reason | None = None,
        until: float | None = None,
        by: str | None = None,
    ) -> None:
        experiment, version = self._rule(request).experiment, self._watched.version
        self.actions[request.id] = Retrain(
            *(request.id, request.check, version, request.window, experiment, request.rule),
            *(state, time, reason, until, by),
        )
