"""Gates whose evidence only the model can give: made once by a job, kept in MLflow, judged before anything moves."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from forking import Forks
from git_project import GitProject, document
from judged import ROWS, TRAIN, base, champion_gate, dataset, fitted, project, promoted, stages, version
from test_crashes import Restored

from mlops.applying.outcomes import Blocked
from mlops.controller import Controller
from mlops.planning.stays import History, Stay, history


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
    assert shown["gates.champion"].startswith("passed: 90.00% better: rmse 2.35")
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


@pytest.mark.slow
def test_broken_and_hostile_models_are_refused_and_the_rest_goes_on(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.applying.evaluate.PATIENCE", 10.0)
    judged, signed = ("good", "break", "hang", "exit"), ("unsigned", "reject")
    documents = [
        document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
        dataset(),
        document(
            "Stage", "judged", {"gates": [{"metric": {"name": "rmse", "max": 100, "dataset": "judge"}}]}
        ),
        document("Stage", "signed", {"gates": [{"signature": True}]}),
    ]
    for kind in (*judged, *signed):
        source = {"experiment": kind, "artifact": "model"}
        stage = "judged" if kind in judged else "signed"
        documents += [
            document("Model", kind, {}),
            fitted(kind, 1.0, **({} if kind == "good" else {"does": kind})),
            document("ModelVersion", f"{kind}-1", {"model": kind, "version": "1.0.0", "source": source}),
            document("Promotion", kind, {"model": kind, "stage": stage, "version": "1.0.0"}),
        ]
    it = project(tmp_path / "p", documents)
    assert it.run("apply") == 3
    shown = {kind: next(iter(gates(it, capsys, kind).values())) for kind in (*judged, *signed)}
    assert {kind: gate["status"] for kind, gate in shown.items()} == {
        "good": "passed",
        "break": "error",
        "hang": "error",
        "exit": "error",
        "unsigned": "failed",
        "reject": "failed",
    }
    assert "this model is broken" in shown["break"]["message"]
    assert "within 10 s" in shown["hang"]["message"]
    assert "ended before it answered" in shown["exit"]["message"]
    assert "has no signature" in shown["unsigned"]["message"]
    assert "does not accept its own input example: KeyError" in shown["reject"]["message"]
    assert dict(it.client.get_registered_model("good").aliases).keys() == {"judged"}
    assert not it.client.get_registered_model("hang").aliases
    plan = it.json(capsys, "plan")  # what is wrong with them is known: they are not loaded again
    assert plan["steps"] == []
    assert {block["reason"] for block in plan["blocked"]} == {"GateFailed", "GateNotAvailable"}


class Meddler:
    """Somebody who writes to the registry just before a step is carried out."""

    def __init__(self, step: str, meddle: Callable[[], None]) -> None:
        self.step, self.meddle, self.done = step, meddle, False

    def started(self, step: Any) -> None:
        if step.id == self.step and not self.done:
            self.done = True
            self.meddle()

    def says(self, step: Any, message: str) -> None: ...

    def ended(self, step: Any, outcome: Any, seconds: float) -> None: ...


def test_what_the_champion_is_at_the_moment_of_moving_decides(tmp_path: Path, capsys: Any) -> None:
    """Another version is in the stage by then: the evidence is stale, is made again, and speaks against the move."""
    judged = stages(champion_gate())
    versions = [
        *(fitted("one", 1.0), version("1.0.0", "one")),
        *(fitted("two", 1.5), version("1.1.0", "two")),
        *(fitted("best", 2.0), version("2.0.0", "best")),
    ]
    it = project(tmp_path / "p", base(*versions, *judged, *promoted("1.0.0")))
    assert it.run("apply") == 0
    it.declare(base(*versions, *judged, *promoted("2.0.0", "dev"), *promoted("1.0.0", "prod")))
    it.commit()
    assert it.run("apply") == 0
    assert evidence(it) == []  # nobody had to be compared so far
    it.declare(base(*versions, *judged, *promoted("1.1.0")))
    sha = it.commit()
    numbers = {
        one.tags["mlops.version"]: str(one.version) for one in it.client.search_model_versions("name='m'")
    }

    def promote_another() -> None:
        begun = "2026-01-01T00:00:00.000Z"
        before = history(it.client.get_model_version("m", numbers["1.0.0"]).tags, "prod")
        after = History((Stay("m-prod", "prod", begun, sha),))
        for number, record in ((numbers["1.0.0"], before.closed(begun)), (numbers["2.0.0"], after)):
            for tag, value in record.tags("prod").items():
                if value is not None:
                    it.client.set_model_version_tag("m", number, tag, value)
        it.client.set_registered_model_alias("m", "prod", numbers["2.0.0"])

    meddler = Meddler("promote:Promotion/m-prod", promote_another)
    with Controller(it.root) as controller:
        result = controller.apply(lambda: controller.look_for(sha), meddler, command="test")
    assert meddler.done
    outcome = result.applied.outcomes["promote:Promotion/m-prod"]
    assert isinstance(outcome, Blocked)
    assert outcome.block.reason == "GateFailed"
    assert "against 0 of 2.0.0" in outcome.block.message
    assert aliases(it)["prod"] == int(numbers["2.0.0"])
    assert len(evidence(it)) == 3


def test_a_model_whose_bytes_are_gone_does_not_come_back(tmp_path: Path, capsys: Any) -> None:
    versions = [
        *(fitted("one", 1.0), version("1.0.0", "one")),
        *(fitted("two", 1.5), version("1.1.0", "two")),
    ]
    it = project(tmp_path / "p", base(*versions, *stages(), *promoted("1.0.0")))
    assert it.run("apply") == 0
    it.declare(base(*versions, *stages(), *promoted("1.1.0")))
    it.commit()
    assert it.run("apply") == 0
    [old] = [
        one for one in it.client.search_model_versions("name='m'") if one.tags["mlops.version"] == "1.0.0"
    ]
    root = it.client.get_run(old.run_id).info.artifact_uri.removeprefix("file://")
    place = Path(root if Path(root).is_absolute() else it.root / root) / "model"
    kept = place.with_name("elsewhere")
    place.rename(kept)
    it.declare(base(*versions, *stages(), *promoted("1.0.0")))
    it.commit()
    before = aliases(it)
    assert it.run("apply") == 3
    assert aliases(it) == before
    [block, *_] = [one for one in it.json(capsys, "plan")["blocked"] if one["resource"] == "Promotion/m-prod"]
    assert block["reason"] == "ModelUnloadable"
    kept.rename(place)
    assert it.run("apply") == 3  # known, until somebody says that it was mended
    assert it.run("apply", "--retry-stalled") == 0
    assert aliases(it) == {"dev": int(old.version), "prod": int(old.version)}


def several(*kinds: str, gate: dict[str, Any]) -> list[dict[str, Any]]:
    """A model of each kind, asked for in one stage with one gate."""
    documents = [
        document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
        document("Stage", "prod", {"gates": [gate]}),
    ]
    for kind in kinds:
        source = {"experiment": kind, "artifact": "model"}
        documents += [
            document("Model", kind, {}),
            fitted(kind, 1.0, does=kind),
            document("ModelVersion", f"{kind}-1", {"model": kind, "version": "1.0.0", "source": source}),
            document("Promotion", kind, {"model": kind, "stage": "prod", "version": "1.0.0"}),
        ]
    return documents


def test_what_is_trained_again_shows_whether_it_can_be_reproduced(tmp_path: Path, capsys: Any) -> None:
    it = project(tmp_path / "p", several("steady", "vary", gate={"metric": {"name": "loss", "max": -1}}))
    assert it.run("apply") == 3
    # The code has moved on since: what is trained again is what was trained then.
    it.write("training/train.py", TRAIN.replace("loss = ", "loss = 5 + "))
    it.declare(several("steady", "vary", gate={"reproducible": {"tolerance": 1e-9}}))
    it.commit()
    assert it.run("apply") == 3
    steady, vary = gates(it, capsys, "steady")["reproducible"], gates(it, capsys, "vary")["reproducible"]
    assert (steady["status"], vary["status"]) == ("passed", "failed")
    assert steady["observed"] == {"metric": "loss", "first": 1.0, "again": 1.0, "difference": 0.0}
    assert 0 < vary["observed"]["difference"] < 1
    assert vary["observed"]["first"] != vary["observed"]["again"]
    runs = it.client.search_runs([it.client.get_experiment_by_name("p/vary").experiment_id])
    first = min(
        (run for run in runs if "mlops.fingerprint" in run.data.tags), key=lambda run: run.info.start_time
    )
    [again] = [run for run in runs if run.data.tags.get("mlops.purpose") == "reproduction"]
    assert again.data.tags["mlops.reproduces"] == first.info.run_id
    assert again.info.status == "FINISHED"
    assert again.info.run_name == f"{first.info.run_name}-again"
    found = it.json(capsys, "get", "Experiment/vary")
    [row] = [row for row in found["resources"] if row["name"] == "vary"]
    shown = [run["runId"] for run in row["status"]["runs"]]
    assert again.info.run_id not in shown  # it is no trial
    assert it.json(capsys, "plan")["steps"] == []


@pytest.mark.slow
def test_a_killed_evaluation_ends_in_the_same_state(
    make_project: Callable[..., GitProject], forks: Forks
) -> None:
    """At each commit to MLflow and each process that is started: the same promotion, on one piece of evidence."""
    versions = [fitted("one", 1.0), version("1.0.0", "one")]
    it = make_project(base(*versions, *stages(), *promoted("1.0.0", "dev")))
    it.write("training/train.py", TRAIN)
    it.write("data/judge.csv", ROWS)
    it.commit("models")
    before = Restored.of(it, forks)
    before.finish()
    judged = stages({"metric": {"name": "rmse", "max": 30, "dataset": "judge"}})
    it.declare(base(*versions, *judged, *promoted("1.0.0")))
    it.commit("judge it")
    here = Restored.of(it, forks)

    def known() -> list[Any]:
        with closing(sqlite3.connect(it.root / ".mlops/mlflow.db")) as store:
            query = "SELECT key, value FROM tags WHERE key LIKE 'mlops.evaluation.%'"
            return store.execute(query).fetchall()

    expected = here.finish()
    assert dict(expected["models"][0][2]) == {"dev": 1, "prod": 1}
    evidence = known()
    assert len(evidence) == 1
    points = [point for point in here.points() if point[0] in ("mlflow", "process") and not point[2]]
    assert {kind for kind, _, _ in points} == {"mlflow", "process"}
    for point in points:
        assert here.wrong_after(point, expected) is None
        assert known() == evidence, point
        assert list(it.root.glob(".mlops/**/child-*")) == [], point
