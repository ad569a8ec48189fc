"""Alerts beside the loop: what lies in the outbox is handed to child processes, and marked when they have ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.resources import Notifier

if TYPE_CHECKING:
    from mlops.controller import Controller
    from mlops.notifying.deliveries import Deliveries
    from mlops.view import View


@dataclass(slots=True)
class Alerts:
    """Tends the outbox of a term; a project without Notifiers costs nothing."""

    controller: Controller
    wake: Callable[[], None]
    _deliveries: Deliveries | None = None
    _next: float | None = None  # when something is tried again, on the monotonic clock

    def tend(self, view: View) -> None:
        """Mark what was sent, and send what is due; never waits."""
        notifiers = [one for one in view.desired.resources.values() if isinstance(one, Notifier)]
        if not notifiers and self._deliveries is None:
            return
        from mlops.notifying.deliveries import Deliveries
        from mlops.notifying.outbox import rows_in
        from mlops.notifying.rows import next_try

        if self._deliveries is None:
            self._deliveries = Deliveries(wake=self.wake)
        controller = self.controller
        self._deliveries.settle(controller.mark)
        self._deliveries.offer(controller.deliveries(view))
        at = next_try(rows_in(controller.state), after=controller.now())
        self._next = None if at is None else controller.monotonic() + max(at - controller.now(), 1.0)

    def due(self) -> float | None:
        """When something is to be tried again, on the monotonic clock."""
        return self._next

    def close(self, *, mark: bool, patience: float) -> None:
        """End what is being sent; with `mark`, write down what was."""
        if self._deliveries is not None:
            ended = self._deliveries.close(patience)
            if mark:
                self.controller.mark(ended)
