"""Windows close by the data, not by the clock; a closed one changes only where late rows come, and says so."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from mlops.monitoring.windows import EventWindows, RowOrder, RowWindows, expected, revision, season_keys

DAY, HOUR, WEEK = 86_400, 3_600, 604_800


def seconds(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).timestamp())


def micros(*texts: str) -> np.ndarray:
    return np.array([seconds(text) * 1_000_000 for text in texts])


def test_windows_stand_on_the_epoch_in_utc() -> None:
    times = micros("2024-03-31T00:30:00+00:00", "2024-03-31T00:30:00+02:00", "1969-12-31T23:59:59+00:00")
    assert EventWindows(DAY).starts(times).tolist() == [
        seconds("2024-03-31T00:00Z"),
        seconds("2024-03-30T00:00Z"),
        -DAY,
    ]
    assert EventWindows(900).starts(times)[0] == seconds("2024-03-31T00:30Z")
    assert EventWindows(DAY).starts(times - 1)[2] == -DAY


def test_windows_of_weeks_start_on_a_monday() -> None:
    for size in (WEEK, 2 * WEEK):
        (start,) = EventWindows(size).starts(micros("2024-05-16T12:00:00+00:00")).tolist()
        assert datetime.datetime.fromtimestamp(start, datetime.UTC).weekday() == 0
        assert start <= seconds("2024-05-16T12:00Z") < start + size


def test_a_window_closes_when_an_event_is_later_than_its_end_and_the_lateness() -> None:
    windows = EventWindows(DAY, lateness=6 * HOUR)
    now = 30 * DAY
    for latest, closed in ((2 * DAY + 6 * HOUR - 1, ()), (2 * DAY + 6 * HOUR, (DAY,))):
        watermark = windows.watermark({DAY: (2 * DAY - 1) * 10**6, 2 * DAY: latest * 10**6}, now)
        assert watermark == latest - 6 * HOUR
        assert windows.closed([2 * DAY, DAY], watermark) == closed


def test_the_clock_alone_closes_nothing() -> None:
    windows = EventWindows(DAY)
    newest = {DAY: (DAY + 5) * 10**6}
    assert windows.watermark(newest, 2 * DAY) == windows.watermark(newest, 2_000 * DAY) == DAY + 5
    assert windows.watermark({}, DAY) is None
    assert windows.closed([0, DAY], None) == ()


def test_a_row_from_the_future_closes_nothing_and_is_told() -> None:
    windows = EventWindows(DAY)
    now = 10.5 * DAY
    newest = {9 * DAY: (9 * DAY + HOUR) * 10**6, 40_000 * DAY: 40_000 * DAY * 10**6}
    assert windows.watermark(newest, now) == 9 * DAY + HOUR
    assert windows.future(newest, now) == (40_000 * DAY,)
    today = {10 * DAY: (11 * DAY - 1) * 10**6}  # later today than now
    assert windows.watermark(today, now) == now
    assert windows.closed(today, windows.watermark(today, now)) == ()


def test_gaps_between_windows_are_found_and_bounded() -> None:
    windows = EventWindows(DAY)
    assert windows.gaps([DAY, 4 * DAY, 5 * DAY, 8 * DAY]) == (2 * DAY, 3 * DAY, 6 * DAY, 7 * DAY)
    assert windows.gaps([DAY]) == windows.gaps([]) == ()
    assert windows.gaps([0, 10**9 * DAY], most=2) == ((10**9 - 2) * DAY, (10**9 - 1) * DAY)


def test_late_rows_give_a_closed_window_the_next_revision_and_nothing_else_does() -> None:
    assert revision(None, "a") == 0
    assert revision(("a", 0), "a") == 0
    assert revision(("a", 0), "b") == 1
    assert revision(("b", 4), "c") == 5


def test_row_windows_are_full_or_open() -> None:
    windows = RowWindows(100)
    assert windows.starts(250, 120).tolist() == [200] * 50 + [300] * 70
    assert windows.closed([300, 200, 100], 370) == (100, 200)
    assert windows.end(200) == 300


def test_files_keep_their_row_numbers_whatever_comes_later_or_goes() -> None:
    order = RowOrder().seen([("b", 10), ("a", 5)])
    assert order.first == {"a": 0, "b": 5}
    assert RowOrder().seen([("a", 5), ("b", 10)]) == order
    later = order.seen([("0", 7), ("b", 10)])
    assert later.first == {"a": 0, "b": 5, "0": 15}
    assert later.total == 22
    assert later.seen([("0", 7)]) == later


def test_windows_of_nothing_are_refused() -> None:
    for make in (lambda: EventWindows(0), lambda: EventWindows(DAY, -1), lambda: RowWindows(0)):
        with pytest.raises(ValueError, match="window"):
            make()


def test_seasons_are_those_of_the_calendar_in_utc() -> None:
    times = micros("2024-02-29T23:30:00+00:00", "1969-12-31T23:59:59+00:00", "2024-03-04T00:00:00+00:00")
    moments = [datetime.datetime.fromtimestamp(time / 1e6, datetime.UTC) for time in times.tolist()]
    assert season_keys(times, "dayOfWeek").tolist() == [moment.weekday() for moment in moments] == [3, 2, 0]
    assert season_keys(times, "hourOfWeek").tolist() == [m.weekday() * 24 + m.hour for m in moments]
    assert season_keys(times, "month").tolist() == [2, 12, 3]
    assert season_keys(times, "none").tolist() == [0, 0, 0]


def test_the_reference_is_weighed_as_the_window_has_its_seasons() -> None:
    reference = {0: np.array([90, 10]), 1: np.array([10, 190]), 5: np.array([7, 7])}
    found = expected(reference, {0: np.array([30, 0]), 1: np.array([0, 10])})
    assert found is not None
    assert (found.counts / found.size).tolist() == pytest.approx(
        [0.75 * 0.9 + 0.25 * 0.05, 0.75 * 0.1 + 0.25 * 0.95]
    )
    assert found.size == pytest.approx(1 / (0.75**2 / 100 + 0.25**2 / 200))
    assert found.window.tolist() == [30, 10]
    assert found.covered == 1.0


def test_the_effective_size_is_what_the_weighted_share_varies_like() -> None:
    random = np.random.default_rng(4)
    rows, weights = {0: 400, 1: 50}, {0: np.array([100, 0]), 1: np.array([100, 0])}
    shares, size = [], 0.0
    for _ in range(4_000):
        drawn = {season: random.binomial(count, 0.3) for season, count in rows.items()}
        found = expected({s: np.array([drawn[s], count - drawn[s]]) for s, count in rows.items()}, weights)
        assert found is not None
        shares.append(found.counts[0] / found.size)
        size = found.size
    assert np.var(shares) == pytest.approx(0.3 * 0.7 / size, rel=0.08)


def test_seasons_that_the_reference_lacks_are_left_out_and_said() -> None:
    found = expected(
        {0: np.array([5, 5]), 2: np.array([0, 0])},
        {0: np.array([3, 0]), 1: np.array([0, 1]), 2: np.array([1, 1])},
    )
    assert found is not None
    assert (found.covered, found.window.tolist(), found.size) == (0.5, [3, 0], pytest.approx(10))
    assert expected({3: np.array([1])}, {4: np.array([1])}) is None
    assert expected({}, {}) is None
