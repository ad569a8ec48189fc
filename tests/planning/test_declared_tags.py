"""Tags and descriptions are those that git declares now, not those that it once declared."""

from __future__ import annotations

from typing import Any

from revisions import Case, desired, experiment, resource
from store_in_memory import Memory


def declared(*resources: Any) -> Case:
    return Case(desired(*resources), {})


def settle(case: Case, store: Memory) -> None:
    store.apply(case)
    assert store.plan(case).plan.steps == ()


def test_a_tag_taken_out_of_git_is_taken_out_of_the_registry_and_others_stay() -> None:
    store = Memory()
    settle(declared(resource("Model", "m", {"tags": {"domain": "bikes", "tier": "1"}})), store)
    store.update_model("m", description=None, tags={"seen-by": "Ann"})
    settle(declared(resource("Model", "m", {"tags": {"tier": "2"}})), store)
    kept = {tag: value for tag, value in store.models["m"].tags.items() if not tag.startswith("mlops.")}
    assert kept == {"tier": "2", "seen-by": "Ann"}
    settle(declared(resource("Model", "m")), store)
    assert "mlops.tags" not in store.models["m"].tags
    assert "tier" not in store.models["m"].tags


def test_names_of_tags_written_by_hand_do_not_take_the_reconcilers_own_away() -> None:
    store, case = Memory(), declared(resource("Model", "m"))
    settle(case, store)
    before = dict(store.models["m"].tags)
    asked = {"mlops.asked.prod.1.0.0": "0" * 40}
    store.update_model("m", description=None, tags={**asked, "mlops.tags": "mlops.asked.prod.1.0.0"})
    settle(case, store)
    assert store.models["m"].tags == {**before, **asked}


def test_an_experiments_description_that_git_does_not_declare_is_taken_away() -> None:
    store, case = Memory(), declared(experiment())
    settle(case, store)
    [one] = [e for e in store.experiments.values() if e.name.endswith("/fit")]
    store.update_experiment(one.experiment_id, tags={"mlflow.note.content": "mine", "mine": "too"})
    settle(case, store)
    tags = store.experiments["p/fit"].tags
    assert "mlflow.note.content" not in tags
    assert tags["mine"] == "too"
