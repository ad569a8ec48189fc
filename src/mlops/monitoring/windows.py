"""Which rows belong together, when their window is closed, and what a window is compared with when there are seasons.

Event time is microseconds since 1970 UTC in arrays and seconds since 1970 UTC in the keys of windows. Nothing here
reads a clock: a window is closed by the data (its watermark), and `now` only says which timestamps are impossible.
numpy stands at the top: import this module inside a function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Season = Literal["none", "hourOfWeek", "dayOfWeek", "month"]

_MICRO: Final = 1_000_000
_HOUR: Final = 3_600 * _MICRO
_DAY: Final = 24 * _HOUR
_WEEK_SECONDS: Final = 7 * 86_400
_MONDAY: Final = 4 * 86_400  # 1970-01-05, seconds
_THURSDAY: Final = 3  # 1970-01-01, with Monday 0


@dataclass(frozen=True, slots=True)
class EventWindows:
    """Windows of event time: aligned to 1970-01-01 UTC, those of whole weeks to a Monday. A row has one window.

    Args:
        size: seconds.
        lateness: seconds for which rows may still come after the newest event.
        min_rows: below it a window is too small to judge.
    """

    size: int
    lateness: int = 0
    min_rows: int = 0

    def __post_init__(self) -> None:
        if self.size <= 0 or self.lateness < 0:
            raise ValueError("a window has a size above 0 and a lateness of at least 0")

    def starts(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The key (start, seconds since 1970 UTC) of the window of each event time (microseconds), shape (n,)."""
        origin = _MONDAY if self.size % _WEEK_SECONDS == 0 else 0
        return (times // _MICRO - origin) // self.size * self.size + origin

    def end(self, key: int) -> int:
        """The second at which a window ends; not a part of it."""
        return key + self.size

    def watermark(self, newest: Mapping[int, int], now: float) -> float | None:
        """Before which second no more rows are expected; None as long as there is no data.

        It is the newest event time less the lateness. An event cannot be newer than `now`: windows that start after
        it are left out, and an event after it counts as `now`, so that one row from the year 2099 does not close
        today's window.

        Args:
            newest: key of each window there is → its latest event time in microseconds.
            now: seconds since 1970 UTC.
        """
        seen = [min(latest / _MICRO, now) for key, latest in newest.items() if key <= now]
        return max(seen) - self.lateness if seen else None

    def closed(self, keys: Iterable[int], watermark: float | None) -> tuple[int, ...]:
        """Those of `keys` whose end the watermark has reached, in order."""
        return () if watermark is None else tuple(sorted(key for key in keys if self.end(key) <= watermark))

    def future(self, keys: Iterable[int], now: float) -> tuple[int, ...]:
        """Those of `keys` that start after `now`: rows with impossible timestamps, to be told, never to be judged."""
        return tuple(sorted(key for key in keys if key > now))

    def gaps(self, keys: Iterable[int], *, most: int = 1_000) -> tuple[int, ...]:
        """Windows without any row between the first and the last of `keys`, the newest `most` of them, in order."""
        there = sorted(set(keys))
        found: list[int] = []
        for later, earlier in zip(reversed(there[1:]), reversed(there[:-1]), strict=True):
            missing = range(later - self.size, earlier, -self.size)
            found.extend(missing[: most - len(found)])
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class RowWindows:
    """Windows of `rows` rows each, counted in the order of files as first seen. A closed one never changes.

    Args:
        rows: of each window, above 0.
    """

    rows: int

    def __post_init__(self) -> None:
        if self.rows <= 0:
            raise ValueError("a window has at least one row")

    def starts(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """The key (number of its first row) of the window of each of `count` rows from number `first` on."""
        return np.arange(first, first + count, dtype=np.int64) // self.rows * self.rows

    def end(self, key: int) -> int:
        """The number of the first row after a window."""
        return key + self.rows

    def closed(self, keys: Iterable[int], total: int) -> tuple[int, ...]:
        """Those of `keys` that are full once there are `total` rows, in order."""
        return tuple(sorted(key for key in keys if self.end(key) <= total))


@dataclass(frozen=True, slots=True)
class RowOrder:
    """Which row numbers each file has: its own for ever, whatever comes later or goes.

    Args:
        files: name (a digest) of each file and how many rows it has, in the order in which they were first seen.
    """

    files: tuple[tuple[str, int], ...] = ()

    @property
    def total(self) -> int:
        """All rows."""
        return sum(rows for _, rows in self.files)

    @property
    def first(self) -> dict[str, int]:
        """Name → number of its first row."""
        numbers: dict[str, int] = {}
        total = 0
        for name, rows in self.files:
            numbers[name] = total
            total += rows
        return numbers

    def seen(self, files: Iterable[tuple[str, int]]) -> RowOrder:
        """With the files that are new, after all others; of those seen together the order is that of their names."""
        known = {name for name, _ in self.files}
        new = {name: rows for name, rows in files if name not in known}
        return RowOrder((*self.files, *sorted(new.items())))


def revision(stored: tuple[str, int] | None, digest: str) -> int:
    """Which revision of a window's record has the summary `digest`: the stored one if equal, else the next.

    Args:
        stored: digest and revision of the record there is, or None.
        digest: of the window's rows as they are now.
    """
    if stored is None:
        return 0
    return stored[1] if stored[0] == digest else stored[1] + 1


def season_keys(times: npt.NDArray[np.int64], season: Season) -> npt.NDArray[np.int64]:
    """The season of each event time (microseconds, UTC), shape (n,).

    `hourOfWeek` is 0 (Monday from 0h to 1h) to 167, `dayOfWeek` 0 (Monday) to 6, `month` 1 to 12, `none` always 0.
    """
    match season:
        case "hourOfWeek":
            return (times // _HOUR + _THURSDAY * 24) % 168
        case "dayOfWeek":
            return (times // _DAY + _THURSDAY) % 7
        case "month":
            months = times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
            return months % 12 + 1
        case "none":
            return np.zeros(len(times), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What the reference would look like in the window's mixture of seasons.

    Args:
        counts: weighted counts of the reference, which add up to `size`, shape (cells,).
        size: how many independent rows they are worth.
        window: the window's counts in the seasons that the reference has, shape (cells,).
        covered: share of the window's rows that is in those seasons, 0 to 1.
    """

    counts: npt.NDArray[np.float64]
    size: float
    window: npt.NDArray[np.int64]
    covered: float


def expected(
    reference: Mapping[int, npt.NDArray[Any]], window: Mapping[int, npt.NDArray[Any]]
) -> Expected | None:
    """Weigh the reference's rows of each season as the window has them.

    The share of a cell is Σ w_k·c_k/n_k with w_k the window's share of season k; its variance is that of
    (Σ w_k)² / Σ (w_k²/n_k) rows drawn at once (Kish, Survey Sampling, 1965, effective sample size).

    Args:
        reference: season → counts, shape (cells,); n_k is their sum.
        window: season → counts of the same cells.
    Returns:
        None if they have no season in common.
    """
    rows = {season: int(counts.sum()) for season, counts in sorted(window.items())}
    known = {season: int(counts.sum()) for season, counts in reference.items()}
    shared = [season for season, count in rows.items() if count and known.get(season)]
    if not shared:
        return None
    total = sum(rows[season] for season in shared)
    weights = {season: rows[season] / total for season in shared}
    share = np.sum([weights[season] * reference[season] / known[season] for season in shared], axis=0)
    size = 1.0 / sum(weight**2 / known[season] for season, weight in weights.items())
    mixture = np.sum([window[season] for season in shared], axis=0).astype(np.int64)
    return Expected(share * size, size, mixture, total / sum(rows.values()))
