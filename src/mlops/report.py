"""What `get`, `describe`, `tree` and `wait` show: every resource of a view with what was recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mlops.applying.promote import timestamp
from mlops.applying.status import Standing, conditions_json, standings
from mlops.controller import View
from mlops.planning.conditions import Assessment
from mlops.planning.context import APPLIED_AT
from mlops.resources import Key
from mlops.state import StateReader
from mlops.state.lease import described


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


def rows(view: View, state: StateReader, now: float) -> tuple[Row, ...]:
    """Every resource of the revision, in the order of the graph."""
    before = standings(state)
    project = view.observed.ledger.experiments.get(view.desired.project)
    applied = _time(project.tags.get(APPLIED_AT)) if project is not None else None
    moment = timestamp(now)
    holder = state.lease_holder(view.desired.project)
    writes = {"holder": described(holder)} if holder is not None else {}
    return tuple(
        _row(
            replace(made, status={**made.status, **writes}) if key.kind == "Project" else made,
            before.get(str(key)),
            view.planned.plan.base,
            applied or moment,
        )
        for key, made in view.planned.assessments.items()
    )


def _time(text: str | None) -> str | None:
    """`text` if it is a time; somebody may have written something else into the tag."""
    try:
        return text if text is not None and datetime.fromisoformat(text) else None
    except ValueError:
        return None


def _row(made: Assessment, standing: Standing | None, base: str | None, since: str) -> Row:
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


def report(view: View, state: StateReader, now: float) -> dict[str, Any]:
    """The stable shape of `mlops get -o json`."""
    return {
        "revision": view.planned.plan.revision,
        "errors": [
            {
                "file": problem.location.file,
                "line": problem.location.line,
                "column": problem.location.column,
                "resource": problem.resource,
                "message": f"{problem.field}: {problem.what}" if problem.field else problem.what,
                "fix": problem.fix,
            }
            for problem in view.loaded.problems
        ],
        "resources": [row.to_json() for row in rows(view, state, now)],
    }


def children(view: View) -> dict[Key, list[Key]]:
    """Who refers to whom, turned around: the resources that a resource feeds, in the order of the graph."""
    feeds: dict[Key, list[Key]] = {key: [] for key in view.planned.assessments}
    for key in view.planned.assessments:
        for target in view.planned.graph.dependencies(key):
            if target in feeds:
                feeds[target].append(key)
    return feeds
