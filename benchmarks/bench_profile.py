"""Summing up a window for monitoring, beside numpy's KS of the same columns; ten million rows of Parquet."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import PYTHON, Claim, Report, Sample, alternate, main, measure, median, peak, workspace

WINDOW_ROWS = 100_000
NUMBERS, CATEGORIES = 50, 10
BATCH_ROWS = 32_768
TYPES = {
    **{f"double{i}": "double" for i in range(8)},
    **{f"float{i}": "double" for i in range(4)},
    **{f"integer{i}": "integer" for i in range(4)},
    **{f"text{i}": "string" for i in range(3)},
    "at": "timestamp",
}


def benchmark(rounds: int) -> Report:
    with workspace() as folder:
        run(folder, "make_window")
        rows = alternate(
            {
                "numpy: sort and search, KS of 50 columns": lambda: run(folder, "plain"),
                "mlops: 60 columns summed up, KS on the bins": lambda: run(folder, "summed_up"),
            },
            rounds=rounds,
        )
        sizes = {1_000_000: "1 million × 20 of Parquet", 10_000_000: "10 million × 20 of Parquet"}
        for size, label in sizes.items():
            run(folder, "make_parquet", size)
            rows[label] = [run(folder, "parquet") for _ in range(min(rounds, 3))]
            if size == min(sizes):
                rows["the plan of that as the reference"] = [
                    run(folder, "reference") for _ in range(min(rounds, 3))
                ]
    plain, ours, small, _, large = rows.values()
    return Report(
        name="profile",
        title="Summing up data for monitoring",
        rows=rows,
        claims=[
            Claim(
                "100,000 × 60 over the plain KS of its 50 numeric columns",
                median(ours) / median(plain),
                1,
                "×",
            ),
            Claim("10 million × 20 from Parquet", median(large), 10, "s"),
            Claim("peak memory of that", peak(large), 700, "MB"),
            Claim("memory of 10 million rows over that of 1 million", peak(large) / peak(small), 1.1, "×"),
        ],
        notes=[
            "Time of the work alone, without starting Python and importing; two threads on both sides.",
            "The plain KS sorts reference and window and searches all values of both in each; numbers only.",
            "The 20 columns are 8 doubles, 4 floats, 4 integers, 3 texts (of 5, 1,000 and 100,000 values) and "
            "the event time, which puts the rows into 10 windows.",
        ],
    )


def run(folder: Path, case: str, *arguments: int) -> Sample:
    """One case in a process of its own, which says how long the work took."""
    result = folder / "result.json"
    command: list[str | Path] = [PYTHON, Path(__file__), case, folder, *map(str, arguments)]
    whole = measure(command, cwd=folder)
    said = json.loads(result.read_text())
    return Sample(said["seconds"], said["cpu"], whole.peak_bytes)


def make_window(folder: Path) -> Callable[[], object]:
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(1)
    for name in ("reference", "window"):
        columns: dict[str, Any] = {}
        for i in range(NUMBERS):
            values = random.lognormal(3, 1, WINDOW_ROWS) if i % 2 else random.normal(size=WINDOW_ROWS)
            columns[f"number{i}"] = values
        for i in range(CATEGORIES):
            names = np.array([f"category {number}" for number in range(10 * (i + 1))])
            columns[f"text{i}"] = pa.array(names[random.integers(0, len(names), WINDOW_ROWS)])
        with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as sink:
            table = pa.table(columns)
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=BATCH_ROWS)
    return lambda: None


def plain(folder: Path) -> Callable[[], object]:
    import numpy as np

    names = [f"number{i}" for i in range(NUMBERS)]
    reference, window = (
        [_table(folder, which).column(name).to_numpy() for name in names] for which in ("reference", "window")
    )

    def ks(column: int) -> float:
        one, other = np.sort(reference[column]), np.sort(window[column])
        both = np.concatenate((one, other))
        first = np.searchsorted(one, both, side="right") / len(one)
        return float(np.max(np.abs(first - np.searchsorted(other, both, side="right") / len(other))))

    def work() -> list[float]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(ks, range(NUMBERS)))

    return work


def summed_up(folder: Path) -> Callable[[], object]:
    import numpy as np

    from mlops.monitoring.summaries.numeric import NumericSummary
    from mlops.monitoring.summaries.reference import plan_of
    from mlops.monitoring.summaries.summarising import summarise

    types = {
        **{f"number{i}": "double" for i in range(NUMBERS)},
        **{f"text{i}": "string" for i in range(CATEGORIES)},
    }
    batches = _table(folder, "window").to_batches()
    past = _table(folder, "reference").to_batches()
    plan = plan_of(past, types)
    reference = summarise(past, plan).windows[0]

    def work() -> list[float]:
        window = summarise(batches, plan).windows[0]
        found = []
        for name, known in reference.columns.items():
            seen = window.columns[name]
            if isinstance(known, NumericSummary) and isinstance(seen, NumericSummary):
                shares = (np.cumsum(each.bins) / each.finite for each in (known, seen))
                found.append(float(np.max(np.abs(next(shares) - next(shares)))))
        return found

    return work


def make_parquet(folder: Path, rows: str) -> Callable[[], object]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(2)
    total, chunk = int(rows), 500_000
    many = np.array([f"customer {number}" for number in range(100_000)])
    few = np.array(["FR", "CI", "SN", "ML", "BJ"])
    writer = None
    for begin in range(0, total, chunk):
        at = (np.arange(begin, begin + chunk) / total * 10 * 86_400e6).astype(np.int64)
        columns: dict[str, Any] = {f"double{i}": random.lognormal(i, 1, chunk) for i in range(8)}
        columns |= {f"float{i}": random.normal(size=chunk).astype(np.float32) for i in range(4)}
        columns |= {f"integer{i}": random.poisson(10.0**i, chunk) for i in range(4)}
        columns["text0"] = few[random.integers(0, 5, chunk)]
        columns["text1"] = many[random.integers(0, 1_000, chunk)]
        columns["text2"] = many[random.integers(0, 100_000, chunk)]
        columns["at"] = pa.array(at, pa.timestamp("us"))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(folder / "rows.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return lambda: None


def parquet(folder: Path) -> Callable[[], object]:
    from mlops.monitoring.summaries.reference import plan_of
    from mlops.monitoring.summaries.summarising import summarise
    from mlops.monitoring.windows import EventWindows

    first = [batch for batch, _ in zip(_parquet(folder), range(4), strict=False)]
    plan = plan_of(first, TYPES)
    del first
    return lambda: summarise(_parquet(folder), plan, EventWindows(86_400), timestamp="at")


def reference(folder: Path) -> Callable[[], object]:
    from mlops.monitoring.summaries.reference import plan_of

    return lambda: plan_of(_parquet(folder), TYPES)


def _table(folder: Path, name: str) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(folder / f"{name}.arrow"))).read_all()


def _parquet(folder: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with open(folder / "rows.parquet", "rb") as stream:
        file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
        yield from file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)


def _child(case: str, folder: Path, *arguments: str) -> None:
    prepare: Callable[..., Callable[[], object]] = globals()[case]
    work = prepare(folder, *arguments)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (folder / "result.json").write_text(json.dumps({"seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    if len(sys.argv) > 2 and Path(sys.argv[2]).is_dir():
        _child(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    else:
        main(benchmark, rounds=5)
