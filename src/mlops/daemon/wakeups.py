"""What wakes the loop: reasons from any thread; a burst of them is one pass."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

Reason = str
REVISION: Final = "revision"  # the branch moved
ENDED: Final = "ended"  # a step beside the loop came to its end
LEDGER: Final = "ledger"  # something changed in a local MLflow store
FILES: Final = "files"  # the working tree changed
INTERVAL: Final = "interval"
REQUEST: Final = "request"  # `mlops reconcile`, or an apply beside the daemon
WEBHOOK: Final = "webhook"
RETRY: Final = "retry"
UNSETTLED: Final = "unsettled"  # the last pass left something that can be done at once
START: Final = "start"
NEWS: Final = frozenset({REVISION, FILES, REQUEST, WEBHOOK})  # what may end an outage, and is never put off


@dataclass(slots=True)
class Wakeups:
    """Reasons that came up since the loop looked last."""

    kept: set[Reason] = field(default_factory=set)  # put off: no reason to wake up, but for the next pass
    _reasons: set[Reason] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def wake(self, reason: Reason) -> None:
        """Ask for a pass; from any thread, and cheap."""
        with self._changed:
            self._reasons.add(reason)
            self._changed.notify()

    def wait(self, seconds: float) -> None:
        """Sleep until there is a reason, `seconds` at most."""
        with self._changed:
            if not self._reasons:
                self._changed.wait(seconds)

    def take(self) -> frozenset[Reason]:
        """The reasons so far, which are forgotten by that."""
        with self._changed:
            reasons = frozenset(self._reasons | self.kept)
            self._reasons.clear()
            self.kept.clear()
            return reasons
