"""How often GitHub is asked about 1,000 promotions that were reviewed: at first, and again when nothing happened."""

from __future__ import annotations

import json
from pathlib import Path

from harness import PYTHON, Claim, Report, alternate, main, measure, workspace

PROMOTIONS = 1000


def benchmark(rounds: int) -> Report:
    program = Path(__file__).with_name("reviewed_promotions.py")
    with workspace() as folder:
        output = folder / "counts.json"

        def timed(passes: int) -> list[str | Path]:
            return [PYTHON, program, str(PROMOTIONS), str(passes), output]

        rows = alternate(
            {
                "GitHub filled, not asked": lambda: measure(timed(0), cwd=folder),
                "asked once": lambda: measure(timed(1), cwd=folder),
                "asked three times": lambda: measure(timed(3), cwd=folder),
            },
            rounds=rounds,
            warm_up=0,
        )
        measure(timed(3), cwd=folder)
        counts = json.loads(output.read_text())
    first, *_, last = counts["passes"]
    return Report(
        name="approvals",
        title="Reviews of 1,000 promotions on GitHub",
        rows=rows,
        claims=[
            Claim("requests for a promotion in the first pass", first["counted"] / PROMOTIONS, 2, ""),
            Claim("requests for a promotion in a later pass", last["requests"] / PROMOTIONS, 1, ""),
            Claim("of them counted against the limit", last["counted"], 0, ""),
            Claim("kept in the state", counts["kept"] / 1e6, 2, "MB"),
        ],
        notes=[
            "The client alone, against the tests' GitHub on loopback. That server checks each request and answer "
            "against GitHub's published description and shares the process: the times are nearly all its own.",
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=1)
