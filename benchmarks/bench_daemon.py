"""`mlops daemon`: what it costs while nothing happens, and how long it takes when something does."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from daemon_process import DaemonProcess, Ledger, running
from generate import registry
from harness import (
    MLOPS,
    PYTHON,
    Claim,
    Report,
    Sample,
    commit,
    environment,
    git,
    main,
    measure,
    median,
    peak,
    workspace,
)

SIZES = {100: 33, 1_000: 333, 10_000: 3_333}  # resources → models, with a version and a promotion each
LARGE = max(SIZES)
FIRST = (100, 500, 1_000)  # promotions
MINUTE = 60.0
OLD = 20  # versions of each model, and as many times the events, where there is much history
RUNS = 3_000  # of trials that are not declared any more

IDLE_PASS, COMMIT, HEAL = "idle pass, ", "commit to in force, 1 of ", "alias lost by hand to healed, 1 of "
RECONCILE = "first reconcile, "
BARE_GIT = f"git rev-parse and ls-tree, {LARGE:,} resources"
BARE_MLFLOW = "the calls of one promotion, by MLflow's client"
AGED = f"{LARGE:,} resources with history"

FLIPPED = "model-00007"  # whose promotion the commits change
EDITED = Path(f"resources/models/{FLIPPED}.yaml")


def promoted(folder: Path, models: int) -> None:
    """A project whose models are all in dev, one of them with a second version."""
    registry(folder, models)
    text = (folder / EDITED).read_text()
    model, version, promotion = text.split("---\n")
    second = version.replace("1.0.0", "2.0.0")
    (folder / EDITED).write_text("---\n".join([model, version, second, promotion]))
    commit(folder, f"{models} models")
    measure([MLOPS, "apply"], cwd=folder)


def committed(folder: Path) -> str:
    """The sha of a commit of everything in `folder`, made but not yet on the branch."""
    git(folder, "add", "--all")
    tree = _git(folder, "write-tree")
    return _git(folder, "commit-tree", tree, "-p", "HEAD", "-m", "a change")


def flips(folder: Path) -> Iterator[tuple[str, str]]:
    """Commits that move one promotion to the other version: each one's sha, and that version."""
    text = (folder / EDITED).read_text()
    head, promotion = text.rsplit("---\n", 1)
    for number in itertools.cycle("21"):
        version = f"{number}.0.0"
        (folder / EDITED).write_text(f"{head}---\n{promotion.replace('1.0.0', version)}")
        yield committed(folder), version


def in_force(folder: Path, daemon: DaemonProcess, rounds: int) -> list[Sample]:
    """From a commit on the branch to the alias moved and the revision in force."""
    ledger, samples = Ledger(folder), []

    def seen(sha: str, version: str) -> bool:
        return ledger.in_force() == sha and ledger.promoted(FLIPPED) == version

    for sha, version in itertools.islice(flips(folder), rounds + 1):
        move = partial(git, folder, "update-ref", "refs/heads/main", sha)
        samples.append(daemon.timed(move, partial(seen, sha, version)))
        daemon.settles()
    return samples[1:]


def healed(folder: Path, daemon: DaemonProcess, rounds: int) -> list[Sample]:
    """From an alias deleted by hand to the alias restored."""
    ledger, samples = Ledger(folder), []

    def seen(model: str) -> bool:
        return ledger.promoted(model) == "1.0.0"

    for number in range(rounds + 1):
        model = f"model-{10 + number:05}"
        lose = partial(ledger.write, "DELETE FROM registered_model_aliases WHERE name = ?", model)
        samples.append(daemon.timed(lose, partial(seen, model)))
        daemon.settles()
    return samples[1:]


def idle(daemon: DaemonProcess) -> list[Sample]:
    """A minute in which nothing happens: how long its passes took, and the CPU of the whole minute."""
    daemon.rests()
    daemon.imported()
    since, before = daemon.written(), daemon.used()
    while not daemon.passes(since) or daemon.used().at - before.at < MINUTE:
        time.sleep(0.5)
    after = daemon.used()
    cpu = (after.cpu - before.cpu) / (after.at - before.at) * MINUTE
    return [Sample(row["seconds"], cpu, after.resident) for row in daemon.passes(since)]


def first(folder: Path, promotions: int) -> Sample:
    """From the commit that declares models, versions and promotions to the last alias, by a daemon that runs."""
    registry(folder, 0)
    commit(folder, "one experiment and one stage")
    measure([MLOPS, "apply"], cwd=folder)
    ledger = Ledger(folder)
    with running(folder) as daemon:
        daemon.rests()
        registry(folder, promotions)
        sha = committed(folder)
        return daemon.timed(
            lambda: git(folder, "update-ref", "refs/heads/main", sha),
            lambda: ledger.aliases() == promotions and ledger.in_force() == sha,
        )


def bare_promotions(folder: Path, rounds: int) -> list[Sample]:
    """The same writes by MLflow's client: what no reconciler can do without."""
    script = Path(__file__).with_name("bare_promotion.py")
    told = subprocess.run(
        [PYTHON, script, Ledger(folder).uri, FLIPPED, str(rounds)],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return [Sample(*row) for row in json.loads(told.stdout.splitlines()[-1])]


def bare_git(folder: Path, rounds: int) -> list[Sample]:
    """The least that has to be asked of git: where the branch stands, and what files are there."""
    samples = []
    for _ in range(rounds):
        where = measure(["git", "rev-parse", "main"], cwd=folder)
        files = measure(["git", "ls-tree", "-r", "main"], cwd=folder)
        seconds, cpu = where.seconds + files.seconds, where.cpu_seconds + files.cpu_seconds
        samples.append(Sample(seconds, cpu, files.peak_bytes))
    return samples


def age(folder: Path) -> None:
    """Give a project a past: `OLD` times as many runs and versions as it has, and events."""
    ledger = Ledger(folder)
    with closing(sqlite3.connect(ledger.path, timeout=60)) as database, database:
        _copy_versions(database)
        _copy_runs(database, RUNS)
    with closing(sqlite3.connect(folder / ".mlops/state.db", timeout=60)) as database, database:
        _copy_events(database)


def _copy_versions(database: sqlite3.Connection) -> None:
    """Versions of every model from long ago: bound, promoted, and followed by the next."""
    value = (
        "CASE key WHEN 'mlops.version' THEN '0.0.' || :n"
        " WHEN 'mlops.resource' THEN 'ModelVersion/' || name || '-0.0.' || :n"
        " WHEN 'mlops.stage.dev.history' THEN replace(value, '\"}]', '\",\"until\":\"' || :until || '\"}]')"
        " ELSE value END"
    )
    for number in range(2, OLD):
        values = {"n": number, "flipped": FLIPPED, "until": "2020-01-01T00:00:00.000Z", "revision": "0" * 40}
        for table, swapped in (("model_versions", {}), ("model_version_tags", {"value": value})):
            columns = _columns(database, table)
            taken = ", ".join(
                {**swapped, "version": "version + :n"}.get(column, column) for column in columns
            )
            database.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {taken} FROM {table} WHERE version = 1"
                " AND name <> :flipped",
                values,
            )
        for key, told in (("mlops.stage.dev.until", ":until"), ("mlops.archived", ":revision")):
            database.execute(
                "INSERT INTO model_version_tags (key, value, name, version, workspace)"
                f" SELECT '{key}', {told}, name, version, workspace FROM model_versions"
                " WHERE version = :n + 1 AND name <> :flipped",
                values,
            )


def _copy_runs(database: sqlite3.Connection, count: int) -> None:
    """Runs of trials that no revision declares any more."""
    tables = ("runs", "tags", "params", "latest_metrics", "metrics")
    for number in range(count):
        name = f"{number:032x}"
        for table in tables:
            columns = _columns(database, table)
            taken = ", ".join(":name" if column == "run_uuid" else column for column in columns)
            source = (
                "run_uuid = (SELECT run_uuid FROM runs WHERE length(run_uuid) = 32 ORDER BY rowid LIMIT 1)"
            )
            database.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {taken} FROM {table} WHERE {source}",
                {"name": name},
            )
        database.execute(
            "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'mlops.fingerprint'", (name, name)
        )


def _copy_events(database: sqlite3.Connection) -> None:
    columns = _columns(database, "mlops_event")
    swapped = {"identity": "randomblob(16)", "position": "position + :n", "message": "message || :n"}
    taken = ", ".join(swapped.get(column, column) for column in columns)
    [[step]] = database.execute("SELECT coalesce(max(position), 0) + 1 FROM mlops_event").fetchall()
    most = step
    for number in range(1, OLD):
        database.execute(
            f"INSERT INTO mlops_event ({', '.join(columns)}) SELECT {taken} FROM mlops_event"
            " WHERE position < :most",
            {"n": number * step, "most": most},
        )


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment(), check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def benchmark(rounds: int) -> Report:
    rows: dict[str, list[Sample]] = {}
    with workspace() as place:

        def live(folder: Path, label: str) -> None:
            print(f"  {label}", file=sys.stderr)
            with running(folder) as daemon:
                rows[IDLE_PASS + label] = idle(daemon)
                rows[COMMIT + label] = in_force(folder, daemon, rounds)
                rows[HEAL + label] = healed(folder, daemon, rounds)

        for resources, models in SIZES.items():
            promoted(place / str(resources), models)
            live(place / str(resources), f"{resources:,} resources")
        large = place / str(LARGE)
        rows[BARE_GIT] = bare_git(large, rounds)
        rows[BARE_MLFLOW] = bare_promotions(large, rounds)
        age(large)
        live(large, AGED)
        shutil.rmtree(large)
        for count in FIRST:
            print(f"  {count:,} promotions", file=sys.stderr)
            rows[f"{RECONCILE}{count:,} promotions"] = [first(place / f"first-{count}", count)]
    return report(rows)


def report(rows: dict[str, list[Sample]]) -> Report:
    large = f"{LARGE:,} resources"
    committed, least = median(rows[COMMIT + large]), median(rows[BARE_GIT]) + median(rows[BARE_MLFLOW])
    few, many = (
        rows[f"{RECONCILE}{count:,} promotions"][0].seconds / count for count in (FIRST[0], FIRST[-1])
    )
    return Report(
        name="daemon",
        title="The daemon",
        rows=rows,
        claims=[
            Claim(f"{large}: memory", peak(rows[HEAL + large]), 250, "MB"),
            Claim(f"{large}: CPU in a minute of idleness", rows[IDLE_PASS + large][0].cpu_seconds, 0.6, "s"),
            Claim(f"{large}: commit to in force", committed, 1, "s"),
            Claim(f"{large}: change by hand to healed", median(rows[HEAL + large]), 1, "s"),
            Claim(f"one of {FIRST[-1]:,} promotions over one of {FIRST[0]}", many / few, 1.2, "×"),
            Claim(
                "commit to in force: with history over without",
                median(rows[COMMIT + AGED]) / committed,
                1.5,
                "×",
            ),
        ],
        notes=[
            "A third of the resources each are models, versions and promotions, all in place; a commit moves one "
            "promotion to the other version of its model.",
            "From the branch moved to the alias moved and the revision in force, seen from another process. "
            "The CPU and the memory are the daemon's; of an idle pass, the CPU is that of the whole minute in "
            "which it is made, with its 240 looks at what might have happened.",
            f"With history: {OLD} versions of each model, {RUNS:,} old runs, {OLD} times the events.",
            f"The calls that a commit cannot do without, git's and those of MLflow's client: {least * 1000:.0f} ms; "
            "the client sets an alias, seven tags of a version and two of an experiment.",
        ],
    )


if __name__ == "__main__":
    main(benchmark, rounds=9)
