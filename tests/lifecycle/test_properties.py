"""What holds for any project: apply leaves nothing to do, and a saved plan is what is done or nothing is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git_project import GitProject, clean_environ, document, experiment, lifecycle, promotion, version
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mlops.planning.conditions import FAILURES

Documents = list[dict[str, Any]]


def dump(project: GitProject) -> list[str]:
    """Every row of the project's MLflow database."""
    with sqlite3.connect(project.root / ".mlops/mlflow.db") as database:
        return list(database.iterdump())


@st.composite
def projects(draw: st.DrawFn) -> Documents:
    """A dataset, up to two experiments, a model with up to two versions, stages with gates, promotions."""
    found: Documents = [document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"})]
    fits = draw(st.lists(st.sampled_from(["fit", "more"]), unique=True, max_size=2))
    for name in fits:
        depths = draw(st.lists(st.sampled_from([1, 2, 4]), unique=True, min_size=1, max_size=2))
        labels = draw(st.sampled_from([{}, {"team": "a"}]))
        seed = 1 + ["fit", "more"].index(name)  # two experiments of one content would share their runs
        sweep = {"strategy": "grid", "parameters": {"depth": depths}, "parallel": 2}
        suspend = draw(st.sampled_from([False, False, False, True]))
        found.append(experiment(name, sweep=sweep, labels=labels, seed=seed, suspend=suspend))
    described = draw(st.sampled_from(["", "A model"]))
    found.append(
        document("Model", "m", {"description": described, "tags": {"domain": "x"} if described else {}})
    )
    numbers = draw(st.lists(st.sampled_from(["1.0.0", "1.1.0"]), unique=True)) if fits else []
    for number in numbers:
        policy = draw(st.sampled_from(["Retain", "Delete"]))
        source = {"experiment": draw(st.sampled_from(fits)), "artifact": "model.txt"}
        found.append(version(number, source=source, deletionPolicy=policy))
    most = draw(st.sampled_from([3, 6, 20]))
    found.append(document("Stage", "dev", {"gates": [{"metric": {"name": "rmse", "max": most}}]}))
    after = draw(st.sampled_from([{}, {"after": "dev"}, {"alias": "champion"}]))
    found.append(document("Stage", "prod", after))
    for stage in draw(st.lists(st.sampled_from(["dev", "prod"]), unique=True)) if numbers else []:
        found.append(promotion(stage, draw(st.sampled_from([*numbers, "latest"]))))
    return found


@pytest.mark.slow
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.generate],  # an example takes seconds: failures are reported as they are
    suppress_health_check=list(HealthCheck),
)
@given(first=projects(), second=projects())
def test_apply_then_plan_is_empty_there_and_back_again(
    first: Documents, second: Documents, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = GitProject(tmp_path_factory.mktemp("any") / "project", first).with_store()
    settle(project, first)
    for name, documents in (("second", second), ("first again", first), ("second again", second)):
        project.declare(documents)
        project.commit(name)
        settle(project, documents)
    trained = [row for row in project.world()["runs"] if row[1]]
    assert len({row[:2] for row in trained}) == len(trained), "a trial was trained twice"
    numbers = [found.tags["mlops.version"] for found in project.client.search_model_versions()]
    assert len(set(numbers)) == len(numbers), "a version was registered twice"


def settle(project: GitProject, documents: Documents) -> None:
    """Apply, then see that nothing is left; where a gate closed meanwhile or a version failed, once more."""
    from mlops.controller import Controller

    code = project.run("apply")
    for _ in range(2 if code else 1):
        with Controller.find(project.root) as controller:
            plan = controller.look().planned.plan
        if not plan.steps:
            break
        assert project.run("apply") == code
    assert [step.id for step in plan.steps] == [], documents
    # A bound version that the next revision declares from another experiment is the one failure there can be.
    failures = {block.reason for block in plan.blocked} & FAILURES
    assert failures <= {"Immutable", "DependencyFailed"}, documents
    assert code == (1 if failures else 3 if plan.blocked else 0), documents
    before = dump(project)
    assert project.run("apply") == code
    assert dump(project) == before, "an apply with nothing to do wrote something"


MOVES: dict[str, tuple[Callable[[GitProject], object], str]] = {
    "data": (lambda p: p.write("../outside.csv", "x,y\n1,3\n"), "Dataset/rows"),
    "data gone": (lambda p: (p.root / "../outside.csv").unlink(), "Dataset/rows"),
    "alias": (lambda p: p.client.delete_registered_model_alias("m", "prod"), "Promotion/m-prod"),
    "description": (lambda p: p.client.update_registered_model("m", description="Mine"), "Model/m"),
    "version": (
        lambda p: p.client.set_model_version_tag("m", "1", "mlops.fingerprint", "0"),
        "ModelVersion/m-1.0.0",
    ),
    "experiment": (
        lambda p: p.client.set_experiment_tag(
            p.client.get_experiment_by_name("p/fit").experiment_id, "mlops.label.a", "b"
        ),
        "Experiment/fit",
    ),
    "metric": (lambda p: p.client.log_metric(a_run(p), "rmse", 0.001), "Experiment/fit"),
    "outcome": (lambda p: p.client.set_tag(a_run(p), "mlops.outcome", "failed"), "Experiment/fit"),
    "run": (lambda p: p.client.delete_run(a_run(p)), "Experiment/fit"),
    "training": (lambda p: p.run("train"), "Experiment/fit"),
    "revision": (lambda p: in_force(p, p.git("rev-parse", "HEAD~2")), "Project/p"),
}


def in_force(project: GitProject, revision: str) -> None:
    client = project.client
    client.set_experiment_tag(
        client.get_experiment_by_name("p").experiment_id, "mlops.applied.revision", revision
    )


def a_run(project: GitProject) -> str:
    client = project.client
    found = client.search_runs([client.get_experiment_by_name("p/fit").experiment_id])
    return str(max(found, key=lambda run: run.data.params["depth"]).info.run_id)


@pytest.fixture(scope="module")
def planned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An applied project whose next commit trains, binds, promotes and updates, with that plan saved."""
    import os

    folder = tmp_path_factory.mktemp("planned")
    (folder / "outside.csv").write_text("x,y\n1,2\n")
    documents = lifecycle()
    documents[0]["spec"]["uri"] = f"file://{folder}/outside.csv"
    project = GitProject(folder / "project", documents).with_store()
    kept = dict(os.environ)
    for name in set(kept) - set(clean_environ()):
        del os.environ[name]
    try:
        assert project.run("apply") == 0
        project.commit("the same again")
        assert project.run("apply") == 0
        documents[1]["spec"]["sweep"]["parameters"]["depth"] = [1, 2, 4]
        project.declare(
            [*documents[:-2], version("1.1.0"), promotion("dev", "1.1.0"), promotion("prod", "1.1.0")]
        )
        project.commit("more")
        assert project.run("plan", "--out", str(folder / "plan.json")) == 0
    finally:
        os.environ.update(kept)
    return folder


@pytest.fixture
def planned(planned_once: Path, tmp_path: Path) -> GitProject:
    """That project, for one test; its outside data stays where it was declared, so it is put back after."""
    shutil.copytree(planned_once / "project", tmp_path / "project", symlinks=True)
    return GitProject.at(tmp_path / "project")


@pytest.fixture(autouse=True)
def _put_data_back(request: pytest.FixtureRequest) -> Any:
    yield
    if "planned_once" in request.fixturenames:
        folder: Path = request.getfixturevalue("planned_once")
        (folder / "outside.csv").write_text("x,y\n1,2\n")


@pytest.mark.parametrize("move", sorted(MOVES))
def test_a_saved_plan_is_refused_when_something_moved(
    move: str, planned: GitProject, planned_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act, named = MOVES[move]
    if move.startswith("data"):
        planned = GitProject.at(planned_once / "project")
    act(planned)
    before, rows = planned.world(), dump(planned)
    capsys.readouterr()
    assert planned.run("apply", str(planned_once / "plan.json")) == 1
    told = capsys.readouterr().err
    assert "the saved plan no longer holds" in told
    assert named in told
    assert "Nothing was changed" in told
    assert planned.world() == before
    assert dump(planned) == rows


@pytest.mark.slow
def test_a_saved_plan_does_exactly_what_it_says_also_after_a_new_commit(
    planned: GitProject, planned_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = json.loads((planned_once / "plan.json").read_text())["plan"]
    revision = saved["revision"]
    planned.declare([])
    planned.commit("which would change all")
    capsys.readouterr()
    assert planned.run("apply", str(planned_once / "plan.json")) == 0
    told = capsys.readouterr().err
    assert f"{len(saved['steps'])} of {len(saved['steps'])} steps done" in told
    assert [(s["action"], s["resource"]) for s in saved["steps"]] == [
        ("train", "Experiment/fit"),
        ("bind", "ModelVersion/m-1.1.0"),
        ("promote", "Promotion/m-dev"),
        ("promote", "Promotion/m-prod"),
    ]
    client = planned.client
    assert int(client.get_model_version_by_alias("m", "prod").version) == 2
    assert client.get_experiment_by_name("p").tags["mlops.applied.revision"] == revision
    assert planned.run("plan", "--revision", revision, "--detailed-exitcode") == 0
    assert planned.run("apply", str(planned_once / "plan.json")) == 1, "it can be done once"


def test_a_rewritten_history_prunes_nothing_however_often_it_is_applied(
    planned: GitProject, capsys: pytest.CaptureFixture[str]
) -> None:
    force = planned.client.get_experiment_by_name("p").tags["mlops.applied.revision"]
    planned.git("checkout", "-q", "--orphan", "other")
    planned.declare(lifecycle()[:1])
    planned.commit("another history")
    for _ in range(2):
        assert planned.run("apply") == 3
        told = capsys.readouterr().err
        assert f"{force[:12]} stays in force" in told
        assert "does not descend" in told
    assert planned.client.get_experiment_by_name("p").tags["mlops.applied.revision"] == force
    assert dict(planned.client.get_registered_model("m").aliases).keys() == {"dev", "prod"}
    shown = planned.json(capsys, "get", "Project")["resources"][0]
    conditions = {one["type"]: one for one in shown["conditions"]}
    assert "does not descend" in conditions["InForce"]["message"]


def test_a_promotion_moved_to_another_stage_leaves_the_first(planned: GitProject) -> None:
    documents = [d for d in lifecycle() if d["kind"] != "Promotion"]
    planned.declare([*documents, {**promotion("dev", "1.0.0"), "metadata": {"name": "m-prod"}}])
    planned.commit("prod is dev now")
    assert planned.run("apply") == 0
    assert dict(planned.client.get_registered_model("m").aliases).keys() == {"dev"}
    assert planned.run("plan", "--detailed-exitcode") == 0


def test_an_alias_that_another_stage_takes_over_is_never_lost(planned: GitProject) -> None:
    documents = lifecycle()[:-4]
    stages = [document("Stage", "dev", {"alias": "prod"}), document("Stage", "prod", {"alias": "dev"})]
    for swapped in (stages, [document("Stage", "live", {"alias": "prod"})]):
        promotions = [promotion(stage["metadata"]["name"], "1.0.0") for stage in swapped]
        planned.declare([*documents, *swapped, *promotions])
        planned.commit("other aliases")
        assert planned.run("apply") == 0
        wanted = {stage["spec"]["alias"] for stage in swapped}
        assert dict(planned.client.get_registered_model("m").aliases).keys() == wanted
        assert planned.run("plan", "--detailed-exitcode") == 0
