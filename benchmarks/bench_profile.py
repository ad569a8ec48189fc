"""Judging a window for monitoring, beside numpy's KS of the same columns; millions of rows of Parquet; a new day.

`--peers PYTHON` also measures alibi-detect and Evidently, installed for that interpreter; `--million 100` makes the
largest file one of 100 million rows (11 GB) instead of 30.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from importlib.metadata import version
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
DAYS, DAY_ROWS = 365, 10_000
PEERS = (
    ("alibi-detect: TabularDrift of 60 columns", "alibi", "alibi-detect"),
    ("Evidently: DataDriftPreset of 60 columns", "evidently", "evidently"),
)


def benchmark(rounds: int, peers: str | None = None, most: int = 30) -> Report:
    notes: list[str] = []
    with workspace() as folder:
        run(folder, "make_window")
        plain_ks, judged_here = (
            "numpy: sort and search, KS of 50 columns",
            "mlops: 60 columns summed up and judged",
        )
        cases = {plain_ks: lambda: run(folder, "plain"), judged_here: lambda: run(folder, "judged")}
        rows = alternate(cases, rounds=rounds)
        if peers is not None:
            for label, case, package in PEERS:
                rows[label] = [run(folder, case, python=peers) for _ in range(min(rounds, 3))]
                found = json.loads((folder / "result.json").read_text())["version"]
                notes.append(f"{package} {found}.")
        few = min(rounds, 3)
        for million in (1, 10, most):
            run(folder, "make_parquet", million * 1_000_000)
            rows[f"{million} million × 20 of Parquet"] = [run(folder, "parquet") for _ in range(few)]
            if million == 1:
                rows["the plan of that as the reference"] = [run(folder, "reference") for _ in range(few)]
        (folder / "rows.parquet").unlink()
        run(folder, "make_year")
        rows["a year of daily files at first sight"] = [run(folder, "year") for _ in range(few)]
        rows["a new day on that year"] = [run(folder, "new_day") for _ in range(few)]
    small, large, largest = (rows[f"{million} million × 20 of Parquet"] for million in (1, 10, most))
    year, day = rows["a year of daily files at first sight"], rows["a new day on that year"]
    ratio = median(rows[judged_here]) / median(rows[plain_ks])
    return Report(
        name="profile",
        title="Summing up data for monitoring",
        rows=rows,
        claims=[
            Claim("100,000 × 60 over the plain KS of its 50 numeric columns", ratio, 1, "×"),
            Claim("10 million × 20 from Parquet", median(large), 10, "s"),
            Claim("peak memory of that", peak(large), 700, "MB"),
            Claim("memory of 10 million rows over that of 1 million", peak(large) / peak(small), 1.1, "×"),
            Claim(f"peak memory of {most} million × 20", peak(largest), 700, "MB"),
            Claim("a new day over its year", median(day) / median(year), 0.05, "×"),
        ],
        notes=[
            "Time of the work alone, without starting Python and importing; two threads on both sides.",
            "The plain KS sorts reference and window and searches all values of both in each; numbers only. The "
            "reference has been summed up before, as it is for all windows but the first; judging is the drift of "
            "all columns by `ks` and `jensenShannon`.",
            "The 20 columns are 8 doubles, 4 floats, 4 integers, 3 texts (of 5, 1,000 and 100,000 values) and "
            "the event time, which puts the rows into 10 windows.",
            f"The year is {DAYS} files of {DAY_ROWS:,} rows × 20 through a whole assessment with drift and upstream "
            "checks; summaries are kept in memory.",
            *notes,
        ],
    )


def run(folder: Path, case: str, *arguments: int, python: str | Path = PYTHON) -> Sample:
    """One case in a process of its own, which says how long the work took."""
    result = folder / "result.json"
    command: list[str | Path] = [python, Path(__file__), case, folder, *map(str, arguments)]
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


def judged(folder: Path) -> Callable[[], object]:
    from mlops.monitoring.checks import DriftSettings, data_drift
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
    settings = DriftSettings("inputs", "ks", min_rows=1)
    return lambda: data_drift(settings, reference, summarise(batches, plan).windows[0])


def alibi(folder: Path) -> Callable[[], object]:
    import numpy as np

    drift = import_module("alibi_detect.cd")  # of another interpreter, so not for type checkers

    def numbers(name: str) -> Any:
        frame = _table(folder, name).to_pandas()
        coded = [frame[column] for column in frame.columns[:NUMBERS]]
        coded += [frame[column].str.split(" ").str[1].astype(float) for column in frame.columns[NUMBERS:]]
        return np.column_stack(coded)

    past, window = numbers("reference"), numbers("window")
    kinds = {NUMBERS + i: None for i in range(CATEGORIES)}
    return lambda: drift.TabularDrift(past, categories_per_feature=kinds).predict(window)


def evidently(folder: Path) -> Callable[[], object]:
    drift, presets = import_module("evidently"), import_module("evidently.presets")
    past, window = (_table(folder, name).to_pandas() for name in ("reference", "window"))
    return lambda: drift.Report([presets.DataDriftPreset()]).run(window, past).dict()


def make_parquet(folder: Path, rows: str) -> Callable[[], object]:
    import pyarrow.parquet as pq

    total, chunk = int(rows), 500_000
    drawn = [_drawn(seed, chunk) for seed in range(4)]
    writer = None
    for number, begin in enumerate(range(0, total, chunk)):
        table = _at(drawn[number % len(drawn)], begin / total * 10, chunk / total * 10)
        writer = writer or pq.ParquetWriter(folder / "rows.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return lambda: None


def make_year(folder: Path) -> Callable[[], object]:
    import pyarrow.parquet as pq

    drawn = [_drawn(seed, DAY_ROWS) for seed in range(20)]
    (folder / "days").mkdir()
    for day in range(DAYS + 2):
        pq.write_table(_at(drawn[day % len(drawn)], day, 1), folder / "days" / f"{day:03}.parquet")
    return lambda: None


def _drawn(seed: int, rows: int) -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(seed)
    many = np.array([f"customer {number}" for number in range(100_000)])
    few = np.array(["FR", "CI", "SN", "ML", "BJ"])
    columns: dict[str, Any] = {f"double{i}": random.lognormal(i, 1, rows) for i in range(8)}
    columns |= {f"float{i}": random.normal(size=rows).astype(np.float32) for i in range(4)}
    columns |= {f"integer{i}": random.poisson(10.0**i, rows) for i in range(4)}
    columns["text0"] = few[random.integers(0, 5, rows)]
    columns["text1"] = many[random.integers(0, 1_000, rows)]
    columns["text2"] = many[random.integers(0, 100_000, rows)]
    return columns


def _at(columns: dict[str, Any], day: float, days: float) -> Any:
    """These rows at times spread over `days` from `day` on."""
    import numpy as np
    import pyarrow as pa

    rows = len(columns["text0"])
    times = ((day + np.arange(rows) / rows * days) * 86_400e6).astype(np.int64)
    return pa.table({**columns, "at": pa.array(times, pa.timestamp("us"))})


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


def year(folder: Path) -> Callable[[], object]:
    return _watching(folder, {}, DAYS + 1)


def new_day(folder: Path) -> Callable[[], object]:
    """One file more after a year that is known."""
    from mlops.monitoring.evaluating import Stored

    kept: dict[str, bytes] = {}
    found = _watching(folder, kept, DAYS + 1)()
    stored = {one.start: Stored(one.key, one.revision, found.records[one.start]) for one in found.evaluations}
    return _watching(folder, kept, DAYS + 2, stored)


def _watching(
    folder: Path, kept: dict[str, bytes], files: int, stored: dict[Any, Any] | None = None
) -> Callable[[], Any]:
    """An assessment of the first so many `files`; the reference is the first ten of them."""
    from mlops.monitoring.evaluating import DataFile, Subject, Table, assess
    from mlops.resources.dataset import Columns
    from mlops.resources.monitoring_policy import MonitoringPolicySpec

    class Kept:
        def get_many(self, keys: Any) -> dict[str, bytes]:
            return {key: kept[key] for key in keys if key in kept}

        def put_many(self, entries: Any) -> None:
            kept.update(entries)

    def file(path: Path) -> DataFile:
        def batches(columns: Sequence[str] | None) -> Iterator[Any]:
            import pyarrow.parquet as pq

            yield from pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS, columns=columns)

        return DataFile(path.name, path.name, 0, batches)

    days = [file(path) for path in sorted((folder / "days").iterdir())[:files]]
    spec = MonitoringPolicySpec.model_validate(
        {
            "model": "loan",
            "stage": "production",
            "data": {"predictions": "scored"},
            "window": {"size": "1d"},
            "checks": [
                {"name": "upstream", "type": "upstreamChange"},
                {"name": "inputs", "type": "dataDrift"},
            ],
        }
    )
    meant = Columns(timestamp="at")
    past, new = (
        Table(name, name, TYPES, tuple(part), meant)
        for name, part in (("train", days[:10]), ("scored", days))
    )
    subject = Subject(spec, "loan-production", "1", new, reference=past)
    summaries = Kept()
    return lambda: assess(subject, summaries, stored or {}, now=400 * 86_400.0)


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
    versions = {label: version(package) for _, label, package in PEERS if label == case}
    (folder / "result.json").write_text(
        json.dumps({"seconds": seconds, "cpu": cpu, "version": versions.get(case)})
    )


if __name__ == "__main__":
    if len(sys.argv) > 2 and Path(sys.argv[2]).is_dir():
        _child(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    else:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--peers", metavar="PYTHON")
        parser.add_argument("--million", type=int, default=30)
        options, sys.argv[1:] = parser.parse_known_args()
        main(partial(benchmark, peers=options.peers, most=options.million), rounds=5)
