"""Live a week as a daemon does, in a minute, and measure at the end of each day what it holds.

    python tests/daemon/week.py FOLDER --days 7

Prints one JSON line a day. Nobody sleeps: time is driven (see `driven`). Commits, hands, jobs and outages are real.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[1] / "lifecycle"))  # where the small project is

from driven import DAY, HOUR, DrivenDaemon
from git_project import GitProject, document, experiment, promotion, version

from mlops.daemon import requests
from mlops.daemon.loop import Pace

SETTINGS: Final = {"source": {"interval": "1m"}, "state": {"keepEvents": "2d"}}

FLAKY: Final = """\
import json, os, signal
if os.environ["MLOPS_PARAM_WELL"] != "true":
    os.kill(os.getpid(), signal.SIGKILL)
json.dump({"rmse": 1.0}, open(os.path.join(os.environ["MLOPS_OUTPUT"], "metrics.json"), "w"))
"""
SLOW: Final = """\
import json, os, time
while not os.path.exists(os.environ["MLOPS_PARAM_UNTIL"]):
    time.sleep(0.01)
json.dump({"rmse": 1.0}, open(os.path.join(os.environ["MLOPS_OUTPUT"], "metrics.json"), "w"))
"""


class Week:
    """The project, who works on it, and the daemon that keeps it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.day = 0
        self.well = True
        self.slow = 0
        self.description = "A model"
        self.project = GitProject(folder / "project", self._documents(), **SETTINGS)
        self.project.write("training/flaky.py", FLAKY)
        self.project.write("training/slow.py", SLOW)
        self.project.commit("the scripts")
        self.daemon = DrivenDaemon(self.project.root, pace=Pace(glance=20.0))
        self.daemon.patient = lambda step: "slow" not in step
        self.began = time.perf_counter()

    def live(self, days: int) -> None:
        """Plan the days, and live them; the last two are a weekend, on which nobody works."""
        friday = max(1, days - 2)
        script: list[tuple[float, Callable[[], object]]] = [
            (1.0, self._release),
            (3.0, lambda: self._by_hand("DELETE FROM registered_model_aliases")),
            (4.0, lambda: self._by_hand("UPDATE registered_models SET description = 'by hand'")),
            (5.0, self._break),
            (5.5, self._commit),
            (7.0, lambda: self._commit(well=False)),
            (8.0, lambda: self._ask(retry_stalled=True)),
            (9.0, lambda: self._commit(well=True)),
            (10.0, self._begin_slowly),
            (
                11.0,
                lambda: self._by_hand("UPDATE experiments SET last_update_time = 0 WHERE name = 'Default'"),
            ),
            (12.0, lambda: self._until(self.slow).touch()),
            (14.0, self._take_mlflow_away),
            (15.0, self._bring_mlflow_back),
            (16.0, lambda: self.daemon.time.set_wall_clock(3 * DAY)),
            (17.0, lambda: self.daemon.time.set_wall_clock(-3 * DAY)),
            (18.0, lambda: self.daemon.time.set_wall_clock(HOUR)),
            (19.0, lambda: self.daemon.time.set_wall_clock(-HOUR)),
            (20.0, lambda: self._commit(description="Another text")),
            (20.5, lambda: self._commit(description="A model")),
            (21.0, lambda: self._ask(revision="f" * 40, report=True)),
        ]
        life = self.daemon.life
        for hour, do in script:
            life.every(DAY, do, first=hour * HOUR, last=friday * DAY)
        life.every(HOUR, self._ask, first=0.5 * HOUR, last=days * DAY)
        life.every(DAY, self._measure, first=23.9 * HOUR, last=days * DAY)
        self.daemon.run(days * DAY)

    # -- what is done

    def _documents(self) -> list[dict[str, Any]]:
        """What is declared today: the newest two versions, the last of them in dev."""
        numbers = [f"1.0.{day}" for day in (self.day - 1, self.day) if day >= 0]
        return [
            document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
            experiment(parameters={"depth": 1 + self.day}),
            experiment(
                "flaky",
                command=["python", "flaky.py"],
                parameters={"day": self.day, "well": self.well},
                retries=1,
            ),
            experiment(
                "slow", command=["python", "slow.py"], parameters={"until": str(self._until(self.slow))}
            ),
            document("Model", "m", {"description": self.description}),
            *(version(number) for number in numbers),
            document("Stage", "dev", {"gates": [{"metric": {"name": "rmse", "max": 20}}]}),
            promotion("dev", numbers[-1]),
        ]

    def _commit(self, **changed: Any) -> None:
        for name, value in changed.items():
            setattr(self, name, value)
        self.project.declare(self._documents())
        self.project.commit()

    def _release(self) -> None:
        self._commit(day=int(self.daemon.time.monotonic() // DAY))

    def _break(self) -> None:
        self.project.write("resources/all.yaml", "kind: Model\n  broken: [\n")
        self.project.commit("broken")

    def _begin_slowly(self) -> None:
        self._commit(slow=self.day + 1)

    def _until(self, number: int) -> Path:
        """The file that a slow training waits for; that of the first is always there."""
        path = self.folder / f"until-{number}"
        if number == 0:
            path.touch()
        return path

    def _by_hand(self, sql: str) -> None:
        with closing(sqlite3.connect(self.project.root / ".mlops/mlflow.db")) as database, database:
            database.execute(sql)

    def _ask(self, **wish: Any) -> None:
        requests.ask(self.daemon.controller.state, by="a test", now=self.daemon.time.now(), **wish)

    def _take_mlflow_away(self) -> None:
        place = self.project.root / ".mlops/mlflow.db"
        place.rename(place.with_name("away.db"))
        place.mkdir()

    def _bring_mlflow_back(self) -> None:
        place = self.project.root / ".mlops/mlflow.db"
        place.rmdir()
        place.with_name("away.db").rename(place)

    # -- what is measured

    def _measure(self) -> None:
        import psutil

        gc.collect()
        process = psutil.Process()
        told = self.daemon.told
        assert self.daemon.daemon.term is not None
        view = self.daemon.daemon.term.view
        assert view is not None
        found = {
            "day": int(self.daemon.time.monotonic() // DAY),
            "in force": view.planned.plan.base == self.project.git("rev-parse", "HEAD"),
            "steps left": len(view.planned.plan.steps),
            "real seconds": round(time.perf_counter() - self.began, 1),
            "passes": sum(told.results.values()),
            "results": dict(told.results),
            "events told": dict(told.reasons),
            "rss": process.memory_info().rss,
            "objects": len(gc.get_objects()),
            "descriptors": process.num_fds(),
            "threads": threading.active_count(),
            "children": len(process.children(recursive=True)),
            "rows": self._rows(),
            "files": self._files(),
        }
        print(json.dumps(found), flush=True)

    def _rows(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name in ("state.db", "cache.db"):
            with closing(sqlite3.connect(self.project.root / ".mlops" / name)) as database:
                sql = "SELECT namespace, count(*) FROM mlops_cache GROUP BY namespace"
                counts |= {f"{name} {namespace}": count for namespace, count in database.execute(sql)}
                for table in ("mlops_event", "mlops_lease"):
                    counts[f"{name} {table}"] = database.execute(f"SELECT count(*) FROM {table}").fetchone()[
                        0
                    ]
        return counts

    def _files(self) -> dict[str, int]:
        """Files and folders below `.mlops`, by the first folder."""
        home = self.project.root / ".mlops"
        return {
            place.name: sum(len(files) + len(folders) for _, folders, files in os.walk(place))
            if place.is_dir()
            else 1
            for place in sorted(home.iterdir())
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--log", action="store_true", help="what the daemon logs, on stderr")
    options = parser.parse_args()
    if options.log:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
        logging.getLogger("mlops").setLevel(logging.INFO)
    else:
        logging.disable(logging.CRITICAL)
    options.folder.mkdir(parents=True, exist_ok=True)
    Week(options.folder).live(options.days)


if __name__ == "__main__":
    main()
