"""Which windows there are, which of them are closed, and which the policy asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops.monitoring.evaluating.files import Files
from mlops.monitoring.evaluating.values import DataFile, Start, Stored, Subject
from mlops.monitoring.windows import EventWindows, RowOrder, RowWindows
from mlops.resources.monitoring_policy import parse_time

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Due:
    """Windows by start.

    Args:
        closed: those to be judged, in order, silent ones between others included.
        waiting: how many have rows and are not closed.
        future, undated: rows in no window.
        watermark: before which event time no more rows are expected.
        times: event time of the end of closed row windows; None for event windows.
        order: of row windows.
    """

    closed: tuple[int, ...]
    waiting: int
    future: int
    undated: int
    watermark: float | None
    times: Mapping[Start, float] | None = None
    order: RowOrder | None = None


def windows_of(subject: Subject) -> EventWindows | RowWindows:
    """The windows that a policy declares."""
    window = subject.spec.window
    if window.rows is not None:
        return RowWindows(window.rows)
    assert window.size is not None
    return EventWindows(int(window.size), int(window.lateness or 0), window.min_rows)


def begins(subject: Subject) -> float | None:
    """The event time from which on windows are wanted; None: from the start of the data on."""
    wanted = subject.spec.window.from_
    if wanted == "start":
        return None
    return subject.promoted_at if wanted == "promotion" else parse_time(wanted)


def due_events(
    subject: Subject, windows: EventWindows, files: Files, stored: Mapping[Start, Stored], now: float
) -> Due:
    """Windows of event time: closed by the watermark, which rows from the future do not move.

    A window that had rows once and has none any more (its file is gone) is judged again: as one without data.
    """
    newest: dict[int, int] = {}
    rows: dict[int, int] = {}
    for index in files.indexes.values():
        for start, part in index.parts.items():
            newest[start] = max(newest.get(start, part.latest or 0), part.latest or 0)
            rows[start] = rows.get(start, 0) + part.rows
    watermark = windows.watermark(newest, now)
    future = set(windows.future(newest, now))
    there = set(newest) - future
    since = begins(subject)
    # silence between windows is something to be seen: the newest thousand of those without rows
    known = there | set(windows.gaps(there)) | {int(start) for start in stored}
    wanted = {start for start in known if since is None or start >= since}
    closed = windows.closed(wanted, watermark)
    waiting = len(there & wanted - set(closed))
    undated = sum(index.undated for index in files.indexes.values())
    return Due(closed, waiting, sum(rows[start] for start in future), undated, watermark)


def due_rows(
    subject: Subject,
    windows: RowWindows,
    files: Files,
    stored: Mapping[Start, Stored],
    now: float,
    order: RowOrder,
) -> Due:
    """Windows of rows. Those judged once stay as they are, whatever files go or come."""
    earliest: dict[int, int] = {}
    latest: dict[int, int] = {}
    there: set[int] = set()
    for index in files.indexes.values():
        for start, part in index.parts.items():
            there.add(start)
            if part.earliest is not None and part.latest is not None:
                earliest[start] = min(earliest.get(start, part.earliest), part.earliest)
                latest[start] = max(latest.get(start, part.latest), part.latest)
    since = begins(subject)
    wanted = {
        start
        for start in there | {int(start) for start in stored}
        if since is None or start not in earliest or earliest[start] / _MICRO >= since
    }
    closed = windows.closed(wanted, order.total)
    times: dict[Start, float] = {
        start: min(latest[start] / _MICRO, now) for start in closed if start in latest
    }
    seen = [min(time / _MICRO, now) for time in latest.values()]
    undated = sum(index.undated for index in files.indexes.values()) if files.recipe.timestamp else 0
    watermark = max(seen, default=None)
    return Due(closed, len((there & wanted) - set(closed)), 0, undated, watermark, times, order)


def numbered(files: Files, listed: Sequence[DataFile], order: RowOrder) -> RowOrder:
    """Index files in the order in which they were first seen; a new one gets the numbers after all others.

    One that cannot be read has none yet: it gets them when it can be.
    """
    known = order.first
    files.index(
        [file for name, file in _named(listed) if name in known],
        {file: known[name] for name, file in _named(listed) if name in known},
    )
    for name, file in _named(listed):
        if name not in known:
            files.index([file], {file: order.total})
            if file in files.indexes:
                order = order.seen([(name, files.indexes[file].rows)])
    return order


def _named(listed: Sequence[DataFile]) -> list[tuple[str, DataFile]]:
    """By the digest of the bytes; a second file of the same bytes is other rows."""
    found: list[tuple[str, DataFile]] = []
    seen: dict[str, int] = {}
    for file in sorted(listed, key=lambda file: (file.position, file.name)):
        seen[file.digest] = seen.get(file.digest, 0) + 1
        times = seen[file.digest]
        found.append((file.digest if times == 1 else f"{file.digest}#{times}", file))
    return found
