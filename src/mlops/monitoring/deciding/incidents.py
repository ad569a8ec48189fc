"""One check over the windows: when it fires, gets worse and clears.

It fires when `fire` of the newest `of` judged windows violate, the newest among them, and clears after `clear` windows
in a row, all later than the firing, at 0.8 of the threshold; then it starts from nothing. A window that could not be
judged (insufficient, noData, error, or an estimate that is not violated) is passed over, as if it had not been.

It gets worse when a window's value is twice the one that was last announced; its severity rises by one with that. An
estimate helps to fire and keeps from clearing, but makes nothing worse.

What was announced stays announced. A firing that actions were done for keeps its name where late data has moved its
first window; it stays open for as long as it was said to be, although late data would have cleared it or has taken it
back (it is `held` then); and it is closed where it was said to have cleared. So late data splits, joins and moves
nothing that was acted upon: it can only add firings that nobody knew of, and changes what comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlops.monitoring.deciding.actions import Turn, Window
from mlops.monitoring.deciding.clearing import clears
from mlops.monitoring.deciding.settings import SEVERITIES, Check, Settings, Severity, rank
from mlops.monitoring.deciding.state import CheckState, Incident
from mlops.monitoring.verdicts import CheckVerdict

Told = Mapping[Window, Window | None]


class Open:
    """An incident while it is folded; the transitions of a fold share it, as its name may be found out later."""

    __slots__ = ("clean", "first", "held", "level", "named", "severity", "worse")

    def __init__(self, incident: Incident) -> None:
        self.first, self.named = incident.first, incident.named
        self.severity, self.level = incident.severity, incident.level
        self.worse, self.clean, self.held = incident.worse, incident.clean, incident.held

    @property
    def note(self) -> str | None:
        """What late data did to it, if anything."""
        if self.held:
            return "late data took the firing back"
        return "late data moved the first window of the firing" if self.named != self.first else None

    def freeze(self) -> Incident:
        """As the state holds it."""
        return Incident(self.first, self.named, self.severity, self.level, self.worse, self.clean, self.held)


@dataclass(frozen=True, slots=True)
class Transition:
    """A check fired, got worse or cleared in the window that starts at `at`.

    `before` is the severity that was announced until then (None: nothing), `ordinal` counts how often it got worse.
    """

    turn: Turn
    check: str
    at: Window
    incident: Open
    severity: Severity
    before: Severity | None
    ordinal: int
    again: bool  # the check had cleared before, under this version


class Track:
    """One check while it is folded.

    Args:
        settings: of the policy.
        check: which one.
        state: where it stood; None: before the first window.
        told: firings that actions were done for, by their first windows, with the window in which they were said to
            have cleared.
        decided: until that window firings are known to those who were told; None: late data has changed nothing.
    """

    __slots__ = (
        "_clear",
        "_decided",
        "_ends",
        "_fire",
        "_mask",
        "check",
        "cleared",
        "incident",
        "name",
        "recent",
        "told",
    )

    def __init__(
        self,
        settings: Settings,
        check: Check,
        state: CheckState | None,
        told: Told,
        decided: Window | None,
    ) -> None:
        self.check, self.name = check, check.name
        self._fire, self._clear, self._mask = settings.fire, settings.clear, (1 << settings.of) - 1
        self._ends, self._decided = told, decided
        self.told = sorted(told, reverse=True)
        self.recent = state.recent if state else 0
        self.cleared = state.cleared if state else False
        self.incident = Open(state.incident) if state and state.incident else None

    def violated(self, verdict: CheckVerdict, start: Window) -> Transition | None:
        """Take a window that violates."""
        self.recent = ((self.recent << 1) | 1) & self._mask
        incident = self.incident
        if incident is not None:
            incident.clean = 0
            if not incident.held:
                return self._worse(incident, verdict, start)
        if self.recent.bit_count() < self._fire:
            return None
        level = None if verdict.value is None else max(verdict.value, verdict.threshold or 0.0)
        if incident is None:
            fresh = Incident(start, start, self.check.severity, level, 0, 0, held=False)
            incident = self.incident = Open(fresh)
        else:  # late data moved the firing to here
            incident.first, incident.level, incident.held = start, level, False
        return Transition("fired", self.name, start, incident, incident.severity, None, 0, self.cleared)

    def quiet(self, verdict: CheckVerdict, start: Window) -> Transition | None:
        """Take a window that was judged and does not violate."""
        self.recent = (self.recent << 1) & self._mask
        incident = self.incident
        if incident is None:
            return None
        incident.clean = incident.clean + 1 if clears(verdict) else 0
        if incident.clean < self._clear or start < self._open_until(incident):
            return None
        return self._close(incident, start)

    def announced(self, start: Window) -> Transition | None:
        """After the window at `start`: keep to what was said of firings up to here."""
        while self.told and self.told[-1] <= start:
            window = self.told.pop()
            if self.incident is None:
                self.incident = Open(Incident(window, window, self.check.severity, None, 0, 0, held=True))
            else:
                self.incident.named = window
        if self.incident is None or (end := self._ends.get(self.incident.named)) is None or end > start:
            return None
        return self._close(self.incident, start)

    @property
    def acute(self) -> bool:
        """Whether it has fired and its newest judged window violates."""
        return self.incident is not None and bool(self.recent & 1)

    @property
    def blocked(self) -> bool:
        """Whether it forbids retraining now: it has fired, or its newest judged window violates."""
        return self.check.blocks and (self.incident is not None or bool(self.recent & 1))

    def freeze(self) -> CheckState:
        """As the state holds it."""
        incident = self.incident.freeze() if self.incident else None
        return CheckState(self.name, self.recent, incident, self.cleared)

    def _open_until(self, incident: Open) -> Window:
        """The window until which it was said to be open; nothing was said of an incident without actions."""
        if incident.named not in self._ends:
            return incident.first
        end = self._ends[incident.named]
        return end if end is not None else incident.first if self._decided is None else self._decided

    def _close(self, incident: Open, start: Window) -> Transition:
        again, severity = self.cleared, incident.severity
        self.incident, self.recent, self.cleared = None, 0, True
        return Transition("cleared", self.name, start, incident, severity, severity, incident.worse, again)

    def _worse(self, incident: Open, verdict: CheckVerdict, start: Window) -> Transition | None:
        value = verdict.value
        if verdict.estimate or value is None:
            return None
        if incident.level is None or incident.level <= 0:
            incident.level = max(value, verdict.threshold or 0.0)
            return None
        if value < 2 * incident.level:
            return None
        before = incident.severity
        incident.severity = SEVERITIES[min(rank(before) + 1, len(SEVERITIES) - 1)]
        incident.level, incident.worse = value, incident.worse + 1
        return Transition(
            "worse", self.name, start, incident, incident.severity, before, incident.worse, self.cleared
        )
