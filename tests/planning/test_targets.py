"""Parts of a plan: what is asked for, with everything that has to come first."""

from __future__ import annotations

from revisions import desired, experiment, observed, resource

from mlops.planning.planner import make_plan, only
from mlops.resources import Key


def test_a_target_takes_the_promotion_to_the_stage_before_with_it() -> None:
    source = {"experiment": "fit", "artifact": "model"}
    planned = make_plan(
        desired(
            experiment(),
            experiment("other"),
            resource("Model", "m"),
            resource("ModelVersion", "m-1", {"model": "m", "version": "1.0.0", "source": source}),
            resource("Stage", "dev"),
            resource("Stage", "prod", {"after": "dev"}),
            resource("Promotion", "m-dev", {"model": "m", "stage": "dev", "version": "1.0.0"}),
            resource("Promotion", "m-prod", {"model": "m", "stage": "prod", "version": "1.0.0"}),
        ),
        observed(),
    )
    steps = only(planned, [Key("Promotion", "m-prod")]).plan.steps
    assert [step.resource for step in steps] == [
        "Experiment/fit",
        "Model/m",
        "ModelVersion/m-1",
        "Promotion/m-dev",
        "Promotion/m-prod",
    ]
    ids = {step.id for step in steps}
    assert all(set(step.needs) <= ids for step in steps)
