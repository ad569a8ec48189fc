"""What `get`, `describe`, `tree` and `wait` show: every resource of a view with what was recorded of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from mlops.applying.promote import timestamp
from mlops.applying.status import Standing, conditions_json, standings, with_failure
from mlops.errors import Location
from mlops.planning.conditions import Assessment
from mlops.planning.context import APPLIED_AT
from mlops.resources import Key, Problem
from mlops.resources.problem import printable
from mlops.state import Event, StateReader
from mlops.state.lease import described
from mlops.view import View

EVENTS_SHOWN: Final = 20  # of one resource
_CONDITION: Final = ("type", "status", "reason", "message", "since", "revision")


@dataclass(frozen=True, slots=True)
class Row:
    """One resource as people and programs read it; `since` is when `Ready` took its value."""

    key: Key
    sync: str
    health: str
    revision: str | None
    message: str
    since: str
    conditions: tuple[Mapping[str, Any], ...]
    status: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.key.kind,
            "name": self.key.name,
            "sync": self.sync,
            "health": self.health,
            "revision": self.revision,
            "conditions": [dict(row) for row in self.conditions],
            "status": dict(self.status),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        conditions = tuple({name: _text(row[name]) for name in _CONDITION} for row in data["conditions"])
        for row in conditions:
            datetime.fromisoformat(str(row["since"]))
        ready = next((row for row in conditions if row["type"] == "Ready"), None)
        if ready is None:
            raise ValueError("a resource without the condition Ready")
        return cls(
            Key(str(data["kind"]), str(data["name"])),
            str(data["sync"]),
            str(data["health"]),
            _text(data["revision"]),
            str(ready["message"]),
            str(ready["since"]),
            conditions,
            dict(data["status"]),
        )

    def condition(self, type: str) -> Mapping[str, Any]:
        """The condition of this type; empty where there is none."""
        return next((row for row in self.conditions if row["type"] == type), {})


def rows(view: View, state: StateReader, now: float) -> tuple[Row, ...]:
    """Every resource of the revision, in the order of the graph."""
    before = standings(state)
    project = view.observed.ledger.experiments.get(view.desired.project)
    applied = _time(project.tags.get(APPLIED_AT)) if project is not None else None
    moment = timestamp(now)
    holder = state.lease_holder(view.desired.project)
    writes = {"holder": described(holder)} if holder is not None else {}
    found = {
        key: _row(
            _with_windows(
                replace(made, status={**made.status, **writes}) if key.kind == "Project" else made, state
            ),
            before.get(str(key)),
            view.planned.plan.base,
            applied or moment,
        )
        for key, made in view.planned.assessments.items()
    }
    for key in view.desired.kept:
        found[key] = replace(found[key], revision=view.snapshot_of(key).revision)
    return tuple(found.values())


def _with_windows(made: Assessment, state: StateReader) -> Assessment:
    """A policy with the windows that were evaluated: they are many, and not read to plan."""
    if made.key.kind != "MonitoringPolicy" or not made.status.get("version"):
        return made
    from mlops.applying.monitored import Kept, window_documents
    from mlops.notifying.outbox import rows_in
    from mlops.notifying.rows import delivered
    from mlops.observation.policies import RECORDS, PolicyRecord

    promoted = PolicyRecord.decode(state.get(RECORDS, made.key.name)).promoted
    windows = window_documents(Kept.read(state, made.key.name), made.status["version"], promoted)
    actions = made.status["actions"]
    if any(action["state"] == "pending" for action in actions):
        rows = rows_in(state)
        actions = [
            {**action, "state": delivered(action["id"], rows) or action["state"]}
            if action["type"] == "alert"
            else action
            for action in actions
        ]
    return replace(made, status={**made.status, "windows": windows, "actions": actions})


def _time(text: str | None) -> str | None:
    """`text` if it is a time; somebody may have written something else into the tag."""
    try:
        return text if text is not None and datetime.fromisoformat(text) else None
    except ValueError:
        return None


def _row(made: Assessment, standing: Standing | None, base: str | None, since: str) -> Row:
    made = with_failure(made, standing.failure if standing is not None else None)
    reconciled = standing.revision if standing is not None else base
    conditions = conditions_json(made, standing, reconciled or "", since)
    ready = next(row for row in conditions if row["type"] == "Ready")
    return Row(
        made.key,
        made.sync,
        made.health,
        reconciled,
        made.ready.message,
        ready["since"],
        tuple(conditions),
        made.status,
    )


@dataclass(frozen=True, slots=True)
class Report:
    """One look at a project, as it is shown: here, or over HTTP where another process has looked."""

    project: str
    revision: str  # that was looked at
    head: str  # that was asked for: another one where it does not come into force
    in_force: str | None
    refused: str | None  # why `head` does not come into force
    errors: tuple[Mapping[str, Any], ...]
    rows: tuple[Row, ...]
    feeds: Mapping[Key, tuple[Key, ...]]  # a resource → those that refer to it, in the order of the graph
    places: Mapping[Key, str]  # where each is declared, file:line:column

    @classmethod
    def of(cls, view: View, state: StateReader, now: float) -> Report:
        """What a view shows, with what was recorded of each resource; `now` in seconds since the epoch."""
        return cls(
            view.desired.project,
            view.planned.plan.revision,
            view.asked or view.planned.plan.revision,
            view.planned.plan.base,
            view.refused or view.held_back,
            tuple(_error(problem) for problem in view.loaded.problems),
            rows(view, state, now),
            {key: tuple(found) for key, found in children(view).items()},
            {key: str(view.loaded.locations[key]) for key in view.loaded.locations},
        )

    def chosen(self, resources: Iterable[Row]) -> dict[str, Any]:
        """The stable shape of `mlops get -o json`, with these resources."""
        return {
            "revision": self.revision,
            "errors": [dict(error) for error in self.errors],
            "resources": [row.to_json() for row in resources],
        }

    def to_json(self) -> dict[str, Any]:
        """Everything, the inverse of `from_json`; holds what `mlops get -o json` prints."""
        return {
            "project": self.project,
            "head": self.head,
            "inForce": self.in_force,
            "refused": self.refused,
            **self.chosen(self.rows),
            "feeds": {str(key): [str(one) for one in found] for key, found in self.feeds.items() if found},
            "places": {str(key): place for key, place in self.places.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        found = tuple(Row.from_json(row) for row in data["resources"])
        known = {row.key for row in found}
        if not any(key.kind == "Project" for key in known):
            raise ValueError("no Project among the resources")
        feeds = {
            name: tuple(key for key in map(_key, below) if key in known)
            for name, below in data["feeds"].items()
        }
        return cls(
            str(data["project"]),
            str(data["revision"]),
            str(data["head"]),
            _text(data["inForce"]),
            _text(data["refused"]),
            tuple(dict(error) for error in data["errors"]),
            found,
            {row.key: feeds.get(str(row.key), ()) for row in found},
            {_key(name): str(place) for name, place in data["places"].items()},
        )


def problem_text(error: Mapping[str, Any]) -> str:
    """One of a report's errors as a line: `file:line:column: Kind/name: field: what. fix`."""
    place = str(Location(error["file"], error["line"], error["column"]))
    what = f"{str(error['message']).rstrip('.')}. {error['fix']}"
    return ": ".join(printable(part) for part in (place, error["resource"], what) if part)


def event_json(event: Event) -> dict[str, Any]:
    """An event as `mlops describe -o json` prints it; times are seconds since the epoch."""
    return {
        "at": event.at,
        "lastAt": event.last_at if event.last_at is not None else event.at,
        "reason": event.reason,
        "message": event.message,
        "severity": event.severity,
        "revision": event.revision,
        "count": event.count,
    }


def _error(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.location.file,
        "line": problem.location.line,
        "column": problem.location.column,
        "resource": problem.resource,
        "message": f"{problem.field}: {problem.what}" if problem.field else problem.what,
        "fix": problem.fix,
    }


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _key(text: str) -> Key:
    kind, _, name = text.partition("/")
    return Key(kind, name)


def children(view: View) -> dict[Key, list[Key]]:
    """Who refers to whom, turned around: the resources that a resource feeds, in the order of the graph."""
    feeds: dict[Key, list[Key]] = {key: [] for key in view.planned.assessments}
    for key in view.planned.assessments:
        for target in view.planned.graph.dependencies(key):
            if target in feeds:
                feeds[target].append(key)
    return feeds
