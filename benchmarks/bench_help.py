"""How long `mlops --help` and `mlops --version` take, beside importing click and beside `dvc --version`."""

from __future__ import annotations

from functools import partial

from harness import MLOPS, PYTHON, Argv, Claim, Report, alternate, dvc, main, measure, median, workspace


def benchmark(rounds: int) -> Report:
    cases: dict[str, Argv] = {
        'python -c "import click"': [PYTHON, "-c", "import click"],
        "mlops --help": [MLOPS, "--help"],
        "mlops --version": [MLOPS, "--version"],
        "dvc --version": [dvc(), "--version"],
    }
    with workspace() as folder:
        rows = alternate(
            {label: partial(measure, argv, cwd=folder) for label, argv in cases.items()},
            rounds=rounds,
        )
    click, helped, versioned, peer = (median(rows[label]) for label in cases)
    return Report(
        name="help",
        title="Starting up",
        rows=rows,
        claims=[
            Claim("`mlops --help` over `import click`", helped / click, 3, "×"),
            Claim("`mlops --version` over `import click`", versioned / click, 3, "×"),
            Claim("the slower of the two over `dvc --version`", max(helped, versioned) / peer, 1, "×"),
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=15)
