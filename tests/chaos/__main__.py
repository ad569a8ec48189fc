"""`python -m tests.chaos --seed 7 --faults 3000`: what the daemon survives, and how to meet again what it did not."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from chaos import daemonlog  # noqa: E402
from chaos.episode import Episode, Setting  # noqa: E402
from chaos.faults import Swarm  # noqa: E402
from chaos.processes import Diverged, Forks  # noqa: E402
from chaos.repository import clean_environ  # noqa: E402

LENGTH = 150  # faults in one episode
SETTINGS = (  # in turn: whether MLflow is behind its server, whether the repository is elsewhere
    (False, False),
    (True, False),
    (False, True),
    (False, False),
    (True, True),
)


@dataclass
class Report:
    """What came of a run."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    diverged: str | None = None
    replay: str | None = None
    seconds: float = 0.0


def main() -> int:
    """Run as the command line says; 0 if everything was survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--faults", type=int, default=300, help="how many faults in all (default: 300)")
    parser.add_argument("--length", type=int, default=LENGTH, help="faults in one episode")
    parser.add_argument("--episode", type=int, help="only this one, to meet it again")
    parser.add_argument("--begin", type=int, default=0, help="leave out the episodes before this one")
    parser.add_argument("--setting", choices=[str(n) for n in range(len(SETTINGS))], help="only this setting")
    parser.add_argument("--keep", action="store_true", help="leave the folder of a diverged episode")
    parser.add_argument("--json", type=Path, help="write the report there, too")
    parser.add_argument("--no-disk", action="store_true", help="do not mount a small disk in a namespace")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.no_disk and not arguments.inside and _namespaces():
        inside = [sys.executable, "-m", "tests.chaos", *sys.argv[1:], "--inside"]
        os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", *inside])
    report = run(arguments)
    show(report, arguments)
    return 0 if report.diverged is None else 1


def run(arguments: argparse.Namespace) -> Report:
    """All episodes, until one diverges."""
    report = Report(arguments.seed)
    began = time.monotonic()
    episodes = [arguments.episode] if arguments.episode is not None else range(arguments.begin, 10**6)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        with contextlib.ExitStack() as stack:
            environ = _environ(folder)
            left = arguments.faults - arguments.begin * arguments.length
            bar = stack.enter_context(_progress(left))
            forks = stack.enter_context(Forks(_made(folder / "forks"), environ, str(HERE / "nursery.py")))
            serving: Forks | None = None
            for number in episodes:
                if left <= 0 or report.diverged is not None:
                    break
                served, remote = SETTINGS[int(arguments.setting or number % len(SETTINGS))]
                if served and serving is None:
                    command = [str(HERE / "nursery.py"), "--server"]
                    serving = stack.enter_context(Forks(_made(folder / "serving"), environ, *command))
                setting = Setting(served, remote, disk=arguments.inside)
                length = min(arguments.length, left)
                left -= length
                _episode(report, arguments, number, folder, setting, forks, serving, environ, length, bar)
                if arguments.episode is not None:
                    break
    finally:
        report.seconds = time.monotonic() - began
        if report.diverged is None or not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return report


def _episode(
    report: Report,
    arguments: argparse.Namespace,
    number: int,
    folder: Path,
    setting: Setting,
    forks: Forks,
    serving: Forks | None,
    environ: dict[str, str],
    length: int,
    bar: Any,
) -> None:
    place = folder / f"episode-{number}"
    history: list[str] = []
    counted: Counter[str] = Counter()

    def told(kind: str, what: str) -> None:
        counted[kind] += 1
        history.append(f"{time.strftime('%H:%M:%S')} {what}")
        bar(f"episode {number} ({setting}), {len(history)}: {what}")

    began = time.monotonic()
    episode: Episode | None = None
    try:
        episode = Episode(place, f"{arguments.seed}/{number}", setting, forks, serving, environ, print)
        episode.run(length, Swarm(arguments.seed, number, told))
        report.survived += counted
    except Exception as error:
        if not isinstance(error, Diverged):  # of the chaos itself, or of what it could not foresee
            error = Diverged(traceback.format_exc())
        replay = f"--seed {arguments.seed} --faults {length} --length {length} --episode {number} --keep"
        steps = "\n".join(f"  {n + 1}. {what}" for n, what in enumerate(history))
        report.diverged = f"episode {number} ({setting}), after:\n{steps}\n\n{error}"
        report.replay = f"python -m tests.chaos {replay}"
    finally:
        report.faults += counted
        logs = episode.logs if episode is not None else []
        report.episodes.append(
            {
                "setting": str(setting),
                "faults": counted.total(),
                "seconds": time.monotonic() - began,
                "daemons": len(logs),
                "passes": daemonlog.count(logs, "Pass"),
                "trained": daemonlog.count(logs, "Trained"),
                "promoted": daemonlog.count(logs, "Promoted"),
                "healed": daemonlog.count(logs, "Healed"),
            }
        )
        if episode is not None:
            episode.close(keep=report.diverged is not None and arguments.keep)
        if report.diverged is None:
            shutil.rmtree(place, ignore_errors=True)
        elif arguments.keep:
            report.diverged += f"\n\nEverything is left in {place}"


def show(report: Report, arguments: argparse.Namespace) -> None:
    """The table at the end."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=False, highlight=False)
    table = Table("fault", "met", "survived", title=f"seed {report.seed}")
    for kind, count in sorted(report.faults.items()):
        table.add_row(kind.replace("_", " "), str(count), str(report.survived[kind]))
    table.add_section()
    table.add_row("in all", str(report.faults.total()), str(report.survived.total()))
    console.print(table)
    seconds = report.seconds
    counts = ("daemons", "passes", "trained", "promoted", "healed")
    done = ", ".join(f"{sum(one[what] for one in report.episodes):,} {what}" for what in counts)
    console.print(f"{len(report.episodes)} episodes in {seconds / 60:.1f} minutes: {done}.", markup=False)
    if report.diverged is not None:
        console.print(f"\nDiverged in {report.diverged}\n\nAgain: {report.replay}", markup=False)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(vars(report) | {"faults": dict(report.faults)}, default=dict))


def _environ(folder: Path) -> dict[str, str]:
    _made(folder / "tmp")
    return clean_environ(folder, dict(os.environ))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _namespaces() -> bool:
    """Whether this user may mount a small disk in a namespace of its own."""
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "mount",
        "-t",
        "tmpfs",
        "none",
        tempfile.gettempdir(),
    ]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on a terminal, a line now and then elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=total)
        count = 0

        def told(what: str) -> None:
            nonlocal count
            count += 1
            progress.update(task, advance=1, description=what[:100])
            if not sys.stdout.isatty():
                print(f"{count}/{total} {what}", flush=True)

        yield told


if __name__ == "__main__":
    sys.exit(main())
