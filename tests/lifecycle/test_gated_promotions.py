"""Gates whose evidence only the model can give: made once by a job, kept in MLflow, judged before anything moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from git_project import GitProject
from judged import base, champion_gate, fitted, project, promoted, stages, version


def gates(it: GitProject, capsys: Any, name: str = "m-prod") -> dict[str, dict[str, Any]]:
    found = it.json(capsys, "get", f"Promotion/{name}")
    [row] = [row for row in found["resources"] if row["name"] == name]
    return {gate["name"]: gate for gate in row["status"]["gates"]}


def aliases(it: GitProject) -> dict[str, int]:
    return {alias: int(number) for alias, number in it.client.get_registered_model("m").aliases.items()}


def evidence(it: GitProject) -> list[str]:
    """The names of all tags with evidence, over all runs."""
    found = []
    for one in it.client.search_experiments():
        for run in it.client.search_runs([one.experiment_id]):
            found += [tag for tag in run.data.tags if tag.startswith("mlops.evaluation.")]
    return sorted(found)


def test_a_challenger_is_judged_beside_the_champion_on_the_same_bytes(tmp_path: Path, capsys: Any) -> None:
    judged = stages(
        {"metric": {"name": "rmse", "max": 30, "dataset": "judge"}}, champion_gate(), {"signature": True}
    )
    first = [fitted("one", 1.0), version("1.0.0", "one")]
    it = project(tmp_path / "p", base(*first, *judged, *promoted("1.0.0")))
    plan = it.json(capsys, "plan")
    ids = [step["id"] for step in plan["steps"]]
    assert {"evaluate:m-1.0.0@judge", "evaluate:m-1.0.0@signature"} <= set(ids)
    [move] = [step for step in plan["steps"] if step["id"] == "promote:Promotion/m-prod"]
    assert {"evaluate:m-1.0.0@judge", "evaluate:m-1.0.0@signature"} <= set(move["needs"])
    assert it.run("apply") == 0
    assert aliases(it) == {"dev": 1, "prod": 1}
    made = evidence(it)
    assert len(made) == 2
    seen = gates(it, capsys)
    assert {name: gate["status"] for name, gate in seen.items()} == {
        "metric:rmse@judge": "passed",
        "champion": "passed",
        "signature": "passed",
    }
    assert abs(seen["metric:rmse@judge"]["observed"] - 23.526) < 0.01
    assert it.run("plan", "--detailed-exitcode") == 0

    # The pull request's job: training, and evidence of a version that is not even bound yet.
    second = [fitted("two", 1.9), version("1.1.0", "two")]
    it.declare(base(*first, *second, *judged, *promoted("1.1.0")))
    it.commit()
    assert it.run("train") == 0
    assert len(evidence(it)) == 4
    plan = it.json(capsys, "plan")
    assert not [step for step in plan["steps"] if step["action"] in ("train", "evaluate")]
    [move] = [step for step in plan["steps"] if step["id"] == "promote:Promotion/m-prod"]
    shown = {change["field"]: change["to"] for change in move["changes"]}
    assert shown["gates.champion"].startswith("passed: rmse on judge: 2.35")
    assert "of 1.0.0" in shown["gates.champion"]
    assert aliases(it)["prod"] == 1
    assert it.run("apply") == 0
    assert aliases(it) == {"dev": 2, "prod": 2}
    assert len(evidence(it)) == 4  # nothing was evaluated a second time
    compared = gates(it, capsys)["champion"]
    assert compared["status"] == "passed"
    assert compared["observed"]["version"] == "1.0.0"
    assert compared["observed"]["challenger"] < compared["observed"]["champion"]
    stored = it.client.get_model_version("m", "2").tags["mlops.stage.prod.evidence"]
    [run_id] = [it.client.get_model_version("m", "2").run_id]
    name = stored.removeprefix("sha256:")
    kept = json.loads(
        Path(it.client.download_artifacts(run_id, f"mlops/evidence/{name}.json", str(tmp_path))).read_text()
    )
    [of_champion] = [gate for gate in kept["gates"] if gate["name"] == "champion"]
    assert of_champion["evidence"]["challenger"]["model"] == kept["digest"]
    assert of_champion["evidence"]["data"].startswith("sha256:")
    assert of_champion["evidence"]["champion"]["evaluator"] == 1

    # A worse one is refused, and goes nowhere; the way back needs no comparison, only a model that still loads.
    third = [fitted("three", 1.5), version("1.2.0", "three")]
    it.declare(base(*first, *second, *third, *judged, *promoted("1.2.0")))
    it.commit()
    assert it.run("apply") == 3
    assert aliases(it) == {"dev": 3, "prod": 2}
    refused = gates(it, capsys)
    assert refused["champion"]["status"] == "failed"
    assert "it has to be lower" in refused["champion"]["message"]
    assert refused["signature"]["status"] == "passed"
    it.declare(base(*first, *second, *third, *judged, *promoted("1.0.0")))
    it.commit()
    assert "evaluate:m-1.0.0@loading" in [step["id"] for step in it.json(capsys, "plan")["steps"]]
    assert it.run("apply") == 0
    assert aliases(it) == {"dev": 1, "prod": 1}
    assert gates(it, capsys)["champion"]["status"] == "skipped"
