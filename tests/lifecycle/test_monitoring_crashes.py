"""`kill -9` of an apply at its writes while it evaluates, tells, proposes and trains; then apply again.

The points are found by counting (see `killing`): a few of them, and all with EVERY_CRASH_POINT=1 in the environment.
What is there in the end is what an undisturbed apply leaves, and every thing once.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forking import Forks
from git_project import document
from monitored import RETRAIN, SHIFT, Watched, documents, policy, rows

sys.path.append(str(Path(__file__).parents[1] / "notifying"))

from loopback_service import Service, serving

PER_KIND = {"state": 3, "mlflow": 2, "process": 2}  # points that are tried, unless all are asked for


@dataclass(frozen=True, slots=True)
class Drifting:
    """A project that was applied while all was quiet, and whose inputs have drifted since."""

    it: Watched
    copy: Path
    service: Service

    def restore(self) -> None:
        self.service.got.clear()
        shutil.rmtree(self.it.root)
        shutil.copytree(self.copy, self.it.root, symlinks=True)

    def counted(self) -> dict[str, int]:
        """The writes of an undisturbed apply, by kind."""
        self.restore()
        ended = self.it.forks.run("killed", str(self.it.root), "", 0, False, "apply")
        assert ended.code == 0, ended.stderr
        counts: dict[str, int] = ended.data
        return counts

    def finished(self) -> dict[str, Any]:
        """Apply; all that there must be once after that, without ids that are drawn and times."""
        it = self.it
        ended = it.forks.run("finished", str(it.root), "apply")
        assert (ended.code, ended.data["left"]) == (0, 0), ended.stdout + ended.stderr
        status = it.status()
        told = [body["message"] for body in self.service.reached("team")]
        return {
            "windows": [
                (w["start"], w["verdict"], w["revision"], bool(w["runId"])) for w in status["windows"]
            ],
            "actions": [
                (a["id"], a["type"], a["state"], a["branch"], a["version"]) for a in status["actions"]
            ],
            "branches": it.branches(),
            "told": sorted(set(told)),
            "runs": ended.data["world"]["runs"],
        }


@pytest.fixture
def drifting(tmp_path: Path, forks: Forks, empty_store: Path) -> Iterator[Drifting]:
    with serving() as service:
        fresh = {**RETRAIN, "datasets": {"train": "recent"}}
        recent = document(
            "Dataset", "recent", {"uri": "data/recent.csv", "columns": {"timestamp": "t", "target": "y"}}
        )
        team = document("Notifier", "team", {"urls": [service.url("team")]})
        declared = documents(
            recent, team, policy(actions=[{"on": ["inputs"], "alert": ["team"], "retrain": fresh}])
        )
        it = Watched.make(tmp_path / "project", forks, declared, store=empty_store, days=3)
        lines = [line for day in range(3, 6) for line in rows(day, SHIFT)]
        (it.root / "data/recent.csv").write_text("t,x,c,y\n" + "\n".join(lines) + "\n")
        it.apply()
        for day in range(3, 6):
            it.score(day, SHIFT)
        copy = tmp_path / "copy"
        shutil.copytree(it.root, copy, symlinks=True)
        yield Drifting(it, copy, service)
        service.released.set()


def points(counts: dict[str, int]) -> list[tuple[str, int, bool]]:
    """Where to kill: (kind, number, after)."""
    every = os.environ.get("EVERY_CRASH_POINT")
    found = []
    for kind, count in sorted(counts.items()):
        wanted = count if every else min(count, PER_KIND.get(kind, 0))
        numbers = sorted({1 + round(at * (count - 1) / max(wanted - 1, 1)) for at in range(wanted)})
        found += [(kind, number, number % 2 == 0) for number in numbers]
    return found


def test_a_killed_evaluation_or_proposal_ends_in_the_same_state(drifting: Drifting) -> None:
    counts = drifting.counted()
    expected = drifting.finished()
    assert [(kind, state) for _, kind, state, _, _ in expected["actions"]] == [
        ("alert", "sent"),
        ("retrain", "proposed"),
    ]
    assert len(expected["told"]) == 1
    wrong = []
    for point in points(counts):
        drifting.restore()
        ended = drifting.it.forks.run("killed", str(drifting.it.root), *point, "apply")
        assert ended.code in (-signal.SIGKILL, 0), (point, ended.stderr)
        try:
            world = drifting.finished()
            assert world == expected, [name for name in world if world[name] != expected[name]]
        except AssertionError as problem:
            wrong.append(f"{point}: {problem}")
    assert wrong == [], "\n".join(wrong)
