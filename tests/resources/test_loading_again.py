"""A revision loaded beside another one: what is the same is shared, and what differs is seen."""

from __future__ import annotations

from conftest import Declared
from mlops.resources import Key, load

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


def test_what_was_wrong_is_looked_at_again_and_what_holds_between_files_is_checked(declared: Declared) -> None:
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
