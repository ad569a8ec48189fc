"""Soaking: how long a version has been in the stage before, and whether its monitors there are well.

One stay counts that is long enough, whether it lasts or has ended; several short ones do not add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from mlops.planning.stays import History
from mlops.resources.quantities import render_duration


@dataclass(frozen=True, slots=True)
class Monitor:
    """A MonitoringPolicy that watches the version in the stage before; `judged`: it has looked at this version."""

    name: str
    verdict: str
    judged: bool


@dataclass(frozen=True, slots=True)
class Soaking:
    """The stays of a version in the stage before, its monitors there, and now, in seconds since the epoch."""

    stays: History = field(default_factory=History)
    monitors: tuple[Monitor, ...] = ()
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Soaked:
    """What soaking came to; `passes_at` where only time is wanting."""

    status: Literal["passed", "failed", "pending"]
    observed: Any
    message: str
    passes_at: float | None = None


def soaked(case: Soaking, before: str, seconds: float) -> Soaked:
    """Whether a version has been in stage `before` for so many seconds, as its monitors there think well of it."""
    wanted = render_duration(seconds)
    longest, lasting = _longest(case)
    ill = [monitor.name for monitor in case.monitors if monitor.judged and monitor.verdict == "Degraded"]
    if ill:
        what = f"MonitoringPolicy/{ill[0]} finds it Degraded in {before}. See `mlops monitor status {ill[0]}`"
        return Soaked("failed", "Degraded", what)
    if longest is None:
        return Soaked("pending", None, f"it is not in {before} yet; it has to stay there for {wanted}")
    if longest < seconds and lasting is None:
        had = render_duration(float(max(1, int(longest))))
        what = f"it was in {before} for {had} only, of {wanted}, and is not there now. Promote it there again"
        return Soaked("failed", had, what)
    if longest < seconds and lasting is not None:
        at = lasting + seconds
        passes = _moment(at)
        what = f"in {before} since {_moment(lasting)}; passes at {passes}, after {wanted}"
        return Soaked("pending", {"since": _moment(lasting), "passesAt": passes}, what, at)
    strange = [monitor.name for monitor in case.monitors if not monitor.judged]
    if strange:
        what = f"MonitoringPolicy/{strange[0]} has not looked at it in {before} yet"
        return Soaked("pending", None, what)
    return Soaked("passed", wanted, f"in {before} for at least {wanted}")


def _longest(case: Soaking) -> tuple[float | None, float | None]:
    """Seconds of the longest stay, and when the one that lasts began."""
    lengths = list(_lengths(case))
    stay = case.stays.open
    return max(lengths, default=None), _seconds(stay.since) if stay is not None else None


def _lengths(case: Soaking) -> Iterable[float]:
    for stay in case.stays.stays:
        end = _seconds(stay.until) if stay.until is not None else case.now
        yield max(0.0, end - _seconds(stay.since))


def _seconds(moment: str) -> float:
    parsed = datetime.fromisoformat(moment)
    return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
