"""`mlops plan` with nothing to do, beside `dvc status` on equal stages; and with 10,000 resources."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from generate import TRIVIAL_CODE, experiments, mixed
from harness import (
    MLOPS,
    PYTHON,
    Claim,
    Report,
    Sample,
    alternate,
    commit,
    dvc,
    git,
    main,
    measure,
    median,
    peak,
    workspace,
)

COUNT = 50


def stages(folder: Path, program: Path) -> None:
    """The same work as COUNT stages of DVC, reproduced once."""
    shutil.copytree(
        folder.parent / "experiments", folder, ignore=shutil.ignore_patterns(".git", ".mlops", "resources")
    )
    (folder / "training/train.py").write_text(TRIVIAL_CODE)
    git(folder, "init", "--quiet")
    for number in range(COUNT):
        (folder / f"out/{number}").mkdir(parents=True)
    measure([program, "init", "--quiet"], cwd=folder)
    pipeline = {
        f"trivial-{number:03}": {
            "cmd": f"{PYTHON} training/train.py --depth {number} --output out/{number}",
            "deps": ["training/train.py", "data/numbers.csv"],
            "metrics": [{f"out/{number}/metrics.json": {"cache": False}}],
        }
        for number in range(COUNT)
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": pipeline}))  # JSON is YAML
    measure([program, "repro", "--quiet"], cwd=folder)
    commit(folder, "50 stages")


def benchmark(rounds: int) -> Report:
    program = dvc()
    with workspace() as folder:
        fifty, piped, large = folder / "experiments", folder / "stages", folder / "large"
        experiments(fifty, COUNT)
        commit(fifty, "50 experiments")
        stages(piped, program)
        measure([MLOPS, "apply"], cwd=fifty)
        mixed(large, 2_000)
        commit(large, "10,000 resources")

        def cold() -> Sample:
            shutil.rmtree(large / ".mlops", ignore_errors=True)
            return measure([MLOPS, "plan"], cwd=large)

        def forgotten() -> Sample:
            for path in (fifty / ".mlops").glob("state.db*"):
                path.unlink()
            return measure([MLOPS, "plan", "--detailed-exitcode"], cwd=fifty)

        rows = alternate(
            {
                "dvc status, 50 stages": lambda: measure([program, "status"], cwd=piped),
                "mlops plan, 50 experiments": lambda: measure(
                    [MLOPS, "plan", "--detailed-exitcode"], cwd=fifty
                ),
            },
            rounds=rounds,
        )
        rows |= alternate(
            {"mlops plan, 50 experiments, state database deleted": forgotten},
            rounds=max(1, rounds // 3),
            warm_up=0,
        )
        rows |= alternate(
            {"mlops plan, 10,000 resources, nothing cached": cold}, rounds=max(1, rounds // 3), warm_up=0
        )
        rows |= alternate(
            {"mlops plan, 10,000 resources": lambda: measure([MLOPS, "plan"], cwd=large)},
            rounds=max(1, rounds // 3),
        )
    status, idle, _, first, again = rows.values()
    return Report(
        name="plan",
        title="Planning",
        rows=rows,
        claims=[
            Claim("nothing to do, over `dvc status`", median(idle) / median(status), 1, "×"),
            Claim("10,000 resources", median(again), 3, "s"),
            Claim("10,000 resources, peak memory", max(peak(first), peak(again)), 300, "MB"),
        ],
        notes=[
            "A stage of DVC has what an experiment has here: one script, one data file, one metric.",
            "The plan of 10,000 resources holds 2,000 trainings and what follows from them; none has run.",
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=9)
