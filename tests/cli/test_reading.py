"""What the commands that only look show of an applied project."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Ran
from git_project import GitProject

Mlops = Callable[..., Ran]


@pytest.fixture
def look(applied: GitProject, mlops: Mlops) -> Callable[..., Ran]:
    """A command that has to succeed, in the applied project."""

    def call(*line: str) -> Ran:
        ran = mlops(*line, cwd=applied.root)
        assert ran.code == 0, ran.err
        return ran

    return call


def test_get_lists_every_resource_with_its_standing(look: Callable[..., Ran], applied: GitProject) -> None:
    lines = look("get").out.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "SYNC", "HEALTH", "REVISION", "AGE", "MESSAGE"]
    sha = applied.git("rev-parse", "HEAD")[:8]
    for line in lines[1:]:
        assert "Synced" in line
        assert "Healthy" in line
        assert sha in line
    assert [line.split()[0] for line in look("get", "Stage").out.splitlines()[1:]] == ["Stage", "Stage"]
    assert look("get", "model/m", "-o", "name").out == "Model/m\n"


def test_describe_shows_conditions_gates_and_events(look: Callable[..., Ran]) -> None:
    text = look("describe", "Promotion/m-prod").out
    assert "declared in resources/all.yaml:" in text
    for words in (
        "Conditions",
        "GatesPassed",
        "Approved",
        "InSync",
        "✓ metric:rmse <= 9",
        "Events",
        "Promoted",
    ):
        assert words in text
    shown = json.loads(look("describe", "promotion/m-prod", "-o", "json").out)
    assert shown["kind"] == "Promotion"
    assert [event["reason"] for event in shown["events"]] == ["Promoted"]


def test_tree_draws_each_resource_below_what_it_needs(look: Callable[..., Ran]) -> None:
    lines = look("tree").out.splitlines()
    assert lines[0].startswith("✓ Project/p")
    depth: dict[str, int] = {}
    for line in lines:
        name = line.split("✓ ")[1].split()[0]
        depth[name] = max(line.index("✓"), depth.get(name, 0))
    assert (
        depth["Dataset/rows"]
        < depth["Experiment/fit"]
        < depth["ModelVersion/m-1.0.0"]
        < depth["Promotion/m-dev"]
    )
    assert sum("Promotion/m-prod" in line for line in lines) > 1


def test_runs_marks_the_best(look: Callable[..., Ran]) -> None:
    header, *rows = look("runs", "fit").out.splitlines()
    assert header.split() == ["FINGERPRINT", "RUN", "STATE", "depth", "rmse", "rows"]
    assert [row.split()[0] == "★" for row in rows] == [False, True]
    status = json.loads(look("runs", "Experiment/fit", "-o", "json").out)
    assert [run["parameters"]["depth"] for run in status["runs"]] == [1, 2]
    assert status["best"] == status["runs"][1]["runId"]


def test_logs_prints_what_training_printed(look: Callable[..., Ran]) -> None:
    ran = look("logs", "Experiment/fit")
    assert ran.out.startswith("trained with depth")
    assert ran.err.startswith("run ")
    assert look("logs", "fit", "-f").out == ran.out


def test_history_tells_each_stay_and_what_was_there_at_a_time(look: Callable[..., Ran]) -> None:
    rows = json.loads(look("history", "-o", "json").out)["promotions"]
    assert sorted((row["stage"], row["version"], row["until"]) for row in rows) == [
        ("dev", "1.0.0", None),
        ("prod", "1.0.0", None),
    ]
    assert look("history", "m").out.count("1.0.0 (v1)") == 2
    assert json.loads(look("history", "--at", "2001-01-01", "-o", "json").out) == {"promotions": []}
    late = json.loads(look("history", "--at", "2999-01-01T00:00:00Z", "-o", "json").out)["promotions"]
    assert len(late) == 2


def test_wait_ends_at_once_where_all_is_ready_and_says_why_not(applied: GitProject, mlops: Mlops) -> None:
    ran = mlops("wait", "Promotion/m-prod", "--for", "ready", "--timeout", "5s", cwd=applied.root)
    assert (ran.code, ran.out) == (0, "")
    assert "is ready" in ran.err


def test_wait_for_what_was_never_applied_gives_up_in_time(project: GitProject, mlops: Mlops) -> None:
    ran = mlops("wait", "Model/m", "--timeout", "1s", cwd=project.root)
    assert ran.code == 1
    assert "not ready after 1s" in ran.err


def test_suspend_and_resume_edit_the_file_and_nothing_else(project: GitProject, mlops: Mlops) -> None:
    place = project.root / "resources/all.yaml"
    before = place.read_text()
    ran = mlops("suspend", "promotion/m-dev", cwd=project.root)
    assert ran.code == 0
    assert "commit it" in ran.err
    assert mlops("suspend", "Promotion/m-dev").err.strip().endswith("suspended already")
    assert project.git("status", "--porcelain") == "M resources/all.yaml"
    shown = json.loads(mlops("get", "Promotion/m-dev", "--working-tree", "-o", "json").out)
    assert shown["resources"][0]["health"] == "Suspended"
    assert mlops("resume", "Promotion/m-dev").code == 0
    assert set(place.read_text().splitlines()) - set(before.splitlines()) == {"  suspend: false"}


def test_schema_and_version_answer_with_and_without_a_project(
    applied: GitProject, mlops: Mlops, tmp_path: Path
) -> None:
    schema = json.loads(mlops("schema", "experiment", cwd=tmp_path).out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(mlops("schema").out)
    assert "none" in json.loads(mlops("version", "-o", "json").out)["project"]
    there = json.loads(mlops("version", "-o", "json", cwd=applied.root).out)
    assert there["project"] == "p"
    assert {"mlops", "python", "mlflow", "tracking", "state"} <= set(there)


def test_tags_written_by_hand_stop_no_command(project: GitProject, mlops: Mlops) -> None:
    """Each of these was a place where a value of a tag was taken for what it should be."""
    assert mlops("apply", "--target", "Promotion/m-dev", cwd=project.root).code == 0
    assert mlops("apply").code == 0
    client = project.client
    run_id = client.get_model_version("m", "1").run_id
    whole = client.get_experiment_by_name("p").experiment_id
    client.set_experiment_tag(whole, "mlops.applied.at", "yesterday")
    client.set_tag(run_id, "mlops.attempt", "many")
    client.set_model_version_tag("m", "1", "mlops.stage.prod.history", "[{}]")
    client.set_model_version_tag("m", "1", "mlops.stage.x y/z.history", "[[]]")
    client.set_model_version_tag("m", "1", "mlops.stage.dev.revision", "[/bold] [red]\x1b[31m")
    for line in (
        ["get"],
        ["tree"],
        ["describe", "Project/p"],
        ["describe", "Promotion/m-prod"],
        ["runs", "fit"],
    ):
        ran = mlops(*line)
        assert ran.code == 0, ran.err
        assert "\x1b" not in ran.out
    ran = mlops("history")
    assert ran.code == 0
    assert "cannot be read" in ran.err
    plan = mlops("plan")
    assert "[/bold] [red]" in plan.out
    assert "\x1b" not in plan.out
    assert mlops("apply").code == 0
    assert mlops("plan", "--detailed-exitcode").code == 0
