"""Sending beside the loop: a hanging service holds up neither the loop nor the other services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mlops.errors import MlopsError, Transient
from mlops.notifying.addresses import address, fingerprint, name_of
from mlops.notifying.message import Message
from mlops.notifying.outbox import Due
from mlops.notifying.rows import Row
from mlops.notifying.sending import TIMEOUT, send
from mlops.resources.notifier import Notifier

AT_ONCE: Final = 4  # children
_END: Final = 3.0  # seconds for children to be killed and their threads to end


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try. The URL holds secrets and is never shown."""

    row: Row
    message: Message
    url: str = field(repr=False)
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a try; without an error it was sent."""

    row: Row
    error: MlopsError | None
    fingerprint: str

    def marked(self, now: float) -> Row:
        """The row as `Outbox.mark` takes it."""
        return self.row.tried(now, self.error, self.fingerprint)


def prepare(
    due: Iterable[Due], notifiers: Mapping[str, Notifier], substitute: Callable[[str], str]
) -> tuple[list[Delivery], list[Outcome]]:
    """What can be tried, and what cannot because a variable is missing.

    Args:
        due: of `Outbox.due`, with the same `notifiers`.
        notifiers: by name.
        substitute: replaces `${VAR}`, as `observation.settings.substitute` with the Project and the environment.
    """
    ready: list[Delivery] = []
    held: list[Outcome] = []
    for row, message in due:
        notifier = notifiers[row.notifier]
        known = fingerprint(notifier, row.index)
        try:
            ready.append(Delivery(row, message, address(notifier, row.index, substitute), known))
        except MlopsError as error:
            held.append(Outcome(row, error, known))
    return ready, held


class Deliveries:
    """Sends what is offered, at most `at_once` at a time and one at a time to an address.

    Tries that failed before never take the last free place, so four hanging services do not keep a fifth waiting.
    `wake` is called from a thread of its own whenever there is something to settle.
    """

    def __init__(
        self,
        *,
        at_once: int = AT_ONCE,
        timeout: float = TIMEOUT,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._at_once, self._timeout, self._wake = at_once, timeout, wake
        self._changed = threading.Condition()
        self._waiting: dict[str, Delivery] = {}
        self._running: dict[str, Delivery] = {}
        self._finished: dict[str, Outcome] = {}
        self._threads: set[threading.Thread] = set()
        self._stop = threading.Event()

    def offer(self, deliveries: Iterable[Delivery]) -> None:
        """Take what is not on its way already. Never waits."""
        with self._changed:
            for delivery in deliveries:
                key = delivery.row.key
                if key not in self._running and key not in self._finished:
                    self._waiting[key] = delivery
            self._start()

    def settle(self, mark: Callable[[list[Outcome]], None]) -> None:
        """Have `mark` write down what came of tries; where it raises, that is kept for the next call."""
        with self._changed:
            outcomes = dict(self._finished)
        if outcomes:
            mark(list(outcomes.values()))
        with self._changed:
            for key in outcomes:
                del self._finished[key]

    def finished(self) -> list[Outcome]:
        """What came of tries since the last call; whoever takes it has to write it down."""
        with self._changed:
            outcomes = list(self._finished.values())
            self._finished.clear()
            return outcomes

    def drain(self, patience: float) -> bool:
        """Wait, at most `patience` seconds, until nothing waits or runs; whether that came about."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._running, patience)

    def close(self, patience: float = 0.0) -> list[Outcome]:
        """Start nothing more, wait `patience` seconds for what runs, kill the rest; what came of those that ended.

        What was killed has no outcome: it stays due, and may have been sent.
        """
        with self._changed:
            self._waiting.clear()
        self.drain(patience)
        self._stop.set()
        until = time.monotonic() + _END
        for thread in tuple(self._threads):
            thread.join(max(0.0, until - time.monotonic()))
        return self.finished()

    def _start(self) -> None:
        """Start what may start; the lock is held."""
        while not self._stop.is_set() and len(self._running) < self._at_once and (chosen := self._next()):
            del self._waiting[chosen.row.key]
            self._running[chosen.row.key] = chosen
            thread = threading.Thread(target=self._work, args=(chosen,), name="notifying", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _next(self) -> Delivery | None:
        busy = {(one.row.notifier, one.row.index) for one in self._running.values()}
        retried = sum(one.row.attempts > 0 for one in self._running.values())
        full = retried >= max(1, self._at_once - 1)
        return next(
            (
                one
                for one in self._waiting.values()
                if (one.row.notifier, one.row.index) not in busy and not (full and one.row.attempts)
            ),
            None,
        )

    def _work(self, delivery: Delivery) -> None:
        row = delivery.row
        error: MlopsError | None = None
        where = name_of(row.notifier, row.index)
        try:
            send(delivery.url, delivery.message, where=where, timeout=self._timeout, stop=self._stop)
        except MlopsError as failed:
            error = failed
        except Exception as unexpected:  # its text may quote what it was given
            error = Transient(
                f"sending failed with {type(unexpected).__name__}", where=where, fix="It is tried again"
            )
        with self._changed:
            del self._running[row.key]
            if error is None or not self._stop.is_set():
                self._finished[row.key] = Outcome(row, error, delivery.fingerprint)
            self._threads.discard(threading.current_thread())
            self._start()
            self._changed.notify_all()
        self._wake()


def deliver(
    deliveries: Iterable[Delivery], *, patience: float = TIMEOUT, timeout: float = TIMEOUT
) -> list[Outcome]:
    """Try each once, all within `patience` seconds, for a command that ends; what was not tried stays due."""
    sending = Deliveries(timeout=timeout)
    sending.offer(deliveries)
    sending.drain(patience)
    return sending.close()
