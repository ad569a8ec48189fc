"""A small real project whose model is watched: data by the day, a policy, and what came of it."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from forking import Ended, Forks
from git_project import GitProject, document, experiment, promotion, version

BEGIN = datetime(2026, 1, 1)
SHIFT = 10.0  # two standard deviations
CHECKS = (
    {"name": "upstream", "type": "upstreamChange"},
    {"name": "inputs", "type": "dataDrift"},
)
RETRAIN = {"experiment": "fit", "cooldown": "1d"}


def rows(day: int, shift: float = 0.0, *, count: int = 120, seed: int = 0) -> list[str]:
    """Lines of one day: time, a number, a class, a target."""
    dice = random.Random(day * 1000 + seed)
    lines = []
    for at in range(count):
        x = dice.gauss(20 + shift, 5)
        moment = BEGIN + timedelta(days=day, seconds=at * 86_000 // count)
        lines.append(f"{moment.isoformat()},{x:.3f},{dice.choice('abc')},{2 * x + dice.gauss(0, 1):.3f}")
    return lines


def scored(lines: Iterable[str]) -> str:
    """A file of predictions."""
    return "t,x,c,y,p\n" + "".join(f"{line},{float(line.split(',')[1]) * 2:.3f}\n" for line in lines)


def policy(name: str = "watch", **spec: Any) -> dict[str, Any]:
    base = {
        "model": "m",
        "stage": "prod",
        "task": "regression",
        "data": {"predictions": "scored"},
        "window": {"size": "1d", "minRows": 50},
        "checks": list(CHECKS),
        "actions": [],
    }
    return document("MonitoringPolicy", name, {**base, **spec})


def documents(*more: Mapping[str, Any], train: str = "rows") -> list[dict[str, Any]]:
    """A model that is in `prod`, with `more` beside it; without that, a policy that only looks."""
    return [
        document("Dataset", "rows", {"uri": "data/train.csv", "columns": {"timestamp": "t", "target": "y"}}),
        document(
            "Dataset",
            "scored",
            {
                "uri": "data/scored",
                "format": "csv",
                "columns": {"timestamp": "t", "target": "y", "prediction": "p"},
            },
        ),
        experiment(datasets={"train": train}),
        document("Model", "m", {}),
        version("1.0.0"),
        document("Stage", "prod", {}),
        promotion("prod", "1.0.0"),
        *(dict(one) for one in (more or (policy(),))),
    ]


@dataclass(frozen=True, slots=True)
class Watched:
    """The project, and commands on it as processes of their own."""

    project: GitProject
    forks: Forks

    @classmethod
    def make(
        cls, root: Path, forks: Forks, declared: list[dict[str, Any]], *, store: Path, days: int = 0
    ) -> Watched:
        """Quiet training data and so many quiet days of predictions; nothing is applied."""
        root.mkdir()
        (root / "data/scored").mkdir(parents=True)
        lines = [line for day in range(-10, 0) for line in rows(day)]
        (root / "data/train.csv").write_text("t,x,c,y\n" + "\n".join(lines) + "\n")
        (root / ".gitignore").write_text("data/scored/\ndata/recent.csv\n.mlops/\n")
        (root / ".mlops").mkdir()
        (root / ".mlops/mlflow.db").write_bytes(store.read_bytes())
        made = cls(GitProject(root, declared), forks)
        for day in range(days):
            made.score(day)
        return made

    @property
    def root(self) -> Path:
        return self.project.root

    def score(self, day: int, shift: float = 0.0, **how: Any) -> Path:
        """A file of one more day."""
        return self.put(f"{day:02}.csv", scored(rows(day, shift, **how)))

    def put(self, name: str, text: str) -> Path:
        path = self.root / "data/scored" / name
        path.write_text(text)
        return path

    def run(self, *arguments: str) -> Ended:
        return self.forks.run("mlops", str(self.root), *arguments)

    def apply(self, code: int = 0) -> str:
        """Apply; gives what it said."""
        ended = self.run("apply")
        assert ended.code == code, f"{ended.code}\n{ended.stdout}{ended.stderr}"
        return ended.stdout + ended.stderr

    def at_rest(self) -> None:
        """Nothing is left to be done."""
        ended = self.run("plan", "--detailed-exitcode")
        assert ended.code == 0, ended.stdout + ended.stderr

    def status(self, name: str = "watch") -> Any:
        ended = self.forks.run("printed", str(self.root), "monitor", "status", name, "-o", "json")
        assert ended.code == 0, ended.stderr
        return ended.data

    def verdicts(self, name: str = "watch") -> list[str]:
        """What is said of each window, oldest first."""
        return [window["verdict"] for window in self.status(name)["windows"]]

    def actions(self, name: str = "watch") -> list[tuple[str, str, str]]:
        return [(one["type"], one["check"], one["state"]) for one in self.status(name)["actions"]]

    def evaluations(self, name: str = "watch") -> list[Mapping[str, Any]]:
        """The runs of evaluations: tags, and the file they tell."""
        ended = self.forks.run("runs", str(self.root))
        assert ended.code == 0, ended.stderr
        found: list[Mapping[str, Any]] = [
            run for run in ended.data.get(name, []) if "mlops.evaluation" in run["tags"]
        ]
        return found

    def told(self, name: str = "watch") -> dict[str, Any]:
        """What the runs say of windows, by key: `evaluation.json` without what was decided by then."""
        found: dict[str, Any] = {}
        for run in self.evaluations(name):
            key = run["tags"]["mlops.evaluation"]
            assert key not in found, f"two runs of {key}"
            assert run["status"] == "FINISHED", run
            path = next(self.root.glob(f"**/{run['id']}/artifacts/evaluation.json"))
            found[key] = json.loads(path.read_text())["window"]["evaluation"]
        return found

    def branches(self) -> dict[str, list[str]]:
        """Subjects of the commits of each proposed branch."""
        names = self.project.git("for-each-ref", "--format=%(refname:short)", "refs/heads/mlops").split()
        return {name: self.project.git("log", "--format=%s", f"main..{name}").splitlines() for name in names}

    def stored(self, namespace: str) -> dict[str, bytes]:
        """A namespace of the state database."""
        with closing(sqlite3.connect(self.root / ".mlops/state.db")) as state:
            found = state.execute("SELECT key, value FROM mlops_cache WHERE namespace = ?", (namespace,))
            return {bytes(key).decode(): bytes(value) for key, value in found}

    def lose_state(self) -> None:
        for path in (self.root / ".mlops").glob("state.db*"):
            path.unlink()
