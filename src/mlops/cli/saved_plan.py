"""Plans saved to a file, and held against the world again before they are applied."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlops.errors import MlopsError
from mlops.planning.plan import Plan
from mlops.view import View

LIMIT: Final = 64 * 1024 * 1024  # bytes; a plan of 10,000 steps has about five


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan as it was saved: enough to plan again and to see that nothing moved."""

    path: Path
    revision: str
    digest: str
    observed: dict[str, str]
    steps: tuple[str, ...]
    working_tree: bool


def save(path: Path, plan: Plan, *, working_tree: bool) -> None:
    """Write a plan; an existing file is replaced whole or not at all."""
    document = {"apiVersion": "mlops/v1", "kind": "Plan", "workingTree": working_tree, "plan": plan.to_json()}
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        partial.replace(path)
    except OSError as error:
        raise MlopsError(f"the plan cannot be written: {error.strerror}", where=str(path)) from error


def read(path: Path) -> SavedPlan:
    """Read what `save` or `mlops plan -o json` wrote; raises MlopsError for anything else."""
    try:
        if path.stat().st_size > LIMIT:
            raise MlopsError(f"larger than {LIMIT} bytes, so it is no plan", where=str(path))
        document: Any = json.loads(path.read_text("utf-8"))
        made = document.get("plan", document)
        observed = {str(key): str(value) for key, value in made["observed"].items()}
        steps = tuple(str(step["id"]) for step in made["steps"])
        tree = bool(document.get("workingTree", False))
        return SavedPlan(path, str(made["revision"]), str(made["digest"]), observed, steps, tree)
    except OSError as error:
        raise MlopsError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MlopsError(
            "this is not a plan", where=str(path), fix="Make one with `mlops plan --out FILE`"
        ) from None


def holding(saved: SavedPlan, look: Callable[[], View]) -> Callable[[], View]:
    """A look that refuses, before anything is changed, when the plan would come out otherwise now."""

    def checked() -> View:
        view = look()
        plan = view.planned.plan
        if plan.digest == saved.digest:
            return view
        names = sorted(set(saved.observed) | set(plan.observed))
        moved = [name for name in names if saved.observed.get(name) != plan.observed.get(name)]
        if not moved:
            now = {step.id for step in plan.steps}
            moved = sorted(now.symmetric_difference(saved.steps)) or ["the plan's steps"]
        shown = ", ".join(moved[:10]) + (f" and {len(moved) - 10} more" if len(moved) > 10 else "")
        raise MlopsError(
            f"the saved plan no longer holds; since it was made these moved: {shown}",
            where=str(saved.path),
            fix="Nothing was changed. Plan again: `mlops plan --out FILE`",
        )

    return checked
