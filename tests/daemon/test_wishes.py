"""What others ask of a daemon that leads: carried out once, and answered as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from driven import MINUTE, DrivenDaemon
from git_project import GitProject, document, experiment

from mlops.controller import Controller
from mlops.daemon import requests, wakeups
from mlops.daemon.following import LocalBranch
from mlops.errors import Transient
from mlops.view import View

Make = Callable[..., GitProject]
MODEL = [document("Model", "m", {"description": "A model"})]
ROWS = document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"})


class Engine(Controller):
    """An engine whose looks fail as often as they are told to, and whose looks at training do if told so."""

    failures = 0
    blind = False

    def look_for(self, *arguments: Any, **options: Any) -> View:
        if self.failures:
            self.failures -= 1
            raise Transient("MLflow does not answer")
        return super().look_for(*arguments, **options)

    def look(self, *arguments: Any, **options: Any) -> View:
        if self.blind and options.get("training") is not None:
            raise Transient("its data is out of reach")
        return super().look(*arguments, **options)


class Asking(DrivenDaemon):
    """A daemon that is asked for things, and what it answers."""

    def __init__(self, project: GitProject) -> None:
        super().__init__(project.root, engine=Engine)
        self.project = project
        self.asked: dict[str, str] = {}  # id by the name that a test gives

    def ask(self, name: str, moment: float, **wish: Any) -> None:
        """Ask at a moment; for the branch as it stands then, unless another revision is named."""

        def put() -> None:
            if wish.get("report") and "revision" not in wish:
                wish["revision"] = self.project.git("rev-parse", "HEAD")
            asked = requests.ask(self.controller.state, by="a test", now=self.time.now(), **wish)
            self.asked[name] = asked.id

        self.life.at(moment, put)

    def answers(self, *names: str, at: float) -> dict[str, Any]:
        """What is answered by a moment, once the daemon has lived; None where nothing is."""
        found: dict[str, Any] = {}

        def look() -> None:
            found.update({n: requests.answer_to(self.controller.state, self.asked[n]) for n in names})

        self.life.at(at, look)
        return found


def failing(trials: int) -> list[dict[str, Any]]:
    """An experiment whose trials fail, one at a time."""
    sweep = {"strategy": "grid", "parameters": {"depth": list(range(1, trials + 1))}, "parallel": 1}
    return [ROWS, experiment(parameters={"depth": 1, "exit": 3}, sweep=sweep)]


def test_a_retry_is_not_forgotten_where_the_pass_that_hears_of_it_cannot_look(make_project: Make) -> None:
    daemon = Asking(make_project(failing(1)))
    daemon.life.at(5 * MINUTE, lambda: setattr(daemon.controller, "failures", 2))
    daemon.ask("retry", 5 * MINUTE, report=True, retry_stalled=True)
    answers = daemon.answers("retry", at=9 * MINUTE)
    daemon.run(10 * MINUTE)
    assert daemon.told.reasons["TrainedFailed"] == 2
    assert [row[1] for row in answers["retry"]["blocked"]] == ["TrainingFailed"]


def test_all_trials_are_tried_again_once_though_few_fit_beside_each_other(make_project: Make) -> None:
    daemon = Asking(make_project(failing(3)))
    daemon.ask("retry", 5 * MINUTE, report=True, retry_stalled=True)
    answers = daemon.answers("retry", at=9 * MINUTE)
    daemon.run(10 * MINUTE)
    assert daemon.told.reasons["TrainedFailed"] == 6
    assert [row[1] for row in answers["retry"]["blocked"]] == ["TrainingFailed"] * 3


def test_a_rewrite_is_accepted_as_it_stands_and_no_later_one_while_training_goes_on(
    make_project: Make, tmp_path: Path
) -> None:
    project = make_project([ROWS, experiment()])
    go = tmp_path / "go"
    project.write("training/train.py", LONG.format(go=str(go)))
    project.commit("a training that waits")
    daemon = Asking(project)
    daemon.patient = lambda step: go.exists()
    amend = lambda text: project.git("commit", "-q", "--allow-empty", "--amend", "-m", text)  # noqa: E731
    heads: list[str] = []
    forced: list[str | None] = []

    def force() -> None:
        term = daemon.daemon.term
        assert term is not None
        assert term.view is not None
        heads.append(project.git("rev-parse", "HEAD"))
        forced.append(term.view.planned.plan.base)

    daemon.life.at(2 * MINUTE, force)
    daemon.life.at(3 * MINUTE, lambda: amend("rewritten"))
    daemon.life.at(4 * MINUTE, force)  # refused
    daemon.ask("accept", 5 * MINUTE, accept_rewrite=True)
    daemon.ask("look", 5 * MINUTE)
    answers = daemon.answers("accept", "look", at=6 * MINUTE)
    daemon.life.at(6 * MINUTE, force)  # taken
    daemon.life.at(7 * MINUTE, lambda: amend("rewritten once more"))
    daemon.life.at(8 * MINUTE, force)  # refused again
    daemon.life.at(9 * MINUTE, go.touch)
    daemon.run(10 * MINUTE)
    first, second, third, last = heads
    assert (second, last) != (first, third)
    assert forced == [first, first, third, third]
    assert answers["accept"]["inForce"] == third  # and the job goes on
    assert answers["look"] is not None
    assert daemon.told.reasons["Trained"] == 1


def beside(project: GitProject, documents: list[dict[str, Any]]) -> str:
    """Commit to a branch beside main; gives the commit."""
    project.git("checkout", "-q", "-b", "beside")
    project.declare(documents)
    sha = project.commit("beside")
    project.git("checkout", "-q", "main")
    return sha


def test_training_beside_that_another_machine_is_at_is_said_and_does_not_keep_the_loop_busy(
    make_project: Make,
) -> None:
    project = make_project([ROWS, experiment()])
    asked = beside(project, [ROWS, experiment(parameters={"depth": 4})])
    daemon = Asking(project)

    def elsewhere() -> None:
        view = daemon.controller.look(asked, training=())
        [state] = view.planned.trials["fit"]
        tracker = daemon.controller.tracker
        place = tracker.ensure_experiment("p/fit", description="", tags={})
        tags = {"mlops.fingerprint": state.trial.fingerprint, "mlops.origin": "another:/home"}
        tracker.create_run(place, name="there", tags=tags, parameters={}, inputs=())

    daemon.life.at(4 * MINUTE, elsewhere)
    daemon.ask("train", 5 * MINUTE, report=True, revision=asked, train=())
    answers = daemon.answers("train", at=6 * MINUTE)
    daemon.run(10 * MINUTE)  # a hundred passes at one moment would be an error
    assert [row[1] for row in answers["train"]["blocked"]] == ["RunElsewhere"]


def test_training_beside_that_cannot_be_looked_at_stops_nothing_that_is_followed(make_project: Make) -> None:
    project = make_project(MODEL, source={"interval": "1m"})
    asked = beside(project, [*MODEL, ROWS, experiment()])
    daemon = Asking(project)
    daemon.life.at(4 * MINUTE, lambda: setattr(daemon.controller, "blind", True))
    daemon.ask("train", 5 * MINUTE, report=True, revision=asked, train=())
    daemon.life.at(10 * MINUTE, lambda: setattr(daemon.controller, "blind", False))
    early = daemon.answers("train", at=9 * MINUTE)
    late = daemon.answers("train", at=15 * MINUTE)
    daemon.run(16 * MINUTE)
    assert daemon.told.results["failed"] == 0
    assert early["train"] is None
    assert late["train"]["done"] == 1


def test_what_a_commit_beside_says_of_history_drops_none_of_it(make_project: Make, tmp_path: Path) -> None:
    project = make_project(MODEL, source={"interval": "10m"})
    project.write("training/train.py", LONG.format(go=str(tmp_path / "go")))
    project.commit("a training that waits")
    settings = {"source": {"interval": "10m"}, "state": {"keepEvents": "1h"}}
    keeps = yaml.safe_dump(document("Project", "p", settings))
    project.git("checkout", "-q", "-b", "short")
    project.write("mlops.yaml", keeps)
    project.declare([*MODEL, ROWS, experiment()])
    asked = project.commit("beside")
    project.git("checkout", "-q", "main")
    daemon = Asking(project)
    daemon.patient = lambda step: False
    daemon.ask("train", 5 * MINUTE, report=True, revision=asked, train=())
    kept: list[str] = []
    daemon.life.at(
        250 * MINUTE, lambda: kept.extend(e.reason for e in daemon.controller.state.events("Model/m"))
    )
    daemon.life.at(250 * MINUTE, (tmp_path / "go").touch)
    daemon.run(260 * MINUTE)
    assert kept == ["Registered"]


def test_who_asks_for_a_commit_is_told_that_the_working_tree_is_followed(make_project: Make) -> None:
    project = make_project(MODEL)
    daemon = Asking(project)
    daemon.daemon.working_tree = True
    daemon.daemon.following = LocalBranch(daemon.controller.repository, project.root, files=True)
    daemon.ask("apply", 5 * MINUTE, report=True)
    answers = daemon.answers("apply", at=6 * MINUTE)
    daemon.run(7 * MINUTE)
    assert "working tree" in answers["apply"]["problem"]


def test_what_failed_and_has_gone_by_is_not_told_to_who_asks_later(
    make_project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.applying.apply.DELAYS", ())
    project = make_project(MODEL)
    daemon = Asking(project)

    def meddle() -> None:
        from mlops.tracking.registry import Registry

        update, tracker = Registry.update_model, daemon.controller.tracker
        client = tracker._client()
        client.update_registered_model("m", "mine")

        def refused(*arguments: Any, **options: Any) -> None:
            Registry.update_model = update  # type: ignore[method-assign]
            client.update_registered_model("m", "A model")  # by hand, too
            raise Transient("MLflow does not take it")

        Registry.update_model = refused  # type: ignore[method-assign]

    daemon.life.at(5 * MINUTE, meddle)
    daemon.ask("apply", 6 * MINUTE, report=True)
    answers = daemon.answers("apply", at=7 * MINUTE)
    daemon.run(8 * MINUTE)
    assert daemon.told.reasons["HealedFailed"] >= 1
    assert (answers["apply"]["failed"], answers["apply"]["left"]) == ({}, 0)


def test_a_row_that_is_no_request_stops_no_pass(make_project: Make) -> None:
    daemon = Asking(make_project(MODEL, source={"interval": "1m"}))
    rows = {"a": b'{"id": "a", "at": [], "by": "x"}', "b": b'{"id": "b", "by": "x"}', "c": b"[]"}
    daemon.life.at(MINUTE, lambda: daemon.controller.state.put_many(requests.ASKED, rows))
    daemon.ask("look", 2 * MINUTE)
    answers = daemon.answers("look", at=3 * MINUTE)
    daemon.run(4 * MINUTE)
    assert answers["look"]["left"] == 0
    assert daemon.told.results["failed"] == 0


class Hurried(Controller):
    """An engine beside which somebody commits while it looks, again and again."""

    commits = 40

    def look_for(self, *arguments: Any, **options: Any) -> View:
        view = super().look_for(*arguments, **options)
        if self.commits:
            self.commits -= 1
            GitProject.at(self.root).commit("one more")
        return view


def test_commits_that_come_faster_than_passes_do_not_keep_all_of_them_out_of_force(
    make_project: Make,
) -> None:
    daemon = DrivenDaemon(make_project(MODEL).root, engine=Hurried)
    daemon.run(5 * MINUTE)
    revisions = [event.revision for event in daemon.told.events if event.reason == "InForce"]
    assert len(set(revisions)) > 5
    assert daemon.told.results["unchanged"] + daemon.told.results["changed"] > 5
    assert wakeups.REVISION in daemon.told.passes[-1].reasons


LONG = """\
import json, os, time
while not os.path.exists({go!r}):
    time.sleep(0.01)
json.dump({{"rmse": 1.0}}, open(os.path.join(os.environ["MLOPS_OUTPUT"], "metrics.json"), "w"))
"""
