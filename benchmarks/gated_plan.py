"""Plan 1,000 moves of versions with their evidence in MLflow, from memory: `gated_plan.py gated|bare TIMES`.

MLflow's part of the picture is made here, so that what is measured is judging alone: that no gate asks for more than
the picture holds is what makes it quick.
"""

from __future__ import annotations

import sys
from typing import Any

from pydantic import TypeAdapter

from mlops.observation.observed import (
    Ledger,
    Observed,
    ObservedDataset,
    ObservedModel,
    ObservedRun,
    ObservedVersion,
)
from mlops.planning.desired import Desired
from mlops.planning.evidence import Check, Evidence, Example, Scoring
from mlops.planning.planner import make_plan
from mlops.planning.stays import History, Stay
from mlops.resources import Dataset, Key, Model, ModelVersion, Promotion, Resource, Stage

COUNT = 1_000
NOW = 1_800_000_000.0
DATA = "sha256:" + "d" * 64
GATES: list[dict[str, Any]] = [
    {"metric": {"name": "rmse", "max": 60, "dataset": "judge"}},
    {"champion": {"metric": "rmse", "goal": "minimize", "dataset": "judge", "minImprovement": "1%"}},
    {"soak": "24h"},
    {"signature": True},
]


def declare(kind: type[Any], name: str, **spec: Any) -> Resource:
    row = {"apiVersion": "mlops/v1", "kind": kind.__name__, "metadata": {"name": name}, "spec": spec}
    made: Resource = TypeAdapter(kind).validate_python(row)
    return made


def evidence(check: Check, digest: str, rmse: float) -> dict[str, str]:
    metrics = {"rmse": rmse, "mae": rmse / 2, "r2": 0.5} if isinstance(check, Scoring) else {}
    made = Evidence(digest, "model", tuple(check.identity), metrics, 10_000 if metrics else 0)
    return {made.tag: made.text()}


def picture(gated: bool, count: int = COUNT) -> tuple[Desired, Observed]:
    """Models with a champion in production, and a challenger that comes from staging."""
    scoring = Scoring("judge", DATA, "y", "regression")
    resources: list[Resource] = [
        declare(Dataset, "judge", uri="judge.csv", format="csv", columns={"target": "y"}),
        declare(Stage, "staging"),
        declare(Stage, "production", after="staging", gates=GATES if gated else []),
    ]
    ledger = Ledger({}, {}, {}, {})
    runs, models, versions = {}, {}, {}
    begun, moved = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"
    for number in range(count):
        name = f"m{number:04}"
        resources.append(declare(Model, name))
        for stage in ("staging", "production"):
            resources.append(declare(Promotion, f"{name}-{stage}", model=name, stage=stage, version="2.0.0"))
        models[name] = ObservedModel(name, "", {"mlops.project": "p"}, {"production": 1, "staging": 2})
        for version, rmse in ((1, 50.0), (2, 45.0)):
            run_id, digest = f"{number:030x}{version:02x}", f"sha256:{number * 10 + version:064x}"
            source = {"runId": run_id, "artifact": "model"}
            resources.append(
                declare(
                    ModelVersion, f"{name}-{version}", model=name, version=f"{version}.0.0", source=source
                )
            )
            told = {**evidence(scoring, digest, rmse), **evidence(Example(), digest, rmse)}
            runs[run_id] = ObservedRun(run_id, "p/fit", "fit", "FINISHED", 0, 1, told, {}, {"rmse": rmse})
            stage = "production" if version == 1 else "staging"
            stay = Stay(f"{name}-{stage}", stage, moved if version == 1 else begun, "r", digest=digest)
            tags = {tag: text for tag, text in History((stay,)).tags(stage).items() if text is not None}
            tags |= {
                "mlops.version": f"{version}.0.0",
                "mlops.digest": digest,
                "mlops.project": "p",
                "mlops.resource": f"ModelVersion/{name}-{version}",
                "mlops.source": f"run/{run_id}#model",
            }
            versions[name, version] = ObservedVersion(name, version, run_id, "models:/m-1", "", tags)
    ledger = Ledger({}, runs, models, versions)
    desired = Desired(
        revision="a" * 40,
        dirty=False,
        project="p",
        self_heal=True,
        prune=True,
        resources={Key(one.kind, one.metadata.name): one for one in resources},
        invalid=frozenset(),
        whole=True,
        code={},
    )
    return desired, Observed(ledger, {"judge": ObservedDataset("judge", "judge.csv", DATA)}, now=NOW)


def main() -> None:
    gated, times = sys.argv[1] == "gated", int(sys.argv[2])
    desired, observed = picture(gated)
    for _ in range(times):
        plan = make_plan(desired, observed).plan
        promoted = sum(step.action == "promote" for step in plan.steps)
        assert promoted == COUNT, (promoted, plan.blocked[:3])


if __name__ == "__main__":
    main()
