"""A look after which nothing moved gives the very view of the last one, and plans nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.controller import Controller
from mlops.planning.context import Options
from mlops.planning.desired import Desired
from mlops.resources import Key
from mlops.tracking import Tracker

PROJECT = "apiVersion: mlops/v1\nkind: Project\nmetadata: {name: NAME}\nspec: {variables: [DATA]}\n"
MODEL = "apiVersion: mlops/v1\nkind: Model\nmetadata: {name: MODEL}\nspec: {}\n"
DATASET = 'apiVersion: mlops/v1\nkind: Dataset\nmetadata: {name: DATASET}\nspec: {uri: "URI", format: csv}\n'


class Looked:
    """A committed project, the controller that looks at it, and how often it has planned."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root = root
        self.controller = Controller(root, environ=environ)
        self.planned = 0

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def commit(self, **files: str) -> None:
        for name, text in files.items():
            self.write(f"resources/{name}.yaml", text)
        self.git("add", "-A")
        self.git("commit", "-qm", "change", "--allow-empty")

    def git(self, *arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(["git", "-C", str(self.root), *identity, *arguments], check=True)


@pytest.fixture
def looked(tmp_path: Path, sqlite_tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looked]:
    root = tmp_path / "project"
    found = Looked(root, {"DATA": (tmp_path / "outside").as_uri()})
    found.write("mlops.yaml", PROJECT.replace("NAME", "looked"))
    found.write(".gitignore", ".mlops/\n")
    (root / ".mlops").mkdir()
    shutil.copy(str(sqlite_tracker.store.sqlite_path), root / ".mlops/mlflow.db")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    found.commit(a=MODEL.replace("MODEL", "a"), b=MODEL.replace("MODEL", "b"))
    from mlops.planning import planner

    make_plan = planner.make_plan

    def counted(desired: Desired, observed: object, options: Options | None = None) -> object:
        found.planned += 1
        return make_plan(desired, observed, options)  # type: ignore[arg-type]

    monkeypatch.setattr(planner, "make_plan", counted)
    with found.controller:
        yield found


def test_nothing_moved(looked: Looked) -> None:
    first = looked.controller.look()
    assert looked.controller.look() is first
    assert looked.controller.look(first.snapshot.revision) is first
    assert looked.controller.look("HEAD") is first
    assert looked.planned == 1


def test_another_commit_is_another_view_that_shares_what_is_the_same(looked: Looked) -> None:
    first = looked.controller.look()
    looked.commit(b=MODEL.replace("MODEL", "b").replace("{}", "{description: changed}"))
    second = looked.controller.look()
    assert second.desired.revision != first.desired.revision
    a, b = Key("Model", "a"), Key("Model", "b")
    assert second.desired.resources[a] is first.desired.resources[a]
    assert second.desired.resources[b] != first.desired.resources[b]
    looked.commit()  # an empty commit is another revision, too
    assert looked.controller.look().desired.revision != second.desired.revision
    assert looked.planned == 3


def test_whatever_moved_in_the_store_is_planned_with(looked: Looked) -> None:
    first = looked.controller.look()
    by_hand = Tracker(looked.controller.tracker.store.uri, None, environ={}, now=looked.controller.now)
    by_hand.ensure_model("somebody.elses", description="", tags={})
    assert looked.controller.look() is first
    by_hand.ensure_model("a", description="by hand", tags={})
    second = looked.controller.look()
    assert [step.id for step in second.planned.plan.steps] != [step.id for step in first.planned.plan.steps]
    assert looked.controller.look() is second


def test_what_was_asked_for_beside_the_revision_is_planned_with(looked: Looked) -> None:
    first = looked.controller.look()
    assert looked.controller.look(options=Options(retry_stalled=True)) is not first
    again = looked.controller.look()
    assert again.planned.plan.to_json() == first.planned.plan.to_json()
    part = looked.controller.look(targets=[Key("Model", "a")])
    assert {step.resource for step in part.planned.plan.steps} == {"Model/a"}
    assert looked.controller.look() is again


def test_data_outside_is_looked_at_each_time_and_data_in_the_revision_once(
    looked: Looked, tmp_path: Path
) -> None:
    outside = tmp_path / "outside" / "rows.csv"
    outside.parent.mkdir()
    looked.write("data/rows.csv", "a\n1\n")
    looked.commit(
        inside=DATASET.replace("DATASET", "inside").replace("URI", "data/rows.csv"),
        outside=DATASET.replace("DATASET", "outside").replace("URI", "${DATA}/rows.csv"),
    )
    absent = looked.controller.look()
    assert absent.observed.datasets["outside"].reason == "NotFound"
    assert looked.controller.look() is absent
    outside.write_text("a\n1\n")
    found = looked.controller.look()
    assert found.observed.datasets["outside"].digest is not None
    assert found.observed.datasets["inside"] is absent.observed.datasets["inside"]
    assert looked.controller.look() is found
    outside.write_text("a\n2\n3\n")
    moved = looked.controller.look()
    assert moved.observed.datasets["outside"].digest != found.observed.datasets["outside"].digest


def test_a_broken_commit_is_not_read_again_while_it_stays(looked: Looked) -> None:
    looked.commit(b=MODEL.replace("MODEL", "b").replace("spec", "specc"))
    broken = looked.controller.look()
    assert broken.loaded.problems
    assert looked.controller.look() is broken
    tracker = looked.controller.tracker
    tracker.ensure_experiment("looked", description="", tags={"mlops.applied.good": "0" * 40})
    told = looked.controller.look()  # the last good revision is not in the repository, and may come
    assert told.held.problem is not None
    looked.commit(b=MODEL.replace("MODEL", "b"))
    assert looked.controller.look().loaded.problems == ()


def test_the_working_tree_is_read_each_time(looked: Looked) -> None:
    first = looked.controller.look(working_tree=True)
    looked.write("resources/b.yaml", MODEL.replace("MODEL", "c"))
    second = looked.controller.look(working_tree=True)
    assert (Key("Model", "c") in second.loaded.resources, Key("Model", "c") in first.loaded.resources) == (
        True,
        False,
    )
    assert second.loaded.resources[Key("Model", "a")] is first.loaded.resources[Key("Model", "a")]
