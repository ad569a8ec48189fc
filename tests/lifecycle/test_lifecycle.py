"""The main job on a small project: declare, plan, apply, and what each kind of change leads to."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git_project import GitProject, document, experiment, lifecycle, promotion, version


def actions(plan: Any) -> list[str]:
    return [f"{step['action']} {step['resource']}" for step in plan["steps"]]


@pytest.fixture
def applied(project: GitProject) -> GitProject:
    assert project.run("apply") == 0
    return project


def test_a_first_plan_names_every_step_and_writes_nothing(tmp_path: Path, capsys: Any) -> None:
    project = GitProject(tmp_path / "project")
    plan = project.json(capsys, "plan")
    assert actions(plan) == [
        "train Experiment/fit",
        "train Experiment/fit",
        "register Model/m",
        "bind ModelVersion/m-1.0.0",
        "promote Promotion/m-dev",
        "promote Promotion/m-prod",
    ]
    bind = plan["steps"][3]
    assert {"field": "runId", "from": None, "to": "(known after apply)"} in bind["changes"]
    assert set(bind["needs"]) == {step["id"] for step in plan["steps"][:3]}
    assert not (project.root / ".mlops" / "mlflow.db").exists()
    assert project.json(capsys, "plan") == plan


def test_apply_does_the_plan_and_leaves_nothing_to_do(applied: GitProject, capsys: Any) -> None:
    assert applied.run("plan", "--detailed-exitcode") == 0
    assert "Nothing to change" in capsys.readouterr().out
    client = applied.client
    model = client.get_registered_model("m")
    assert model.description == "A model"
    assert {alias: int(v) for alias, v in model.aliases.items()} == {"dev": 1, "prod": 1}
    bound = client.get_model_version("m", "1")
    assert bound.tags["mlops.version"] == "1.0.0"
    assert bound.tags["mlops.digest"].startswith("sha256:")
    run = client.get_run(bound.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"rmse": 5.0, "rows": 3.0}
    assert run.data.params == {"depth": "2"}
    assert run.data.tags["mlops.fingerprint"] == bound.tags["mlops.fingerprint"]
    assert run.data.tags["mlops.digest.train"].startswith("sha256:")
    [used] = run.inputs.dataset_inputs
    assert (used.dataset.name, used.tags[0].value) == ("rows", "train")
    artifacts = {item.path for item in client.list_artifacts(bound.run_id)}
    assert {"model.txt", "mlops"} <= artifacts


def test_get_has_the_documented_shape(applied: GitProject, capsys: Any) -> None:
    found = applied.json(capsys, "get")
    assert found["revision"] == applied.git("rev-parse", "HEAD")
    assert found["errors"] == []
    by_name = {f"{row['kind']}/{row['name']}": row for row in found["resources"]}
    assert {row["sync"] for row in by_name.values()} == {"Synced"}
    assert {row["health"] for row in by_name.values()} == {"Healthy"}
    status = by_name["Promotion/m-prod"]["status"]
    assert (status["version"], status["mlflowVersion"], status["approvals"]) == ("1.0.0", 1, [])
    assert status["gates"][0] | {"message": ""} == {
        "name": "metric:rmse",
        "status": "passed",
        "observed": 5.0,
        "required": "<= 9",
        "evidence": None,
        "message": "",
    }
    runs = by_name["Experiment/fit"]["status"]["runs"]
    assert len(runs) == 2
    assert {run["state"] for run in runs} == {"Finished"}
    bound = by_name["ModelVersion/m-1.0.0"]["status"]
    assert bound["runId"] == by_name["Experiment/fit"]["status"]["best"]
    conditions = {c["type"]: c for c in by_name["Promotion/m-prod"]["conditions"]}
    assert {"Ready", "Reconciling", "Stalled", "GatesPassed", "Approved", "InSync"} <= set(conditions)
    assert set(conditions["Ready"]) == {"type", "status", "reason", "message", "since", "revision"}


@pytest.mark.parametrize("lost", ["state.db", "cache.db", "jobs", "work", "data"])
def test_nothing_is_done_again_after_the_loss_of_a_cache(applied: GitProject, lost: str, capsys: Any) -> None:
    for path in (applied.root / ".mlops").glob(f"{lost}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert applied.run("plan", "--detailed-exitcode") == 0


def test_nothing_is_done_again_in_a_fresh_clone_on_another_path(
    applied: GitProject, tmp_path: Path, capsys: Any
) -> None:
    other = tmp_path / "elsewhere" / "clone"
    subprocess.run(["git", "clone", "-q", str(applied.root), str(other)], check=True)
    text = (other / "mlops.yaml").read_text()
    store = f"sqlite:///{applied.root}/.mlops/mlflow.db"
    (other / "mlops.yaml").write_text(text.replace("spec: {}", f"spec: {{tracking: {{uri: '{store}'}}}}"))
    clone = GitProject.__new__(GitProject)
    clone.root = other
    clone.commit("the store elsewhere")
    assert clone.run("plan", "--detailed-exitcode") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"team": "a"}},
        {"annotations": {"description": "Another text"}},
        {"resources": {"cpu": 2, "memory": "4Gi"}},
        {"timeout": "2h"},
        {"retries": 3},
        {"onDataChange": "train"},
        {"sweep": {"strategy": "grid", "parameters": {"depth": [1, 2]}, "parallel": 1}},
        {"sweep": {"strategy": "grid", "parameters": {"depth": [2, 1]}, "parallel": 2}},
    ],
)
def test_what_cannot_change_a_result_trains_nothing(
    applied: GitProject, change: dict[str, Any], capsys: Any
) -> None:
    sweep = {"strategy": "grid", "parameters": {"depth": [1, 2]}, "parallel": 2}
    documents = [d for d in lifecycle() if d["kind"] != "Experiment"]
    applied.declare([experiment(**{"sweep": sweep, **change}), *documents])
    applied.commit()
    assert not [a for a in actions(applied.json(capsys, "plan")) if a.startswith("train")]


def trained(project: GitProject, capsys: Any) -> list[dict[str, Any]]:
    plan = project.json(capsys, "plan")
    return [
        {c["field"].removeprefix("parameters."): c["to"] for c in step["changes"]}
        for step in plan["steps"]
        if step["action"] == "train"
    ]


def test_one_more_value_of_a_sweep_trains_one_trial(applied: GitProject, capsys: Any) -> None:
    documents = [d for d in lifecycle() if d["kind"] != "Experiment"]
    applied.declare([experiment(sweep={"strategy": "grid", "parameters": {"depth": [1, 2, 3]}}), *documents])
    applied.commit()
    assert [trial["depth"] for trial in trained(applied, capsys)] == [3]


def test_one_byte_of_code_or_data_or_the_seed_trains_both_trials(applied: GitProject, capsys: Any) -> None:
    code = (applied.root / "training/train.py").read_text()
    applied.write("training/train.py", code.replace("trained with", "Trained with"))
    applied.commit()
    assert len(trained(applied, capsys)) == 2
    applied.write("training/train.py", code)
    applied.write("data/rows.csv", "x,y\n1,2\n3,5\n")
    applied.commit()
    assert len(trained(applied, capsys)) == 2
    applied.write("data/rows.csv", "x,y\n1,2\n3,4\n")
    applied.write("training/notes.md", "does not count: include is **/*.py")
    applied.commit()
    assert trained(applied, capsys) == []
    applied.declare(
        [{**d, "spec": {**d["spec"], "seed": 8}} if d["kind"] == "Experiment" else d for d in lifecycle()]
    )
    applied.commit()
    assert len(trained(applied, capsys)) == 2


def test_the_lock_file_is_part_of_the_fingerprint(
    make_project: Callable[..., GitProject], capsys: Any
) -> None:
    documents = lifecycle()
    documents[1]["spec"]["environment"] = {"requirements": "training/requirements.txt"}
    project = make_project([])
    project.write("training/requirements.txt", "six\n")
    project.declare(documents)
    project.commit()
    before = {trial["fingerprint"] for trial in trained(project, capsys)}
    project.write("training/requirements.lock", "six==1.16.0\n")
    project.commit()
    after = {trial["fingerprint"] for trial in trained(project, capsys)}
    assert len(before | after) == 4


def test_what_was_trained_on_a_branch_is_not_trained_again_after_the_merge(
    applied: GitProject, capsys: Any
) -> None:
    applied.git("checkout", "-q", "-b", "deeper")
    documents = lifecycle()
    documents[1]["spec"]["sweep"]["parameters"]["depth"] = [1, 2, 4]
    applied.declare(
        [*documents[:-2], version("1.1.0"), promotion("dev", "1.1.0"), promotion("prod", "1.0.0")]
    )
    branch = applied.commit()
    applied.git("checkout", "-q", "main")
    assert applied.run("train", "--revision", branch) == 0
    assert {a: int(v) for a, v in applied.client.get_registered_model("m").aliases.items()} == {
        "dev": 1,
        "prod": 1,
    }
    applied.git("merge", "-q", "--no-ff", "-m", "merge", "deeper")
    plan = applied.json(capsys, "plan")
    assert actions(plan) == ["bind ModelVersion/m-1.1.0", "promote Promotion/m-dev"]
    assert applied.run("apply") == 0
    assert int(applied.client.get_model_version_by_alias("m", "dev").version) == 2


def test_outside_data_that_moved_is_held_until_asked_for(
    make_project: Callable[..., GitProject], tmp_path: Path, capsys: Any
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("x,y\n1,2\n")
    documents = lifecycle()
    documents[0]["spec"]["uri"] = f"file://{data}"
    project = make_project(documents)
    assert project.run("apply") == 0
    data.write_text("x,y\n1,3\n")  # as many bytes as before
    assert trained(project, capsys) == []
    shown = project.json(capsys, "get", "Experiment/fit")["resources"][0]
    [current] = [c for c in shown["conditions"] if c["type"] == "DataCurrent"]
    assert (current["status"], current["reason"]) == ("False", "DataMoved")
    assert project.run("train", "--refresh") == 0
    assert (
        len(project.client.search_runs([project.client.get_experiment_by_name("p/fit").experiment_id])) == 4
    )
    assert project.run("plan", "--detailed-exitcode") == 0


def test_what_was_changed_by_hand_is_healed(applied: GitProject, capsys: Any) -> None:
    client = applied.client
    client.set_registered_model_alias("m", "prod", "1")
    client.delete_registered_model_alias("m", "prod")
    client.update_registered_model("m", description="Mine now")
    client.set_model_version_tag("m", "1", "mlops.fingerprint", "0000")
    client.set_model_version_tag("m", "1", "mlops.stage.dev.since", "1999-01-01T00:00:00Z")
    plan = applied.json(capsys, "plan")
    assert actions(plan) == [
        "heal Model/m",
        "heal ModelVersion/m-1.0.0",
        "heal Promotion/m-dev",
        "heal Promotion/m-prod",
    ]
    assert applied.run("apply") == 0
    assert int(client.get_model_version_by_alias("m", "prod").version) == 1
    assert client.get_registered_model("m").description == "A model"
    assert applied.run("plan", "--detailed-exitcode") == 0


def test_a_digest_tag_taken_away_is_computed_again(applied: GitProject) -> None:
    client = applied.client
    before = client.get_model_version("m", "1").tags["mlops.digest"]
    client.delete_model_version_tag("m", "1", "mlops.digest")
    client.delete_model_version_tag("m", "1", "mlops.bound")  # else it is known
    assert applied.run("apply") == 0
    assert client.get_model_version("m", "1").tags["mlops.digest"] == before


def test_a_promotion_removed_from_git_takes_its_alias_away_and_keeps_the_rest(
    applied: GitProject, capsys: Any
) -> None:
    applied.declare(lifecycle()[:-1])
    applied.commit()
    assert actions(applied.json(capsys, "plan")) == ["demote Promotion/m-prod"]
    assert applied.run("apply") == 0
    model = applied.client.get_registered_model("m")
    assert dict(model.aliases).keys() == {"dev"}
    history = json.loads(applied.client.get_model_version("m", "1").tags["mlops.stage.prod.history"])
    assert "until" in history[0]
    assert applied.run("plan", "--detailed-exitcode") == 0


def test_a_removed_experiment_and_version_keep_their_runs_and_bytes(applied: GitProject, capsys: Any) -> None:
    applied.declare([lifecycle()[0], lifecycle()[2]])
    applied.commit()
    assert applied.run("apply") == 0
    assert (
        len(applied.client.search_runs([applied.client.get_experiment_by_name("p/fit").experiment_id])) == 2
    )
    version_ = applied.client.get_model_version("m", "1")
    assert "mlops.archived" in version_.tags
    assert applied.run("plan", "--detailed-exitcode") == 0
    applied.declare(lifecycle())
    applied.commit()
    assert not [a for a in actions(applied.json(capsys, "plan")) if a.startswith(("train", "bind"))]
    assert applied.run("apply") == 0
    assert "mlops.archived" not in applied.client.get_model_version("m", "1").tags


def test_a_version_that_says_so_is_deleted_with_its_resource(applied: GitProject) -> None:
    documents = lifecycle()
    documents[3]["spec"]["deletionPolicy"] = "Delete"
    applied.declare(documents)
    applied.commit()
    assert applied.run("apply") == 0
    applied.declare([d for d in documents if d["kind"] not in ("ModelVersion", "Promotion")])
    applied.commit()
    assert applied.run("apply") == 0
    assert applied.client.search_model_versions("name='m'") == []
    assert applied.run("plan", "--detailed-exitcode") == 0


def test_an_emptied_repository_prunes_nothing(applied: GitProject, capsys: Any) -> None:
    applied.declare([])
    applied.commit()
    assert applied.run("apply") == 3
    assert "allowEmpty" in capsys.readouterr().err
    assert dict(applied.client.get_registered_model("m").aliases).keys() == {"dev", "prod"}


def test_rewritten_history_prunes_nothing(applied: GitProject, capsys: Any) -> None:
    applied.declare(lifecycle()[:-1])
    applied.git("add", "-A")
    applied.git("commit", "-q", "--amend", "-m", "rewritten")
    assert applied.run("apply") == 3
    assert "does not descend" in capsys.readouterr().err
    assert dict(applied.client.get_registered_model("m").aliases).keys() == {"dev", "prod"}


def test_git_revert_rolls_back_and_history_tells_both_stays(applied: GitProject, capsys: Any) -> None:
    documents = lifecycle()
    documents[1]["spec"]["sweep"]["parameters"]["depth"] = [1, 2, 4]
    applied.declare(
        [*documents[:-2], version("1.1.0"), promotion("dev", "1.1.0"), promotion("prod", "1.1.0")]
    )
    applied.commit()
    assert applied.run("apply") == 0
    assert int(applied.client.get_model_version_by_alias("m", "prod").version) == 2
    between = applied.json(capsys, "history")["promotions"][0]["since"]
    applied.git("revert", "--no-edit", "HEAD")
    assert applied.run("apply") == 0
    assert int(applied.client.get_model_version_by_alias("m", "prod").version) == 1
    rows = applied.json(capsys, "history", "m")["promotions"]
    prod = [(row["version"], row["until"] is None) for row in rows if row["stage"] == "prod"]
    assert prod == [("1.0.0", True), ("1.1.0", False), ("1.0.0", False)]
    then = applied.json(capsys, "history", "--at", between)["promotions"]
    assert {(row["stage"], row["version"]) for row in then} >= {("prod", "1.1.0")}
    assert applied.run("plan", "--detailed-exitcode") == 0


def test_a_bound_version_is_never_bound_again(applied: GitProject, capsys: Any) -> None:
    documents = lifecycle()
    documents[1]["spec"]["sweep"]["parameters"]["depth"] = [1, 2, 4]
    applied.declare(documents)
    applied.commit()
    assert applied.run("apply") == 0
    bound = applied.client.get_model_version("m", "1")
    assert applied.client.get_run(bound.run_id).data.params == {"depth": "2"}
    documents[3]["spec"]["source"]["artifact"] = "metrics.json"
    applied.declare(documents)
    applied.commit()
    assert applied.run("apply") == 1
    assert "declare a new ModelVersion" in capsys.readouterr().err


def test_mlflow_s_numbers_grow_with_the_versions_of_a_model(project: GitProject) -> None:
    numbers = ["1.10.0", "1.9.0", "1.0.0-rc.1", "1.0.0"]
    project.declare([*lifecycle()[:3], *map(version, numbers)])
    project.commit("four versions at once")
    assert project.run("apply") == 0
    found = sorted(project.client.search_model_versions("name='m'"), key=lambda one: int(one.version))
    assert [one.tags["mlops.version"] for one in found] == ["1.0.0-rc.1", "1.0.0", "1.9.0", "1.10.0"]


def test_gates_without_their_evidence_and_missing_approvals_block(applied: GitProject, capsys: Any) -> None:
    gates = [{"soak": "24h"}, {"signature": True}, {"metric": {"name": "rmse", "max": 1}}]
    approvals = {"required": 1, "from": ["leads"]}
    applied.write(
        "mlops.yaml",
        json.dumps(
            document(
                "Project",
                "p",
                {"groups": {"leads": ["a@x.org"]}, "approvers": [{"email": "a@x.org", "github": "a"}]},
            )
        ),
    )
    applied.declare(
        [
            *lifecycle(),
            document("Stage", "gated", {"after": "dev", "gates": gates}),
            document("Stage", "guarded", {"approvals": approvals}),
            promotion("gated", "1.0.0"),
            promotion("guarded", "1.0.0"),
        ]
    )
    applied.commit()
    assert applied.run("apply") == 3
    assert dict(applied.client.get_registered_model("m").aliases).keys() == {"dev", "prod"}
    plan = applied.json(capsys, "plan")
    assert {(b["resource"], b["reason"]) for b in plan["blocked"]} == {
        ("Promotion/m-gated", "GateFailed"),
        ("Promotion/m-guarded", "ApprovalPending"),
    }
    assert any("soak" in block["message"] for block in plan["blocked"])
    assert plan["steps"] == []
    assert "mlops.stage.guarded.base" in applied.client.get_model_version("m", "1").tags


def test_a_stage_is_entered_in_order(project: GitProject, capsys: Any) -> None:
    documents = [d for d in lifecycle() if d["metadata"]["name"] != "m-dev"]
    project.declare(documents)
    project.commit()
    assert project.run("apply") == 3
    assert "has not been in stage dev" in capsys.readouterr().err


def test_a_renamed_alias_takes_the_old_name_away(applied: GitProject) -> None:
    documents = lifecycle()
    documents[5]["spec"]["alias"] = "champion"
    applied.declare(documents)
    applied.commit()
    assert applied.run("apply") == 0
    assert dict(applied.client.get_registered_model("m").aliases).keys() == {"dev", "champion"}
    assert applied.run("plan", "--detailed-exitcode") == 0


def test_suspend_and_resume_edit_one_line(applied: GitProject, capsys: Any) -> None:
    before = (applied.root / "resources/all.yaml").read_text()
    assert applied.run("suspend", "Promotion/m-prod") == 0
    edited = (applied.root / "resources/all.yaml").read_text()
    assert set(edited.splitlines()) - set(before.splitlines()) == {"  suspend: true"}
    applied.commit()
    applied.client.delete_registered_model_alias("m", "prod")
    assert applied.run("plan", "--detailed-exitcode") == 0
    assert applied.run("resume", "Promotion/m-prod") == 0
    applied.commit()
    assert applied.run("apply") == 0
    assert int(applied.client.get_model_version_by_alias("m", "prod").version) == 1


def test_a_target_takes_only_what_it_needs(project: GitProject, capsys: Any) -> None:
    assert project.run("apply", "--target", "Promotion/m-dev") == 0
    assert dict(project.client.get_registered_model("m").aliases).keys() == {"dev"}
    assert actions(project.json(capsys, "plan")) == ["promote Promotion/m-prod"]


def test_a_pin_that_does_not_hold_is_an_error(applied: GitProject, capsys: Any) -> None:
    documents = lifecycle()
    documents[0]["spec"]["digest"] = "sha256:" + "0" * 64
    applied.declare(documents)
    applied.commit()
    assert applied.run("apply") == 1
    assert "DigestMismatch" in capsys.readouterr().err


def test_selfheal_off_only_reports(make_project: Callable[..., GitProject], capsys: Any) -> None:
    project = make_project(lifecycle(), selfHeal=False)
    assert project.run("apply") == 0
    project.client.delete_registered_model_alias("m", "prod")
    assert project.run("apply") == 3
    assert "selfHeal" in capsys.readouterr().err
    assert dict(project.client.get_registered_model("m").aliases).keys() == {"dev"}


def guarded(required: int, name: str = "prod", **stage: Any) -> list[dict[str, Any]]:
    """The lifecycle with a stage that asks for approvals, and nothing in it."""
    documents = [d for d in lifecycle() if d["metadata"]["name"] not in ("m-prod", "prod")]
    approvals = {"approvals": {"required": required, "from": ["leads"]}} if required else {}
    return [*documents, document("Stage", name, {**stage, **approvals})]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_change_cannot_take_away_the_approval_that_it_needs(
    make_project: Callable[..., GitProject], renamed: bool, capsys: Any
) -> None:
    project = make_project(guarded(1))
    assert project.run("apply") == 0
    name = {"name": "live", "alias": "prod"} if renamed else {}
    project.declare([*guarded(0, **name), promotion("live" if renamed else "prod", "1.0.0")])
    project.commit()
    assert project.run("apply") == 3
    assert "under which this was asked for" in capsys.readouterr().err
    assert dict(project.client.get_registered_model("m").aliases).keys() == {"dev"}
    project.commit("nothing else")
    assert project.run("apply") == 3  # the rule of the base stays, whatever came into force meanwhile
    assert dict(project.client.get_registered_model("m").aliases).keys() == {"dev"}


def test_the_base_is_kept_also_when_the_version_could_not_be_bound(
    make_project: Callable[..., GitProject], capsys: Any
) -> None:
    broken = guarded(1)
    broken[1]["spec"]["parameters"] = {"depth": 1, "exit": 3}
    project = make_project(broken)
    assert project.run("apply") == 1
    asked = guarded(0)
    asked[1]["spec"]["parameters"] = {"depth": 1, "exit": 3}
    project.declare([*asked, promotion("prod", "1.0.0")])
    project.commit()
    assert project.run("apply") == 1
    project.declare([*guarded(0), promotion("prod", "1.0.0")])
    project.commit("mend the training")
    assert project.run("apply") == 3
    assert dict(project.client.get_registered_model("m").aliases).keys() == {"dev"}


def test_experiments_of_one_content_are_trained_once(project: GitProject, capsys: Any) -> None:
    twin = lifecycle()[1]
    twin["metadata"]["name"] = "twin"
    project.declare([*lifecycle(), twin])
    project.commit()
    assert project.run("apply") == 0
    client = project.client
    runs = [
        run
        for found in client.search_experiments()
        for run in client.search_runs([found.experiment_id])
        if "mlops.fingerprint" in run.data.tags
    ]
    assert len(runs) == 2
    assert project.run("plan", "--detailed-exitcode") == 0


def test_get_project_shows_who_holds_the_lease(applied: GitProject, capsys: Any) -> None:
    from mlops.state import Holder, open_state
    from mlops.state.lease import acquire

    assert "holder" not in applied.json(capsys, "get", "Project/p")["resources"][0]["status"]
    holder = Holder.current("mlops apply", now=time.time())
    with (
        open_state("sqlite:///.mlops/state.db", base=applied.root, project="p") as state,
        acquire(state, "p", holder),
    ):
        shown = applied.json(capsys, "get", "Project/p")["resources"][0]["status"]["holder"]
    assert f"`mlops apply` on {holder.host} (pid {holder.pid}" in shown
