"""Many `mlops` processes without many imports: one process imports all, forks, and each fork is a command.

Importing MLflow costs seconds of processor time, a fork milliseconds. The parent opens no store and starts
no thread, so each fork is what a fresh process would be. Run as a script, this file is that parent: it reads
one JSON order a line and answers with one JSON line. Another script that calls `serve` is one, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Ended:
    """How a fork ended: `code` is the exit code, or minus the signal that killed it."""

    code: int
    stdout: str
    stderr: str

    @property
    def data(self) -> Any:
        """The last line that it printed, read as JSON."""
        return json.loads(self.stdout.strip().splitlines()[-1])


@dataclass(frozen=True, slots=True)
class Fork:
    """A command under way."""

    pid: int
    folder: Path
    forks: Forks

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return (self.folder / "stderr").read_text()

    def wait(self) -> Ended:
        """Its end."""
        return self._ended(self.forks.ask({"wait": self.pid}))

    def poll(self) -> Ended | None:
        """Its end, or None while it is under way; once it has ended, this and `wait` are asked no more."""
        code = self.forks.ask({"poll": self.pid})
        return None if code is None else self._ended(code)

    def _ended(self, code: int) -> Ended:
        return Ended(code, self.stdout, self.stderr)


class Forks:
    """The parent process, as the tests talk to it; a context manager."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *script: str) -> None:
        self._folder = folder
        self._count = 0
        self._parent = subprocess.Popen(
            [sys.executable, *(script or (__file__,))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environ, "PYTHONPATH": os.pathsep.join([*sys.path])},
            start_new_session=True,
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait()

    def start(self, what: str, *arguments: Any) -> Fork:
        """Fork, and call the function `what` of the parent's script there with `arguments`."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        for name in ("stdout", "stderr"):
            (folder / name).touch()
        order = {"call": what, "arguments": arguments, "folder": str(folder)}
        return Fork(self.ask(order), folder, self)

    def run(self, what: str, *arguments: Any) -> Ended:
        """As `start`, and wait for its end."""
        return self.start(what, *arguments).wait()

    def ask(self, order: Mapping[str, Any]) -> Any:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._parent.stdout.readline())


def eventually(true: Callable[[], bool], apply: Fork) -> None:
    """Wait until something is `true`; what `apply` said is shown when it does not become so."""
    for _ in range(3000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError(apply.stderr)


# -- what a fork may do


def mlops(root: str, *arguments: str) -> int:
    """One command line on the project at `root`."""
    from mlops.cli import run

    return run(["--project", root, *arguments])


def printed(root: str, *arguments: str) -> int:
    """One command line that prints JSON, in one line."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as caught:
        code = mlops(root, *arguments)
        text = caught.getvalue()
    print(json.dumps(json.loads(text)))
    return code


def runs(root: str) -> int:
    """Print all runs by experiment, oldest first, with their log's size and end, and their small text files."""
    from git_project import GitProject

    client = GitProject.at(Path(root)).client
    found: dict[str, list[dict[str, Any]]] = {}
    for kept in client.search_experiments():
        rows = found.setdefault(kept.name.rpartition("/")[2], [])
        for run in client.search_runs([kept.experiment_id], order_by=["start_time ASC"], max_results=1000):
            folder = Path(run.info.artifact_uri.removeprefix("file://"))
            log = folder / "mlops/log.txt"
            rows.append(
                {
                    "id": run.info.run_id,
                    "name": run.info.run_name,
                    "status": run.info.status,
                    "tags": run.data.tags,
                    "parameters": run.data.params,
                    "metrics": {k: v if v == v else "nan" for k, v in run.data.metrics.items()},
                    "inputs": [[i.dataset.name, i.tags[0].value] for i in run.inputs.dataset_inputs],
                    "texts": {path.name: path.read_text() for path in folder.glob("*.txt")},
                    "log": [log.stat().st_size, log.read_text()[-1000:]] if log.exists() else None,
                }
            )
    print(json.dumps({name: rows for name, rows in found.items() if rows}))
    return 0


def killed(root: str, kind: str, number: int, after: bool, *arguments: str) -> int:
    """One command line that is killed at its `number`th write of a kind; "" lets it live and tells its writes."""
    from killing import count_writes

    counter = count_writes((kind, number), after=after)
    code = mlops(root, *arguments)
    print()
    print(json.dumps(counter.counts))
    return code


def finished(root: str, *arguments: str) -> int:
    """One command line, then whether anything is left to do, then the world as JSON."""
    from git_project import GitProject

    code = mlops(root, *arguments)
    left = mlops(root, "plan", "--detailed-exitcode")
    print()
    print(json.dumps({"left": left, "world": GitProject.at(Path(root)).world()}))
    return code


def prepared(root: str) -> int:
    """Make an empty MLflow store, as the first apply does."""
    from mlops.tracking import Tracker

    Tracker(f"sqlite:///{root}/.mlops/mlflow.db", None, environ={}, now=time.time).prepare()
    return 0


# -- the parent


def serve(functions: Mapping[str, Any]) -> None:
    """Be the parent: fork for each order, until the input ends. All that forks need is imported already."""
    for line in sys.stdin:
        order = json.loads(line)
        if "call" in order:
            answer = _fork(functions[order["call"]], order["arguments"], Path(order["folder"]))
        else:
            answer = _end_of(order)
        print(json.dumps(answer), flush=True)


def _end_of(order: Mapping[str, int]) -> int | None:
    pid, status = os.waitpid(order.get("wait") or order["poll"], 0 if "wait" in order else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def import_all() -> None:
    """Import every module of mlops, and of MLflow what it needs."""
    import importlib
    import pkgutil

    import mlops
    from mlops.tracking import loading

    for module in pkgutil.walk_packages(mlops.__path__, "mlops."):
        if ".child" not in module.name:
            importlib.import_module(module.name)
    loading.load(database=True)


def _fork(work: Callable[..., int], arguments: Sequence[Any], folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name, handle in (("stdout", 1), ("stderr", 2)):
            to = os.open(folder / name, os.O_WRONLY | os.O_APPEND)
            os.dup2(to, handle)
            os.close(to)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        code = work(*arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import_all()
    serve(globals())
