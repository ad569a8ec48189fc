"""NannyML's car loans: what its documentation shows of them is found, with labels and before they come."""

from __future__ import annotations

from pathlib import Path

from scored_tables import assessed, spec, subject, table

from mlops.monitoring.evaluating import Assessed
from mlops.resources.dataset import Columns

HERE = Path(__file__).parent / "car_loans"
COLUMNS = Columns(
    target="repaid", prediction="y_pred", probability="y_pred_proba", timestamp="timestamp", id="id"
)
CHECKS = [
    {"name": "upstream", "type": "upstreamChange"},
    {"name": "inputs", "type": "dataDrift"},
    {"name": "concept", "type": "conceptDrift", "maxDrop": "0.5%", "estimate": True},
]


def watched(labelled: bool) -> Assessed:
    policy = spec(
        window={"rows": 5_000},
        data={"predictions": "scored", "labels": {"dataset": "outcomes"}},
        checks=CHECKS,
    )
    reference = table("train", [HERE / "reference.parquet"], columns=COLUMNS)
    scored = table("scored", [HERE / "analysis.parquet"], columns=COLUMNS.model_copy(update={"target": None}))
    paths = [HERE / "labels.parquet"] if labelled else []
    labels = table("outcomes", paths, columns=Columns(target="repaid", id="id"))
    return assessed(subject(policy, reference, scored, labels=labels))


def test_the_change_of_customers_and_the_loss_of_performance_are_found() -> None:
    before, after = watched(labelled=True).evaluations
    assert [check.verdict for check in before.checks] == ["quiet", "quiet", "quiet"]
    assert [check.verdict for check in after.checks] == ["quiet", "violated", "violated"]
    moved = {one.column for one in after.checks[1].columns if one.verdict == "violated"}
    assert moved == {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car"}
    concept = after.checks[2]
    assert (concept.estimate, concept.columns[0].detector) == (False, "rocAuc")
    assert concept.value is not None
    assert 0.005 < concept.value < 0.02


def test_the_loss_of_performance_is_estimated_before_labels_come() -> None:
    before, after = watched(labelled=False).evaluations
    assert (before.checks[2].verdict, before.checks[2].estimate) == ("insufficient", True)
    assert (after.checks[2].verdict, after.checks[2].estimate) == ("violated", True)
    told = after.checks[2].value
    seen = watched(labelled=True).evaluations[1].checks[2].value
    assert told is not None
    assert seen is not None
    assert abs(told - seen) < 0.005
