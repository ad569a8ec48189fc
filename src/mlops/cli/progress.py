"""Progress of an apply on stderr: bars that move on a terminal, one line an event elsewhere."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from mlops.applying.outcomes import Blocked, Done, Failed, Left, Outcome
from mlops.cli.output import console, one_line, plain, say
from mlops.planning.plan import Step

if TYPE_CHECKING:
    from rich.progress import TaskID

SHOWN_VALUE = 40  # characters of a parameter's value that tell a trial from others
COUNTED_EVERY = 10.0  # seconds between two lines of a step that counts its files
QUIET_AFTER = 25  # ledger steps of one action that get a line of their own; the rest are counted

_COUNTED = re.compile(r"\([0-9]+ of [0-9]+\)$")
_LONG = ("train", "monitor")  # what has a line of its own on a terminal while it runs


class Progress(Protocol):
    """What `applying` reports to; also a context manager that owns the terminal while it is open."""

    def started(self, step: Step) -> None: ...

    def says(self, step: Step, message: str) -> None: ...

    def ended(self, step: Step, outcome: Outcome, seconds: float) -> None: ...

    def expect(self, total: int) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress() -> Progress:
    """The progress that fits stderr: bars on a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines()


def ended_line(step: Step, outcome: Outcome, seconds: float) -> str:
    """How a step ended, for the most part in one line; a training's error may bring lines of its log."""
    name = _name(step)
    match outcome:
        case Done(detail=detail):
            return plain(f"✓ {step.action} {name} ({seconds:.1f} s){': ' + detail if detail else ''}")
        case Left(detail=detail):
            return plain(f"… {step.action} {name}: {detail}")
        case Blocked(block=block):
            return plain(f"! {step.action} {name}: {block.reason}: {block.message}")
        case Failed(error=error):
            where = f"{error.where}: " if error.where and str(error.where) != step.resource else ""
            fix = f". {error.fix}" if error.fix else ""
            return plain(f"✗ {step.action} {name}: {where}{error.what.rstrip('.')}{fix}")


def _name(step: Step) -> str:
    """The resource, and for a trial what tells it from the others."""
    if step.action != "train":
        return step.resource
    varied = [
        f"{c.field.removeprefix('parameters.')}={_shortened(str(c.after))}"
        for c in step.changes
        if "parameters" in c.field
    ]
    return one_line(f"{step.resource} [{' '.join(varied[:6])}]") if varied else step.resource


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_VALUE else f"{text[: SHOWN_VALUE - 1]}…"


class Lines:
    """One line when training starts, one when any step ends, and one in ten seconds of a step that counts.

    Args:
        now: seconds of a clock that only goes forward.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._ended: dict[str, int] = {}
        self._counted: dict[str, float] = {}  # when a step last told its count, or began
        self._total = 0

    def expect(self, total: int) -> None:
        self._total = total

    def started(self, step: Step) -> None:
        with self._lock:
            self._counted[step.id] = self._now()
            if step.action == "train":
                say(f"· train {_name(step)}: {step.reason}")

    def says(self, step: Step, message: str) -> None:
        if message.endswith(" s"):  # the clock of a running job is for terminals
            return
        with self._lock:
            if _COUNTED.search(message):
                now = self._now()
                if now - self._counted.setdefault(step.id, now) < COUNTED_EVERY:
                    return
                self._counted[step.id] = now
            say(f"  {_name(step)}: {message}")

    def ended(self, step: Step, outcome: Outcome, seconds: float) -> None:
        with self._lock:
            if isinstance(outcome, Done):
                self._ended[step.action] = self._ended.get(step.action, 0) + 1
                if self._ended[step.action] > QUIET_AFTER and step.action != "train":
                    return
            say(ended_line(step, outcome, seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for action, number in self._ended.items():
            if number > QUIET_AFTER and action != "train":
                say(f"✓ {action}: {number} in all")


class Bars:
    """A bar for the whole, a line for each job that runs."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console(stderr=True),
            transient=True,
        )
        self._all = self._bars.add_task("apply", total=None, note="")
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._lines = 0

    def expect(self, total: int) -> None:
        self._bars.update(self._all, total=total)

    def started(self, step: Step) -> None:
        if step.action in _LONG:
            with self._lock:
                words = f"{step.action} {_name(step)}"
                self._tasks[step.id] = self._bars.add_task(words, total=None, note="")

    def says(self, step: Step, message: str) -> None:
        task = self._tasks.get(step.id)
        if task is not None:
            self._bars.update(task, note="" if message.endswith(" s") else message)

    def ended(self, step: Step, outcome: Outcome, seconds: float) -> None:
        with self._lock:
            task = self._tasks.pop(step.id, None)
            if task is not None:
                self._bars.remove_task(task)
            self._bars.advance(self._all)
            self._lines += 1
            if step.action == "train" or self._lines <= QUIET_AFTER or not isinstance(outcome, Done):
                style = {Done: "green", Left: "yellow", Blocked: "yellow", Failed: "red"}[type(outcome)]
                line = ended_line(step, outcome, seconds)
                self._bars.console.print(line, style=style, markup=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
