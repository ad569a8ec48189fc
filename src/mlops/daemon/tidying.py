"""Now and then the history and the caches are bounded, as an apply does at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlops.applying.status import NAMESPACE
from mlops.daemon.requests import refuse_unreadable

if TYPE_CHECKING:
    from mlops.controller import Controller
    from mlops.resources import Project

EVERY: Final = 3600.0  # seconds between two prunings


@dataclass(slots=True)
class Tidying:
    """Prunes what a daemon keeps, once an hour of its monotonic clock."""

    controller: Controller
    _last: tuple[float, float] | None = None  # when it was done, on the monotonic and on the wall clock

    def tidy(self, project: Project) -> None:
        """Prune as `project` says, if it is time; where that fails, again after an hour: nothing depends on it.

        Raises:
            Transient: a database is locked, or its disk is full.
        """
        moment, wall, last = self.controller.monotonic(), self.controller.now(), self._last
        if last is not None and moment - last[0] < EVERY:
            return
        self._last = moment, wall
        state = self.controller.state
        refuse_unreadable(state, now=wall)
        state.all(NAMESPACE)  # status is in use, though only what changed is written
        # A clock that was set since might make all history look old; after another hour it is believed.
        steady = last is not None and abs((wall - last[1]) - (moment - last[0])) < EVERY / 2
        self.controller.prune(project, by_age=steady)
