"""1,000 monitoring policies that have nothing new to look at: a plan, and the passes of a daemon."""

from __future__ import annotations

import shutil
import sys
from functools import partial

from bench_daemon import idle
from daemon_process import running
from generate import watched
from harness import MLOPS, Claim, Report, alternate, commit, main, measure, median, peak, workspace

COUNT = 1_000
WITH, WITHOUT = f"{COUNT:,} policies", "without policies"
PLAN, PASS, FIRST = "mlops plan, ", "daemon's pass, ", f"first look at the data of {COUNT:,} policies"


def benchmark(rounds: int) -> Report:
    with workspace() as place:
        folders = {WITH: place / "with", WITHOUT: place / "without"}
        watched(folders[WITHOUT], 0)
        commit(folders[WITHOUT], "one model in one stage")
        measure([MLOPS, "apply"], cwd=folders[WITHOUT])
        shutil.copytree(folders[WITHOUT], folders[WITH])
        watched(folders[WITH], COUNT)
        commit(folders[WITH], f"{COUNT} policies")
        rows = {FIRST: [measure([MLOPS, "apply"], cwd=folders[WITH])]}
        plan = [MLOPS, "plan", "--detailed-exitcode"]
        rows |= alternate(
            {PLAN + label: partial(measure, plan, cwd=folder) for label, folder in folders.items()},
            rounds=rounds,
        )
        for label, folder in folders.items():
            print(f"  a minute of a daemon, {label}", file=sys.stderr)
            with running(folder) as daemon:
                rows[PASS + label] = idle(daemon)
    return Report(
        name="monitoring",
        title=f"{COUNT:,} policies with nothing new",
        rows=rows,
        claims=[
            Claim("plan", median(rows[PLAN + WITH]), 2, "s"),
            Claim("a pass of the daemon", median(rows[PASS + WITH]), 2, "s"),
            Claim("the daemon's memory", peak(rows[PASS + WITH]), 250, "MB"),
        ],
        notes=[
            "One model is watched by all of them, each on data of its own in a folder that git ignores; every "
            "policy is due at every look (`schedule: 5s`), so that all files are looked for.",
            "Without policies: the same model, version and promotion, in a repository of its own.",
            "No window is closed yet, so the first look sums up the data and the references, and writes no "
            "evaluations to MLflow.",
            "The CPU of a daemon's pass is that of the whole minute in which it is made.",
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=3)
