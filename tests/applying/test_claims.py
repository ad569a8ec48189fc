"""What steps take of what is limited while they run."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import yaml

from mlops.applying.apply import claims
from mlops.applying.outcomes import Done, Failed, Outcome
from mlops.applying.walk import WORKERS, walk
from mlops.errors import Transient
from mlops.planning.plan import Step
from mlops.planning.work import BindVersion, TrainTrial, Trial
from mlops.resources import Experiment, Key

PATIENCE = 30.0  # real seconds, after which what has to come will not

SPEC = """\
source: {path: training}
command: [python, train.py]
executor: elsewhere
sweep: {strategy: grid, parameters: {n: [1, 2]}, parallel: 100}
"""


def train(n: int) -> Step:
    trial = Trial("fit", {"n": n}, (), (), f"{n:064}", "", None)
    return Step(f"train:{n}", "Experiment/fit", "train", "a test", TrainTrial(trial, None, 1, 1))


def test_who_writes_finds_a_thread_however_many_jobs_elsewhere_are_waited_for() -> None:
    document = {"apiVersion": "mlops/v1", "kind": "Experiment", "metadata": {"name": "fit"}}
    fit = Experiment.model_validate({**document, "spec": yaml.safe_load(SPEC)})
    world: Any = SimpleNamespace(desired=SimpleNamespace(resources={Key("Experiment", "fit"): fit}))
    bind = Step("bind", "ModelVersion/m", "bind", "a test", BindVersion("m", "m", None, "run"))
    bound = threading.Event()

    def execute(step: Step) -> Outcome:
        if step is bind:
            bound.set()
            return Done()
        return Done() if bound.wait(PATIENCE) else Failed(Transient("nothing was bound meanwhile"))

    steps = [*(train(n) for n in range(WORKERS + 1)), bind]
    outcomes = walk(steps, execute, lambda step: claims(world, step))
    assert set(outcomes.values()) == {Done()}


def test_versions_of_one_model_are_bound_one_after_the_other_in_the_plan_s_order() -> None:
    def bind(model: str, name: str) -> Step:
        return Step(name, f"ModelVersion/{name}", "bind", "a test", BindVersion(name, model, None, "run"))

    both = threading.Barrier(2)
    began: list[str] = []
    under_way: list[str] = []

    def execute(step: Step) -> Outcome:
        assert step.id[0] not in under_way
        under_way.append(step.id[0])
        began.append(step.id)
        both.wait(PATIENCE)  # for the other model's
        under_way.remove(step.id[0])
        return Done()

    steps = [bind("m", "m-2"), bind("m", "m-10"), bind("n", "n-2"), bind("n", "n-10")]
    outcomes = walk(steps, execute, lambda step: claims(SimpleNamespace(), step))  # type: ignore[arg-type]
    assert set(outcomes.values()) == {Done()}
    assert [name for name in began if name[0] == "m"] == ["m-2", "m-10"]
    assert [name for name in began if name[0] == "n"] == ["n-2", "n-10"]
