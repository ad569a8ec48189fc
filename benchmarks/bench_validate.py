"""`mlops validate` of 10,000 resources in 2,000 files, beside PyYAML's C loader alone on the same files."""

from __future__ import annotations

import shutil
from pathlib import Path

from generate import mixed
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


def benchmark(rounds: int) -> Report:
    with workspace() as folder:
        project = folder / "project"
        mixed(project, 2_000)
        commit(project, "10,000 resources")

        def cold() -> Sample:
            shutil.rmtree(project / ".mlops", ignore_errors=True)
            return measure([MLOPS, "validate"], cwd=project)

        rows = alternate(
            {
                "yaml.load_all(…, Loader=CSafeLoader)": lambda: measure(
                    [PYTHON, Path(__file__).with_name("bare_yaml.py"), project], cwd=folder
                ),
                "mlops validate, nothing cached": cold,
                "mlops validate, cached": lambda: measure([MLOPS, "validate"], cwd=project),
            },
            rounds=rounds,
        )
    bare, first, again = rows.values()
    return Report(
        name="validate",
        title="Validating 10,000 resources in 2,000 files",
        rows=rows,
        claims=[
            Claim("nothing cached, over the bare loader", median(first) / median(bare), 2, "×"),
            Claim("cached", median(again), 1, "s"),
            Claim("peak memory, nothing cached", peak(first), 300, "MB"),
        ],
        notes=["Whole processes, from start to exit, everything checked: schema, references, graph."],
    )


if __name__ == "__main__":
    main(benchmark, rounds=5)
