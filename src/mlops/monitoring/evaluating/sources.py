"""What each window is compared with: one reference for all, or the windows before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from mlops.errors import Stalled
from mlops.monitoring import samples
from mlops.monitoring.evaluating import labelled
from mlops.monitoring.evaluating.checking import Calibrated
from mlops.monitoring.evaluating.files import Files, Recipe
from mlops.monitoring.evaluating.keys import digest_of
from mlops.monitoring.evaluating.labelled import RowPlan
from mlops.monitoring.evaluating.performing import Base, reference_rows, rows_digest
from mlops.monitoring.evaluating.referencing import Reference, first_rows, own_windows, planned, sample_of
from mlops.monitoring.evaluating.roles import Roles
from mlops.monitoring.evaluating.values import Subject, Summaries, Table
from mlops.monitoring.performance.rows import Joined
from mlops.monitoring.summaries import storing
from mlops.monitoring.summaries.plans import Plan
from mlops.monitoring.summaries.windowed import WindowSummary, merge
from mlops.monitoring.windows import EventWindows, RowWindows

_DIGEST: Final = 64  # characters


class Source(Protocol):
    """The reference of each window, by its start."""

    def digest(self, start: int) -> str:
        """Of its rows, without their sums being decoded where that can be."""
        ...

    def summary(self, start: int) -> WindowSummary | str:
        """Its sums, or why there are none."""
        ...

    def sample(self, start: int, name: str, layout: samples.Layout) -> samples.Sketch | None:
        """A bounded sample of its rows; `name` says under what that of a file is kept."""
        ...

    def base(self, start: int, plan: RowPlan) -> Base | str:
        """Its rows with labels and predictions, or why there are none."""
        ...

    def calibrated(self, start: int) -> Calibrated:
        """What detectors measure between its own windows."""
        ...


class Fixed:
    """One table as the reference of all windows."""

    def __init__(
        self,
        table: Table,
        reference: Reference,
        windows: EventWindows | RowWindows,
        summaries: Summaries,
        *,
        threads: int,
    ) -> None:
        self._table, self._reference, self._summaries = table, reference, summaries
        self._base: Base | None = None
        self._digest = reference.digest
        self._samples: dict[str, samples.Sketch] = {}
        self._own = Calibrated(
            lambda: list(own_windows(reference, table, windows, summaries, threads=threads))
        )

    def digest(self, start: int) -> str:
        """The same for all windows."""
        return self._digest

    def performed(self, plan: RowPlan) -> None:
        """Count the rows of predictions and labels among what the reference is."""
        key = f"performed:{self._reference.key}:{plan.digest}"
        known = self._summaries.get_many([key]).get(key)
        if known is None or len(known) != _DIGEST:  # not there, or cut off
            base = self.base(0, plan)
            known = rows_digest(base.rows).encode()
            self._summaries.put_many({key: known})
        self._digest = digest_of(self._reference.digest, known.decode("ascii", "replace"))

    def summary(self, start: int) -> WindowSummary | str:
        """The same for all windows."""
        return self._reference.summary

    def sample(self, start: int, name: str, layout: samples.Layout) -> samples.Sketch | None:
        """The same for all windows."""
        if layout.digest not in self._samples:
            timestamp = self._table.columns.timestamp
            if timestamp is None and layout.plan.season != "none":
                return None
            found = sample_of(self._reference, layout, timestamp, self._summaries)
            self._samples[layout.digest] = found
        return self._samples[layout.digest]

    def base(self, start: int, plan: RowPlan) -> Base:
        """The same for all windows."""
        if self._base is None:
            timestamp = self._table.columns.timestamp
            reference = self._reference
            self._base = Base(
                reference_rows(reference.batches, plan, timestamp, reference.key, self._summaries)
            )
        return self._base

    def calibrated(self, start: int) -> Calibrated:
        """The same for all windows."""
        return self._own


@dataclass(slots=True, eq=False)
class Rolling:
    """The windows of so much time before each window; there are none before the data is so old.

    Args:
        span: seconds.
        files: of the predictions.
        content: digest of a window's rows and labels, by start.
        window: a window's sums with its labels, by start.
        rows: a window's rows with their labels, by start.
    """

    span: int
    files: Files
    content: Callable[[int], str]
    window: Callable[[int], WindowSummary | None]
    rows: Callable[[int], Joined]
    _held: dict[int, WindowSummary] = field(default_factory=dict)

    def digest(self, start: int) -> str:
        """Of the windows before."""
        return digest_of([self.content(one) for one in self._before(start)], self._young(start))

    def summary(self, start: int) -> WindowSummary | str:
        """The windows before, merged."""
        if self._young(start):
            return "the data does not yet go back as far as the rolling reference"
        before = self._before(start)
        for gone in [one for one in self._held if one < start - self.span]:
            del self._held[gone]
        for one in before:
            if one not in self._held and (found := self.window(one)) is not None:
                self._held[one] = found
        parts = [self._held[one] for one in before if one in self._held]
        return merge(parts) if parts else "there are no rows in the time of the rolling reference"

    def sample(self, start: int, name: str, layout: samples.Layout) -> samples.Sketch | None:
        """Of the windows before."""
        parts = [
            sketch
            for one in self._before(start)
            for _, sketch in self.files.kept(name, one, lambda value: samples.decode(value, layout))
        ]
        return samples.merge(parts) if parts else None

    def base(self, start: int, plan: RowPlan) -> Base | str:
        """The rows of the windows before, each window a part."""
        parts = tuple(self.rows(one) for one in self._before(start))
        if not parts:
            return "there are no rows in the time of the rolling reference"
        together = labelled.put_together([(part.rows, part.targets) for part in parts], plan)
        return Base(together, parts)

    def calibrated(self, start: int) -> Calibrated:
        """Of the windows before."""
        self.summary(start)
        return Calibrated(lambda: [self._held[one] for one in self._before(start) if one in self._held])

    def _before(self, start: int) -> list[int]:
        return [one for one in self.files.starts() if start - self.span <= one < start]

    def _young(self, start: int) -> bool:
        starts = self.files.starts()
        return not starts or start - self.span < starts[0]


def rolling_plan(
    subject: Subject,
    roles: Roles,
    windows: EventWindows | RowWindows,
    span: int,
    summaries: Summaries,
    *,
    threads: int,
) -> Plan:
    """Edges from the rows of the first `span` seconds of data, found by reading the times of all files first.

    Raises:
        Stalled: windows of rows, or no event times.
    """
    table = subject.predictions
    timestamp = table.columns.timestamp
    if not isinstance(windows, EventWindows) or timestamp is None:
        raise Stalled(
            "A rolling reference needs windows of event time",
            where=f"MonitoringPolicy/{subject.policy}",
            fix="Set window.size, or compare with training or a dataset.",
        )
    times = Files(
        table,
        Recipe(Plan({}), windows, timestamp, table.text, asked=(timestamp,)),
        summaries,
        threads=threads,
    )
    times.index(table.files)
    starts = times.starts()
    if not starts:
        return planned(subject, (), table.types, roles, threads=threads)
    first = range(starts[0], starts[0] + span)
    files = [
        file
        for file in sorted(table.files, key=lambda file: (file.position, file.name))
        if file in times.indexes and any(start in first for start in times.indexes[file].parts)
    ]
    key = "plan:" + digest_of(
        *(sorted(file.digest for file in files), first.start, span, times.recipe.digest),
        *(sorted(table.types.items()), sorted(roles.excluded), sorted(roles.categorical), roles.slices),
        subject.spec.reference.season,
    )
    plan = storing.decode_plan(summaries.get_many([key]).get(key))
    if plan is None:
        rows = first_rows(files, first, windows, timestamp)
        plan = planned(subject, rows, table.types, roles, threads=threads)
        summaries.put_many({key: storing.encode_plan(plan)})
    return plan
