"""The outbox's rows: one for each alert and address, when it is due, and what it says of its Notifier. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from mlops.errors import MlopsError, Stalled

Delivered = Literal["pending", "sent", "failed"]

GIVE_UP: Final = 86_400.0  # seconds from the first try
_FIRST: Final = 10.0  # seconds to the second try, doubling
_DOUBLED: Final = 600.0  # up to this, then hourly
_HOURLY: Final = 3_600.0
_JITTER: Final = 0.2


@dataclass(frozen=True, slots=True)
class Row:
    """One alert on its way to one address. Times are seconds since the epoch.

    Args:
        alert: the action's id.
        notifier: the Notifier's name, and `index` which of its URLs, from 0.
        created: when the alert was decided.
        state: `failed` is given up.
        attempts: how often it was tried; `first` and `last` when.
        due: not before.
        error: why the last try failed, without any secret.
        stalled: fingerprint of a URL that cannot work, so that another one is tried at once.
    """

    alert: str
    notifier: str
    index: int
    created: float
    state: Delivered = "pending"
    attempts: int = 0
    first: float | None = None
    last: float | None = None
    due: float = 0.0
    error: str | None = None
    stalled: str | None = None

    @property
    def key(self) -> str:
        """What it is stored under: there is never a second one of an alert and an address."""
        return f"{self.alert}/{self.notifier}/{self.index}"

    def to_json(self) -> bytes:
        """One line of JSON, the same for equal rows."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Row | None:
        """The row that `to_json` wrote; None for anything else, such as a row of a later release."""
        try:
            row = cls(**json.loads(data))
        except (ValueError, TypeError):
            return None
        return row if row.state in ("pending", "sent", "failed") else None

    def is_due(self, now: float, fingerprint: str) -> bool:
        """Whether to try it now, with a URL of this fingerprint."""
        # A clock that stood in the future must not keep an alert back.
        waits = now < self.due <= now + 2 * _HOURLY
        return self.state == "pending" and (not waits or self.stalled not in (None, fingerprint))

    def tried(self, now: float, error: MlopsError | None, fingerprint: str) -> Row:
        """The row after a try: sent, to be tried again, or given up."""
        first = now if self.first is None or self.first > now else self.first
        row = replace(self, attempts=self.attempts + 1, first=first, last=now, error=None, stalled=None)
        if error is None:
            return replace(row, state="sent")
        row = replace(row, error=str(error))
        if now - first >= GIVE_UP:
            return replace(row, state="failed")
        stalled = isinstance(error, Stalled)
        delay = _HOURLY if stalled else _delay(row)
        # The last try is made when the day is over, not up to an hour after.
        due = min(now + delay, max(first + GIVE_UP, now + _FIRST))
        return replace(row, due=due, stalled=fingerprint if stalled else None)

    def given_up(self, now: float, why: str) -> Row:
        """The row, not tried any more."""
        return replace(self, state="failed", last=now, error=why)


def _delay(row: Row) -> float:
    """Seconds until the next try: 10 doubling to 600, then 3,600, a fifth more or less (always the same for a try)."""
    plain = _FIRST * 2.0 ** min(row.attempts - 1, 16)
    if plain >= 2 * _DOUBLED:
        plain = _HOURLY
    drawn = hashlib.sha256(f"{row.key} {row.attempts}".encode("utf-8", "replace")).digest()[0] / 255
    return min(plain, _DOUBLED if plain < _HOURLY else _HOURLY) * (1 - _JITTER + 2 * _JITTER * drawn)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a Notifier stands: what a status shows of it.

    Args:
        sent: when something last reached one of its addresses, None if nothing is known to have.
        pending: how many messages wait, and `failed` how many were given up since something was last sent.
        error: why the newest try that was not followed by a success failed.
    """

    sent: float | None = None
    pending: int = 0
    failed: int = 0
    error: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing that it was given failed lately."""
        return self.error is None


def standing(notifier: str, rows: Iterable[Row]) -> Standing:
    """How a Notifier stands, from the rows of the outbox (`outbox.rows_in`), in any order."""
    own = [row for row in rows if row.notifier == notifier]
    sent: dict[int, float] = {}  # by address: when something last reached it
    for row in own:
        if row.state == "sent" and row.last is not None:
            sent[row.index] = max(row.last, sent.get(row.index, row.last))
    troubles = [
        row
        for row in own
        if row.error is not None and (row.state == "pending" or (row.last or 0.0) > sent.get(row.index, 0.0))
    ]
    newest = max(troubles, key=lambda row: (row.last or 0.0, row.key), default=None)
    return Standing(
        max(sent.values(), default=None),
        sum(row.state == "pending" for row in own),
        sum(row.state == "failed" for row in troubles),
        newest.error if newest else None,
    )


def delivered(alert: str, rows: Iterable[Row]) -> Delivered | None:
    """How far an alert has come: pending while an address waits, failed if none was reached; None without rows."""
    states = {row.state for row in rows if row.alert == alert}
    if "pending" in states:
        return "pending"
    return None if not states else "sent" if "sent" in states else "failed"


def next_try(rows: Iterable[Row], after: float = float("-inf")) -> float | None:
    """When something is due next, seconds since the epoch: so long may a loop sleep. None: nothing waits.

    `after` is now: what is due by then is on its way, or waits for something else than time (a suspended Notifier).
    """
    return min((row.due for row in rows if row.state == "pending" and row.due > after), default=None)
