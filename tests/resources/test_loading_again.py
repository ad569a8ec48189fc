"""A revision loaded beside another one: what is the same is shared, and what differs is seen."""

from __future__ import annotations

from textwrap import dedent

import pytest

from conftest import Declared
from mlops.resources import Key, load
from mlops.resources.last_good import hold

MODEL = "apiVersion: mlops/v1\nkind: Model\nmetadata: {name: NAME}\nspec: {}\n"
VERSION = (
    "apiVersion: mlops/v1\nkind: ModelVersion\nmetadata: {name: a-1}\n"
    "spec: {model: a, version: 1.0.0, source: {runId: 0123456789abcdef0123456789abcdef}}\n"
)


def model(name: str) -> str:
    return MODEL.replace("NAME", name)


def test_documents_of_unchanged_files_are_the_same_objects(declared: Declared) -> None:
    declared.write("resources/a.yaml", model("a"))
    declared.write("resources/b.yaml", model("b"))
    first = declared.load()
    declared.write("resources/b.yaml", model("b").replace("{}", "{description: changed}"))
    snapshot = declared.snapshot
    second = load(snapshot, before=first)
    assert [batch for batch in snapshot.batches if batch] == [["resources/b.yaml"]]
    assert second.resources[Key("Model", "a")] is first.resources[Key("Model", "a")]
    assert second.resources[Key("Model", "b")].spec.description == "changed"
    assert dict(second.resources) == dict(declared.load().resources)


def test_what_moved_to_another_file_or_went_away_is_not_taken_from_before(declared: Declared) -> None:
    declared.write("resources/a.yaml", model("a"))
    declared.write("resources/b.yaml", model("b"))
    first = declared.load()
    (declared.root / "resources/a.yaml").rename(declared.root / "resources/c.yaml")
    (declared.root / "resources/b.yaml").unlink()
    second = load(declared.snapshot, before=first)
    assert set(second.resources) == {Key("Project", "bikes"), Key("Model", "a")}
    assert second.locations[Key("Model", "a")].file == "resources/c.yaml"


def test_what_was_wrong_is_looked_at_again_and_what_holds_between_files_is_checked(
    declared: Declared,
) -> None:
    declared.write("resources/a.yaml", model("a"))
    declared.write("resources/v.yaml", VERSION)
    declared.write("resources/x.yaml", model("x").replace("spec", "specc"))
    first = declared.load()
    assert len(first.problems) == 1
    again = load(declared.snapshot, before=first)
    assert again.problems == first.problems
    (declared.root / "resources/a.yaml").unlink()
    (dangling, *_) = load(declared.snapshot, before=first).problems
    assert (dangling.resource, dangling.field) == ("ModelVersion/a-1", "spec.model")
    declared.write("resources/a.yaml", model("a"))
    declared.write("resources/x.yaml", model("x"))
    mended = load(declared.snapshot, before=load(declared.snapshot, before=first))
    assert (mended.problems, Key("Model", "x") in mended.resources) == ((), True)


PROJECT_FILES = {
    "stages": """
        kind: Stage
        metadata: {name: dev}
        spec: {}
        ---
        kind: Stage
        metadata: {name: prod}
        spec: {after: dev, approvals: {required: 1, from: [leads]}, gates: [{metric: {name: rmse, max: 1, dataset: rows}}]}
        """,  # noqa: E501
    "rows": "kind: Dataset\nmetadata: {name: rows}\nspec: {uri: 's3://${BUCKET}/rows.csv'}\n",
    "source": """
        kind: Experiment
        metadata: {name: source}
        spec:
          source: {path: training}
          command: [python, train.py]
          datasets: {train: rows}
          environment: {requirements: training/requirements.txt}
          sweep: {parameters: {depth: [1, 2]}}
          objective: {metric: rmse, goal: minimize}
        """,
    "model": "kind: Model\nmetadata: {name: a}\nspec: {registeredName: A}\n",
    "other": "kind: Model\nmetadata: {name: b}\nspec: {}\n",
    "version": "kind: ModelVersion\nmetadata: {name: a-1}\n"
    "spec: {model: a, version: 1.0.0, source: {experiment: source, artifact: model}}\n",
    "promotion": "kind: Promotion\nmetadata: {name: a-dev}\nspec: {model: a, stage: dev, version: 1.0.0}\n",
    "promoted": "kind: Promotion\nmetadata: {name: a-prod}\nspec: {model: a, stage: prod, version: 1.0.0}\n",
}
CHANGES = {
    "the dataset is gone": {"rows": None},
    "the experiment is gone": {"source": None},
    "the model is gone": {"model": None},
    "the version is gone": {"version": None},
    "the stages are gone": {"stages": None},
    "a variable is no longer allowed": {"PROJECT": ("BUCKET", "OTHER")},
    "a group is no longer there": {"PROJECT": ("leads", "heads")},
    "one registered name twice": {"other": ("{}", "{registeredName: A}")},
    "one number twice": {
        "more": "kind: ModelVersion\nmetadata: {name: a-2}\n"
        "spec: {model: a, version: 1.0.0, source: {experiment: source, artifact: model}}\n"
    },
    "one name twice": {"more": "kind: Dataset\nmetadata: {name: rows}\nspec: {uri: data/x.csv}\n"},
    "a sweep without an objective": {"source": ("  objective: {metric: rmse, goal: minimize}\n", "")},
    "a promotion of another version": {"promotion": ("1.0.0", "1.0.1")},
    "latest where approvals are asked for": {"promoted": ("1.0.0", "latest")},
    "the training code is gone": {"CODE": None},
    "nothing": {},
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_wrong_between_documents_is_found_whatever_is_known_of_them(
    declared: Declared, what: str
) -> None:
    for name, text in PROJECT_FILES.items():
        declared.documents(f"resources/{name}.yaml", *dedent(text).split("---\n"))
    before = declared.load()
    assert before.problems == ()
    settled = before.settled()
    assert (dict(settled.resources), settled.locations) == (dict(before.resources), before.locations)
    for name, change in CHANGES[what].items():
        if name == "CODE":
            for path in ("training/train.py", "training/requirements.txt"):
                (declared.root / path).unlink()
            continue
        path = "mlops.yaml" if name == "PROJECT" else f"resources/{name}.yaml"
        match change:
            case None:
                (declared.root / path).unlink()
            case str():
                declared.documents(path, change)
            case (old, new):
                text = (declared.root / path).read_text()
                assert old in text
                declared.write(path, text.replace(old, new))
    anew = declared.load()
    again = load(declared.snapshot, before=settled)
    assert bool(anew.problems) == (what != "nothing")
    assert again.problems == anew.problems
    assert (dict(again.resources), again.invalid) == (dict(anew.resources), anew.invalid)
    assert load(declared.snapshot, before=again.settled()).problems == anew.problems
    assert dict(hold(again, settled).resources) == dict(hold(anew, before).resources)
