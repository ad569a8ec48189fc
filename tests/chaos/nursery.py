"""The process that forks daemons, applies, looks, servers and meddlers: MLflow is imported once (see `forking`).

Its wall clock is the real one plus a shift that the run sets through a few shared bytes, so the clock jumps under a
running daemon. Pauses after failures are shortened: what is tested is that they end well, not that they are long.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import resource
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "lifecycle")]

_real = time.time
_shift: mmap.mmap | None = None


def _shifted() -> float:
    return _real() + (struct.unpack("d", _shift[:8])[0] if _shift is not None else 0.0)


time.time = _shifted
time.time_ns = lambda: int(_shifted() * 1e9)


def _by_clock(clock: str) -> None:
    global _shift
    with open(clock, "r+b") as shared:
        _shift = mmap.mmap(shared.fileno(), 8, mmap.MAP_SHARED, mmap.PROT_READ)


def _environment(environ: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)


def _impatient() -> None:
    """Shorter pauses after failures, for this process."""
    from mlops.applying import train
    from mlops.daemon import retries, term

    train.FIRST_DELAY = 0.2  # type: ignore[misc]
    train.LONGEST_DELAY = 2.0  # type: ignore[misc]
    retries.FIRST = 0.3  # type: ignore[misc]
    retries.LONGEST = 3.0  # type: ignore[misc]
    term.LATER = 2.0  # type: ignore[misc]


def _through_a_pipe() -> None:
    """Let stderr go through a process of its own: no limit and no full disk of ours loses a line of the log."""
    reads, writes = os.pipe()
    if os.fork() == 0:
        os.close(writes)
        if os.fork() == 0:
            os.setsid()
            # A limit may have hit the daemon before this process was there.
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            while lines := os.read(reads, 1 << 16):
                os.write(2, lines)
        os._exit(0)
    os.wait()
    os.close(reads)
    os.dup2(writes, 2)
    os.close(writes)


# -- what a fork may be


def command(clock: str, environ: dict[str, str], *arguments: str) -> int:
    """`mlops …`, with every log line that it can write."""
    from mlops.cli import run

    _environment(environ)
    _by_clock(clock)
    _impatient()
    _through_a_pipe()
    return run(list(arguments))


def looked(clock: str, environ: dict[str, str], root: str, revision: str) -> int:
    """Print what the daemon would still have to do for a revision, or for the one in force instead of it."""
    from mlops.controller import Controller
    from mlops.planning.runs import FINGERPRINT, is_open

    _environment(environ)
    _by_clock(clock)
    # A checkout may lack its mlops.yaml for a while; a home without a checkout knows where its mirror is.
    found = Controller.find(Path(root)) if Path(root, "mirror.json").exists() else Controller(Path(root))
    with found as controller:
        view = controller.look_for(revision)
    plan = view.planned.plan
    print(
        json.dumps(
            {
                "revision": plan.revision,
                "base": plan.base,
                "refused": view.refused,
                "coming": view.coming,
                "steps": [
                    [step.id, step.reason, [str(change) for change in step.changes]] for step in plan.steps
                ],
                "open": [
                    run.run_id
                    for run in view.observed.ledger.runs.values()
                    if FINGERPRINT in run.tags and is_open(run)
                ],
                "blocked": [[block.resource, block.reason, block.message] for block in plan.blocked],
                "trials": {
                    name: [
                        [state.trial.fingerprint, state.state, dict(state.trial.parameters)]
                        for state in states
                    ]
                    for name, states in view.planned.trials.items()
                },
            }
        )
    )
    return 0


def prepared(uri: str, artifacts: str) -> int:
    """Make an empty MLflow store."""
    from mlops.tracking import Tracker

    Tracker(uri, artifacts, environ={}, now=time.time).prepare()
    return 0


def meddler(clock: str, environ: dict[str, str], orders: str, answers: str) -> int:
    """Do to MLflow what people do, in the order of the lines of a named pipe (see `meddling`)."""
    from chaos.meddling import Meddler

    _environment(environ)
    _by_clock(clock)
    with open(orders) as lines, open(answers, "w") as told:
        hands: dict[str, Meddler] = {}
        for line in lines:
            uri, what, arguments = json.loads(line)
            hand = hands.setdefault(uri, Meddler(uri))
            try:
                answer: Any = getattr(hand, what)(*arguments)
            except Exception as error:  # a server that is down, a locked database: told, not ended by
                answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            told.write(json.dumps(answer) + "\n")
            told.flush()
    return 0


def server(environ: dict[str, str], port: int, uri: str, artifacts: str) -> int:
    """What `mlflow server` runs in its one worker."""
    import uvicorn

    _environment(
        environ
        | {
            "_MLFLOW_SERVER_FILE_STORE": uri,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
    )
    from mlflow.server.fastapi_app import app

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
    return 0


def main() -> None:
    """Import what forks need, then fork as told until the input ends."""
    from forking import import_all, serve

    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    import_all()
    if "--server" in sys.argv:
        os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
        importlib.import_module("mlflow.server.fastapi_app")
    serve(globals())


if __name__ == "__main__":
    main()
