"""A plan names what changed since a trial was last trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlops.observation.observed import ObservedRun
from mlops.planning.desired import Code
from mlops.planning.reasons import NEW, code_digest, why_train
from mlops.planning.runs import CODE, DATASET_DIGEST, ENVIRONMENT, OUTCOME
from mlops.planning.work import Trial, TrialData

CODE_THEN = Code({"train.py": "a" * 40}, ("python", "train.py"), {}, "reconciler")
TRIAL = Trial(
    "fit",
    {"depth": 3, "on": True},
    ("python",),
    (TrialData("train", "rows", "sha256:1", False),),
    "f",
    "d",
    7,
)
TAGS = {
    OUTCOME: "succeeded",
    CODE: code_digest(CODE_THEN),
    ENVIRONMENT: "reconciler",
    DATASET_DIGEST + "train": "sha256:1",
}
RUN = ObservedRun("r", "p/fit", "fit-1", "FINISHED", 1, 2, TAGS, {"depth": "3", "on": "True"}, {})


@pytest.mark.parametrize(
    ("trial", "code", "told"),
    [
        (TRIAL, CODE_THEN, "its command or seed changed since it was trained"),
        (TRIAL, replace(CODE_THEN, files={"train.py": "b" * 40}), "its code changed since it was trained"),
        (TRIAL, replace(CODE_THEN, environment="sha256:e"), "its environment changed since it was trained"),
        (
            replace(TRIAL, data=(TrialData("train", "rows", "sha256:2", False),)),
            replace(CODE_THEN, files={}),
            "Dataset/rows, its code changed since it was trained",
        ),
        (replace(TRIAL, parameters={"depth": 4, "on": True}), CODE_THEN, NEW),
    ],
    ids=["seed", "code", "environment", "data and code", "parameter"],
)
def test_what_changed_is_named(trial: Trial, code: Code, told: str) -> None:
    assert why_train([RUN], trial, code) == told


def test_only_finished_runs_count_and_the_newest_of_them() -> None:
    failed = replace(RUN, status="FAILED", tags={**TAGS, OUTCOME: "failed"})
    assert why_train([failed], TRIAL, CODE_THEN) == NEW
    older = replace(RUN, tags={**TAGS, ENVIRONMENT: "sha256:old"})
    assert (
        why_train([older, RUN, failed], TRIAL, CODE_THEN)
        == "its command or seed changed since it was trained"
    )


def test_a_run_from_before_its_code_was_noted_accuses_nothing_alone() -> None:
    old = replace(RUN, tags={name: value for name, value in TAGS.items() if name != CODE})
    told = "its code, command or seed changed since it was trained"
    assert why_train([old], TRIAL, replace(CODE_THEN, files={})) == told
