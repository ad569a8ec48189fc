"""1,000 models, each with a version of one finished run and a promotion: resources in a second."""

from __future__ import annotations

import shutil
from pathlib import Path

from generate import registry
from harness import (
    MLOPS,
    PYTHON,
    Claim,
    Report,
    Sample,
    alternate,
    commit,
    main,
    measure,
    median,
    peak,
    workspace,
)

COUNT = 1_000
PEER = 200  # enough for a rate: MLflow's client needs several minutes for a thousand


def benchmark(rounds: int) -> Report:
    with workspace() as folder:
        trained, project = folder / "trained", folder / "project"
        registry(trained, 0)
        commit(trained, "one experiment and one stage")
        measure([MLOPS, "apply"], cwd=trained)
        # Artifact URIs in the store are absolute, so the measured copy takes the place of the trained one.
        kept = folder / "kept"
        trained.rename(kept)

        def apply() -> Sample:
            shutil.rmtree(trained, ignore_errors=True)
            shutil.copytree(kept, trained)
            registry(trained, COUNT)
            commit(trained, f"{COUNT} models")
            return measure([MLOPS, "apply"], cwd=trained)

        def peer() -> Sample:
            shutil.rmtree(project, ignore_errors=True)
            shutil.copytree(kept, project)
            script = Path(__file__).with_name("bare_registry.py")
            return measure([PYTHON, script, f"sqlite:///{project}/.mlops/mlflow.db", str(PEER)], cwd=project)

        rows = alternate(
            {
                f"mlops apply, {COUNT:,} models": apply,
                f"the same calls by MLflow's client, {PEER} models": peer,
            },
            rounds=rounds,
            warm_up=0,
        )
        rows |= alternate(
            {"mlops plan afterwards": lambda: measure([MLOPS, "plan", "--detailed-exitcode"], cwd=trained)},
            rounds=rounds,
        )
    applied, client, planned = rows.values()
    return Report(
        name="registry",
        title="1,000 models, versions and promotions",
        rows=rows,
        claims=[
            Claim("resources in a second", 3 * COUNT / median(applied), 50, "/s", more_is_better=True),
        ],
        notes=[
            f"{3 * COUNT:,} resources, planned and applied from a commit, on SQLite; the run was done.",
            f"MLflow's own client, one call after the other without planning or checking anything: "
            f"{3 * PEER / median(client):.0f} /s.",
            f"Planning again when nothing is left to do: {median(planned):.2f} s, {peak(planned):.0f} MB.",
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=3)
