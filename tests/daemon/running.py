"""A daemon under test: a fork that costs no import, or the real command; its log is read as JSON lines.

Run as a script, this file is the process that forks (see `forking`): MLflow is imported there once.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import yaml

sys.path.append(str(Path(__file__).parents[1] / "lifecycle"))  # where forking and the small project are

from forking import Ended, Fork, Forks
from git_project import GitProject, document, experiment, promotion, version

PATIENCE: Final = 90.0  # seconds after which something that has to come about will not
# What a fork changes before it runs: pauses after failures, and times of the lease, in seconds.
HURRIED: Final = {
    "daemon.retries.FIRST": 0.5,
    "daemon.retries.LONGEST": 1.0,
    "applying.train.FIRST_DELAY": 0.5,
    "applying.train.LONGEST_DELAY": 1.0,
}
SHORT: Final = {
    **HURRIED,
    "state.lease.acquire.ttl": 3.0,
    "state.lease.acquire.renew_every": 1.0,
    "cli.reconcile.SILENCE": 3.0,
}
MLOPS: Final = (sys.executable, "-m", "mlops")

Row = Mapping[str, Any]


def until(true: Callable[[], Any], what: Callable[[], str] | str, patience: float = PATIENCE) -> Any:
    """Wait for a true value, and give it."""
    deadline = time.monotonic() + patience
    while not (found := true()):
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.02)
    return found


@dataclass
class Daemon:
    """One `mlops daemon` and what it has logged."""

    pid: int
    log: Path
    process: Fork | subprocess.Popen[bytes]
    code: int | None = None  # how it ended
    seen: int = 0  # rows of the log before the last `mark`

    @property
    def rows(self) -> list[Row]:
        """What it has logged so far; a line that is no JSON is an error of the daemon's."""
        text = self.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def mark(self) -> None:
        """Look only at what comes from here on."""
        self.seen = len(self.rows)

    def told(self, event: str, **fields: Any) -> list[Row]:
        """The rows since the last mark of an event with these fields; of `message`, a part is enough."""
        return [row for row in self.rows[self.seen :] if row["event"] == event and _fits(row, fields)]

    def tells(self, event: str, within: float = PATIENCE, **fields: Any) -> Row:
        """The first such row since the last mark, once it is there, within so many seconds."""

        def found() -> list[Row]:
            rows = self.told(event, **fields)
            assert rows or self.ended() is None, f"it ended before it told {event} {fields}\n{self}"
            return rows

        row: Row = until(found, lambda: f"{event} {fields} was not told\n{self}", within)[0]
        return row

    def rests(self) -> None:
        """Wait until nothing happened for a moment; that a job goes on is nothing."""
        told, since = -1, time.monotonic()
        deadline = since + PATIENCE
        while time.monotonic() - since < 0.7:
            assert time.monotonic() < deadline, f"it comes to no rest\n{self}"
            if (now := sum(row["event"] != "Progress" for row in self.rows)) != told:
                told, since = now, time.monotonic()
            time.sleep(0.05)

    def ended(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""
        if self.code is None:
            if isinstance(self.process, Fork):
                found = self.process.poll()
                self.code = None if found is None else found.code
            else:
                self.code = self.process.poll()
        return self.code

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; gives its exit code."""
        self.send(number)
        until(lambda: self.ended() is not None, lambda: f"it does not end\n{self}")
        assert self.code is not None
        return self.code

    def __str__(self) -> str:
        return self.log.read_text()[-20_000:]


def _fits(row: Row, fields: Mapping[str, Any]) -> bool:
    return all(
        value in row["message"] if name == "message" else row.get(name) == value
        for name, value in fields.items()
    )


class Daemons:
    """Starts daemons, and ends those that are left."""

    def __init__(self, forks: Forks, folder: Path) -> None:
        self.forks = forks
        self._folder = folder
        self._all: list[Daemon] = []

    def fork(
        self,
        root: Path | None,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        changed: Mapping[str, Any] = HURRIED,
    ) -> Daemon:
        """A daemon on the project at `root` (None for one with --source), as a fork."""
        where = ["--project", str(root)] if root is not None else []
        fork = self.forks.start(
            "command", dict(environ or {}), dict(changed), [*where, "--debug", "daemon", *arguments]
        )
        return self._add(Daemon(fork.pid, fork.folder / "stderr", fork))

    def command(self, root: Path | None, *arguments: str, environ: Mapping[str, str] | None = None) -> Daemon:
        """The same as the real command."""
        where = ["--project", str(root)] if root is not None else []
        log = self._folder / f"daemon-{len(self._all)}.log"
        with log.open("wb") as told:
            process = subprocess.Popen(
                [*MLOPS, *where, "daemon", *arguments],
                env={**os.environ, **(environ or {}), "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                start_new_session=True,
            )
        return self._add(Daemon(process.pid, log, process))

    def run(self, root: Path, *arguments: str) -> Ended:
        """Another command on the project at `root`, to its end."""
        return self.start(root, *arguments).wait()

    def start(self, root: Path, *arguments: str, changed: Mapping[str, Any] = HURRIED) -> Fork:
        """The same, under way."""
        return self.forks.start("command", {}, dict(changed), ["--project", str(root), *arguments])

    def get(self, root: Path) -> dict[str, Any]:
        """What `mlops get` shows: its JSON, with the resources by `Kind/name`."""
        ended = self.run(root, "get", "-o", "json")
        assert ended.stdout, ended.stderr
        found: dict[str, Any] = json.loads(ended.stdout)
        return found | {"resources": {f"{row['kind']}/{row['name']}": row for row in found["resources"]}}

    def _add(self, daemon: Daemon) -> Daemon:
        self._all.append(daemon)
        return daemon

    def close(self) -> None:
        for daemon in self._all:
            if daemon.ended() is None:
                daemon.send(signal.SIGCONT)
                daemon.stop(signal.SIGKILL)


# -- what is declared


def declared(dev: str | None = "1.0.0", prod: str | None = None, **fit: Any) -> list[dict[str, Any]]:
    """A model with two versions of one run, and which of them is asked for in dev and in prod."""
    asked = {"dev": dev, "prod": prod}
    return [
        document("Dataset", "rows", {"uri": "data/rows.csv", "format": "csv"}),
        experiment(**fit),
        document("Model", "m", {"description": "A model"}),
        version("1.0.0"),
        version("2.0.0"),
        document("Stage", "dev", {"gates": [{"metric": {"name": "rmse", "max": 20}}]}),
        document("Stage", "prod", {"after": "dev", "gates": [{"metric": {"name": "rmse", "max": 15}}]}),
        *(promotion(stage, number) for stage, number in asked.items() if number is not None),
    ]


def configure(project: GitProject, **settings: Any) -> None:
    """Give a Project these settings, and an interval of an hour where they say nothing of it."""
    source = {"interval": "1h", **settings.pop("source", {})}
    project.write("mlops.yaml", yaml.safe_dump(document("Project", "p", {"source": source, **settings})))


def in_stage(place: Path, stage: str = "dev") -> str | None:
    """The declared version that a stage's alias names, in the MLflow store of a project or a home."""
    client = GitProject.at(place).client
    number = client.get_registered_model("m").aliases.get(stage)
    found: str | None = number and client.get_model_version("m", str(number)).tags["mlops.version"]
    return found


def sight(place: Path) -> Any:
    """The models, versions and experiments of such a store, as people see them, without their times."""
    client = GitProject.at(place).client
    models = [(m.name, m.description, m.tags, m.aliases) for m in client.search_registered_models()]
    versions = [(v.version, v.description or "", v.tags) for v in client.search_model_versions("name = 'm'")]
    experiments = [(e.name, e.tags) for e in client.search_experiments() if e.name != "p"]
    return models, sorted(versions, key=itemgetter(0)), sorted(experiments, key=itemgetter(0))


# -- what a fork may be


def command(environ: dict[str, str], changed: dict[str, Any], arguments: list[str]) -> int:
    """One command line, with other values of what `changed` names in mlops."""
    from mlops.cli import run

    os.environ.update(environ)
    for name, value in changed.items():
        place, _, last = name.rpartition(".")
        owner = pkgutil.resolve_name(f"mlops.{place}")
        if isinstance(owner, FunctionType):
            assert owner.__kwdefaults__ is not None
            owner.__kwdefaults__[last] = value
        else:
            setattr(owner, last, value)
    return run(arguments)


def prepared(root: str) -> int:
    """Make an empty MLflow store, as the first apply does."""
    import forking

    return forking.prepared(root)


if __name__ == "__main__":
    from forking import import_all, serve

    import_all()
    serve(globals())
