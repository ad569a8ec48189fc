"""What four gates cost each of 1,000 promotions in a plan, beside the same promotions without a gate."""

from __future__ import annotations

from pathlib import Path

from harness import PYTHON, Claim, Report, alternate, main, measure, median, peak, workspace

TIMES = 5


def benchmark(rounds: int) -> Report:
    program = Path(__file__).with_name("gated_plan.py")
    with workspace() as folder:

        def timed(kind: str, times: int) -> list[str | Path]:
            return [PYTHON, program, kind, str(times)]

        rows = alternate(
            {
                "built, not planned": lambda: measure(timed("gated", 0), cwd=folder),
                f"{TIMES} plans without a gate": lambda: measure(timed("bare", TIMES), cwd=folder),
                f"{TIMES} plans with four gates": lambda: measure(timed("gated", TIMES), cwd=folder),
            },
            rounds=rounds,
        )
    built, bare, gated = (median(samples) for samples in rows.values())
    return Report(
        name="gates",
        title="Judging 1,000 promotions by four gates each",
        rows=rows,
        claims=[
            Claim("one plan of 1,000 promotions with 4,000 gates", (gated - built) / TIMES, 1.5, "s"),
            Claim("over the same without a gate", (gated - built) / (bare - built), 2.5, "×"),
            Claim("peak memory", max(peak(samples) for samples in rows.values()), 300, "MB"),
        ],
        notes=[
            "The gates: `metric` on a dataset, `champion`, `soak`, `signature`. Their evidence is in tags of runs, "
            "which the picture of MLflow holds: no gate asks MLflow for anything, and none loads a model.",
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=3)
