"""Measure commands side by side: alternating runs, medians, peak memory, and the machine they ran on.

Only the standard library is imported here: on Linux a child's peak memory is never reported as less than
that of the process which started it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
MLOPS = str(BIN / "mlops")
PYTHON = sys.executable
DVC = "3.67.1"

Argv = Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: wall-clock and CPU seconds, and the peak resident bytes of its largest process."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A promise and what was measured: `value <= limit`, or `>=` where more is better."""

    what: str
    value: float
    limit: float
    unit: str
    more_is_better: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.more_is_better else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found; `rows` are samples by label, in the order of the table."""

    name: str
    title: str
    rows: Mapping[str, Sequence[Sample]]
    claims: Sequence[Claim]
    notes: Sequence[str] = field(default=())


def environment(**extra: str) -> dict[str, str]:
    """The caller's environment without MLflow's and mlops' settings or telemetry, with a git identity."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "MLOPS_", "GIT_"))
    }
    return {
        **kept,
        "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Benchmark",
        "GIT_AUTHOR_EMAIL": "benchmark@example.com",
        "GIT_COMMITTER_NAME": "Benchmark",
        "GIT_COMMITTER_EMAIL": "benchmark@example.com",
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_COLOR": "1",
        **extra,
    }


def measure(argv: Argv, *, cwd: Path, env: Mapping[str, str] | None = None, expect: int = 0) -> Sample:
    """Run `argv` once. Raises SystemExit with the end of its output if it does not exit with `expect`."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            argv, cwd=cwd, env=env or environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != expect:
            output.seek(max(0, output.tell() - 3000))
            tail = output.read().decode(errors="replace")
            raise SystemExit(
                f"{' '.join(map(str, argv))} exited with {child.returncode}, not {expect}:\n{tail}"
            )
    unit = 1 if sys.platform == "darwin" else 1024
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def alternate(
    cases: Mapping[str, Callable[[], Sample]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[Sample]]:
    """Run every case once a round, each round starting with the next: a slow minute hits all alike."""
    labels = list(cases)
    samples: dict[str, list[Sample]] = {label: [] for label in labels}
    for number in range(-warm_up, rounds):
        first = number % len(labels)
        for label in labels[first:] + labels[:first]:
            sample = cases[label]()
            if number >= 0:
                samples[label].append(sample)
        print(f"  round {number + 1} of {rounds}", file=sys.stderr)
    return samples


def median(samples: Sequence[Sample]) -> float:
    """The median of the wall-clock seconds."""
    return statistics.median(each.seconds for each in samples)


def peak(samples: Sequence[Sample]) -> float:
    """The largest peak memory in MB (10^6 bytes)."""
    return max(each.peak_bytes for each in samples) / 1e6


@contextmanager
def workspace() -> Iterator[Path]:
    """An empty folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder:
        yield Path(folder).resolve()


def git(folder: Path, *arguments: str) -> None:
    """Run git in `folder`; raises CalledProcessError."""
    command = ["git", "-c", "init.defaultBranch=main", "-c", "gc.auto=0", *arguments]
    subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)


def commit(folder: Path, message: str) -> None:
    """Commit everything in `folder`, making the repository first if there is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def dvc() -> Path:
    """DVC's program, installed once into an environment of its own under build/peers."""
    home = ROOT / "build" / "peers" / f"dvc-{DVC}"
    program = home / "bin" / "dvc"
    if not program.exists():
        shutil.rmtree(home, ignore_errors=True)
        print(f"  installing dvc {DVC} into {home.relative_to(ROOT)}", file=sys.stderr)
        uv = BIN / "uv"
        subprocess.run([uv, "venv", "--quiet", "--python", PYTHON, home], check=True)
        install: list[str | Path] = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--python",
            home / "bin/python",
        ]
        subprocess.run([*install, f"dvc=={DVC}"], check=True)
    return program


def machine() -> str:
    """One line: processor, memory, system, versions and date."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        processor = found.group(1) if found else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {_version(name)}" for name in ("mlflow", "pydantic", "pyyaml"))
    return (
        f"{cores} cores of {processor}, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}, {packages}, dvc {DVC}, "
        f"{time.strftime('%Y-%m-%d')}"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def render(report: Report) -> str:
    """The report as Markdown, which is also readable on a terminal."""
    table = [["", "median", "fastest to slowest", "CPU", "peak memory", "runs"]]
    for label, samples in report.rows.items():
        seconds = sorted(each.seconds for each in samples)
        cpu = statistics.median(each.cpu_seconds for each in samples)
        table.append(
            [
                label,
                _time(median(samples)),
                f"{_time(seconds[0])} to {_time(seconds[-1])}",
                _time(cpu),
                f"{peak(samples):.0f} MB",
                str(len(samples)),
            ]
        )
    lines = [f"## {report.title}", "", f"`python benchmarks/bench_{report.name}.py`", "", *_markdown(table)]
    if report.claims:
        table = [["promise", "measured", "limit", ""]]
        for claim in report.claims:
            limit = f"at {'least' if claim.more_is_better else 'most'} {claim.limit:g} {claim.unit}"
            met = "met" if claim.met else "**missed**"
            table.append([claim.what, f"{claim.value:.3g} {claim.unit}", limit, met])
        lines += ["", *_markdown(table)]
    if report.notes:
        lines += ["", *(f"- {note}" for note in report.notes)]
    return "\n".join([*lines, "", f"Measured on {machine()}."])


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def write(report: Report, page: Path) -> None:
    """Put the report into its marked section of `page`, at the end if it has none yet."""
    opening, closing = f"<!-- {report.name} -->", f"<!-- /{report.name} -->"
    section = f"{opening}\n{render(report)}\n{closing}"
    text = page.read_text() if page.exists() else "# Benchmarks\n"
    before, found, rest = text.partition(opening)
    after = rest.partition(closing)[2] if found else "\n"
    page.write_text((before if found else f"{text.rstrip()}\n\n") + section + after)


def main(benchmark: Callable[[int], Report], *, rounds: int) -> None:
    """The command line of one benchmark; `benchmark` takes the number of rounds."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"measured runs of each case ({rounds})")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="also put the result into this Markdown page"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if a promise is missed")
    options = parser.parse_args()
    report = benchmark(options.rounds)
    print(render(report))
    if options.write:
        write(report, options.write)
    if options.strict and not all(claim.met for claim in report.claims):
        raise SystemExit(1)
