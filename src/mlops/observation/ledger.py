"""MLflow's side of the picture: kept in memory and on disk, and read again only where something moved."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from mlops.observation.moved import covers, read_moved, without_late_metrics
from mlops.observation.observed import Ledger
from mlops.planning.canonical import sha256_of
from mlops.planning.context import ARCHIVED_TAG, RESOURCE_TAG
from mlops.planning.desired import Desired
from mlops.resources import Key, Model, ModelVersion, Resource
from mlops.tracking import Marks, Tracker
from mlops.tracking.marks import UNSURE

FORMAT: Final = 2  # of the picture on disk
WHOLE_EVERY: Final = 86_400.0  # seconds after which a moved picture is read whole: marks are MLflow's inside
ARCHIVED_EVERY: Final = 3600.0  # seconds between two looks at all archived versions
METRICS_EVERY: Final = 30.0  # seconds between two readings of the metrics of runs that go on
KEEP_EVERY: Final = 600.0  # seconds between two writings of the picture to disk
_CONSTANTS: Final = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}  # a NaN that equals itself


class Cache(Protocol):
    """Bytes by key; may forget."""

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]: ...

    def put_many(self, items: Mapping[str, bytes]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is looked at: a project's own, and the models and runs that its resources name."""

    project: str
    models: tuple[str, ...]
    runs: tuple[str, ...]
    asked: str  # digest of it

    @classmethod
    def of(cls, project: str, resources: Iterable[Resource]) -> _Scope:
        models, runs = set(), set()
        for resource in resources:
            if isinstance(resource, Model):
                models.add(resource.spec.registered_name or resource.metadata.name)
            elif isinstance(resource, ModelVersion) and resource.spec.source.run_id:
                runs.add(str(resource.spec.source.run_id))
        asked = sha256_of([project, sorted(models), sorted(runs)])
        return cls(project, tuple(sorted(models)), tuple(sorted(runs)), asked)


@dataclass(frozen=True, slots=True)
class _Picture:
    """What was seen: each object in `ledger` is at least as new as its mark, and each mark as `token`."""

    asked: str  # digest of the scope
    token: str | None
    marks: Marks | None
    ledger: Ledger
    whole_at: float  # when all of it was read, in seconds since the epoch
    whole: str | None  # the token then


class LedgerSight:
    """Looks at a project's part of MLflow again and again.

    A store that tells by an exact token that nothing moved is not asked, and MLflow is not even imported. Of a
    database, what moved is found by its marks and read again alone; of any other store, everything is read.
    What was committed before a look is in the picture that it gives, with two exceptions. The metrics of runs that go
    on may be `METRICS_EVERY` seconds old: a training that logs all the time would move every picture. And what was
    changed by hand in an archived version that nothing declares may be `ARCHIVED_EVERY` seconds old: a look costs
    what is in use, not what has ever been.

    Args:
        cache: where the picture outlives the process: written when it is first read, then rarely, and by `keep`.
        now: seconds since the epoch.
    """

    def __init__(self, tracker: Tracker, cache: Cache, *, now: Callable[[], float]) -> None:
        self._tracker = tracker
        self._cache = cache
        self._now = now
        self._resources: Mapping[Key, Resource] | None = None
        self._scope = _Scope("", (), (), "")
        self._picture: _Picture | None = None
        self._metrics_at = self._kept_at = float("-inf")
        self._all_at = float("-inf")  # when archived versions were looked at, too
        self._rested = False  # since then, something moved
        self._resting: tuple[_Picture, Mapping[Key, Resource], Mapping[tuple[str, int], int]] | None = None
        self._late = False  # metrics of runs that go on moved, and were not read
        self._unkept = False
        self._blind = False  # there are marks, but not of all that MLflow shows

    def look(self, desired: Desired) -> Ledger:
        """Everything of the project that MLflow holds; the same object as before where nothing differs."""
        if desired.resources is not self._resources or desired.project != self._scope.project:
            self._scope = _Scope.of(desired.project, desired.resources.values())
            self._resources = desired.resources
        scope, now = self._scope, self._now()
        token = self._tracker.token()
        seen = self._picture or self._kept()
        unmoved = seen is not None and token is not None and (seen.asked, seen.token) == (scope.asked, token)
        metrics_due = _due(now, self._metrics_at, METRICS_EVERY)
        all_due = _due(now, self._all_at, ARCHIVED_EVERY)
        overdue = (self._late and metrics_due) or (self._rested and all_due)
        if seen is not None and unmoved and not overdue:
            self._picture = seen
            return seen.ledger
        resting: Mapping[tuple[str, int], int] = {}
        if seen is not None and not all_due:
            resting = self._archived(seen, desired.resources)
        else:
            self._all_at = now
        self._rested = bool(resting)
        marks = None if self._blind else self._marks(scope, resting)
        picture = None
        if seen is not None and marks is not None and not _whole_due(seen, token, now):
            picture = self._moved(
                replace(seen, asked=scope.asked, token=token), seen.marks, marks, metrics_due, resting
            )
        if picture is None:
            whole = self._whole(seen, _Picture(scope.asked, token, marks, Ledger(), now, token))
            picture = self._settled(whole, {})
            self._metrics_at, self._late = now, False
        self._unkept = self._unkept or seen is None or picture.ledger is not seen.ledger
        self._picture = picture
        if _due(now, self._kept_at, KEEP_EVERY):
            self.keep()
        return picture.ledger

    def keep(self) -> None:
        """Write the picture to disk, unless it is there."""
        picture, self._kept_at = self._picture, self._now()
        if picture is None or not self._unkept or (picture.token is None and picture.marks is None):
            return
        row = {
            "asked": picture.asked,
            "token": picture.token,
            "marks": picture.marks.to_json() if picture.marks is not None else None,
            "ledger": picture.ledger.to_json(),
            "wholeAt": picture.whole_at,
            "whole": picture.whole,
        }
        text = json.dumps(row, separators=(",", ":"))
        self._cache.put_many({self._place(): zlib.compress(text.encode(), 1)})
        self._unkept = False

    def _kept(self) -> _Picture | None:
        place = self._place()
        kept = self._cache.get_many((place,)).get(place)
        if kept is None:
            return None
        row = json.loads(zlib.decompress(kept), parse_constant=_CONSTANTS.__getitem__)
        marks = Marks.from_json(row["marks"]) if row["marks"] is not None else None
        ledger = Ledger.from_json(row["ledger"])
        return _Picture(row["asked"], row["token"], marks, ledger, row["wholeAt"], row["whole"])

    def _place(self) -> str:
        return sha256_of([FORMAT, self._scope.project, self._tracker.store.shown])

    def _moved(
        self,
        picture: _Picture,
        was: Marks | None,
        marks: Marks,
        metrics_due: bool,
        resting: Mapping[tuple[str, int], int],
    ) -> _Picture | None:
        """`picture` with what moved since the marks `was`; None where everything should be read."""
        if was is None:
            return None
        late = marks if metrics_due else without_late_metrics(picture.ledger, was, marks)
        ledger = read_moved(self._tracker, picture.ledger, was, late)
        if ledger is None:
            return None
        if metrics_due:
            self._metrics_at, self._late = self._now(), False
        self._late = self._late or late is not marks
        after = replace(picture, marks=late, ledger=ledger)
        return after if late == was else self._settled(after, resting)

    def _settled(self, picture: _Picture, resting: Mapping[tuple[str, int], int]) -> _Picture:
        """`picture` without the marks of what somebody wrote while it was read."""
        quiet = picture.token is not None and self._tracker.token() == picture.token
        if picture.marks is None or quiet:
            return picture
        scope = self._scope
        after = self._marks(scope, resting)
        return replace(picture, marks=picture.marks.settled(after) if after is not None else None)

    def _marks(self, scope: _Scope, resting: Mapping[tuple[str, int], int]) -> Marks | None:
        return self._tracker.marks(scope.project, scope.models, scope.runs, resting)

    def _archived(self, seen: _Picture, declared: Mapping[Key, Resource]) -> Mapping[tuple[str, int], int]:
        """The marks of the archived versions that nothing declares: they are in the picture as long as they are."""
        if self._resting is not None and self._resting[0] is seen and self._resting[1] is declared:
            return self._resting[2]
        marks = seen.marks.versions if seen.marks is not None else {}
        names = {str(key) for key in declared if key.kind == "ModelVersion"}
        found = {
            place: mark
            for place, version in seen.ledger.versions.items()
            if ARCHIVED_TAG in version.tags
            and (mark := marks.get(place, UNSURE)) != UNSURE
            and version.tags.get(RESOURCE_TAG) not in names
        }
        self._resting = seen, declared, found
        return found

    def _whole(self, seen: _Picture | None, picture: _Picture) -> _Picture:
        """`picture` with everything, read by MLflow."""
        tracker, scope, marks = self._tracker, self._scope, picture.marks
        ledger = tracker.observe(scope.project, scope.models)
        named = (tracker.run(run_id) for run_id in scope.runs if run_id not in ledger.runs)
        if foreign := {run.run_id: run for run in named if run is not None}:
            ledger = replace(ledger, runs={**ledger.runs, **foreign})
        if marks is not None and not covers(marks, ledger):
            # Unless somebody wrote at this very moment, MLflow takes its objects from elsewhere.
            self._blind = marks == self._marks(scope, {})
            marks = None
        if seen is not None and seen.ledger == ledger:
            ledger = seen.ledger
        return replace(picture, marks=marks, ledger=ledger)


def _whole_due(seen: _Picture, token: str | None, now: float) -> bool:
    """Whether marks have answered for so long that all is read, lest they miss something for ever."""
    return (token is None or token != seen.whole) and _due(now, seen.whole_at, WHOLE_EVERY)


def _due(now: float, last: float, every: float) -> bool:
    """Whether `every` seconds have passed, or the clock was set back."""
    return not 0 <= now - last < every
