"""One resource that planning breaks on, whatever the reason, stops itself and what depends on it, nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from revisions import code, data, desired, experiment, key, observed, resource

from mlops.planning import models
from mlops.planning.planner import make_plan


def test_a_resource_that_planning_breaks_on_is_named_and_the_rest_is_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned_model = models.model

    def broken(context: Any, one: Any) -> Any:
        if one.metadata.name == "bad":
            raise KeyError("a tag of a shape that nobody foresaw")
        return planned_model(context, one)

    monkeypatch.setattr(models, "model", broken)
    revision = desired(
        resource("Dataset", "rows", {"uri": "rows.csv", "format": "csv"}),
        experiment(),
        resource("Model", "bad", {}),
        resource("Model", "good", {}),
        resource(
            "ModelVersion",
            "bad-1",
            {"model": "bad", "version": "1.0.0", "source": {"experiment": "fit", "artifact": "m"}},
        ),
        code={"fit": code()},
    )
    planned = make_plan(revision, observed(datasets=[data()]))
    assert {step.id for step in planned.plan.steps if step.action != "train"} == {"register:Model/good"}
    assert [step.resource for step in planned.plan.steps if step.action == "train"] == ["Experiment/fit"]
    reasons = {block.resource: block.reason for block in planned.plan.blocked}
    assert reasons == {"Model/bad": "Defect", "ModelVersion/bad-1": "DependencyFailed"}
    assert planned.assessments[key("Model/bad")].health == "Degraded"
