"""Now and then the history and the caches are bounded, as an apply does at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlops.applying.status import NAMESPACE
from mlops.daemon.requests import refuse_unreadable

if TYPE_CHECKING:
    from mlops.controller import Controller

EVERY: Final = 3600.0  # seconds between two prunings


@dataclass(slots=True)
class Tidying:
    """Prunes what a daemon keeps, once an hour of its monotonic clock."""

    controller: Controller
    _last: float = float("-inf")

    def tidy(self) -> None:
        """Prune, if it is time. Where that fails it is tried again after the next hour: nothing depends on it.

        Raises:
            Transient: a database is locked, or its disk is full.
        """
        moment = self.controller.monotonic()
        if moment - self._last >= EVERY:
            self._last = moment
            state = self.controller.state
            refuse_unreadable(state, now=self.controller.now())
            state.all(NAMESPACE)  # status is in use, though only what changed is written
            self.controller.prune()
