"""The outbox: what is to be said lies in the state until it is delivered.

Rows are written in the transaction that stores the evaluation (`rows_for`), so an alert is neither lost nor made twice.
Whoever is killed between a delivery and its mark sends that one again: at least once, with the alert's id in the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from mlops.errors import Stalled
from mlops.notifying.addresses import fingerprint
from mlops.notifying.message import Message
from mlops.notifying.rows import Row
from mlops.resources.notifier import Notifier
from mlops.state import State, StateReader

PENDING: Final = "outbox"  # namespaces of the state
ENDED: Final = "outbox.ended"
MESSAGES: Final = "outbox.messages"

_MOST_PENDING: Final = 500  # a Notifier; the oldest are given up
_MOST_ENDED: Final = 1_000  # a Notifier; the oldest are forgotten
_MOST_DUE: Final = 64  # in one look
_MOST_ATTACHED: Final = 2 * 2**20  # bytes of attachments; what is beyond is left out
_MOST_TEXT: Final = 100_000  # characters of a body


class Due(NamedTuple):
    """A row that is to be tried, and what it says."""

    row: Row
    message: Message


def rows_in(state: StateReader) -> tuple[Row, ...]:
    """Every row there is, those that ended, too: what `standing` and `delivered` are told from."""
    stored = (*state.all(PENDING).values(), *state.all(ENDED).values())
    return tuple(row for row in map(Row.from_json, stored) if row is not None)


class Outbox:
    """Reads and writes the rows of one project's state; used by the one writer."""

    def __init__(self, state: State, *, redact: Callable[[str], str]) -> None:
        self._state = state
        self._redact = redact

    def rows_for(
        self, alert: str, message: Message, notifiers: Iterable[Notifier], now: float
    ) -> dict[str, dict[str, bytes]]:
        """What to write, in one transaction with the evaluation, so that `message` reaches every address.

        Args:
            alert: the action's id. Where it has a row already, pending or ended, nothing is given for that address.
            message: redacted and bounded before it is kept.
            notifiers: who is told; a suspended one is not.
            now: seconds since the epoch.

        Returns: namespace → key → value, for `State.write`; empty where nothing is left to be said.
        """
        rows = {
            row.key: row
            for notifier in notifiers
            if not notifier.spec.suspend
            for row in (
                Row(alert, notifier.metadata.name, index, now) for index in range(len(notifier.spec.urls))
            )
        }
        known = self._state.get_many(PENDING, rows) | self._state.get_many(ENDED, rows)
        new = {key: row.to_json() for key, row in rows.items() if key not in known}
        return {PENDING: new, MESSAGES: {alert: self._bounded(message).to_json()}} if new else {}

    def due(self, now: float, notifiers: Mapping[str, Notifier]) -> tuple[Due, ...]:
        """What is to be tried now, fairly over the Notifiers, at most 64 rows.

        Ends what can never be sent: an address that is no longer declared, a text that is gone, the oldest of more than
        500 that wait for one Notifier. What waits for a suspended Notifier goes on waiting.
        """
        pending = self._read(PENDING)
        if not pending:
            return ()
        ended = [
            row.given_up(now, "its Notifier or its URL is no longer declared")
            for row in pending
            if (notifier := notifiers.get(row.notifier)) is None or row.index >= len(notifier.spec.urls)
        ]
        waiting: Counter[str] = Counter()
        gone = {row.key for row in ended}
        for row in sorted(pending, key=_age, reverse=True):
            waiting[row.notifier] += 1
            if waiting[row.notifier] > _MOST_PENDING and row.key not in gone:
                ended.append(row.given_up(now, "too many messages wait for this Notifier"))
        gone = {row.key for row in ended}
        ready = [
            row
            for row in pending
            if row.key not in gone
            and not (notifier := notifiers[row.notifier]).spec.suspend
            and row.is_due(now, fingerprint(notifier, row.index))
        ]
        chosen = _fairly(ready)[:_MOST_DUE]
        texts = self._state.get_many(MESSAGES, [row.alert for row in chosen])
        due: list[Due] = []
        for row in chosen:
            try:
                due.append(Due(row, Message.from_json(texts.get(row.alert, b""))))
            except Stalled as error:
                ended.append(row.given_up(now, str(error)))
        self.mark(ended)
        return tuple(due)

    def mark(self, rows: Iterable[Row]) -> None:
        """Keep rows as they are after a try, in one transaction; those that ended make room."""
        marked = {row.key: row for row in rows}
        if not marked:
            return
        ended = {key: row for key, row in marked.items() if row.state != "pending"}
        puts = {
            PENDING: {key: row.to_json() for key, row in marked.items() if key not in ended},
            ENDED: {key: row.to_json() for key, row in ended.items()},
        }
        deletes: dict[str, Sequence[str]] = {}
        if ended:
            wanted = {row.alert for row in self._read(PENDING) if row.key not in ended}
            deletes = {
                PENDING: list(ended),
                MESSAGES: [alert for alert in {row.alert for row in ended.values()} if alert not in wanted],
                ENDED: self._forgotten(ended),
            }
        self._state.write(puts, deletes)

    def _forgotten(self, ended: Mapping[str, Row]) -> list[str]:
        """Keys of marks beyond the newest 1,000 of their Notifier."""
        count = Counter(row.notifier for row in ended.values())
        old: list[str] = []
        for row in sorted(self._read(ENDED), key=_age, reverse=True):
            count[row.notifier] += row.key not in ended
            if count[row.notifier] > _MOST_ENDED and row.key not in ended:
                old.append(row.key)
        return old

    def _read(self, namespace: str) -> list[Row]:
        return [row for data in self._state.all(namespace).values() if (row := Row.from_json(data))]

    def _bounded(self, message: Message) -> Message:
        room, kept = _MOST_ATTACHED, []
        for attachment in message.attachments:
            if len(attachment.content) <= room:
                kept.append(attachment)
                room -= len(attachment.content)
        body = self._redact(message.body)
        if len(body) > _MOST_TEXT:
            body = f"{body[: _MOST_TEXT - 1]}…"
        return replace(message, title=self._redact(message.title), body=body, attachments=tuple(kept))


def _age(row: Row) -> tuple[float, str]:
    return row.created, row.key


def _fairly(rows: Iterable[Row]) -> list[Row]:
    """The oldest of each Notifier first, then the second of each: a long queue stands in nobody's way."""
    turn: Counter[str] = Counter()
    ordered: list[tuple[int, int, Row]] = []
    for number, row in enumerate(sorted(rows, key=_age)):
        turn[row.notifier] += 1
        ordered.append((turn[row.notifier], number, row))
    return [row for _, _, row in sorted(ordered, key=lambda entry: entry[:2])]
