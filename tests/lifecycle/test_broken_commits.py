"""Broken commits: what is good in them counts, what is broken stays as it was, and the next one mends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from git_project import GitProject, document, experiment, lifecycle, promotion, version

from mlops.cli.progress import Lines
from mlops.controller import Controller
from mlops.resources import Key

Documents = list[dict[str, Any]]


def declared(**changed: dict[str, Any] | None) -> Documents:
    """A project of one trial; `prod=…` puts another document in a place, a new name adds one, None removes one."""
    rows, _, model, first, dev, _, in_dev, in_prod = lifecycle()
    documents = {"rows": rows, "fit": experiment(), "m": model, "v1": first, "dev": dev}
    documents |= {"prod": document("Stage", "prod", {"gates": [{"metric": {"name": "rmse", "max": 20}}]})}
    documents |= {"in_dev": in_dev, "in_prod": in_prod}
    return [one for one in {**documents, **changed}.values() if one is not None]


def broken(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "spec": {**one["spec"], "nonsense": 1}}


def second() -> dict[str, Any]:
    return version("1.1.0")


@pytest.fixture
def applied(make_project: Callable[..., GitProject]) -> GitProject:
    """The project, in force."""
    project = make_project(declared())
    assert project.run("apply") == 0
    return project


def committed(project: GitProject, **changed: Any) -> str:
    project.declare(declared(**changed))
    return project.commit()


def aliases(project: GitProject) -> dict[str, int]:
    return {alias: int(number) for alias, number in project.client.get_registered_model("m").aliases.items()}


def tags(project: GitProject) -> dict[str, str]:
    return dict(project.client.get_experiment_by_name("p").tags)


def row(project: GitProject, capsys: Any, name: str) -> Any:
    rows = project.json(capsys, "get")["resources"]
    return next(one for one in rows if f"{one['kind']}/{one['name']}" == name)


def runs(project: GitProject) -> int:
    client = project.client
    return sum(len(client.search_runs([found.experiment_id])) for found in client.search_experiments())


def test_a_broken_promotion_keeps_production_where_it_is_while_the_rest_moves_on(
    applied: GitProject, capsys: Any
) -> None:
    good = applied.git("rev-parse", "HEAD")
    head = committed(
        applied, v2=second(), in_dev=promotion("dev", "1.1.0"), in_prod=broken(promotion("prod", "1.1.0"))
    )
    assert applied.run("apply") == 1
    told = capsys.readouterr().err
    assert "resources/all.yaml:" in told
    assert f"its document at {head[:12]} is broken: resources/all.yaml:" in told
    assert f"it is kept as at {good[:12]}" in told
    assert aliases(applied) == {"dev": 2, "prod": 1}
    assert (tags(applied)["mlops.applied.revision"], tags(applied)["mlops.applied.good"]) == (head, good)

    found = applied.json(capsys, "get")
    assert [error["resource"] for error in found["errors"]] == ["Promotion/m-prod"]
    [kept] = [one for one in found["resources"] if one["name"] == "m-prod"]
    ready = next(one for one in kept["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Invalid")
    assert (kept["sync"], kept["health"], kept["revision"]) == ("OutOfSync", "Degraded", good)
    assert (kept["status"]["version"], kept["status"]["mlflowVersion"]) == ("1.0.0", 1)
    moved = row(applied, capsys, "Promotion/m-dev")
    assert (moved["health"], moved["revision"]) == ("Healthy", head)

    applied.client.set_registered_model_alias("m", "prod", "2")
    assert applied.run("apply") == 1
    assert aliases(applied) == {"dev": 2, "prod": 1}

    head = committed(
        applied, v2=second(), in_dev=promotion("dev", "1.1.0"), in_prod=promotion("prod", "1.1.0")
    )
    assert applied.run("apply") == 0
    assert aliases(applied) == {"dev": 2, "prod": 2}
    assert tags(applied)["mlops.applied.good"] == head
    assert row(applied, capsys, "Promotion/m-prod")["health"] == "Healthy"


def test_the_last_good_text_is_known_also_after_the_state_was_lost(applied: GitProject, capsys: Any) -> None:
    committed(applied, in_prod=broken(promotion("prod", "1.0.0")))
    assert applied.run("apply") == 1
    before = applied.json(capsys, "plan")
    for name in ("state.db", "cache.db"):
        for file in (applied.root / ".mlops").glob(f"{name}*"):
            file.unlink()
    shutil.rmtree(applied.root / ".mlops" / "work", ignore_errors=True)
    assert applied.json(capsys, "plan") == before
    applied.client.delete_registered_model_alias("m", "prod")
    assert applied.run("apply") == 1
    assert aliases(applied) == {"dev": 1, "prod": 1}


def test_a_broken_experiment_trains_nothing_although_its_code_and_its_data_changed(
    applied: GitProject, capsys: Any
) -> None:
    count = runs(applied)
    applied.write("training/train.py", (applied.root / "training/train.py").read_text() + "# new\n")
    applied.write("data/rows.csv", "x,y\n1,2\n3,4\n5,6\n")
    committed(applied, fit=broken(experiment()), v2=second())
    assert applied.run("apply") == 1
    assert runs(applied) == count
    assert applied.json(capsys, "plan")["steps"] == []
    found = row(applied, capsys, "Experiment/fit")
    assert [run["state"] for run in found["status"]["runs"]] == ["Finished"]
    waiting = row(applied, capsys, "ModelVersion/m-1.1.0")
    assert "it needs Experiment/fit, whose document" in waiting["conditions"][0]["message"]

    committed(applied, fit=experiment(), v2=second())
    assert applied.run("apply") == 0
    assert runs(applied) == count + 1
    bound = applied.client.get_model_version("m", "2")
    assert applied.client.get_run(bound.run_id).data.metrics["rows"] == 4.0


def test_a_run_under_way_is_gone_on_with_as_it_was_begun(
    make_project: Callable[..., GitProject], capsys: Any
) -> None:
    project = make_project(declared(v1=None, in_dev=None, in_prod=None))
    good = project.git("rev-parse", "HEAD")
    assert project.run("apply", "--no-wait") == 0
    assert runs(project) == 1
    project.write("training/train.py", "raise SystemExit(3)\n")
    project.write("data/rows.csv", "x,y\n")
    committed(project, fit=broken(experiment()), v1=None, in_dev=None, in_prod=None)
    assert project.run("apply") == 1
    [run] = project.json(capsys, "get", "Experiment/fit")["resources"][0]["status"]["runs"]
    assert (run["state"], run["metrics"]["rows"]) == ("Finished", 3.0)
    assert project.client.get_run(run["runId"]).data.tags["mlops.revision"] == good
    assert runs(project) == 1


def test_a_kept_experiment_is_trained_as_it_was(make_project: Callable[..., GitProject], capsys: Any) -> None:
    rest: dict[str, Any] = {"v1": None, "in_dev": None, "in_prod": None}
    project = make_project(declared(fit=experiment(suspend=True), **rest))
    assert project.run("apply") == 3
    good = committed(project, **rest)
    made = project.client.get_experiment_by_name("p").experiment_id
    for tag in ("revision", "good"):  # as an apply leaves them whose training was lost
        project.client.set_experiment_tag(made, f"mlops.applied.{tag}", good)
    project.write("training/train.py", "raise SystemExit(3)\n")
    project.write("data/rows.csv", "x,y\n")
    committed(project, fit=broken(experiment()), **rest)
    with Controller(project.root) as controller:  # also where training runs beside a daemon's loop
        view = controller.look()
        part = view.around(view.planned.plan.steps[0])
        place = part.dataset_of("fit", "rows")
        assert place is not None
        assert {place[1].revision, part.snapshot_of(Key("Experiment", "fit")).revision} == {good}
        assert part.observed.seen(kept=True)["rows"].size == len("x,y\n1,2\n3,4\n")
    assert project.run("apply") == 1
    [run] = project.json(capsys, "get", "Experiment/fit")["resources"][0]["status"]["runs"]
    assert (run["state"], run["metrics"]["rows"]) == ("Finished", 3.0)
    assert project.client.get_run(run["runId"]).data.tags["mlflow.source.git.commit"] == good


def test_nothing_is_lost_with_a_file_that_cannot_be_read(applied: GitProject, capsys: Any) -> None:
    text = (applied.root / "resources/all.yaml").read_text()
    applied.write("resources/all.yaml", "\0" + text)
    applied.commit()
    assert applied.run("apply") == 1
    applied.client.delete_registered_model_alias("m", "prod")
    assert applied.run("apply") == 1
    assert aliases(applied) == {"dev": 1, "prod": 1}
    found = applied.json(capsys, "get")["resources"]
    assert len(found) == len(declared()) + 1
    assert {one["health"] for one in found if one["kind"] != "Project"} == {"Degraded"}
    applied.write("resources/all.yaml", text)
    applied.commit()
    assert applied.run("apply") == 0


def test_a_document_that_moved_to_another_file_and_broke_is_the_same_one(applied: GitProject) -> None:
    applied.declare(declared(in_prod=None))
    text = yaml.safe_dump(promotion("prod", "1.0.0")).replace("version: 1.0.0", "version: [1.0.0")
    applied.write("resources/elsewhere/prod.yaml", text)
    applied.commit()
    applied.client.delete_registered_model_alias("m", "prod")
    assert applied.run("apply") == 1
    assert aliases(applied) == {"dev": 1, "prod": 1}


def test_what_is_removed_beside_a_broken_document_goes_when_that_is_mended(
    applied: GitProject, capsys: Any
) -> None:
    committed(applied, in_prod=None, in_dev=broken(promotion("dev", "1.0.0")))
    assert applied.run("apply") == 1
    assert "demote put off" in capsys.readouterr().err
    assert aliases(applied) == {"dev": 1, "prod": 1}
    committed(applied, in_prod=None)
    assert applied.run("apply") == 0
    assert aliases(applied) == {"dev": 1}


def test_a_first_commit_that_is_broken_is_applied_as_far_as_it_is_good(
    make_project: Callable[..., GitProject], capsys: Any
) -> None:
    project = make_project(declared(in_prod=broken(promotion("prod", "1.0.0"))))
    assert project.run("apply") == 1
    assert aliases(project) == {"dev": 1}
    assert "mlops.applied.good" not in tags(project)
    assert "mlops validate" in row(project, capsys, "Promotion/m-prod")["conditions"][0]["message"]
    committed(project)
    assert project.run("apply") == 0
    assert aliases(project) == {"dev": 1, "prod": 1}


@pytest.mark.parametrize("tag", ["f" * 40, "main"])
def test_a_last_good_revision_that_is_gone_is_said(applied: GitProject, capsys: Any, tag: str) -> None:
    made = applied.client.get_experiment_by_name("p").experiment_id
    applied.client.set_experiment_tag(made, "mlops.applied.good", tag)
    committed(applied, in_prod=broken(promotion("prod", "1.0.0")))
    assert applied.run("apply") == 1
    assert aliases(applied) == {"dev": 1, "prod": 1}
    message = row(applied, capsys, "Promotion/m-prod")["conditions"][0]["message"]
    assert "its document is broken" in message
    assert "last good revision" in message


def project_file(project: GitProject, **spec: Any) -> None:
    project.write("mlops.yaml", yaml.safe_dump(document("Project", "p", spec)))


def test_a_broken_project_is_kept_as_it_was_with_its_stores(applied: GitProject, capsys: Any) -> None:
    project_file(applied, nonsense=1, tracking={"uri": "sqlite:///elsewhere.db"}, resources=["nowhere"])
    head = committed(applied, v2=second(), in_dev=promotion("dev", "1.1.0"))
    applied.client.delete_registered_model_alias("m", "prod")
    assert applied.run("apply") == 1
    assert not (applied.root / "elsewhere.db").exists()
    assert aliases(applied) == {"dev": 1, "prod": 1}  # where resources are now is not known
    assert tags(applied)["mlops.applied.revision"] == head
    assert row(applied, capsys, "Project/p")["health"] == "Degraded"
    project_file(applied)
    applied.commit()
    assert applied.run("apply") == 0
    assert aliases(applied) == {"dev": 2, "prod": 1}


def test_a_revision_without_a_project_goes_on_with_the_one_before(applied: GitProject, capsys: Any) -> None:
    text = (applied.root / "mlops.yaml").read_text()
    (applied.root / "mlops.yaml").unlink()
    head = committed(applied, v2=second(), in_dev=promotion("dev", "1.1.0"))
    applied.write("mlops.yaml", text)  # by which the command line finds the project
    assert applied.run("apply", "--revision", head) == 1
    assert "mlops.yaml:1:1: is missing" in capsys.readouterr().err
    assert aliases(applied) == {"dev": 2, "prod": 1}


def test_a_project_that_was_never_usable_is_refused(tmp_path: Path, capsys: Any) -> None:
    project = GitProject(tmp_path / "project", declared(), nonsense=1)
    assert project.run("apply") == 1
    assert "nonsense" in capsys.readouterr().err
    assert not (project.root / ".mlops" / "mlflow.db").exists()


def closed(name: str, **spec: Any) -> dict[str, Any]:
    return document("Stage", name, {"approvals": {"required": 1, "from": ["leads"]}, **spec})


GROUPS = {"leads": ["ann@example.com"]}


def test_a_stage_that_was_broken_at_the_base_keeps_the_approvals_that_it_asked_for(
    make_project: Callable[..., GitProject], capsys: Any
) -> None:
    project = make_project(declared(prod=closed("prod"), in_prod=None), groups=GROUPS)
    assert project.run("apply") == 0
    committed(project, prod=broken(closed("prod")), in_prod=None)
    assert project.run("apply") == 1
    committed(project, prod=document("Stage", "prod", {}))  # the mending commit takes the approval away
    for _ in range(2):  # and again when it is in force itself
        assert project.run("apply") == 3
        assert "1 approval" in capsys.readouterr().err
    assert aliases(project) == {"dev": 1}


def test_a_stage_that_was_broken_at_the_base_does_not_lock_out_the_commit_that_mends_it(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(declared(in_prod=None))
    assert project.run("apply") == 0
    committed(project, prod=broken(document("Stage", "prod", {})), in_prod=None)
    assert project.run("apply") == 1
    committed(project)
    assert project.run("apply") == 0
    assert aliases(project) == {"dev": 1, "prod": 1}


def test_a_promotion_first_asked_for_beside_its_broken_stage_goes_ahead_when_that_is_mended(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(declared(in_prod=None))
    assert project.run("apply") == 0
    committed(project, prod=broken(document("Stage", "prod", {})))
    assert project.run("apply") == 1
    assert aliases(project) == {"dev": 1}
    committed(project)
    assert project.run("apply") == 0
    assert aliases(project) == {"dev": 1, "prod": 1}


def test_a_project_that_was_broken_from_the_first_is_mended_by_the_next_commit(
    make_project: Callable[..., GitProject],
) -> None:
    project = make_project(declared(prod=broken(document("Stage", "prod", {}))))
    assert project.run("apply") == 1
    committed(project, prod=document("Stage", "prod", {}))
    assert project.run("apply") == 0
    assert aliases(project) == {"dev": 1, "prod": 1}


def test_what_was_never_wholly_good_keeps_the_strictest_rule_that_can_be_read(
    make_project: Callable[..., GitProject], capsys: Any
) -> None:
    other = {"other": broken(document("Dataset", "other", {"uri": "data/other.csv", "format": "csv"}))}
    project = make_project(declared(prod=closed("prod"), in_prod=None, **other), groups=GROUPS)
    assert project.run("apply") == 1
    committed(project, prod=document("Stage", "prod", {}), in_prod=None, **other)  # never applied
    committed(project, prod=broken(document("Stage", "prod", {})), in_prod=None, **other)
    assert project.run("apply") == 1
    committed(project)
    for _ in range(2):
        assert project.run("apply") == 3
        assert "1 approval" in capsys.readouterr().err
    assert aliases(project) == {"dev": 1}


@pytest.mark.parametrize("hindered", ["by a gate", "not bound"])
def test_the_last_good_rule_of_a_stage_outlives_the_commit_that_broke_it(
    make_project: Callable[..., GitProject], hindered: str
) -> None:
    first = version("1.0.0", suspend=hindered == "not bound")
    strict = {"gates": [{"metric": {"name": "rmse", "max": 1}}]} if hindered == "by a gate" else {}
    project = make_project(declared(v1=first, prod=closed("prod"), in_dev=None, in_prod=None), groups=GROUPS)
    project.run("apply")
    committed(project, v1=first, prod=document("Stage", "prod", {}), in_dev=None, in_prod=None)
    project.run("apply")  # no approvals any more: the last good rule
    committed(project, v1=first, prod=broken(closed("prod")), in_dev=None, in_prod=None)
    assert project.run("apply") == 1
    committed(project, v1=first, prod=document("Stage", "prod", strict), in_dev=None)
    assert project.run("apply") == 3
    committed(project, prod=document("Stage", "prod", {}), in_dev=None)
    assert project.run("apply") == 0
    assert aliases(project) == {"prod": 1}


def test_two_broken_commits_in_a_row_are_as_one(applied: GitProject) -> None:
    committed(applied, in_prod=broken(promotion("prod", "1.0.0")))
    assert applied.run("apply") == 1
    committed(
        applied, v2=second(), in_dev=promotion("dev", "1.1.0"), in_prod=broken(promotion("prod", "1.1.0"))
    )
    assert applied.run("apply") == 1
    assert aliases(applied) == {"dev": 2, "prod": 1}
    committed(applied, v2=second(), in_dev=promotion("dev", "1.1.0"), in_prod=promotion("prod", "1.1.0"))
    assert applied.run("apply") == 0
    assert aliases(applied) == {"dev": 2, "prod": 2}


def test_a_plan_of_a_broken_working_tree_shows_what_would_be_kept(applied: GitProject, capsys: Any) -> None:
    applied.declare(declared(in_prod=broken(promotion("prod", "1.0.0"))))
    capsys.readouterr()
    assert applied.run("plan", "--working-tree", "-o", "json") == 1
    [block] = json.loads(capsys.readouterr().out)["blocked"]
    assert (block["resource"], block["reason"]) == ("Promotion/m-prod", "Invalid")
    assert "its document at the working tree is broken" in block["message"]


def test_an_engine_that_stays_open_takes_each_commit_as_a_fresh_one_does(
    applied: GitProject, capsys: Any
) -> None:
    with Controller(applied.root) as controller:

        def apply() -> list[str]:
            found = controller.apply(controller.look, Lines(), command="a test")
            return sorted(str(key) for key in found.after.loaded.kept)

        assert apply() == []
        text = (applied.root / "mlops.yaml").read_text()
        (applied.root / "mlops.yaml").unlink()
        committed(applied, in_prod=broken(promotion("prod", "1.0.0")))
        assert apply() == apply() == ["Project/p", "Promotion/m-prod"]
        applied.write("mlops.yaml", text)
        committed(
            applied, v2=second(), in_prod=broken(promotion("prod", "1.0.0")), in_dev=promotion("dev", "1.1.0")
        )
        assert apply() == ["Promotion/m-prod"]
        fresh = applied.json(capsys, "plan")
        assert controller.look().planned.plan.to_json() == fresh
        committed(applied, v2=second(), in_prod=promotion("prod", "1.1.0"), in_dev=promotion("dev", "1.1.0"))
        assert apply() == apply() == []
    assert aliases(applied) == {"dev": 2, "prod": 2}
