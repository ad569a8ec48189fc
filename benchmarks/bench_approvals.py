"""What 1,000 promotions that need approvals cost: a pass over all of them, and the requests of their reviews."""

from __future__ import annotations

import json
from pathlib import Path

from harness import PYTHON, Claim, Report, Sample, alternate, main, measure, median, workspace

PROMOTIONS = 1000


def benchmark(rounds: int) -> Report:
    program = Path(__file__).with_name("reviewed_promotions.py")
    whole = Path(__file__).with_name("approved_promotions.py")
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
        looks: dict[str, dict[str, float]] = {}
        for number in range(rounds):
            place = folder / f"whole-{number}"
            place.mkdir()
            measure([PYTHON, whole, str(PROMOTIONS), output], cwd=place)
            for name, seen in json.loads(output.read_text()).items():
                rows.setdefault(f"a pass: {name}", []).append(
                    Sample(seen["seconds"], seen["cpu"], int(seen["peak"]))
                )
                looks[name] = seen
    quiet = median(rows["a pass: nobody is asked, again"])
    first, *_, last = counts["passes"]
    return Report(
        name="approvals",
        title="Approvals of 1,000 promotions",
        rows=rows,
        claims=[
            Claim("requests for a promotion in the first pass", first["counted"] / PROMOTIONS, 2, ""),
            Claim("requests for a promotion in a later pass", last["requests"] / PROMOTIONS, 1, ""),
            Claim("of them counted against the limit", last["counted"], 0, ""),
            Claim("requests of a pass, all in one pull request", looks["nobody approved"]["requests"], 2, ""),
            Claim("the same in a later pass", looks["nobody approved, again"]["requests"], 1, ""),
            Claim("processes of git of a first pass", looks["a signed tag each"]["git"], 12, ""),
            Claim("processes of git of a later pass", looks["a signed tag each, again"]["git"], 6, ""),
            Claim("kept in the state", counts["kept"] / 1e6, 2, "MB"),
        ],
        notes=[
            "The first three rows are the client alone, with a pull request for each promotion, against the tests' "
            "GitHub on loopback. That server checks each request and answer against GitHub's published description "
            "and shares the process: the times are nearly all its own.",
            "The passes are the controller's whole look: revision, MLflow, plan. All promotions came in one pull "
            f"request. One in which there is nothing to approve takes {quiet:.3f} s. The first pass with "
            "1,000 new tags verifies 1,000 signatures, each by a process of ssh-keygen, once in the life of a tag.",
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=1)
